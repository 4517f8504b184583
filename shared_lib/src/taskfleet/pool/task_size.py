"""How many slots the tasks of a pool take."""

from contextlib import closing

from taskfleet.errors import LedgerError
from taskfleet.ledger import calls, managers
from taskfleet.ledger.database import open_ledger
from taskfleet.settings import Configuration


def slots_per_task(configuration: Configuration) -> int:
    """Return how many slots a task of the manager of the settings takes, at most."""
    fewest = configuration.settings.mpi_processes or 1
    try:
        with closing(
            open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
        ) as database:
            numbers = {name: number for number, name in managers.names(database).items()}
            return max(fewest, calls.most_processes(database, numbers.get(configuration.manager, 0)))
    except LedgerError:  # no tasks are inserted yet
        return fewest
