"""The interface for task functions: ``TaskContext``, ``Retry``, ``Fail``."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet import outputs
from taskfleet.tasks import JSON, NO_RETRY


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
    mpi_processes: int = 0
    """How many MPI processes the task is for; 0 for a task without MPI."""
    mpicomm: Any = field(default=None, repr=False, compare=False)
    """The communicator of the MPI processes that call this function; None without MPI, and in functions that return a command."""
    launch: Callable[[int], list[str]] | None = field(default=None, repr=False, compare=False)
    """Returns what ``mpi`` does; None where no processes can be launched."""
    rms: Mapping[str, JSON] = field(default_factory=dict, repr=False, compare=False)
    """Attributes of ``WorkerData``, for functions written for rms-cloud-tasks."""

    @property
    def stopping(self) -> bool:
        """Whether the worker is stopping (Ctrl-C, SIGTERM): finish soon."""
        return bool(self.flags() & STOPPING_FLAG)

    @property
    def terminating(self) -> bool:
        """Whether a termination notice for the machine was received: save partial results."""
        return bool(self.flags() & TERMINATING_FLAG)

    def mpi(self, n: int | None = None) -> list[str]:
        """Return the beginning of a command line that runs the rest as ``n`` MPI processes, which end with the task.

        Args:
            n: The number of processes, at most that of the task's slots, which is the default: ``app(mpi=…)`` or MPI_PROCESSES.

        Raises:
            ValueError: There are too many, or this is an MPI process itself.
            UsageError: There is no launcher on this machine.
        """
        if self.launch is None:
            raise ValueError("context.mpi: an MPI process cannot launch others")
        n = max(1, self.mpi_processes) if n is None else n
        if not 1 <= n <= max(1, self.mpi_processes):
            raise ValueError(f"context.mpi({n}): the task has {max(1, self.mpi_processes)} slots; write app(mpi={n})")
        return self.launch(n)

    def write_output(self, content: str | bytes, suffix: str = "") -> str:
        """Write a file for this task in OUTPUT_PATH, a folder or a bucket, completely or not at all; return its path or address.

        Its name is the task's id, with characters replaced that are not safe in file names (see ``taskfleet.output_name``), and the suffix.

        Raises:
            ValueError: OUTPUT_PATH is not set, or neither a folder nor a bucket; or the suffix is invalid.
            MissingPackageError: OUTPUT_PATH is a bucket, and pyarrow is not installed.
        """
        return outputs.write_output(self._output_path(), self._output_name(suffix), content)

    def output_file(self, suffix: str = "") -> Path:
        """Return a path for this task's file in the folder OUTPUT_PATH, named as by ``write_output``, for code that writes files itself.

        Raises:
            ValueError: OUTPUT_PATH is not set or is a bucket; or the suffix is invalid.
        """
        return outputs.local_file(self._output_path(), self._output_name(suffix))

    def _output_path(self) -> str:
        if not self.output_path:
            raise ValueError("OUTPUT_PATH is not set: write it into config/task.env, or add --output-path")
        return self.output_path

    def _output_name(self, suffix: str) -> str:
        return outputs.output_name(self.task_id) + outputs.check_suffix(suffix)

    @classmethod
    def for_test(cls, task_id: str = "test", *, attempt: int = 1, output_path: str | None = None) -> "TaskContext":
        """Return a context for calling a task function in a test."""
        return cls(task_id=task_id, attempt=attempt, job_id="test", output_path=output_path)
