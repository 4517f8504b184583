"""Entering the ids of new tasks, and dealing with those that are taken: the same for all insertions, inside their transactions."""

from collections.abc import Callable, Sequence

from taskfleet.errors import InsertError
from taskfleet.ledger.database import Database
from taskfleet.ledger.segments import accepted

#: First and last of consecutive sequence numbers.
Run = tuple[int, int]


class HeldElsewhereError(Exception):
    """An id belongs to a task of another insertion that is under way: nobody knows yet whether there will be such a task."""


class TaskIds:
    """The ids of one insertion's tasks."""

    def __init__(self, database: Database, first_seq: int, *, memory: str = "seen") -> None:
        """Begin.

        Args:
            database: The job's ledger.
            first_seq: All tasks of the insertion have this number or a higher one.
            memory: The temporary table, of this connection, that knows how often each derived id has occurred.
        """
        self._database = database
        self._first_seq = first_seq
        self._seen = memory
        self.already_there = 0
        """Tasks that were taken out again, as the job has them."""
        self.identical = 0
        """Tasks that are equal to an earlier one of the insertion, and got a numbered id."""
        database.execute(f"DROP TABLE IF EXISTS temp.{self._seen}")

    def enter(self, runs: Sequence[Run], *, are_derived: bool, row_number: Callable[[int], int]) -> None:
        """Enter the ids of tasks that were written to ``task``.

        Args:
            runs: Their numbers.
            are_derived: Whether the ids come from the content; then the second of equal ones becomes a task of its own.
            row_number: Gives the row in the table of the task with a number, for messages.

        Raises:
            InsertError: A given id occurs twice, or belongs to a task of the job that has other data.
            HeldElsewhereError: Another insertion is under way, and has entered one of the ids.
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
        """Let pass, of tasks whose given ids are taken, only those that the job has already with the same data."""
        twice = self._database.row("SELECT seq, id FROM temp.taken WHERE NOT is_accepted ORDER BY seq LIMIT 1")
        if twice is not None:
            seq, task_id = twice
            raise InsertError(
                f"task_id {task_id!r} occurs twice in the table, the second time in row {row_number(seq):,}. Give each row "
                "an id of its own, or leave the ids away to have them derived from the content. Nothing was inserted."
            )
        changed = self._database.row(
            "SELECT taken.seq, taken.id, known.data, task.data FROM temp.taken JOIN task USING (seq) "
            "JOIN task AS known ON known.seq = holder WHERE known.data <> task.data ORDER BY taken.seq LIMIT 1"
        )
        if changed is not None:
            seq, task_id, known, data = changed
            raise InsertError(
                f"task_id {task_id!r} is in this job already with other data: there {shorten(known)}, in row "
                f"{row_number(seq):,} {shorten(data)}. Give changed tasks new ids, or choose another JOB_ID. Nothing was inserted."
            )

    def _number_identical(self) -> None:
        """Make each row whose derived id is taken the n-th of its kind in this table."""
        database, seen = self._database, self._seen
        database.execute(f"CREATE TABLE IF NOT EXISTS temp.{seen} (id TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        database.execute("DROP TABLE IF EXISTS temp.repeated")
        database.execute("CREATE TEMP TABLE repeated (id TEXT PRIMARY KEY) WITHOUT ROWID")
        database.execute(
            "INSERT INTO temp.repeated (id) SELECT id FROM temp.taken GROUP BY id "
            f"HAVING count(*) > 1 OR NOT min(is_accepted) OR id IN (SELECT id FROM temp.{seen})"
        )
        # The first of its kind here, known from an earlier insertion: all of these at once.
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
        """Give a task another id; False if that is taken."""
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
        """See that ids are held by tasks of this insertion, or by accepted ones."""
        sql = f"SELECT 1 FROM ({holders}) WHERE holder < ? AND NOT is_accepted LIMIT 1"
        if self._database.row(sql, (*parameters, self._first_seq)) is not None:
            raise HeldElsewhereError

    def _drop(self, seqs: str) -> None:
        """Take out tasks that the job has already; this leaves gaps in the sequence, which nobody minds."""
        self.already_there += self._database.execute(f"DELETE FROM task WHERE seq IN ({seqs})").rowcount


def shorten(text: str, limit: int = 120) -> str:
    """Cut a long text for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
