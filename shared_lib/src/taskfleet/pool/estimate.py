"""Estimate of the duration and the costs of the tasks left on a choice of machines."""

import time
from contextlib import closing, suppress

from taskfleet.errors import LedgerError
from taskfleet.ledger import counters, managers, queries
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.machines import LaunchRequest
from taskfleet.machines.choosing import Choice
from taskfleet.machines.needs import START_SECONDS
from taskfleet.pool import records
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.planning import Hold, PoolState, plan
from taskfleet.pool.selection import pool_limits, pool_need
from taskfleet.settings import Configuration


class Estimate:
    """The expected duration and costs; None if the number of tasks or their duration is unknown."""

    def __init__(self, choice: Choice, tasks: int | None, hours_per_task: float | None) -> None:
        best = choice.best
        assert best is not None
        self.tasks = tasks
        self.hours_per_task = hours_per_task
        self.usd_per_hour = choice.count * best.usd_per_hour
        self.nodes = choice.count * best.nodes
        start_seconds = START_SECONDS if best.has_market else 0.0
        self.hours: float | None = None
        self.usd: float | None = None
        self.node_hours: float | None = None
        """None for machines without nodes, too."""
        if tasks is not None and hours_per_task is not None:
            hours_per_slot = tasks * hours_per_task / choice.slots
            self.hours = start_seconds / 3600 + max(hours_per_slot, hours_per_task)
            self.usd = self.hours * self.usd_per_hour
            self.node_hours = self.hours * self.nodes if self.nodes else None


def first_request(
    configuration: Configuration, choice: Choice, tasks: int | None, *, token: str
) -> LaunchRequest | Hold | None:
    """Return the first launch request of a pool without machines, or the reason why there is none; None if it needs none.

    Args:
        configuration: The settings of the manager whose pool it is.
        choice: Its machines.
        tasks: The number of tasks left; None if it is unknown.
        token: The name of the request.
    """
    best, now = choice.best, time.time()
    assert best is not None
    spent_usd = spent_node_hours = 0.0
    with suppress(LedgerError), closing(_open(configuration)) as database:
        machines = records.all_machines(database)
        spent_usd = sum(one.max_cost_usd(now) for one in machines)
        spent_node_hours = sum(one.max_node_hours(now) for one in machines)
    tasks = choice.count * best.slots if tasks is None else tasks
    state = PoolState(
        now=now,
        tasks_left=tasks,
        tasks_runnable=tasks,
        open_machines=(),
        last_heartbeats={},
        spent_usd=spent_usd,
        spent_node_hours=spent_node_hours,
        was_ever_ready=False,
        was_ever_productive=False,
        failures=(),
        offers=choice.ranked,
        next_token=token,
    )
    found = plan(state, pool_limits(configuration, pool_need(configuration, tasks)), Cooldowns())
    return found.launch or found.hold


def _open(configuration: Configuration) -> Database:
    return open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)


def names_of_managers(configuration: Configuration) -> list[str]:
    """Return the names of all managers that the job has had, except the default one."""
    try:
        with closing(_open(configuration)) as database:
            return list(managers.names(database).values())
    except LedgerError:  # no tasks are inserted yet
        return []


def read_job(configuration: Configuration) -> tuple[int | None, float | None]:
    """Return the number of tasks left of the manager of the settings, and the hours per task of the job, as far as the ledger has them."""
    hours = configuration.pool.hours_per_task
    try:
        database = _open(configuration)
    except LedgerError:  # no tasks are inserted yet
        return None, hours
    try:
        if not queries.was_inserted(database):
            return None, hours
        number = next((one for one, name in managers.names(database).items() if name == configuration.manager), 0)
        left = managers.left(database).get(number, 0)
        measured = counters.durations(database)
        if hours is None and measured is not None and measured.n:
            hours = measured.mean / 3600
        return left, hours
    finally:
        database.close()
