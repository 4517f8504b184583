"""Inserts the tasks of a table: all of them or none. For a few tasks see ``small_insertion``.

Only one bulk insertion runs at a time. Rows are written in batches as they are read, so memory is bounded, but they have no state until
``accept`` makes them visible in one transaction. The next insertion deletes what a killed one left. Other processes may insert a few tasks
meanwhile, so each batch takes the next free numbers.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from taskfleet.errors import InsertError
from taskfleet.ledger.database import Database
from taskfleet.ledger.segments import accepted, next_seq
from taskfleet.ledger.task_ids import Run, TaskIds
from taskfleet.ledger.transitions import Transitions, changing
from taskfleet.processes.identity import identity, is_surely_dead

logger = logging.getLogger(__name__)

#: An insertion on another host or in another container that has added nothing for this long counts as dead.
ABANDONED_AFTER_SECONDS = 600.0

POLL_SECONDS = 0.2
CLEAR_ROWS = 100_000
#: Ids are entered in sorted batches of this size; workers wait a fraction of a second for each.
ENTER_ROWS = 250_000
#: The size of the write-ahead log, in pages of 4 KiB, at which an insertion checkpoints it.
CHECKPOINT_PAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertReport:
    """The counts of an insertion."""

    added: int
    """New tasks."""
    already_there: int
    """Rows whose task the job already has, with the same data."""
    identical: int
    """Rows without given ids that equal an earlier row of the same table; each is a separate task."""
    left_out: int = 0
    """Rows that a filter omitted."""
    sent: int = 0
    """Tasks sent to a service queue, including those of interrupted insertions."""


class Insertion:
    """An insertion in progress; see ``begin``. After any error it can only be discarded."""

    def __init__(self, database: Database, insertion_id: int, first_seq: int) -> None:
        self._database = database
        self._id = insertion_id
        self._first_seq = first_seq
        self._ids = TaskIds(database, first_seq)
        self._ids_are_derived = False
        self._runs: list[Run] = []
        self._not_entered: list[Run] = []
        """The part of ``_runs`` whose ids are not entered yet."""
        self._places: list[tuple[int, Callable[[int], int]]] = []
        self._is_whole = True

    @property
    def rows(self) -> int:
        """The number of rows given to ``add`` so far."""
        return _count(self._runs)

    def add(
        self,
        ids: Sequence[str],
        data: Sequence[str],
        *,
        ids_are_derived: bool,
        now: float,
        row_number: Callable[[int], int] = lambda index: index + 1,
    ) -> None:
        """Write a batch of tasks, which are not visible yet.

        Args:
            ids: The id of each task.
            data: The keyword arguments of each task, canonical JSON text.
            ids_are_derived: Whether the ids are derived from the content (``tables.content_id``). Then equal ids mean equal rows, and the
                second row becomes a separate task with the id ``…-2``. Given ids must be unique.
            now: Seconds since the epoch.
            row_number: Returns the row in the table of the task at an index, for messages.

        Raises:
            InsertError: A given id occurs twice, or belongs to a task of the job with other data. It may be raised by a later ``add``
                or by ``accept``.
        """
        if ids_are_derived != self._ids_are_derived:
            self._enter_ids(now)
            self._ids_are_derived = ids_are_derived
        with self._changing(now):
            first = next_seq(self._database)
            last = first + len(ids) - 1
            self._database.execute_many(
                "INSERT INTO task (seq, id, data) VALUES (?, ?, ?)",
                list(zip(range(first, last + 1), ids, data, strict=True)),
            )
            self._database.execute("UPDATE insertion SET last_seq = ? WHERE insertion_id = ?", (last, self._id))
        self._places.append((first, row_number))
        _extend(self._runs, first, last)
        _extend(self._not_entered, first, last)
        if _count(self._not_entered) >= ENTER_ROWS:
            self._enter_ids(now)

    def accept(self, now: float) -> InsertReport:
        """Make all tasks of this insertion visible to workers, in one transaction.

        Raises:
            InsertError: As for ``add``.
        """
        self._enter_ids(now)
        added = self.rows - self._ids.already_there
        with self._changing(now, durable=True) as change:
            self._database.execute(
                "UPDATE insertion SET accepted_at = ?, task_count = ? WHERE insertion_id = ?", (now, added, self._id)
            )
            if added:
                change.accept(self._runs, added)
        return InsertReport(added=added, already_there=self._ids.already_there, identical=self._ids.identical)

    def discard(self) -> None:
        """Delete everything that this insertion wrote."""
        _clear(self._database, self._id, self._first_seq)

    @contextmanager
    def _changing(self, now: float, *, durable: bool = False) -> Iterator[Transitions]:
        """Open a transaction, checking that no other process took this insertion for dead; note whether it fails."""
        if not self._is_whole:
            raise InsertError(
                "An earlier batch of this insertion failed, so it cannot continue. Nothing was inserted. Run the command again."
            )
        self._is_whole = False
        with changing(self._database, durable=durable) as change:
            touched = self._database.execute(
                "UPDATE insertion SET touched_at = ? WHERE insertion_id = ? AND accepted_at IS NULL", (now, self._id)
            )
            if touched.rowcount != 1:
                raise InsertError(
                    "Another insertion treated this one as dead and deleted its rows. Nothing was inserted. Run the command again."
                )
            yield change
        self._is_whole = True

    def _enter_ids(self, now: float) -> None:
        """Enter the ids of the tasks that were added since the last call; handle ids that exist already."""
        if not self._not_entered:
            return
        with self._changing(now):
            self._ids.enter(self._not_entered, are_derived=self._ids_are_derived, row_number=self._row_number)
        self._not_entered = []
        self._places.clear()

    def _row_number(self, seq: int) -> int:
        return next(row_number(seq - start) for start, row_number in reversed(self._places) if start <= seq)


def begin(
    database: Database,
    *,
    source: str,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    on_wait: Callable[[str], None] = lambda _who: None,
) -> Insertion:
    """Start an insertion; wait while another one is in progress.

    Args:
        database: The job's ledger.
        source: Where the tasks come from, for display.
        clock: Seconds since the epoch.
        sleep: Called to wait between checks.
        on_wait: Called once with the identity of the process that this one waits for.
    """
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    other = InsertionInProgress(database, clock=clock, sleep=sleep, on_wait=on_wait)
    while True:
        with database.transaction():
            if not other.exists():
                first_seq = next_seq(database)
                return Insertion(database, _enter(database, source, first_seq, clock()), first_seq)
        other.wait()


class InsertionInProgress:
    """The insertion that is in progress, if there is one: wait for it, or delete what a dead one left."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        on_wait: Callable[[str], None],
    ) -> None:
        """Take the same arguments as ``begin``."""
        self._database = database
        self._clock = clock
        self._sleep = sleep
        self._on_wait = on_wait
        self._reported = False
        self._process = ""
        self._dead: tuple[int, int] | None = None

    def exists(self) -> bool:
        """Return whether an insertion is in progress, inside a transaction; take it over if its process is dead."""
        found = self._database.row(
            "SELECT insertion_id, source, first_seq, process, touched_at FROM insertion WHERE accepted_at IS NULL"
        )
        if found is None:
            return False
        insertion_id, source, first_seq, self._process, touched_at = found
        self._dead = None
        if is_surely_dead(self._process) or self._clock() - touched_at > ABANDONED_AFTER_SECONDS:
            # Under a new id, so that its process is refused from here on if it is alive after all.
            self._database.execute("DELETE FROM insertion WHERE insertion_id = ?", (insertion_id,))
            self._dead = _enter(self._database, source, first_seq, self._clock()), first_seq
            logger.info("The insertion of %s by %s is dead: its rows are deleted", source, self._process)
        return True

    def wait(self) -> None:
        """Delete what a dead insertion left, or wait a moment; outside the transaction."""
        if self._dead is not None:
            _clear(self._database, *self._dead)
            return
        if not self._reported:
            self._on_wait(self._process)
            self._reported = True
        self._sleep(POLL_SECONDS)


