"""Configuration of all processes of a worker, passed between them as one dict of plain values.

Every process imports this module, and each of its pages is copied at each fork, so it imports little.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What the supervisor passes to its child processes."""

    function: str
    """The task function, ``module:name``."""
    project: str
    """The folder that the module is imported from, and the working directory of the tasks."""
    job_id: str
    hostname: str
    output_path: str | None
    args: tuple[str, ...]
    """The arguments after ``--`` on the worker's command line."""
    slots: int
    tasks_per_process: int
    """Replace a process after this many tasks; 0 for never."""
    max_runtime_seconds: float | None
    memory_limit_bytes: int | None
    max_result_bytes: int
    output_tail_bytes: int
    """How many bytes to keep from the end of a task's output."""
    start_method: str = "fork"
    """The start method of runners, as ``multiprocessing`` names it."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "WorkerConfig":
        """Return the configuration whose ``asdict`` was sent as JSON."""
        return cls(**values | {"args": tuple(values["args"])})
