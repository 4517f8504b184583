"""Inserting a table's tasks: all of them or none. For a few tasks there is ``small_insertion``.

It is made for bulk, and there is one at a time: rows are written in batches as they are read, so that memory stays bounded, but they belong
to no state until ``accept`` makes them visible in one transaction. What a killed insertion leaves behind is cleared by the next one. Others
may insert a few tasks meanwhile, so a batch takes whatever numbers are free.
"""

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

#: An insertion elsewhere (another host or container) that has not added anything for so long is taken for dead.
ABANDONED_AFTER_SECONDS = 600.0

POLL_SECONDS = 0.2
CLEAR_ROWS = 100_000
#: So many tasks' ids are entered at a time, sorted; it keeps workers waiting for a fraction of a second.
ENTER_ROWS = 250_000
#: The write-ahead log may grow to this (in pages of 4 KiB) before an insertion moves it into the file.
CHECKPOINT_PAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertReport:
    """What an insertion did."""

    added: int
    """Tasks that are new."""
    already_there: int
    """Rows whose task the job has already, with the same data."""
    identical: int
    """Rows equal to an earlier row of the same table, without ids of their own; each is a task of its own."""
    left_out: int = 0
    """Rows that a filter left out before they came to the ledger."""
    sent: int = 0
    """Tasks sent to a service queue, those of interrupted insertions included."""


class Insertion:
    """One insertion under way; made by ``begin``. After any error it can only be discarded."""

    def __init__(self, database: Database, insertion_id: int, first_seq: int) -> None:
        self._database = database
        self._id = insertion_id
        self._first_seq = first_seq
        self._ids = TaskIds(database, first_seq)
        self._ids_are_derived = False
        self._runs: list[Run] = []
        self._not_entered: list[Run] = []
        """Of ``_runs``, those whose ids are not entered yet."""
        self._places: list[tuple[int, Callable[[int], int]]] = []
        self._is_whole = True

    @property
    def rows(self) -> int:
        """How many rows were given to ``add`` so far."""
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
        """Write a batch of tasks, not visible yet.

        Args:
            ids: One for each task.
            data: The keyword arguments of each task, canonical JSON text.
            ids_are_derived: Whether the ids come from the content (``tables.content_id``): then equal ids mean equal rows, and the
                second becomes a task of its own with the id ``…-2``. Given ids must be unique.
            now: Seconds since the epoch.
            row_number: Gives the row in the table of the task at an index, for messages.

        Raises:
            InsertError: A given id occurs twice, or belongs to a task of the job that has other data; perhaps only at a later
                ``add`` or at ``accept``.
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
        """Make all tasks of this insertion visible to the workers, at once.

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
        """Take back everything; the ledger is as before ``begin``."""
        _clear(self._database, self._id, self._first_seq)

    @contextmanager
    def _changing(self, now: float, *, durable: bool = False) -> Iterator[Transitions]:
        """Open a transaction in which this insertion is known to be still its maker's, and note a failure of it."""
        if not self._is_whole:
            raise InsertError(
                "An earlier batch of this insertion failed, so it cannot go on. Nothing was inserted; run it again."
            )
        self._is_whole = False
        with changing(self._database, durable=durable) as change:
            touched = self._database.execute(
                "UPDATE insertion SET touched_at = ? WHERE insertion_id = ? AND accepted_at IS NULL", (now, self._id)
            )
            if touched.rowcount != 1:
                raise InsertError(
                    "This insertion was taken for dead and cleared by another one. Nothing was inserted; run it again."
                )
            yield change
        self._is_whole = True

    def _enter_ids(self, now: float) -> None:
        """Enter the ids of the tasks added since the last time; deal with those that are taken."""
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
    """Start an insertion; waits while another one is under way.

    Args:
        database: The job's ledger.
        source: Where the tasks come from, for people.
        clock: Seconds since the epoch.
        sleep: Called between looks while waiting.
        on_wait: Called once with the identity of the process that is waited for.
    """
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    other = Other(database, clock=clock, sleep=sleep, on_wait=on_wait)
    while True:
        with database.transaction():
            if not other.is_under_way():
                first_seq = next_seq(database)
                return Insertion(database, _enter(database, source, first_seq, clock()), first_seq)
        other.wait()


class Other:
    """The insertion that is under way, if there is one: to be waited for, or to be cleared up after."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        on_wait: Callable[[str], None],
    ) -> None:
        """As for ``begin``."""
        self._database = database
        self._clock = clock
        self._sleep = sleep
        self._on_wait = on_wait
        self._reported = False
        self._process = ""
        self._dead: tuple[int, int] | None = None

    def is_under_way(self) -> bool:
        """Look, inside a transaction; one whose process is dead is taken over."""
        found = self._database.row(
            "SELECT insertion_id, source, first_seq, process, touched_at FROM insertion WHERE accepted_at IS NULL"
        )
        if found is None:
            return False
        insertion_id, source, first_seq, self._process, touched_at = found
        self._dead = None
        if is_surely_dead(self._process) or self._clock() - touched_at > ABANDONED_AFTER_SECONDS:
            # Under a new id, so that its maker, should it live after all, is refused from here on.
            self._database.execute("DELETE FROM insertion WHERE insertion_id = ?", (insertion_id,))
            self._dead = _enter(self._database, source, first_seq, self._clock()), first_seq
        return True

    def wait(self) -> None:
        """Outside the transaction: clear up after a dead one, or wait a moment."""
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
    """Delete what an insertion wrote, in steps; its own entry goes with the last of them, so that another one can go on with it."""
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
    """Add consecutive numbers, or none, to runs of them."""
    if last < first:
        return
    if runs and runs[-1][1] + 1 == first:
        first, _ = runs.pop()
    runs.append((first, last))


def _count(runs: list[Run]) -> int:
    return sum(last + 1 - first for first, last in runs)
