"""Messages between the supervisor and a slot: one type per message, one name per field.

They are sent as plain tuples, whose layout only ``pack`` and ``unpack`` know. Fields added to ``Lease`` or ``Finished`` need no change
here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.tasks import AttemptKey, Finished, Lease
from taskfleet.worker.wire import as_named, as_plain

#: The error of an attempt that was killed because a user cancelled its task.
CANCELLED = "Killed: the task was cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """To a slot: run these tasks, in this order."""

    leases: Sequence[Lease]


@dataclass(frozen=True, slots=True)
class Recall:
    """To a slot: return the tasks that have not started. The answer is one ``Returned``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillTask:
    """To a slot: kill the running task and return the others. The answers are ``Done`` for the killed task, and one ``Returned``."""

    lifetime_seconds: float | None = None
    """Of the machine, if it ends as planned; a task that had nearly all of it would not end on another one, either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """To a slot: kill these tasks, if it still has them. The answer for each is its ``Done``."""

    keys: Sequence[AttemptKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFlags:
    """To a slot: show these flags to its tasks (``context.STOPPING_FLAG`` and the like)."""

    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """From a slot: it has started."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """From a slot: functions that its tasks call, with the hashes of their code by their names."""

    codes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """From a slot: finished attempts."""

    finished: Sequence[Finished]
    interrupted: Sequence[AttemptKey]
    """The keys of those that ended by a stop signal, or by the ``KeyboardInterrupt`` that it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """From a slot: it has not started these attempts, and will not."""

    keys: Sequence[AttemptKey]


Message = Run | Recall | KillTask | Cancel | SetFlags | Started | Loaded | Done | Returned


def pack(message: Message) -> tuple[Any, ...]:
    """Encode a message as plain values."""
    match message:
        case Run(leases=leases):
            return "run", as_plain(leases)
        case Done(finished=finished, interrupted=interrupted):
            return "done", as_plain(finished), interrupted
        case Returned(keys=keys):
            return "returned", keys
        case SetFlags(flags=flags):
            return "flags", flags
        case Cancel(keys=keys):
            return "cancel", keys
        case Started(pid=pid):
            return "started", pid
        case Loaded(codes=codes):
            return "loaded", codes
        case Recall():
            return ("recall",)
        case KillTask(lifetime_seconds=lifetime_seconds):
            return "kill", lifetime_seconds


def unpack(values: tuple[Any, ...]) -> Message:
    """Decode a message."""
    match values:
        case ("run", leases):
            return Run(leases=[as_named(Lease, one) for one in leases])
        case ("done", finished, interrupted):
            return Done(finished=[as_named(Finished, one) for one in finished], interrupted=interrupted)
        case ("returned", keys):
            return Returned(keys=keys)
        case ("cancel", keys):
            return Cancel(keys=[(seq, attempt) for seq, attempt in keys])
        case ("flags", flags):
            return SetFlags(flags=flags)
        case ("started", pid):
            return Started(pid=pid)
        case ("loaded", codes):
            return Loaded(codes=codes)
        case ("recall",):
            return Recall()
        case ("kill", lifetime_seconds):
            return KillTask(lifetime_seconds=lifetime_seconds)
    raise ValueError(f"unknown worker message: {values[:1]!r}")
