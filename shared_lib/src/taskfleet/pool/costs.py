"""The costs of a job's pools: so far, wasted, and expected in total."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.pool import records
from taskfleet.pool.records import SECONDS_PER_HOUR, MachineRecord
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.tasks import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCosts:
    """The costs of one of several pools."""

    machines: int
    """Machines that exist."""
    machines_ever: int
    so_far_usd: float
    so_far_node_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Costs in one unit: USD, or node-hours."""

    so_far: float
    per_hour: float
    """Of the machines that cost something now; queued ones do not. For node-hours, it is the number of nodes."""
    boot: float
    """From the launch request, or the start of machines that may be queued, to the first heartbeat; all of machines without one."""
    idle: float
    """Of ready machines: slots without a task, and lost work."""
    per_task: float | None
    """Per successful task; None before the first."""
    at_the_end: float | None
    """Expected in total when all tasks are done; None if it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs in USD of machines and their boot disks, at the prices at the time of the launch; see ``Amounts``."""

    so_far_usd: float
    usd_per_hour: float
    boot_usd: float
    idle_usd: float
    usd_per_task: float | None
    at_the_end_usd: float | None
    node_hours: Amounts | None
    """Of machines with nodes; None if there were none."""
    machines: int
    """Machines that exist."""
    machines_queued: int
    """Those of them that are queued by their provider."""
    machines_ever: int
    by_manager: dict[str, PoolCosts] = field(default_factory=dict)
    """By the name of the manager, if machines belong or belonged to the pools of several, or not to that of the default one."""

    @property
    def wasted_usd(self) -> float:
        """The costs without use."""
        return self.boot_usd + self.idle_usd

    def to_json(self) -> dict[str, JSON]:
        """Return the costs as a JSON object."""
        return {**asdict(self), "wasted_usd": self.wasted_usd}


def compute_costs(database: Database, *, succeeded: int, eta_seconds: float | None, now: float) -> Costs | None:
    """Return the costs of a job's machines; None if it never had any.

    Args:
        database: The ledger.
        succeeded: The number of successful tasks.
        eta_seconds: Until all tasks are done; None if it is unknown.
        now: Seconds since the epoch.
    """
    machines = records.all_machines(database)
    if not machines:
        return None
    busy_seconds: dict[str | None, float] = dict(
        database.rows("SELECT machine, sum(busy_seconds) FROM worker WHERE machine IS NOT NULL GROUP BY machine")
    )

    def amounts(per_hour_of: Callable[[MachineRecord], float]) -> Amounts:
        so_far = boot = idle = per_hour = 0.0
        for one in machines:
            each = per_hour_of(one)
            cost = each * one.paid_seconds(now) / SECONDS_PER_HOUR
            so_far += cost
            if one.ended_at is None and one.paid_from is not None:
                per_hour += each
            if one.ready_at is None or one.paid_from is None:
                boot += cost
                continue
            boot += each * max(0.0, one.ready_at - one.paid_from) / SECONDS_PER_HOUR
            ready_seconds = max(0.0, (one.ended_at or now) - one.ready_at)
            busy = busy_seconds.get(one.instance_id, 0.0) / one.slots
            idle += each * max(0.0, ready_seconds - busy) / SECONDS_PER_HOUR
        return Amounts(
            so_far=so_far,
            per_hour=per_hour,
            boot=boot,
            idle=idle,
            per_task=so_far / succeeded if succeeded else None,
            at_the_end=None if eta_seconds is None else so_far + per_hour * eta_seconds / SECONDS_PER_HOUR,
        )

    usd = amounts(lambda one: one.usd_per_hour)
    existing = [one for one in machines if one.ended_at is None]
    return Costs(
        so_far_usd=usd.so_far,
        usd_per_hour=usd.per_hour,
        boot_usd=usd.boot,
        idle_usd=usd.idle,
        usd_per_task=usd.per_task,
        at_the_end_usd=usd.at_the_end,
        node_hours=amounts(lambda one: one.nodes) if any(one.nodes for one in machines) else None,
        machines=len(existing),
        machines_queued=sum(one.is_queued for one in existing),
        machines_ever=len(machines),
        by_manager=_by_manager(database, machines, now),
    )


def _by_manager(database: Database, machines: Sequence[MachineRecord], now: float) -> dict[str, PoolCosts]:
    numbers = sorted({one.manager_id for one in machines})
    names = managers.names(database) if numbers != [0] else {}
    found = {}
    for number in numbers if names else ():
        of_pool = [one for one in machines if one.manager_id == number]
        found[names.get(number, DEFAULT_MANAGER)] = PoolCosts(
            machines=sum(one.ended_at is None for one in of_pool),
            machines_ever=len(of_pool),
            so_far_usd=sum(one.cost_usd(now) for one in of_pool),
            so_far_node_hours=sum(one.node_hours(now) for one in of_pool),
        )
    return found
