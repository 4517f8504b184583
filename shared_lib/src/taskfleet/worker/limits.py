"""What bounds a task, and the facts its slot needs; plain values that travel as one dict."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from taskfleet.settings import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that the processes which run tasks are told by the supervisor."""

    function: str
    project: str
    job_id: str
    hostname: str
    output_path: str | None
    args: tuple[str, ...]
    slots: int
    tasks_per_process: int
    max_runtime_seconds: float | None
    memory_limit_bytes: int | None
    max_result_bytes: int
    output_tail_bytes: int

    def pack(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)

    @classmethod
    def unpack(cls, values: dict[str, Any]) -> "Order":
        """Take it from plain values."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known} | {"args": tuple(values["args"])})


def make_order(configuration: Configuration, *, hostname: str, slots: int, args: tuple[str, ...]) -> Order:
    """Take what concerns the tasks from the settings."""
    settings = configuration.settings
    return Order(
        function=settings.task_function,
        project=str(configuration.project),
        job_id=settings.job_id,
        hostname=hostname,
        output_path=settings.output_path,
        args=args,
        slots=slots,
        tasks_per_process=settings.tasks_per_process,
        max_runtime_seconds=settings.max_runtime_seconds,
        memory_limit_bytes=None if settings.memory_limit_gib is None else int(settings.memory_limit_gib * 2**30),
        max_result_bytes=int(settings.max_result_mib * 2**20),
        output_tail_bytes=int(settings.output_tail_kib * 2**10),
    )
