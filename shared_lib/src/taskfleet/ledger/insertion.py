"""Putting tasks into the ledger: all of an insertion or nothing of it.

Rows are written in batches as they are read, so that memory stays bounded, but they belong to no state until ``accept`` makes them
visible in one transaction. What a killed insertion leaves behind is cleared by the next one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from taskfleet.errors import InsertError
from taskfleet.ledger.database import Database
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


class Insertion:
    """One insertion under way; made by ``begin``. After any error it can only be discarded."""

    def __init__(self, database: Database, insertion_id: int, first_seq: int) -> None:
        self._database = database
        self._id = insertion_id
        self._first_seq = first_seq
        self._next_seq = first_seq
        self._entered_to = first_seq
        self._ids_are_derived = False
        self._places: list[tuple[int, Callable[[int], int]]] = []
        self._already_there = 0
        self._identical = 0
        self._is_whole = True

    @property
    def rows(self) -> int:
        """How many rows were given to ``add`` so far."""
        return self._next_seq - self._first_seq

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
            end = self._next_seq + len(ids)
            rows = list(zip(range(self._next_seq, end), ids, data, strict=True))
            self._database.execute_many("INSERT INTO task (seq, id, data) VALUES (?, ?, ?)", rows)
        self._places.append((self._next_seq, row_number))
        self._next_seq = end
        if self._next_seq - self._entered_to >= ENTER_ROWS:
            self._enter_ids(now)

    def accept(self, now: float) -> InsertReport:
        """Make all tasks of this insertion visible to the workers, at once.

        Raises:
            InsertError: As for ``add``.
        """
        self._enter_ids(now)
        added = self.rows - self._already_there
        with self._changing(now) as change:
            self._database.execute(
                "UPDATE insertion SET accepted_at = ?, task_count = ? WHERE insertion_id = ?", (now, added, self._id)
            )
            if added:
                change.accept(self._first_seq, self._next_seq - 1, added)
        return InsertReport(added=added, already_there=self._already_there, identical=self._identical)

    def discard(self) -> None:
        """Take back everything; the ledger is as before ``begin``."""
        _clear(self._database, self._id, self._first_seq)

    @contextmanager
    def _changing(self, now: float) -> Iterator[Transitions]:
        """Open a transaction in which this insertion is known to be still its maker's, and note a failure of it."""
        if not self._is_whole:
            raise InsertError(
                "An earlier batch of this insertion failed, so it cannot go on. Nothing was inserted; run it again."
            )
        self._is_whole = False
        with changing(self._database) as change:
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
        first, expected = self._entered_to, self._next_seq - self._entered_to
        if not expected:
            return
        database = self._database
        with self._changing(now):
            entered = database.execute(
                "INSERT OR IGNORE INTO task_id (id, seq) SELECT id, seq FROM task WHERE seq >= ? ORDER BY id, seq",
                (first,),
            ).rowcount
            if entered != expected:
                database.execute("DROP TABLE IF EXISTS temp.taken")
                database.execute(
                    "CREATE TEMP TABLE taken AS SELECT task.seq, task.id, task_id.seq AS holder FROM task JOIN task_id USING (id) "
                    "WHERE task.seq >= ? AND task_id.seq <> task.seq",
                    (first,),
                )
                if self._ids_are_derived:
                    self._number_identical(database)
                else:
                    self._refuse_conflicts(database)
                    self._drop(database, "SELECT seq FROM temp.taken")
        self._entered_to = self._next_seq
        self._places.clear()

    def _refuse_conflicts(self, database: Database) -> None:
        """Let pass, of tasks whose given ids are taken, only those that the job has already with the same data."""
        twice = database.row(
            "SELECT seq, id FROM temp.taken WHERE holder >= ? ORDER BY seq LIMIT 1", (self._first_seq,)
        )
        if twice is not None:
            raise InsertError(
                f"task_id {twice[1]!r} occurs twice in the table, the second time in row {self._row_number(twice[0]):,}. Give each row "
                "an id of its own, or leave the ids away to have them derived from the content. Nothing was inserted."
            )
        changed = database.row(
            "SELECT taken.seq, taken.id, known.data, task.data FROM temp.taken JOIN task USING (seq) "
            "JOIN task AS known ON known.seq = holder WHERE known.data <> task.data ORDER BY taken.seq LIMIT 1"
        )
        if changed is not None:
            seq, task_id, known, data = changed
            raise InsertError(
                f"task_id {task_id!r} is in this job already with other data: there {shorten(known)}, in row "
                f"{self._row_number(seq):,} {shorten(data)}. Give changed tasks new ids, or choose another JOB_ID. Nothing was inserted."
            )

    def _number_identical(self, database: Database) -> None:
        """Make each row whose derived id is taken the n-th of its kind in this table; ``seen`` knows how many there were."""
        database.execute("CREATE TEMP TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        database.execute("DROP TABLE IF EXISTS temp.repeated")
        database.execute("CREATE TEMP TABLE repeated (id TEXT PRIMARY KEY) WITHOUT ROWID")
        database.execute(
            "INSERT INTO temp.repeated (id) SELECT id FROM temp.taken GROUP BY id "
            "HAVING count(*) > 1 OR max(holder) >= ? OR id IN (SELECT id FROM temp.seen)",
            (self._first_seq,),
        )
        # The first of its kind here, known from an earlier insertion: all of these at once.
        first_ones = "FROM temp.taken WHERE id NOT IN (SELECT id FROM temp.repeated)"
        database.execute(f"INSERT INTO temp.seen (id, n) SELECT id, 1 {first_ones} ORDER BY id")
        self._drop(database, f"SELECT seq {first_ones}")
        for seq, task_id, holder in database.rows(
            "SELECT seq, id, holder FROM temp.taken WHERE id IN (SELECT id FROM temp.repeated) ORDER BY seq"
        ):
            at_least = 1 if holder >= self._first_seq else 0
            n = (database.value("SELECT n FROM temp.seen WHERE id = ?", (task_id,)) or at_least) + 1
            database.execute("INSERT OR REPLACE INTO temp.seen (id, n) VALUES (?, ?)", (task_id, n))
            self._identical += n > 1
            name = f"{task_id}-{n}"
            if (
                n == 1
                or not database.execute("INSERT OR IGNORE INTO task_id (id, seq) VALUES (?, ?)", (name, seq)).rowcount
            ):
                self._drop(database, f"VALUES ({seq})")
            else:
                database.execute("UPDATE task SET id = ? WHERE seq = ?", (name, seq))

    def _drop(self, database: Database, seqs: str) -> None:
        """Take out tasks that the job has already; this leaves gaps in the sequence, which nobody minds."""
        self._already_there += database.execute(f"DELETE FROM task WHERE seq IN ({seqs})").rowcount

    def _row_number(self, seq: int) -> int:
        start, row_number = next(place for place in reversed(self._places) if place[0] <= seq)
        return row_number(seq - start)


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
    database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    database.execute("DROP TABLE IF EXISTS temp.seen")
    told = False
    while True:
        with database.transaction():
            other = database.row(
                "SELECT insertion_id, first_seq, process, touched_at FROM insertion WHERE accepted_at IS NULL"
            )
            if other is None:
                first_seq = 1 + database.value(  # beyond every segment, also one whose last tasks were dropped
                    "SELECT max(coalesce((SELECT max(seq) FROM task), 0), coalesce((SELECT max(last_seq) FROM segment), 0))"
                )
                return Insertion(database, _enter(database, source, first_seq, clock()), first_seq)
            other_id, other_first_seq, process, touched_at = other
            is_dead = is_surely_dead(process) or clock() - touched_at > ABANDONED_AFTER_SECONDS
            if is_dead:  # under a new id, so that its maker, should it live after all, is refused from here on
                database.execute("DELETE FROM insertion WHERE insertion_id = ?", (other_id,))
                other_id = _enter(database, source, other_first_seq, clock())
        if is_dead:
            _clear(database, other_id, other_first_seq)
            continue
        if not told:
            on_wait(process)
            told = True
        sleep(POLL_SECONDS)


def shorten(text: str, limit: int = 120) -> str:
    """Cut a long text for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _enter(database: Database, source: str, first_seq: int, now: float) -> int:
    insertion_id = database.execute(
        "INSERT INTO insertion (source, process, touched_at, first_seq) VALUES (?, ?, ?, ?)",
        (source, identity(), now, first_seq),
    ).lastrowid
    assert insertion_id is not None
    return insertion_id


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
            start = max(first_seq, last - CLEAR_ROWS + 1)
            database.execute(
                "DELETE FROM task_id WHERE seq >= ? AND id IN (SELECT id FROM task WHERE seq >= ?)", (first_seq, start)
            )
            database.execute("DELETE FROM task WHERE seq >= ?", (start,))
            if last < first_seq + CLEAR_ROWS:
                database.execute("DELETE FROM insertion WHERE insertion_id = ?", (insertion_id,))
                return
