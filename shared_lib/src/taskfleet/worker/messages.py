"""What the supervisor and a slot say to each other: a type for each message, a name for each field.

They travel as plain tuples; only ``pack`` and ``unpack`` know which value stands where. A field that is added to ``Lease`` or ``Finished``
travels without a change here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.tasks import AttemptKey, Finished, Lease
from taskfleet.worker.wire import as_named, as_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """To a slot: do these tasks, in this order."""

    leases: Sequence[Lease]


@dataclass(frozen=True, slots=True)
class Recall:
    """To a slot: hand back what has not begun. Answered by one ``Returned``."""


@dataclass(frozen=True, slots=True)
class KillTask:
    """To a slot: kill what runs and hand back the rest. Answered by ``Finished`` for what was killed, and one ``Returned``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFlags:
    """To a slot: let its tasks see these flags (``context.STOPPING_FLAG`` and the like)."""

    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """From a slot: it is there."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """From a slot: what became of some attempts."""

    finished: Sequence[Finished]
    interrupted: Sequence[AttemptKey]
    """Those of them that were ended by a signal which asks for the end, or by the ``KeyboardInterrupt`` it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """From a slot: it has not begun these attempts, and will not."""

    keys: Sequence[AttemptKey]


Message = Run | Recall | KillTask | SetFlags | Started | Done | Returned


def pack(message: Message) -> tuple[Any, ...]:
    """Return a message as plain values."""
    match message:
        case Run(leases=leases):
            return "run", as_plain(leases)
        case Done(finished=finished, interrupted=interrupted):
            return "done", as_plain(finished), interrupted
        case Returned(keys=keys):
            return "returned", keys
        case SetFlags(flags=flags):
            return "flags", flags
        case Started(pid=pid):
            return "started", pid
        case Recall():
            return ("recall",)
        case KillTask():
            return ("kill",)


def unpack(values: tuple[Any, ...]) -> Message:
    """Return the message that was packed."""
    match values:
        case ("run", leases):
            return Run(leases=[as_named(Lease, one) for one in leases])
        case ("done", finished, interrupted):
            return Done(finished=[as_named(Finished, one) for one in finished], interrupted=interrupted)
        case ("returned", keys):
            return Returned(keys=keys)
        case ("flags", flags):
            return SetFlags(flags=flags)
        case ("started", pid):
            return Started(pid=pid)
        case ("recall",):
            return Recall()
        case ("kill",):
            return KillTask()
    raise ValueError(f"{values[:1]!r} is no message of a worker")
