"""How a supervisor works, as far as the processes below it need not know."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """Limits and wishes that concern the supervisor alone; see the settings of similar names."""

    lease_seconds: float
    """For how long a lease is taken and renewed; renewals are three times as frequent."""
    grace_seconds: float
    """What running tasks have left when the worker is stopped."""
    keep_waiting: bool = False
    """Whether to go on when nothing is left to do."""
    max_tasks: int | None = None
    """How many tasks to lease at most; None for all there are."""
    notice_after_seconds: float | None = None
    """When to act as if a termination notice came, from the supervisor's making on; None for never."""
    notice_seconds: float = 0.0
    """What running tasks have left after that notice."""
    exports: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for the user's code; those of this process come before them."""
