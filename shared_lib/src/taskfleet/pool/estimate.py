"""Estimate of the duration and the costs of the tasks left on a choice of machines."""

from contextlib import closing

from taskfleet.errors import LedgerError
from taskfleet.ledger import counters, managers, queries
from taskfleet.ledger.database import open_ledger
from taskfleet.machines.choosing import Choice
from taskfleet.machines.needs import START_SECONDS
from taskfleet.settings import Configuration


class Estimate:
    """The expected duration and costs; None if the number of tasks or their duration is unknown."""

    def __init__(self, choice: Choice, tasks: int | None, hours_per_task: float | None) -> None:
        best = choice.best
        assert best is not None
        self.tasks = tasks
        self.hours_per_task = hours_per_task
        self.usd_per_hour = choice.count * best.usd_per_hour
        start_seconds = START_SECONDS if best.usd_per_hour else 0.0
        self.hours: float | None = None
        self.usd: float | None = None
        if tasks is not None and hours_per_task is not None:
            hours_per_slot = tasks * hours_per_task / (choice.count * best.slots)
            self.hours = start_seconds / 3600 + max(hours_per_slot, hours_per_task)
            self.usd = self.hours * self.usd_per_hour


def names_of_managers(configuration: Configuration) -> list[str]:
    """Return the names of all managers that the job has had, except the default one."""
    try:
        with closing(
            open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
        ) as database:
            return list(managers.names(database).values())
    except LedgerError:  # no tasks are inserted yet
        return []


def read_job(configuration: Configuration) -> tuple[int | None, float | None]:
    """Return the number of tasks left of the manager of the settings, and the hours per task of the job, as far as the ledger has them."""
    hours = configuration.pool.hours_per_task
    try:
        database = open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
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
