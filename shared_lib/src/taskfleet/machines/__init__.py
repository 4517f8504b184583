"""Machines that workers run on: what there is to be had, which are the best, and how they are started, listed and ended.

``Machines`` is the contract that every provider keeps; ``catalogue`` and ``choosing`` are what to start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

from taskfleet.machine_terms import Market

if TYPE_CHECKING:
    from taskfleet.machines.choosing import Offer

__all__ = [
    "Coded",
    "EndReason",
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


class Kind(NamedTuple):
    """What is asked for, and where."""

    instance_type: str
    zone: str
    market: Market


class MachineState(StrEnum):
    """Where a machine stands, as its provider says."""

    QUEUED = "queued"
    """It is accepted and waits for its turn: it costs nothing, and its lifetime has not begun. See ``Machines``."""
    STARTING = "starting"
    """It is being made; it is paid for."""
    RUNNING = "running"
    """Its system runs."""
    ENDING = "ending"
    """It is being ended."""
    ENDED = "ended"
    """It is gone, and costs nothing any more."""


class Coded(StrEnum):
    """Codes that are stored and compared, each with the words in which people read it."""

    words: str

    def __new__(cls, code: str, words: str = "") -> Self:
        """Make a member."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.words = words
        return member


class EndReason(Coded):
    """Why a machine is not there any more, or never was. The codes are stored in the ledger and never change."""

    DONE = "done", "all tasks are done"
    """The pool ended it: nothing is left to do."""
    LATE = "late", "no worker was heard in time"
    """The pool ended it: no worker on it asked for tasks within BOOT_MINUTES."""
    SILENT = "silent", "its worker fell silent"
    """The pool ended it: its worker gave no sign of life for SILENT_MINUTES."""
    UNKNOWN = "unknown", "not in the ledger"
    """The pool ended it: it was there and should not have been."""
    NOTHING_WORKED = "nothing_worked", "the first machines did nothing"
    """The pool took it out of its provider's queue: it would do as little."""
    GAVE_UP = "gave_up", "the pool gave up"
    """The pool ended all machines, because it could not go on; the detail says why."""
    STOPPED = "stopped", "stopped by the user"
    """``poe stop``."""
    TORN_DOWN = "torn_down", "torn down by the user"
    """``poe teardown``."""
    TERMINATED = "terminated", "terminated by the user"
    """Ctrl-C at ``poe deploy_pool``."""
    PREEMPTED = "preempted", "preempted"
    """Its provider took it away."""
    CANCELLED = "cancelled", "taken out of the queue"
    """Its provider, or somebody else, ended it while it was queued: it never ran."""
    ENDED = "ended", "ended"
    """It ended by itself, or somebody else ended it; the detail says what the provider knows."""
    GONE = "gone", "gone"
    """It is not in its provider's list any more."""
    NEVER_STARTED = "never_started", "never seen to start"
    """It was asked for and never seen; nobody knows why."""
    STOCK_OUT = "stock_out", "no capacity"
    """Not launched; see ``FailureReason``, as for the four that follow."""
    QUOTA = "quota", "quota"
    """Not launched."""
    THROTTLED = "throttled", "throttled"
    """Not launched."""
    PRICE = "price", "price"
    """Not launched."""
    INVALID = "invalid", "refused"
    """Not launched."""
    LAUNCH_ERROR = "launch_error", "not launched"
    """Not launched, since the account or the settings are wrong; the detail says how."""

    def told(self, detail: str = "") -> str:
        """Return it for people, with the provider's words if there are any."""
        if self in (EndReason.ENDED, EndReason.LAUNCH_ERROR) and detail:
            return detail
        return f"{self.words}: {detail}" if detail else self.words


class FailureReason(Coded):
    """Why a provider does not launch a machine."""

    STOCK_OUT = "stock_out", "no capacity"
    """It has none of this kind there now: elsewhere, or later."""
    QUOTA = "quota", "quota"
    """This account may have no more of this kind: another kind, or fewer."""
    THROTTLED = "throttled", "throttled"
    """Too many requests: the same again, a little later."""
    PRICE = "price", "price"
    """The spot price has risen above what was offered."""
    INVALID = "invalid", "refused"
    """What was asked for is wrong, or not permitted: asking again does not help."""

    @property
    def end_reason(self) -> EndReason:
        """As which it is stored: the same code."""
        return EndReason(self.value)


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
    is_queued: bool = False
    """Whether it waits in the provider's queue; else it is being made."""


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
    """When it was accepted, in seconds since the epoch."""
    running_since: float | None = None
    """When it began to run, in seconds since the epoch; None if it never did, or if the provider's machines never queue."""
    end_reason: EndReason | None = None
    """Why it ended, where the provider tells more than that it did: ``PREEMPTED``."""
    detail: str = ""
    """In the provider's words: why it ended, or why it is still queued or starting, or what else there is to know of it."""

    @property
    def kind(self) -> Kind:
        """What it is, and where."""
        return Kind(self.instance_type, self.zone, self.market)


class Machines(Protocol):
    """Starts, lists and ends the machines of one job.

    Nothing here is remembered between calls: a provider's own list is what counts. Every verb may be called again after it failed.

    Some providers accept machines that begin to run when there is room, minutes or days later: batch systems, clusters that add nodes.
    Those that do (``Provider.can_queue``) call such machines QUEUED, others never do. QUEUED promises that the machine costs nothing and
    that its lifetime has not begun, and:

    - ``launch`` counts what is queued as launched, and never as a failure, however long it will wait;
    - ``list`` has every machine for as long as it is queued: one that is missing counts as gone. It says of every machine that has begun
      to run when that was (``running_since``), also of those that have ended since: costs and lifetimes count from there. A state may
      lag behind by the two minutes that a list may; what began to run is never called queued again after it was called anything else. One
      that is ended before it ran is listed as ended for some time, as others are, without ``running_since``;
    - ``terminate`` takes what is queued out of the queue; what has begun to run meanwhile is ended like any other.
    """

    name: ClassVar[str]

    def preflight(self) -> Sequence[str]:
        """Look for what would keep machines from being started, as far as that can be seen without starting one.

        Returns:
            A sentence for each thing that is missing: a permission, a wrong name; empty if nothing is known to be.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """Start machines, or have them queued. A request whose token is known starts nothing new, and gives the same result or less of it.

        Raises:
            UnreachableError: Nobody knows whether it was done; the same request may be made again.
        """

    def list(self) -> Sequence[Machine]:
        """Give all machines of the job that are there, and some that ended lately; what was started a moment ago may be missing.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines, queued ones too; those that are gone already are left alone, and so are machines that are not this job's.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def console(self, instance_id: str) -> str:
        """Give what a machine has printed since it began to boot, as far as the provider keeps it; empty if there is nothing.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def clear(self) -> Mapping[str, int]:
        """Remove all else that was made for the job's machines (templates, disks, addresses, logs), when these are gone.

        Returns:
            Kind of resource to how many are still there; called again until all are 0.

        Raises:
            UnreachableError: The provider does not answer.
        """
