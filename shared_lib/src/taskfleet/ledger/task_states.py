"""The row of a task in ``state``, read in order to decide how it changes."""

from collections.abc import Iterable
from dataclasses import dataclass

from taskfleet.ledger.database import Database, as_json
from taskfleet.tasks import State

#: The value of ``available_at`` of a task that was running when its service queue was purged: the message of its next attempt is gone.
PURGED = -1.0


@dataclass(slots=True, kw_only=True)
class TaskState:
    """The row of a task in ``state``; the defaults are those of a task without a row."""

    state: State = State.PENDING
    attempt: int = 0
    worker_id: int | None = None
    available_at: float = 0.0
    tries_from: int = 0
    kind: int = 0

    def put_back(self, available_at: float) -> None:
        """Make the task pending, or killed if its queue was purged meanwhile."""
        if self.available_at == PURGED:
            self.state = State.KILLED
        else:
            self.state, self.available_at = State.PENDING, available_at


def read(database: Database, seqs: Iterable[int]) -> dict[int, TaskState]:
    """Return the rows of tasks by number; numbers that the ledger does not have are omitted."""
    rows = database.rows(
        "SELECT task.seq, state, attempt, worker_id, available_at, tries_from, kind FROM json_each(?) "
        "JOIN task ON task.seq = json_each.value LEFT JOIN state ON state.seq = task.seq",
        (as_json(seqs),),
    )
    return {
        seq: TaskState()
        if state is None
        else TaskState(
            state=State(state),
            attempt=attempt,
            worker_id=worker_id,
            available_at=available_at,
            tries_from=tries_from,
            kind=kind,
        )
        for seq, state, attempt, worker_id, available_at, tries_from, kind in rows
    }
