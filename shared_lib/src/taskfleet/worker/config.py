"""What every process of a worker is told: the function, the limits, and what the context shows, as plain values that travel as one dict.

This module is loaded into every one of them and each page of theirs is copied at each fork, so it imports little.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What the supervisor tells the processes below it; what concerns itself alone is in ``SupervisorOptions``."""

    function: str
    """The task function, ``module:name``."""
    project: str
    """The folder that the module is imported from, and in which it runs."""
    job_id: str
    hostname: str
    output_path: str | None
    args: tuple[str, ...]
    """What stood after ``--`` on the worker's command line."""
    slots: int
    tasks_per_process: int
    """After how many tasks a process is replaced; 0 for never."""
    max_runtime_seconds: float | None
    memory_limit_bytes: int | None
    max_result_bytes: int
    output_tail_bytes: int
    """How much is kept of the end of what a task prints."""
    start_method: str = "fork"
    """How runners are started, as ``multiprocessing`` names it."""

    def pack(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def unpack(cls, values: dict[str, Any]) -> "WorkerConfig":
        """Return what was packed; other values beside it are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known} | {"args": tuple(values["args"])})
