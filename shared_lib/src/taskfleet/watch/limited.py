"""Managers of which as many tasks run as MAX_CONCURRENT_TASKS allows."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from taskfleet.errors import SettingsError
from taskfleet.ledger import leasing
from taskfleet.ledger.database import Database
from taskfleet.ledger.queries import WorkerRecord
from taskfleet.settings import Configuration
from taskfleet.settings.manager_files import DEFAULT_MANAGER


def find_limited(database: Database, workers: Sequence[WorkerRecord], configuration: Configuration) -> dict[str, int]:
    """Return the limit of each manager that has reached it and has tasks left to start, by the manager's name.

    Args:
        database: The job's ledger.
        workers: The workers that have not ended.
        configuration: The settings of the job.
    """
    running: Counter[tuple[int, str]] = Counter()
    for worker in workers:
        running[worker.manager_id, worker.manager] += worker.leased
    found = {}
    for (number, name), n in running.items():
        with suppress(SettingsError):  # the file of the manager is missing
            of_manager = configuration if name == configuration.manager else configuration.of_manager(name)
            limit = of_manager.settings.max_concurrent_tasks
            if limit is not None and n >= limit and leasing.has_leasable(database, 0, number):
                found[name or DEFAULT_MANAGER] = limit
    return found


def describe_limited(manager: str, limit: int) -> str:
    """Return why no more tasks of a manager start, as one sentence."""
    whose = "" if manager == DEFAULT_MANAGER else f" of manager {manager}"
    return f"As many tasks{whose} run as MAX_CONCURRENT_TASKS={limit:,} allows"
