"""Machines that workers run on: what there is to be had, which are the best, and how they are started, listed and ended.

``Machines`` is the contract that every provider keeps; ``catalogue`` and ``choosing`` are what to start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol

from taskfleet.machines.terms import Market

__all__ = ["Machine", "MachineState", "Machines", "Order", "Refusal", "Refused", "Started"]


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


class Refusal(StrEnum):
    """Why a provider does not start a machine."""

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
class Order:
    """A machine to start."""

    token: str
    """Its name, which no other ever has: an order that is given twice starts one machine."""
    instance_type: str
    zone: str
    market: Market
    usd_per_hour: float
    """What it costs at most."""
    slots: int
    lifetime_seconds: float
    """It ends itself after so long, whatever becomes of everybody else."""
    boot_disk_type: str = ""
    boot_disk_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """An order that was carried out."""

    token: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An order that was not."""

    token: str
    refusal: Refusal
    text: str
    """In the provider's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as its provider lists it."""

    instance_id: str
    token: str
    state: MachineState
    zone: str = ""
    instance_type: str = ""
    market: Market = Market.ON_DEMAND
    created_at: float = 0.0
    """Seconds since the epoch."""
    reason: str = field(default="")
    """Why it ended, as far as the provider says."""


class Machines(Protocol):
    """Starts, lists and ends the machines of one job.

    Nothing here is remembered between calls: a provider's own list is what counts. Every verb may be called again after it failed.
    """

    name: ClassVar[str]

    def launch(self, orders: Sequence[Order]) -> list[Started | Refused]:
        """Start machines: one answer for each order, in any order. An order whose token is known starts nothing new.

        Raises:
            MachinesUnreachableError: Nobody knows whether it was done; the same orders may be given again.
        """

    def list(self) -> Sequence[Machine]:
        """Give all machines of the job that are there, and some that ended lately; what was started a moment ago may be missing.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines; those that are gone already are left alone.

        Raises:
            MachinesUnreachableError: The provider does not answer.
        """

    def console(self, instance_id: str) -> str:
        """Give what a machine has printed since it began to boot, as far as the provider keeps it; empty if there is nothing."""
