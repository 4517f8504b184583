"""Ledgers that are damaged, and what their check finds."""

import sqlite3
from contextlib import closing

from taskfleet.ledger.checks import check
from taskfleet.ledger.database import open_ledger


def damaged_copy(path, copy, sql):
    """Copy a ledger, so that the job itself passes its own checks at the end, and change the copy; return its path."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.backup(target)
        target.executescript(sql)
    return copy


def problems(path):
    """Return what is found by check."""
    with closing(open_ledger(path, job_id="job", read_only=True)) as database:
        return {one.name: one.problems for one in check(database) if not one.is_ok}
