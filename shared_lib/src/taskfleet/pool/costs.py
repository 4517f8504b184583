"""What a pool has cost, what of that was for nothing, and what it will have cost."""

from dataclasses import asdict, dataclass

from taskfleet.ledger.database import Database
from taskfleet.pool import records
from taskfleet.pool.records import SECONDS_PER_HOUR
from taskfleet.tasks import JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Money in USD, at the prices machines were ordered at; nothing but machines and their boot disks."""

    so_far_usd: float
    usd_per_hour: float
    """Of the machines that are there and paid for: not of those that are queued."""
    boot_usd: float
    """Until workers were heard, from the request or, where machines may queue, from their start; of machines that never got so far, all."""
    idle_usd: float
    """Of machines with a worker: slots without a task, and work that was lost."""
    usd_per_task: float | None
    """For each task that succeeded; None before the first."""
    at_the_end_usd: float | None
    """When all tasks are done, if it goes on so; None if that is not known."""
    machines: int
    """That are there."""
    machines_queued: int
    """Those of them that wait in their provider's queue."""
    machines_ever: int

    @property
    def wasted_usd(self) -> float:
        """What was paid for nothing."""
        return self.boot_usd + self.idle_usd

    def to_json(self) -> dict[str, JSON]:
        """Give it as an object of JSON."""
        return {**asdict(self), "wasted_usd": self.wasted_usd}


def reckon(database: Database, *, succeeded: int, eta_seconds: float | None, now: float) -> Costs | None:
    """Say what the machines of a job cost; None if it never had any.

    Args:
        database: The ledger.
        succeeded: Tasks that did.
        eta_seconds: Until all are done, None if unknown.
        now: Seconds since the epoch.
    """
    machines = records.all_machines(database)
    if not machines:
        return None
    busy_seconds: dict[str | None, float] = dict(
        database.rows("SELECT machine, sum(busy_seconds) FROM worker WHERE machine IS NOT NULL GROUP BY machine")
    )
    so_far = boot = idle = 0.0
    there = [one for one in machines if one.ended_at is None]
    for one in machines:
        cost = one.cost_usd(now)
        so_far += cost
        usd_per_second = one.usd_per_hour / SECONDS_PER_HOUR
        if one.ready_at is None or one.paid_from is None:
            boot += cost
            continue
        boot += usd_per_second * max(0.0, one.ready_at - one.paid_from)
        ready_seconds = max(0.0, (one.ended_at or now) - one.ready_at)
        busy = busy_seconds.get(one.instance_id, 0.0) / one.slots
        idle += usd_per_second * max(0.0, ready_seconds - busy)
    usd_per_hour = sum(one.usd_per_hour for one in there if one.paid_from is not None)
    return Costs(
        so_far_usd=so_far,
        usd_per_hour=usd_per_hour,
        boot_usd=boot,
        idle_usd=idle,
        usd_per_task=so_far / succeeded if succeeded else None,
        at_the_end_usd=None if eta_seconds is None else so_far + usd_per_hour * eta_seconds / SECONDS_PER_HOUR,
        machines=len(there),
        machines_queued=sum(one.is_queued for one in there),
        machines_ever=len(machines),
    )
