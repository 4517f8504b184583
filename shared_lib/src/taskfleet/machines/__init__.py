"""Machines that workers run on: what there is to be had, which are the best, and how they are started, listed and ended.

``Machines`` is the contract that every provider keeps; ``catalogue`` and ``choosing`` are what to start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from taskfleet.machine_terms import Market

if TYPE_CHECKING:
    from taskfleet.machines.choosing import Offer

__all__ = [
    "PREEMPTED",
    "FailureReason",
    "Kind",
    "LaunchFailure",
    "LaunchRequest",
    "LaunchResult",
    "LaunchedMachine",
    "Machine",
    "MachineState",
    "Machines",
]

#: What the reason of a machine begins with that its provider has taken away.
PREEMPTED = "preempted"


class Kind(NamedTuple):
    """What is asked for, and where."""

    instance_type: str
    zone: str
    market: Market


class MachineState(StrEnum):
    """Where a machine stands, as its provider says."""

    STARTING = "starting"
    """It is being made; it is paid for."""
    RUNNING = "running"
    """Its system runs."""
    ENDING = "ending"
    """It is being ended."""
    ENDED = "ended"
    """It is gone, and costs nothing any more."""


class FailureReason(StrEnum):
    """Why a provider does not launch a machine."""

    STOCK_OUT = "no capacity"
    """It has none of this kind there now: elsewhere, or later."""
    QUOTA = "quota"
    """This account may have no more of this kind: another kind, or fewer."""
    THROTTLED = "throttled"
    """Too many requests: the same again, a little later."""
    PRICE = "price"
    """The spot price has risen above what was offered."""
    INVALID = "refused"
    """What was asked for is wrong, or not permitted: asking again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """Machines to launch, as alike as may be. In the ledger, and in what machines are tagged with, it is called an order."""

    token: str
    """Its name, which no other ever has: a request that is made twice starts its machines once."""
    number: int
    """So many machines."""
    offers: tuple["Offer", ...]
    """What they may be, the best first, all of one region and market: a provider that chooses by itself where there is room takes any of
    them, others the first."""
    lifetime_seconds: float
    """A machine ends itself after so long, whatever becomes of everybody else."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """A name for each machine."""
        return tuple(f"{self.token}-{index}" for index in range(1, self.number + 1))


@dataclass(frozen=True, slots=True)
class LaunchedMachine:
    """A machine that was launched."""

    instance_id: str
    """The machine's token where the provider lets its caller name machines, else a name of the provider's."""
    instance_type: str
    zone: str


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """An offer of which the provider launched no machine, or fewer than were asked for."""

    instance_type: str
    zone: str
    reason: FailureReason
    text: str
    """In the provider's words."""


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What became of a request. If fewer machines were launched than asked for, there is at least one failure."""

    launched: tuple[LaunchedMachine, ...] = ()
    failures: tuple[LaunchFailure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as its provider lists it."""

    instance_id: str
    order: str
    """The token of the request it was launched by."""
    state: MachineState
    zone: str = ""
    instance_type: str = ""
    market: Market = Market.ON_DEMAND
    created_at: float = 0.0
    """Seconds since the epoch."""
    reason: str = field(default="")
    """Why it ended, as far as the provider says; begins with ``PREEMPTED`` if it was taken away."""

    @property
    def kind(self) -> Kind:
        """What it is, and where."""
        return Kind(self.instance_type, self.zone, self.market)


class Machines(Protocol):
    """Starts, lists and ends the machines of one job.

    Nothing here is remembered between calls: a provider's own list is what counts. Every verb may be called again after it failed.
    """

    name: ClassVar[str]

    def preflight(self) -> Sequence[str]:
        """Look for what would keep machines from being started, as far as that can be seen without starting one.

        Returns:
            A sentence for each thing that is missing: a permission, a wrong name; empty if nothing is known to be.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """Start machines. A request whose token is known starts nothing new, and gives the same result or less of it.

        Raises:
            MachinesUnreachableError: Nobody knows whether it was done; the same request may be made again.
        """

    def list(self) -> Sequence[Machine]:
        """Give all machines of the job that are there, and some that ended lately; what was started a moment ago may be missing.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines; those that are gone already are left alone, and so are machines that are not this job's.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def console(self, instance_id: str) -> str:
        """Give what a machine has printed since it began to boot, as far as the provider keeps it; empty if there is nothing.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def clear(self) -> Mapping[str, int]:
        """Remove all else that was made for the job's machines (templates, disks, addresses, logs), when these are gone.

        Returns:
            Kind of resource to how many are still there; called again until all are 0.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """
