"""Options of the supervisor that its child processes do not need."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """Options of the supervisor alone; see the settings of similar names."""

    lease_seconds: float
    """Duration of a lease; it is renewed three times in this period."""
    grace_seconds: float
    """How long running tasks may continue after the worker was stopped."""
    keep_waiting: bool = False
    """Whether to keep running when the queue is empty."""
    max_tasks: int | None = None
    """Maximum number of tasks to lease; None for no maximum."""
    notice_after_seconds: float | None = None
    """When to simulate a termination notice, counted from the creation of the supervisor; None for never."""
    notice_seconds: float = 0.0
    """How long running tasks may continue after the simulated notice."""
    exports: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for the user's code; variables of this process take precedence."""
