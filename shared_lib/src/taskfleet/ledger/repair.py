"""Changes of tasks that users ask for: retry failed tasks, kill pending ones."""

from collections.abc import Sequence

from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import changing
from taskfleet.tasks import Outcome, State

#: Tasks changed per transaction, so that workers do not wait for long.
STEP = 50_000


def retry(database: Database, *, kinds: Sequence[Outcome] = (), killed: bool = False, ids: Sequence[str] = ()) -> int:
    """Put tasks back into the queue; their earlier attempts no longer count.

    Args:
        database: The job's ledger.
        kinds: Put back failed tasks of these kinds.
        killed: Also put back killed tasks.
        ids: Also put back failed or killed tasks with these ids; unknown ids and tasks in other states are ignored.

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
                with changing(database) as change:  # only if its state has not changed meanwhile
                    n += change.revive(State(state), kind, most=1, seq=seq)
    return n


def purge(database: Database) -> int:
    """Kill all pending and waiting tasks; they can be put back. Running tasks finish.

    With a service queue, running tasks get no further attempt: the messages of their next attempts are deleted with all others.

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
