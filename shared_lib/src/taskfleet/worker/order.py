"""What the processes that run tasks are told: limits and facts, as plain values that travel as one dict.

This module is loaded into every one of them and each page of theirs is copied at each fork, so it imports little.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any


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
    start_method: str = "fork"
    """How runners are started, as ``multiprocessing`` names it."""

    def pack(self) -> dict[str, Any]:
        """Give it as plain values."""
        return asdict(self)

    @classmethod
    def unpack(cls, values: dict[str, Any]) -> "Order":
        """Take it from plain values."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known} | {"args": tuple(values["args"])})
