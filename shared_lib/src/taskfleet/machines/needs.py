"""What the machines of a pool have to be."""

from dataclasses import dataclass, field, fields

from taskfleet.machine_terms import ANY, Architecture, Market, Range
from taskfleet.settings.pool_fields import PoolSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the machines of a pool have to be, and how many there may be."""

    architecture: Architecture
    """The image's."""
    markets: tuple[Market, ...] = (Market.SPOT, Market.ON_DEMAND)
    zones: tuple[str, ...] = ()
    """Patterns with ``*`` and ``?``; empty for all."""
    instance_types: tuple[str, ...] = ()
    """Patterns; empty for all."""
    cpu_families: tuple[str, ...] = ()
    """Patterns, whatever their case; empty for all."""
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
    """What the system takes, at least; the two below come on top."""
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
    """So many are left: more machines than they fill are not wanted."""


def need_of(settings: PoolSettings, tasks: int | None) -> Need:
    """Return what the settings want machines to be.

    Args:
        settings: Those of the pool; each field of ``Need`` but ``tasks`` has one of its name.
        tasks: How many are left; None if that is not known.
    """
    wanted = {field.name: getattr(settings, field.name) for field in fields(Need) if field.name != "tasks"}
    return Need(tasks=tasks, **wanted)
