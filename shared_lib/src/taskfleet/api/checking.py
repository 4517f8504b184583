"""Verifying a job's ledger."""

from collections.abc import Iterator
from contextlib import closing

from taskfleet.ledger.checks import Check, check
from taskfleet.ledger.database import open_ledger
from taskfleet.settings import Configuration


def check_ledger(configuration: Configuration) -> Iterator[Check]:
    """Yield the result of each check of the job's ledger, which is not changed.

    Raises:
        LedgerError: There is none, it is not a ledger, or belongs to another job or project.
    """
    with closing(
        open_ledger(
            configuration.ledger_path,
            job_id=configuration.settings.job_id,
            project=configuration.project,
            read_only=True,
        )
    ) as database:
        yield from check(database)
