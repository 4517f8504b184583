"""Configuration of all processes of a worker, passed between them as one dict of plain values.

Every process imports this module, and each of its pages is copied at each fork, so it imports little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskfleet.tasks import processes_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What the supervisor passes to its child processes."""

    function: str
    """The task function, ``module:name``."""
    project: str
    """The folder that the module is imported from, and the working directory of the tasks unless there is another one."""
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
    kills_at_time_limit: bool = False
    """Whether a task that the machine's time limit stops gets no other attempt."""
    cancel_grace_seconds: float = 0.0
    """Time for a cancelled task to end by itself."""
    max_result_bytes: int
    output_tail_bytes: int
    """How many bytes to keep from the end of a task's output."""
    start_method: str = "fork"
    """The start method of runners, as ``multiprocessing`` names it."""
    is_start_method_free: bool = False
    """Whether the worker may use another start method if the user's module needs it."""
    may_have_graph: bool = False
    """Whether the job may have a graph although no function of one is known; then TASK_FUNCTION may be missing."""
    graph_functions: Mapping[str, str] = field(default_factory=dict)
    """The names of the functions of the job's graph that are known when the worker starts, and the versions that their apps declare."""
    results_path: str = ""
    """Where results of graph tasks that are large are written: a folder or bucket."""
    working_directory: str = ""
    """Of the tasks; empty for ``project``."""
    is_rms_style: bool = False
    """Whether the function is called as rms-cloud-tasks calls it, whatever the names of its parameters are."""
    mpi_processes: int | None = None
    """How many MPI processes call TASK_FUNCTION together; None for a call in the process of the task."""
    mpi_launcher: str = ""
    """The setting MPI_LAUNCHER."""
    launches_tasks: bool = False
    """Whether the machine has several nodes, so that tasks are launched on whichever has room."""
    rms: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of ``WorkerData``."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "WorkerConfig":
        """Return the configuration whose ``asdict`` was sent as JSON."""
        return cls(**values | {"args": tuple(values["args"])})


def mpi_processes_of(function: str, config: WorkerConfig) -> int:
    """Return how many MPI processes a task is, from the function in its lease; 0 for a task without MPI."""
    return processes_of(function) if function else config.mpi_processes or 0
