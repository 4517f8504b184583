"""Inserts a few tasks, as single calls do, in one transaction; they are visible to workers when it ends.

It can run during the insertion of a table by any process. It makes no segment: each task has a row in ``state`` and is leased before the
tasks of tables.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from taskfleet.ledger.database import Database
from taskfleet.ledger.insertion import InsertionInProgress, InsertReport
from taskfleet.ledger.segments import next_seq
from taskfleet.ledger.task_ids import HeldElsewhereError, TaskIds
from taskfleet.ledger.transitions import changing


def insert_few(
    database: Database,
    ids: Sequence[str],
    data: Sequence[str],
    *,
    ids_are_derived: bool = False,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    on_wait: Callable[[str], None] = lambda _who: None,
) -> InsertReport:
    """Insert all tasks, durably, or none.

    Each call syncs the disk once, which takes milliseconds, and blocks other writers for about 10 µs per task; so batch up to 10,000 tasks.
    It waits for the insertion of a table only if that has entered one of the ids.

    Args:
        database: The job's ledger.
        ids: The id of each task.
        data: The keyword arguments of each task, canonical JSON text.
        ids_are_derived: As for ``Insertion.add``: the second of two equal derived ids becomes a separate task.
        clock: Seconds since the epoch.
        sleep: Called to wait between checks.
        on_wait: Called once with the identity of the process that this one waits for.

    Raises:
        InsertError: A given id occurs twice, or belongs to a task of the job with other data.
    """
    if not ids:
        return InsertReport(added=0, already_there=0, identical=0)
    other = InsertionInProgress(database, clock=clock, sleep=sleep, on_wait=on_wait)
    while True:
        with suppress(HeldElsewhereError):
            return _insert(database, ids, data, ids_are_derived)
        with database.transaction():
            exists = other.exists()
        if exists:
            other.wait()


def _insert(database: Database, ids: Sequence[str], data: Sequence[str], ids_are_derived: bool) -> InsertReport:
    with changing(database, durable=True) as change:
        first = next_seq(database)
        last = first + len(ids) - 1
        database.execute_many(
            "INSERT INTO task (seq, id, data) VALUES (?, ?, ?)",
            list(zip(range(first, last + 1), ids, data, strict=True)),
        )
        entry = TaskIds(database, first, memory="seen_singly")
        entry.enter([(first, last)], are_derived=ids_are_derived, row_number=lambda seq: seq - first + 1)
        added = change.accept_singly(first)
    return InsertReport(added=added, already_there=entry.already_there, identical=entry.identical)
