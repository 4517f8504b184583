"""Putting tasks into the ledger: all of an insertion or nothing of it.

Rows are written in batches as they are read, so that memory stays bounded, but they belong to no state until ``accept`` makes them
visible in one transaction. What a killed insertion leaves behind is cleared by the next one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskfleet.errors import InsertError
from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.processes import identity, is_surely_dead
from taskfleet.tasks import State

#: An insertion elsewhere (another host or container) that has not added anything for so long is taken for dead.
ABANDONED_AFTER_SECONDS = 600.0

POLL_SECONDS = 0.2
CLEAR_ROWS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertReport:
    """What an insertion did."""

    added: int
    """Tasks that are new."""
    already_there: int
    """Rows whose task the job has already, with the same data."""
    identical: int
    """Rows equal to an earlier row of the same table, without ids of their own; each is a task of its own."""


class Insertion:
    """One insertion under way; made by ``begin``."""

    def __init__(self, database: Database, insertion_id: int, first_seq: int) -> None:
        self._database = database
        self._id = insertion_id
        self._first_seq = first_seq
        self._added = 0
        self._already_there = 0
        self._identical = 0

    @property
    def rows(self) -> int:
        """How many rows were given to ``add`` so far."""
        return self._added + self._already_there

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
            InsertError: A given id occurs twice, or belongs to a task of the job that has other data.
        """
        with self._database.transaction() as database:
            touched = database.execute(
                "UPDATE insertion SET touched_at = ? WHERE insertion_id = ? AND accepted_at IS NULL", (now, self._id)
            )
            if touched.rowcount != 1:
                raise InsertError(
                    "This insertion was taken for dead and cleared by another one. Nothing was inserted; run it again."
                )
            database.execute("SAVEPOINT batch")
            rows = list(zip(ids, data, strict=True))
            added = database.execute_many("INSERT OR IGNORE INTO task (id, data) VALUES (?, ?)", rows)
            if added != len(rows):
                database.execute("ROLLBACK TO batch")
                self._add_one_by_one(rows, ids_are_derived, row_number)
            else:
                self._added += added
            database.execute("RELEASE batch")

    def accept(self, now: float) -> InsertReport:
        """Make all tasks of this insertion visible to the workers, at once."""
        with self._database.transaction() as database:
            accepted = database.execute(
                "UPDATE insertion SET accepted_at = ?, touched_at = ?, task_count = ? WHERE insertion_id = ? AND accepted_at IS NULL",
                (now, now, self._added, self._id),
            )
            if accepted.rowcount != 1:
                raise InsertError(
                    "This insertion was taken for dead and cleared by another one. Nothing was inserted; run it again."
                )
            if self._added:
                first, last = self._first_seq, self._first_seq + self._added - 1
                database.execute("INSERT INTO segment VALUES (?, ?, ?)", (first, first, last))
                counters.add(database, State.PENDING, 0, self._added)
                counters.tally(database, "inserted", self._added)
        return InsertReport(added=self._added, already_there=self._already_there, identical=self._identical)

    def discard(self) -> None:
        """Take back everything; the ledger is as before ``begin``."""
        _clear(self._database, self._id, self._first_seq)

    def _add_one_by_one(
        self, rows: list[tuple[str, str]], ids_are_derived: bool, row_number: Callable[[int], int]
    ) -> None:
        for index, (task_id, data) in enumerate(rows):
            if self._insert(task_id, data):
                continue
            seq, known = self._database.row("SELECT seq, data FROM task WHERE id = ?", (task_id,)) or (0, "")
            is_own = seq >= self._first_seq
            if ids_are_derived:
                self._add_identical(task_id, data, 1 if is_own else 0)
            elif is_own:
                raise InsertError(
                    f"task_id {task_id!r} occurs twice in the table, the second time in row {row_number(index):,}. Give each row an id of "
                    "its own, or leave the ids away to have them derived from the content. Nothing was inserted."
                )
            elif known != data:
                raise InsertError(
                    f"task_id {task_id!r} is in this job already with other data: there {shorten(known)}, "
                    f"in row {row_number(index):,} {shorten(data)}. "
                    "Give changed tasks new ids, or choose another JOB_ID. Nothing was inserted."
                )
            else:
                self._already_there += 1

    def _add_identical(self, task_id: str, data: str, at_least: int) -> None:
        """Handle a row whose derived id is taken: it is the n-th of its kind in this table."""
        database = self._database
        database.execute("CREATE TEMP TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        n = (database.value("SELECT n FROM temp.seen WHERE id = ?", (task_id,)) or at_least) + 1
        database.execute("INSERT OR REPLACE INTO temp.seen VALUES (?, ?)", (task_id, n))
        if n > 1:
            self._identical += 1
        if n == 1 or not self._insert(f"{task_id}-{n}", data):
            self._already_there += 1

    def _insert(self, task_id: str, data: str) -> bool:
        new = (
            self._database.execute("INSERT OR IGNORE INTO task (id, data) VALUES (?, ?)", (task_id, data)).rowcount == 1
        )
        self._added += new
        return new


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
    database.execute("PRAGMA synchronous = FULL")  # an accepted task must survive a power cut
    database.execute("DROP TABLE IF EXISTS temp.seen")
    told = False
    while True:
        with database.transaction():
            other = database.row(
                "SELECT insertion_id, first_seq, process, touched_at FROM insertion WHERE accepted_at IS NULL"
            )
            if other is None:
                first_seq = (database.value("SELECT max(seq) FROM task") or 0) + 1
                insertion_id = database.execute(
                    "INSERT INTO insertion (source, process, touched_at, first_seq) VALUES (?, ?, ?, ?)",
                    (source, identity(), clock(), first_seq),
                ).lastrowid
                assert insertion_id is not None
                return Insertion(database, insertion_id, first_seq)
        other_id, other_first_seq, process, touched_at = other
        if is_surely_dead(process) or clock() - touched_at > ABANDONED_AFTER_SECONDS:
            _clear(database, other_id, other_first_seq)
            continue
        if not told:
            on_wait(process)
            told = True
        sleep(POLL_SECONDS)


def shorten(text: str, limit: int = 120) -> str:
    """Cut a long text for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _clear(database: Database, insertion_id: int, first_seq: int) -> None:
    """Delete what an insertion wrote, newest first, so that what is left is always a whole range from ``first_seq``."""
    while True:
        with database.transaction():
            if (
                database.value(
                    "SELECT 1 FROM insertion WHERE insertion_id = ? AND accepted_at IS NULL", (insertion_id,)
                )
                is None
            ):
                return
            last = database.value("SELECT max(seq) FROM task") or 0
            database.execute("DELETE FROM task WHERE seq >= ?", (max(first_seq, last - CLEAR_ROWS + 1),))
            if last < first_seq + CLEAR_ROWS:
                database.execute("DELETE FROM insertion WHERE insertion_id = ?", (insertion_id,))
                return
