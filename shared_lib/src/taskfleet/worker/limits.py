"""Check the limits of a running task: its run time and its memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.tasks import KILLED_AT_TIME_LIMIT, Outcome
from taskfleet.worker.config import WorkerConfig

MEMORY_CHECK_SECONDS = 0.05
#: Measuring memory takes at most this share of the time …
MEMORY_CHECK_SHARE = 1 / 20
#: … but is repeated after at most this long.
LONGEST_MEMORY_CHECK_SECONDS = 2.0
#: A task that has run for this share of the lifetime of its machine cannot be expected to end on another one.
HOPELESS_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """The limit that a task has exceeded."""

    outcome: Outcome
    reason: str
    """The error to record for the attempt."""


class Limits:
    """Find out whether the current task has exceeded a limit.

    Args:
        config: The limits.
        memory_bytes: Measure the memory of the task; may stop as soon as the sum cannot exceed its argument.
    """

    def __init__(self, config: WorkerConfig, memory_bytes: Callable[[int], int]) -> None:
        self._max_runtime_seconds = config.max_runtime_seconds
        self._memory_limit_bytes = config.memory_limit_bytes
        self._memory_bytes = memory_bytes
        self._measure_at = 0.0

    def violation(self, began_at: float | None) -> Violation | None:
        """Return the limit that the current task has exceeded; None if there is none, or if it is not time to measure.

        Memory of a task beyond its time limit is measured first, however recently that was done: a task short of memory becomes slow.

        Args:
            began_at: Monotonic time of its start; None if it has not started.
        """
        now = time.monotonic()
        most_seconds = self._max_runtime_seconds
        is_late = most_seconds is not None and began_at is not None and now - began_at > most_seconds
        most_bytes = self._memory_limit_bytes
        if most_bytes is not None and (is_late or now >= self._measure_at):
            used = self._measure(most_bytes)
            if used > most_bytes:
                reason = f"Memory: the task used {used / 2**30:.2f} GiB; MEMORY_LIMIT_GIB is {most_bytes / 2**30:g}"
                return Violation(outcome=Outcome.MEMORY, reason=reason)
        if is_late:
            reason = f"Timeout: the task ran longer than MAX_RUNTIME_SECONDS={most_seconds:g}"
            return Violation(outcome=Outcome.TIMEOUT, reason=reason)
        return None

    def wait_seconds(self, began_at: float | None, now: float) -> float | None:
        """Return the seconds until the next check is due; None if there is none."""
        waits = []
        if self._memory_limit_bytes is not None:
            waits.append(self._measure_at - now)
        if self._max_runtime_seconds is not None and began_at is not None:
            waits.append(began_at + self._max_runtime_seconds - now + 0.001)
        return min(waits, default=None)

    def _measure(self, enough: int) -> int:
        began = time.monotonic()
        used = self._memory_bytes(enough)
        ended = time.monotonic()
        pause = max(MEMORY_CHECK_SECONDS, (ended - began) / MEMORY_CHECK_SHARE)
        self._measure_at = began + min(pause, LONGEST_MEMORY_CHECK_SECONDS)
        return used


def stopped_by(began_at: float | None, lifetime_seconds: float | None, *, kills: bool) -> tuple[Outcome, str]:
    """Return the outcome of a task that is killed when its worker stops, and its error.

    Args:
        began_at: Monotonic time of its start; None if it has not started.
        lifetime_seconds: Of the machine, if that is why the worker stops.
        kills: Whether the task gets no other attempt then; see ``WorkerConfig``.
    """
    if began_at is None or lifetime_seconds is None:
        return Outcome.INTERRUPTED, "The worker was stopped"
    if kills:
        return Outcome.KILLED, KILLED_AT_TIME_LIMIT
    seconds = time.monotonic() - began_at
    if seconds < HOPELESS_SHARE * lifetime_seconds:
        return Outcome.INTERRUPTED, "The machine reached its time limit"
    return (
        Outcome.TIMEOUT,
        f"Timeout: the task ran for {seconds:.0f} s, nearly the whole lifetime of its machine ({lifetime_seconds:.0f} s). Increase "
        "LIFETIME_HOURS",
    )
