"""The requirements on the machines of a pool."""

from dataclasses import dataclass, field, fields

from taskfleet.machine_terms import ANY, Architecture, Market, Range
from taskfleet.settings.pool_fields import PoolSettings


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
    simultaneous_tasks: Range = ANY
    price_usd_per_hour: Range = ANY
    """Of all machines together."""
    tasks: int | None = None
    """The number of tasks left, which limits the number of machines; None if it is unknown."""


def need_of(settings: PoolSettings, tasks: int | None) -> Need:
    """Return the requirements of the settings.

    Args:
        settings: Of the pool. They have a field for each field of ``Need`` except ``tasks``.
        tasks: The number of tasks left; None if it is unknown.
    """
    wanted = {field.name: getattr(settings, field.name) for field in fields(Need) if field.name != "tasks"}
    return Need(tasks=tasks, **wanted)
