"""Changes of tasks that users ask for: retry failed tasks, kill pending ones."""

from collections.abc import Sequence

from taskfleet.ledger import frontier
from taskfleet.ledger.database import Database
from taskfleet.ledger.releasing import Follow, note
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
        ids: Also put back failed or killed tasks with these ids; unknown ids and tasks in other states are ignored, as are tasks that
            ended because of others: they follow these.

    Tasks that were cancelled and still run are put back too: they are not killed.

    Returns:
        The number of tasks put back.
    """
    n = 0
    for kind in kinds:
        if kind is not Outcome.UPSTREAM:  # they follow the tasks that they wait for
            n += _revive(database, State.FAILED, int(kind))
    if killed:
        n += _revive(database, State.KILLED, 0)
        with changing(database) as change:
            n += change.spare()
    for task_id in ids:
        found = database.row(
            "SELECT seq, state.state, kind FROM task_id JOIN state USING (seq) WHERE id = ?", (task_id,)
        )
        if found is not None:
            seq, state, kind = found
            if state == State.RUNNING:
                with changing(database) as change:
                    n += change.spare(seq)
            elif state in (State.FAILED, State.KILLED):
                with changing(database) as change:  # only if its state has not changed meanwhile
                    n += change.revive(State(state), kind, most=1, seq=seq)
    frontier.carry(database)
    return n


def rerun(database: Database, seqs: Sequence[int], *, descendants: bool = False) -> int:
    """Run tasks again that succeeded. Those that depend on them wait meanwhile.

    Args:
        database: The job's ledger.
        seqs: The tasks; those that have not succeeded are ignored.
        descendants: Whether all tasks that depend on them are run again; otherwise only those whose parents have other results then.

    Returns:
        The number of tasks that had succeeded.
    """
    total = 0
    for start in range(0, len(seqs), STEP):
        with changing(database) as change:
            again = change.run_again(seqs[start : start + STEP])
            note(database, again, Follow.RERUN_ALL if descendants else Follow.RERUN)
        total += len(again)
    frontier.carry(database)
    return total


def purge(database: Database) -> int:
    """Kill all pending and waiting tasks; they can be put back. Running tasks finish.

    With a service queue, running tasks get no further attempt: the messages of their next attempts are deleted with all others.

    Returns:
        The number of tasks killed.
    """
    with changing(database) as change:
        total = change.kill_waiting()
    n: int | None = 0
    while n is not None:
        total += n
        with changing(database) as change:
            n = change.kill_fresh(STEP)
    frontier.carry(database)
    return total


def _revive(database: Database, state: State, kind: int) -> int:
    total = 0
    while True:
        with changing(database) as change:
            n = change.revive(state, kind, most=STEP)
        total += n
        if n < STEP:
            return total
