"""Enters the ids of new tasks and handles duplicates, for all insertions, inside their transactions."""

from collections.abc import Callable, Sequence

from taskfleet.errors import InsertError
from taskfleet.ledger.database import Database
from taskfleet.ledger.segments import accepted

#: The first and the last of consecutive sequence numbers.
Run = tuple[int, int]


class HeldElsewhereError(Exception):
    """An id belongs to a task of another insertion in progress, which may be accepted or discarded."""


class TaskIds:
    """The ids of the tasks of one insertion."""

    def __init__(self, database: Database, first_seq: int, *, memory: str = "seen") -> None:
        """Start with no ids entered.

        Args:
            database: The job's ledger.
            first_seq: The tasks of the insertion have this number or a higher one.
            memory: The temporary table of this connection that counts the occurrences of each derived id.
        """
        self._database = database
        self._first_seq = first_seq
        self._seen = memory
        self.already_there = 0
        """The number of tasks that were deleted again, because the job already has them."""
        self.identical = 0
        """The number of tasks that equal an earlier one of the insertion and got a numbered id."""
        database.execute(f"DROP TABLE IF EXISTS temp.{self._seen}")

    def enter(self, runs: Sequence[Run], *, are_derived: bool, row_number: Callable[[int], int]) -> None:
        """Enter the ids of tasks that are in the table ``task``.

        Args:
            runs: The tasks' numbers.
            are_derived: Whether the ids are derived from the content; then the second of two equal ones becomes a separate task.
            row_number: Returns the row in the table of the task with a number, for messages.

        Raises:
            InsertError: A given id occurs twice, or belongs to a task of the job with other data.
            HeldElsewhereError: Another insertion in progress has entered one of the ids.
        """
        database = self._database
        entered = expected = 0
        for first, last in runs:
            expected += last + 1 - first
            entered += database.execute(
                "INSERT OR IGNORE INTO task_id (id, seq) SELECT id, seq FROM task WHERE seq BETWEEN ? AND ? ORDER BY id, seq",
                (first, last),
            ).rowcount
        if entered == expected:
            return
        database.execute("DROP TABLE IF EXISTS temp.taken")
        database.execute(
            "CREATE TEMP TABLE taken (seq INTEGER PRIMARY KEY, id TEXT, holder INTEGER, is_accepted INTEGER)"
        )
        for first, last in runs:
            database.execute(
                f"INSERT INTO temp.taken (seq, id, holder, is_accepted) SELECT task.seq, task.id, task_id.seq, {accepted('task_id.seq')} "
                "FROM task JOIN task_id USING (id) LEFT JOIN state ON state.seq = task_id.seq "
                "WHERE task.seq BETWEEN ? AND ? AND task_id.seq <> task.seq",
                (first, last),
            )
        self._check_holders("SELECT holder, is_accepted FROM temp.taken")
        if are_derived:
            self._number_identical()
        else:
            self._refuse_conflicts(row_number)
            self._drop("SELECT seq FROM temp.taken")

    def _refuse_conflicts(self, row_number: Callable[[int], int]) -> None:
        """Check that tasks whose given ids exist already equal the job's tasks with these ids."""
        twice = self._database.row("SELECT seq, id FROM temp.taken WHERE NOT is_accepted ORDER BY seq LIMIT 1")
        if twice is not None:
            seq, task_id = twice
            raise InsertError(
                f"task_id {task_id!r} occurs twice in the table, the second time in row {row_number(seq):,}. Make the ids unique, or "
                "omit the ids to have them derived from the content. Nothing was inserted."
            )
        changed = self._database.row(
            "SELECT taken.seq, taken.id, known.data, task.data FROM temp.taken JOIN task USING (seq) "
            "JOIN task AS known ON known.seq = holder WHERE known.data <> task.data ORDER BY taken.seq LIMIT 1"
        )
        if changed is not None:
            seq, task_id, known, data = changed
            raise InsertError(
                f"task_id {task_id!r} is in this job already with other data: {shorten(known)} in the job, {shorten(data)} in row "
                f"{row_number(seq):,}. Give changed tasks new ids, or choose another JOB_ID. Nothing was inserted."
            )

    def _number_identical(self) -> None:
        """Number the rows whose derived id exists already among the equal rows of this table."""
        database, seen = self._database, self._seen
        database.execute(f"CREATE TABLE IF NOT EXISTS temp.{seen} (id TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        database.execute("DROP TABLE IF EXISTS temp.repeated")
        database.execute("CREATE TEMP TABLE repeated (id TEXT PRIMARY KEY) WITHOUT ROWID")
        database.execute(
            "INSERT INTO temp.repeated (id) SELECT id FROM temp.taken GROUP BY id "
            f"HAVING count(*) > 1 OR NOT min(is_accepted) OR id IN (SELECT id FROM temp.{seen})"
        )
        # The first of its kind in this table, known from an earlier insertion: all of these at once.
        first_ones = "FROM temp.taken WHERE id NOT IN (SELECT id FROM temp.repeated)"
        database.execute(f"INSERT INTO temp.{seen} (id, n) SELECT id, 1 {first_ones} ORDER BY id")
        self._drop(f"SELECT seq {first_ones}")
        for seq, task_id, is_accepted in database.rows(
            "SELECT seq, id, is_accepted FROM temp.taken WHERE id IN (SELECT id FROM temp.repeated) ORDER BY seq"
        ):
            at_least = 0 if is_accepted else 1
            n = (database.value(f"SELECT n FROM temp.{seen} WHERE id = ?", (task_id,)) or at_least) + 1
            database.execute(f"INSERT OR REPLACE INTO temp.{seen} (id, n) VALUES (?, ?)", (task_id, n))
            self.identical += n > 1
            name = f"{task_id}-{n}"
            if n == 1 or not self._rename(seq, name):
                self._drop(f"VALUES ({seq})")

    def _rename(self, seq: int, name: str) -> bool:
        """Change the id of a task; return False if the new one exists already."""
        entered = self._database.execute("INSERT OR IGNORE INTO task_id (id, seq) VALUES (?, ?)", (name, seq)).rowcount
        if entered:
            self._database.execute("UPDATE task SET id = ? WHERE seq = ?", (name, seq))
        else:
            self._check_holders(
                f"SELECT task_id.seq AS holder, {accepted('task_id.seq')} AS is_accepted FROM task_id "
                "LEFT JOIN state ON state.seq = task_id.seq WHERE id = ?",
                (name,),
            )
        return bool(entered)

    def _check_holders(self, holders: str, parameters: tuple[str, ...] = ()) -> None:
        """Check that the holders of ids are tasks of this insertion, or accepted."""
        sql = f"SELECT 1 FROM ({holders}) WHERE holder < ? AND NOT is_accepted LIMIT 1"
        if self._database.row(sql, (*parameters, self._first_seq)) is not None:
            raise HeldElsewhereError

    def _drop(self, seqs: str) -> None:
        """Delete tasks that the job already has; this leaves gaps in the sequence numbers."""
        self.already_there += self._database.execute(f"DELETE FROM task WHERE seq IN ({seqs})").rowcount


def shorten(text: str, limit: int = 120) -> str:
    """Return a text, truncated for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
