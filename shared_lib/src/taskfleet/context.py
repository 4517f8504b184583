"""What a task function can know and say: ``TaskContext``, ``Retry``, ``Fail``."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from taskfleet.tasks import NO_RETRY


class Retry(Exception):
    """Raise it in a task function to ask for another try.

    Args:
        reason: What to show.
        delay_seconds: How long to wait before; None for the usual delay, which doubles with each try.
    """

    delay_seconds: float | None = None

    def __init__(self, reason: str = "the task asked for another try", *, delay_seconds: float | None = None) -> None:
        super().__init__(reason)
        if delay_seconds is not None and not 0 <= delay_seconds < math.inf:
            raise ValueError(f"delay_seconds is {delay_seconds!r}, but must be a finite number that is not negative")
        self.delay_seconds = delay_seconds


class Fail(Exception):
    """Raise it in a task function to fail for good: there will be no other try, whatever the settings say."""

    delay_seconds = NO_RETRY


def _no_flags() -> int:
    return 0


#: Bits of the flags that a worker shows to its tasks.
STOPPING_FLAG = 1
TERMINATING_FLAG = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What a task may know about itself. Passed to functions that have a parameter named ``context``."""

    task_id: str
    attempt: int
    """1 for the first try."""
    job_id: str
    output_path: str | None = None
    """The setting OUTPUT_PATH."""
    args: tuple[str, ...] = ()
    """What stood after ``--`` on the worker's command line."""
    hostname: str = ""
    slots: int = 1
    """How many tasks this worker runs at once."""
    cpu_count: int = field(default_factory=lambda: os.cpu_count() or 1)
    max_runtime_seconds: float | None = None
    memory_limit_gib: float | None = None
    flags: Callable[[], int] = field(default=_no_flags, repr=False)

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop (Ctrl-C, SIGTERM): finish soon."""
        return bool(self.flags() & STOPPING_FLAG)

    @property
    def terminating(self) -> bool:
        """Whether the machine is about to be taken away (spot termination notice): save what you can."""
        return bool(self.flags() & TERMINATING_FLAG)

    @classmethod
    def for_test(cls, task_id: str = "test", *, attempt: int = 1, output_path: str | None = None) -> "TaskContext":
        """Make one for calling a task function in a test."""
        return cls(task_id=task_id, attempt=attempt, job_id="test", output_path=output_path)