def _enter(database: Database, source: str, first_seq: int, now: float) -> int:
    insertion_id = database.execute(
        "INSERT INTO insertion (source, process, touched_at, first_seq) VALUES (?, ?, ?, ?)",
        (source, identity(), now, first_seq),
    ).lastrowid
    assert insertion_id is not None
    return insertion_id


def _clear(database: Database, insertion_id: int, first_seq: int) -> None:
    """Delete what an insertion wrote, in steps. Its row is deleted with the last step, so another process can continue."""
    start = first_seq
    while True:
        with database.transaction():
            is_open = "SELECT 1 FROM insertion WHERE insertion_id = ? AND accepted_at IS NULL"
            if database.value(is_open, (insertion_id,)) is None:
                return
            database.execute("DROP TABLE IF EXISTS temp.doomed")
            database.execute(
                "CREATE TEMP TABLE doomed AS SELECT task.seq, task.id FROM task LEFT JOIN state USING (seq) "
                f"WHERE task.seq >= ? AND task.seq < ? AND NOT {accepted('task.seq')}",
                (start, start + CLEAR_ROWS),
            )
            database.execute(
                "DELETE FROM task_id WHERE id IN (SELECT id FROM temp.doomed) AND seq IN (SELECT seq FROM temp.doomed)"
            )
            database.execute("DELETE FROM task WHERE seq IN (SELECT seq FROM temp.doomed)")
            start += CLEAR_ROWS
            if (database.value("SELECT max(seq) FROM task") or 0) < start:
                database.execute("DELETE FROM insertion WHERE insertion_id = ?", (insertion_id,))
                return


def _extend(runs: list[Run], first: int, last: int) -> None:
    """Append consecutive numbers, or none, to runs of numbers."""
    if last < first:
        return
    if runs and runs[-1][1] + 1 == first:
        first, _ = runs.pop()
    runs.append((first, last))


def _count(runs: list[Run]) -> int:
    return sum(last + 1 - first for first, last in runs)
