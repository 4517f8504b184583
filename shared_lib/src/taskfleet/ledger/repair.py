"""What people do to tasks by hand: put failed ones back, take waiting ones out."""

from collections.abc import Sequence

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.tasks import Outcome, State

#: Tasks changed per transaction, so that workers are not kept waiting.
STEP = 50_000
#: When a task is available that ran when the service's queue was purged.
PURGED = -1.0


def retry(database: Database, *, kinds: Sequence[Outcome] = (), killed: bool = False, ids: Sequence[str] = ()) -> int:
    """Put tasks back into the queue with all their tries.

    Args:
        database: The job's ledger.
        kinds: Failed tasks of these kinds.
        killed: Killed tasks too.
        ids: Failed or killed tasks of these ids; unknown ids, and tasks in another state, are left alone.

    Returns:
        The number of tasks put back.
    """
    n = 0
    for kind in kinds:
        n += _put_back(database, State.FAILED, int(kind), "WHERE state = 4 AND kind = ? LIMIT ?", (int(kind), STEP))
    if killed:
        n += _put_back(database, State.KILLED, 0, "WHERE state = 5 LIMIT ?", (STEP,))
    for task_id in ids:
        found = database.row(
            "SELECT state.state, kind, seq FROM task_id JOIN state USING (seq) WHERE id = ?", (task_id,)
        )
        if found and found[0] in (State.FAILED, State.KILLED):
            state, kind, seq = found
            where = "WHERE seq = ? AND state = ? AND kind = ?"  # as it was found: it may have changed meanwhile
            n += _put_back(database, State(state), kind, where, (seq, state, kind))
    return n


def purge(database: Database) -> int:
    """Take all pending and waiting tasks out of the queue: they become KILLED and can be put back. Running ones finish.

    What runs at a service's queue is marked: the messages of its next tries are gone with all others, so it gets none.

    Returns:
        The number of tasks killed.
    """
    total = 0
    while True:
        with database.transaction():
            segment = database.row(
                "SELECT first_seq, next_seq, last_seq FROM segment WHERE next_seq <= last_seq LIMIT 1"
            )
            if segment is None:
                break
            first_seq, next_seq, last_seq = segment
            end = min(next_seq + STEP, last_seq + 1)
            n = database.execute(
                "INSERT OR IGNORE INTO state (seq, state) SELECT seq, 5 FROM task WHERE seq >= ? AND seq < ?",
                (next_seq, end),
            ).rowcount
            database.execute("UPDATE segment SET next_seq = ? WHERE first_seq = ?", (end, first_seq))
            _move(database, State.PENDING, State.KILLED, n)
            total += n
    with database.transaction():
        database.execute("DELETE FROM unsent")
        for state in (State.PENDING, State.WAITING):
            n = database.execute("UPDATE state SET state = 5 WHERE state = ?", (int(state),)).rowcount
            _move(database, state, State.KILLED, n)
            total += n
        if database.value("SELECT queue_url FROM job") is not None:
            database.execute("UPDATE state SET available_at = ? WHERE state = 2", (PURGED,))
    return total


def _put_back(database: Database, state: State, kind: int, where: str, parameters: tuple[int, ...]) -> int:
    total = 0
    while True:
        with database.transaction():
            changed = database.rows(
                "UPDATE state SET state = 1, kind = 0, available_at = 0, tries_from = attempt "
                f"WHERE seq IN (SELECT seq FROM state {where}) RETURNING seq",
                parameters,
            )
            n = len(changed)
            if database.value("SELECT queue_url FROM job") is not None:
                database.execute_many("INSERT OR IGNORE INTO unsent VALUES (?)", changed)
            counters.add(database, state, kind, -n)
            counters.add(database, State.PENDING, 0, n)
        total += n
        if n < STEP:
            return total


def _move(database: Database, source: State, target: State, n: int) -> None:
    counters.add(database, source, 0, -n)
    counters.add(database, target, 0, n)
