"""Managers that have tasks to run and no worker."""

from collections.abc import Set

from taskfleet.invocation import poe
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.text import counted


def find_unattended(database: Database, attended: Set[int]) -> dict[str, int]:
    """Return the number of pending tasks of each manager without a worker, by its name, if the job has had several managers.

    Args:
        database: The job's ledger.
        attended: The numbers of the managers that have workers.
    """
    names = managers.names(database)
    found = managers.unattended(database, attended) if names else {}
    return {names.get(number, DEFAULT_MANAGER): n for number, n in found.items()}


def describe_unattended(manager: str, n: int, *, has_controller: bool) -> str:
    """Return what to do about a manager without a worker, as one sentence.

    Args:
        manager: Its name.
        n: The number of its pending tasks.
        has_controller: Whether a controller manages the job's pools, one for each manager.
    """
    text = f"{counted(n, 'task')} of manager {manager} can run, and it has no worker"
    if has_controller:
        return f"{text} yet; {poe('explain pool')} describes its pool"
    return f"{text}: {poe(f'launch_worker --manager {manager}')}"
