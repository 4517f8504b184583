"""Reads what became of single tasks, for the futures of a graph."""

from collections.abc import Iterator, Sequence
from operator import eq

from taskfleet.ledger import arguments
from taskfleet.ledger.attempts import results_of
from taskfleet.ledger.database import Database
from taskfleet.tasks import ATTEMPTS_PER_TASK, State

#: Tasks in one query.
_STEP = 50_000
_ENDED = f"({State.SUCCEEDED}, {State.FAILED}, {State.KILLED})"
_LAST_SUCCESS = f"{results_of('value')} LIMIT 1"


def states(database: Database, seqs: Sequence[int]) -> list[State]:
    """Return the states of tasks."""
    found = [
        state
        for part in _parts(seqs)
        for (state,) in database.rows(
            "SELECT coalesce(state, 1) FROM json_each(?) LEFT JOIN state ON seq = value ORDER BY json_each.key", (part,)
        )
    ]
    return [State(state) for state in found]


def results(database: Database, seqs: Sequence[int]) -> Iterator[str]:
    """Yield the latest results of tasks that succeeded, as JSON texts."""
    for part in _parts(seqs):
        rows = database.rows(f"SELECT ({_LAST_SUCCESS}) FROM json_each(?) ORDER BY json_each.key", (part,))
        yield from arguments.fill(database, [result for (result,) in rows])


def ids(database: Database, seqs: Sequence[int]) -> list[str]:
    """Return the ids of tasks."""
    if seqs and all(map(eq, seqs, range(seqs[0], seqs[0] + len(seqs)))):  # no search for each
        rows = database.rows("SELECT id FROM task WHERE seq BETWEEN ? AND ? ORDER BY seq", (seqs[0], seqs[-1]))
        return [task_id for (task_id,) in rows]
    return [
        task_id
        for part in _parts(seqs)
        for (task_id,) in database.rows(
            "SELECT task.id FROM json_each(?) JOIN task ON seq = value ORDER BY json_each.key", (part,)
        )
    ]


def count_ended(database: Database, first: int, last: int) -> int:
    """Return how many tasks of a run have ended, successful or not."""
    n: int = database.value(
        f"SELECT count(*) FROM state WHERE seq BETWEEN ? AND ? AND state IN {_ENDED}", (first, last)
    )
    return n


def first_not_succeeded(database: Database, first: int, last: int) -> int | None:
    """Return the first task of a run that failed or was killed; None if there is none."""
    seq: int | None = database.value(
        f"SELECT seq FROM state WHERE seq BETWEEN ? AND ? AND state IN ({State.FAILED}, {State.KILLED}) ORDER BY seq LIMIT 1",
        (first, last),
    )
    return seq


def failure(database: Database, seq: int) -> tuple[str, str, str]:
    """Return why a task did not succeed: its id, that of the task that is the cause, and that one's error."""
    task_id, state, root_seq = database.row(  # type: ignore[misc]
        "SELECT id, state, coalesce(root_seq, seq) FROM state JOIN task USING (seq) WHERE seq = ?", (seq,)
    )
    root_id, error = database.row(  # type: ignore[misc]
        f"SELECT id, (SELECT error FROM attempt WHERE key > seq * {ATTEMPTS_PER_TASK} AND key < (seq + 1) * {ATTEMPTS_PER_TASK} "
        "ORDER BY key DESC LIMIT 1) FROM task WHERE seq = ?",
        (root_seq,),
    )
    if error is None:
        error = "It was killed." if state == State.KILLED or root_seq != seq else "It has no error."
    return task_id, root_id, error


def output(database: Database, seq: int) -> str:
    """Return the end of what a task printed in its latest attempt that ended; see ``tasks.streams``."""
    found = database.value(
        f"SELECT output FROM attempt WHERE key > ? * {ATTEMPTS_PER_TASK} AND key < (? + 1) * {ATTEMPTS_PER_TASK} ORDER BY key DESC LIMIT 1",
        (seq, seq),
    )
    return found or ""


def _parts(seqs: Sequence[int]) -> Iterator[str]:
    """Yield numbers in parts, as JSON texts in their order."""
    for start in range(0, len(seqs), _STEP):
        yield f"[{','.join(map(str, seqs[start : start + _STEP]))}]"
