"""The interface for task functions: ``TaskContext``, ``Retry``, ``Fail``."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from taskfleet.tasks import NO_RETRY


class Retry(Exception):
    """Raise this exception in a task function to request another attempt.

    Args:
        reason: The reason, shown by ``poe tasks`` and ``poe task``.
        delay_seconds: The delay before the next attempt; None for the usual delay, which doubles with each retry.
    """

    delay_seconds: float | None = None

    def __init__(self, reason: str = "the task requested a retry", *, delay_seconds: float | None = None) -> None:
        super().__init__(reason)
        if delay_seconds is not None and not 0 <= delay_seconds < math.inf:
            raise ValueError(f"delay_seconds is {delay_seconds!r}, but must be a finite number of at least 0")
        self.delay_seconds = delay_seconds


class Fail(Exception):
    """Raise this exception in a task function to fail without further attempts, regardless of the settings."""

    delay_seconds = NO_RETRY


def _no_flags() -> int:
    return 0


#: Bits of the flags that a worker sets for its tasks.
STOPPING_FLAG = 1
TERMINATING_FLAG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Information about the current task. Passed to functions that have a parameter named ``context``."""

    task_id: str
    attempt: int
    """The number of this attempt, from 1."""
    job_id: str
    output_path: str | None = None
    """The setting OUTPUT_PATH."""
    args: tuple[str, ...] = ()
    """The arguments after ``--`` on the worker's command line."""
    hostname: str = ""
    slots: int = 1
    """The number of concurrent tasks of this worker."""
    cpu_count: int = field(default_factory=lambda: os.cpu_count() or 1)
    max_runtime_seconds: float | None = None
    memory_limit_gib: float | None = None
    flags: Callable[[], int] = field(default=_no_flags, repr=False)

    @property
    def stopping(self) -> bool:
        """Whether the worker is stopping (Ctrl-C, SIGTERM): finish soon."""
        return bool(self.flags() & STOPPING_FLAG)

    @property
    def terminating(self) -> bool:
        """Whether a termination notice for the machine was received: save partial results."""
        return bool(self.flags() & TERMINATING_FLAG)

    @classmethod
    def for_test(cls, task_id: str = "test", *, attempt: int = 1, output_path: str | None = None) -> "TaskContext":
        """Return a context for calling a task function in a test."""
        return cls(task_id=task_id, attempt=attempt, job_id="test", output_path=output_path)
