"""Sends tasks from the ledger to a service queue. Sending can be interrupted at any point and continued.

The ledger notes the progress after each batch that the service has accepted. A sender that was killed in between sends that batch again, so
some tasks may run twice. One process sends at a time.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from taskfleet.errors import LedgerError, TaskfleetError
from taskfleet.ledger.database import Database
from taskfleet.ledger.segments import ACCEPTED
from taskfleet.messages.tasks import QueuedTask
from taskfleet.processes.identity import identity, is_surely_dead
from taskfleet.tasks import State

logger = logging.getLogger(__name__)

#: A sender on another host or in another container that has sent nothing for this long counts as dead.
ABANDONED_AFTER_SECONDS = 600.0
POLL_SECONDS = 0.2
#: Tasks sent between two notes of the progress.
STEP = 10_000


def count_unsent(database: Database) -> int:
    """Return the number of tasks that have to be sent."""
    fresh = database.value(
        "SELECT coalesce(sum(last_seq - max(sent_seq, next_seq - 1)"
        " - (SELECT count(*) FROM state WHERE seq > max(sent_seq, next_seq - 1) AND seq <= last_seq)), 0) FROM segment "
        "WHERE sent_seq < last_seq AND next_seq <= last_seq"  # one with a state has ended, or is counted below if it has to be sent
    )
    return int(
        fresh
        + database.value("SELECT count(*) FROM unsent JOIN state USING (seq) WHERE state.state = ?", (State.PENDING,))
    )


def send_all(
    database: Database,
    send: Callable[[list[QueuedTask]], None],
    *,
    on_progress: Callable[[int], None] = lambda _n: None,
    on_wait: Callable[[str], None] = lambda _process: None,
    clock: Callable[[], float] = time.time,
) -> int:
    """Send all tasks that have not been sent.

    Args:
        database: The job's ledger.
        send: Sends tasks to the service; it returns when the service has accepted them.
        on_progress: Called with the number of tasks sent so far.
        on_wait: Called once with the identity of another sender that this one waits for.
        clock: Seconds since the epoch.

    Returns:
        The number of tasks sent.
    """
    total = 0
    with _alone(database, on_wait, clock) as touch:
        for tasks, note in _steps(database):
            if tasks:
                send(tasks)
            with database.transaction():
                touch()
                note()
            total += len(tasks)
            logger.debug("%d tasks are sent", total)
            on_progress(total)
    return total


def pending(database: Database) -> Iterator[list[QueuedTask]]:
    """Yield all pending tasks, in batches."""
    last = 0
    while rows := database.rows(
        "SELECT task.seq, id, data, coalesce(attempt, 0) FROM task LEFT JOIN state USING (seq) "
        f"WHERE task.seq > ? AND {ACCEPTED} AND coalesce(state.state, {State.PENDING}) = {State.PENDING} "
        "ORDER BY task.seq LIMIT ?",
        (last, STEP),
    ):
        tasks = [_queued_task(*row) for row in rows]
        yield tasks
        last = tasks[-1].seq


def _steps(database: Database) -> Iterator[tuple[list[QueuedTask], Callable[[], None]]]:
    """Yield tasks to send, with a function that notes that they were sent."""
    while seqs := [seq for (seq,) in database.rows("SELECT seq FROM unsent ORDER BY seq LIMIT ?", (STEP,))]:
        rows = database.rows(
            "SELECT task.seq, id, data, state.attempt FROM unsent JOIN task USING (seq) JOIN state USING (seq) "
            f"WHERE unsent.seq <= ? AND state.state = {State.PENDING} ORDER BY task.seq",
            (seqs[-1],),
        )

        def forget(last: int = seqs[-1]) -> None:
            database.execute("DELETE FROM unsent WHERE seq <= ?", (last,))

        yield [_queued_task(*row) for row in rows], forget
    while segment := database.row(
        "SELECT first_seq, max(sent_seq, next_seq - 1), last_seq FROM segment WHERE sent_seq < last_seq AND next_seq <= last_seq "
        "ORDER BY last_seq LIMIT 1"
    ):
        first_seq, sent_seq, last_seq = segment
        end = min(sent_seq + STEP, last_seq)
        rows = database.rows(
            "SELECT seq, id, data FROM task WHERE seq > ? AND seq <= ? AND NOT EXISTS (SELECT 1 FROM state WHERE state.seq = task.seq) "
            "ORDER BY seq",  # one with a state has ended, or is in unsent if it has to be sent
            (max(sent_seq, first_seq - 1), end),
        )

        def step(first: int = first_seq, end: int = end) -> None:
            database.execute("UPDATE segment SET sent_seq = ? WHERE first_seq = ?", (end, first))

        yield [_queued_task(*row) for row in rows], step


def _queued_task(seq: int, task_id: str, data: str, attempt: int = 0) -> QueuedTask:
    return QueuedTask(seq=seq, task_id=task_id, data=data, attempt=attempt)


@contextmanager
def _alone(
    database: Database, on_wait: Callable[[str], None], clock: Callable[[], float]
) -> Iterator[Callable[[], None]]:
    """Wait to be the only sender; yield a function that records, in a transaction, that this one is alive."""
    me = identity()
    is_reported = False
    while True:
        with database.transaction():
            other = database.row("SELECT process, touched_at FROM sender")
            process, touched_at = other or ("", 0.0)
            if other is None or is_surely_dead(process) or clock() - touched_at > ABANDONED_AFTER_SECONDS:
                if other is not None:
                    logger.info("The sender %s is dead: this process continues", process)
                database.execute("DELETE FROM sender")
                database.execute("INSERT INTO sender (process, touched_at) VALUES (?, ?)", (me, clock()))
                break
        if not is_reported:
            on_wait(process)
            is_reported = True
        time.sleep(POLL_SECONDS)

    def touch() -> None:
        if database.execute("UPDATE sender SET touched_at = ? WHERE process = ?", (clock(), me)).rowcount != 1:
            raise LedgerError(
                "Another process took over sending, because this one made no progress for 10 minutes. Run the command again."
            )

    try:
        yield touch
    finally:
        with suppress(TaskfleetError), database.transaction():
            database.execute("DELETE FROM sender WHERE process = ?", (me,))
