"""The requirements on the machines of a pool."""

import math
from dataclasses import dataclass, field, fields

from taskfleet.machine_terms import ANY, EPSILON, Architecture, Hardware, Market, Range
from taskfleet.settings.pool_fields import PoolSettings

#: From a launch request to the first task.
START_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The requirements on the machines of a pool, and on their number."""

    architecture: Architecture
    """The architecture of the image."""
    markets: tuple[Market, ...] = (Market.SPOT, Market.ON_DEMAND)
    zones: tuple[str, ...] = ()
    """Patterns with ``*`` and ``?``; empty for all."""
    instance_types: tuple[str, ...] = ()
    """Patterns; empty for all."""
    exclude_instance_types: tuple[str, ...] = ()
    """Patterns."""
    special_hardware: tuple[Hardware, ...] = ()
    """What machines may have; types with other special hardware are chosen only if ``instance_types`` has their names."""
    cpu_families: tuple[str, ...] = ()
    """Patterns, case-insensitive; empty for all."""
    cpu_rank: Range = ANY
    allow_burstable: bool = False
    cpus: Range = ANY
    memory_gib: Range = ANY
    memory_gib_per_cpu: Range = ANY
    memory_gib_per_task: Range = ANY
    local_ssd_gib: Range = ANY
    local_ssd_gib_per_cpu: Range = ANY
    local_ssd_gib_per_task: Range = ANY
    boot_disk_types: tuple[str, ...] = ()
    """Names; empty for all."""
    boot_disk_gib: float = 10.0
    """The minimum size; the two below are added."""
    boot_disk_gib_per_cpu: float = 0.0
    boot_disk_gib_per_task: float = 0.0
    boot_disk_iops: float = 0.0
    boot_disk_mibps: float = 0.0
    cpus_per_task: float = 1.0
    tasks_per_machine: Range = ANY
    machines: Range = field(default_factory=lambda: Range(1, 10))
    total_cpus: Range = ANY
    shared_cpus: Range = ANY
    """Of the computer that all machines share."""
    simultaneous_tasks: Range = ANY
    price_usd_per_hour: Range = ANY
    """Of all machines together."""
    tasks: int | None = None
    """The number of tasks left, which limits the number and size of machines; None if it is unknown."""
    hours_per_task: float | None = None
    """The expected duration of a task, which limits the size of machines; None if it is unknown."""

    @property
    def useful_slots(self) -> float:
        """The number of slots that the tasks left can make use of; infinity if it is unknown.

        There is at most one for each task, and no more than run for as long as a machine takes to start: machines for work that a few slots
        finish in that time would spend most of their life starting.
        """
        if self.tasks is None:
            return math.inf
        most = float(max(1, self.tasks))
        if self.hours_per_task is None:
            return most
        return min(most, max(1.0, math.ceil(self.tasks * self.hours_per_task * 3600 / START_SECONDS - EPSILON)))


def need_of(settings: PoolSettings, tasks: int | None) -> Need:
    """Return the requirements of the settings.

    Args:
        settings: Of the pool. They have a field for each field of ``Need`` except ``tasks`` and ``shared_cpus``.
        tasks: The number of tasks left; None if it is unknown.
    """
    own = ("tasks", "shared_cpus")
    wanted = {field.name: getattr(settings, field.name) for field in fields(Need) if field.name not in own}
    return Need(tasks=tasks, **wanted)
