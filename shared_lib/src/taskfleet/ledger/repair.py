"""What people do to tasks by hand: put failed ones back, take waiting ones out."""

from collections.abc import Sequence

from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import changing
from taskfleet.tasks import Outcome, State

#: Tasks changed per transaction, so that workers are not kept waiting.
STEP = 50_000


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
        n += _revive(database, State.FAILED, int(kind))
    if killed:
        n += _revive(database, State.KILLED, 0)
    for task_id in ids:
        found = database.row(
            "SELECT seq, state.state, kind FROM task_id JOIN state USING (seq) WHERE id = ?", (task_id,)
        )
        if found is not None:
            seq, state, kind = found
            if state in (State.FAILED, State.KILLED):
                with changing(database) as change:  # as it was found: it may have changed meanwhile
                    n += change.revive(State(state), kind, most=1, seq=seq)
    return n


def purge(database: Database) -> int:
    """Take all pending and waiting tasks out of the queue: they become KILLED and can be put back. Running ones finish.

    What runs at a service's queue is marked: the messages of its next tries are gone with all others, so it gets none.

    Returns:
        The number of tasks killed.
    """
    total = 0
    while True:
        with changing(database) as change:
            n = change.kill_fresh(STEP)
        if n is None:
            break
        total += n
    with changing(database) as change:
        return total + change.kill_waiting()


def _revive(database: Database, state: State, kind: int) -> int:
    total = 0
    while True:
        with changing(database) as change:
            n = change.revive(state, kind, most=STEP)
        total += n
        if n < STEP:
            return total
