"""Sends tasks from the ledger to a service queue. Sending can be interrupted at any point and continued.

The ledger notes the progress after each batch that the service has accepted. A sender that was killed in between sends that batch again, so
some tasks may run twice. One process sends at a time.

A graph's task is sent once its parents have ended: it is in ``unsent`` from the transaction on that released it. Workers have no ledger, so
its data are filled with the results of its parents here. It is sent with the chain below it, see ``chaining``.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil

from taskfleet.errors import LedgerError, TaskfleetError
from taskfleet.ledger import arguments, chaining
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.function_graph import LOADED_NAME_OF_TASK
from taskfleet.ledger.segments import ACCEPTED
from taskfleet.messages.grouping import chunks
from taskfleet.messages.tasks import QueuedTask
from taskfleet.processes.identity import identity, is_surely_dead
from taskfleet.tasks import State

logger = logging.getLogger(__name__)

#: A sender on another host or in another container that has sent nothing for this long counts as dead.
ABANDONED_AFTER_SECONDS = 600.0
POLL_SECONDS = 0.2
#: Tasks sent between two notes of the progress.
STEP = 10_000
#: The data of these tasks take about this many characters at most, unless it is a single task.
STEP_CHARACTERS = 16 << 20
#: Tasks whose data are filled at a time.
FILL_STEP = 200

#: The total in which ``hold_back`` notes a time: one number of the job, like the others.
_SEND_AFTER = "send_after"


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


def is_abandoned(database: Database, *, clock: Callable[[], float] = time.time) -> bool:
    """Return whether there are tasks to send, and no process that sends them."""
    sender = database.row("SELECT process, touched_at FROM sender")
    if sender is not None:
        process, touched_at = sender
        if not _is_dead(process, touched_at, clock()):
            return False
    return count_unsent(database) > 0


def hold_back(database: Database, until: float) -> None:
    """Note that nothing is to be sent until a time, in seconds since the epoch, because the queue is being purged."""
    with database.transaction():
        database.execute(
            "INSERT INTO tally (name, n) VALUES (?, ?) ON CONFLICT DO UPDATE SET n = excluded.n",
            (_SEND_AFTER, ceil(until)),
        )


def held_back_until(database: Database) -> float:
    """Return the time until which nothing is to be sent, 0 if there is none."""
    return float(database.value("SELECT n FROM tally WHERE name = ?", (_SEND_AFTER,)) or 0)


def release_held_back(database: Database) -> None:
    """Forget what ``hold_back`` noted, in a transaction: the tasks are sent to another queue."""
    database.execute("DELETE FROM tally WHERE name = ?", (_SEND_AFTER,))


def send_all(
    database: Database,
    send: Callable[[list[QueuedTask]], None],
    *,
    on_progress: Callable[[int], None] = lambda _n: None,
    on_wait: Callable[[str], None] = lambda _process: None,
    clock: Callable[[], float] = time.time,
    queue_url: str | None = None,
) -> int:
    """Send all tasks that have not been sent.

    Args:
        database: The job's ledger.
        send: Sends tasks to the service; it returns when the service has accepted them.
        on_progress: Called with the number of tasks sent so far.
        on_wait: Called once with the identity of another sender that this one waits for.
        clock: Seconds since the epoch.
        queue_url: Where ``send`` sends tasks, without secrets; None if the tasks cannot be moved meanwhile.

    Returns:
        The number of tasks sent.

    Raises:
        LedgerError: The tasks were moved to another queue meanwhile; what was sent last is not noted as sent.
    """
    total = 0
    with _alone(database, on_wait, clock) as touch:
        for tasks, note in _steps(database):
            if tasks:
                send(tasks)
            with database.transaction():
                touch()
                _check_place(database, queue_url)
                note()
            total += len(tasks)
            logger.debug("%d tasks are sent", total)
            on_progress(total)
    return total


def _check_place(database: Database, queue_url: str | None) -> None:
    known = database.value("SELECT queue_url FROM job")
    if queue_url not in (None, known):
        raise LedgerError(
            f"The tasks were moved to {known or 'the ledger'} meanwhile. They are in the ledger, and nothing is lost."
        )


def pending(database: Database) -> Iterator[list[QueuedTask]]:
    """Yield all pending tasks, in batches."""
    last = 0
    while rows := database.rows(
        f"SELECT task.seq, id, data, coalesce(attempt, 0), {LOADED_NAME_OF_TASK} FROM task LEFT JOIN state USING (seq) "
        f"WHERE task.seq > ? AND {ACCEPTED} AND coalesce(state.state, {State.PENDING}) = {State.PENDING} "
        "ORDER BY task.seq LIMIT ?",
        (last, STEP),
    ):
        tasks = _queued_tasks(database, rows)
        yield tasks
        last = tasks[-1].seq


def _steps(database: Database) -> Iterator[tuple[list[QueuedTask], Callable[[], None]]]:
    """Yield tasks to send, with a function that notes that they were sent."""
    while rows := database.rows(
        f"SELECT unsent.seq, id, data, state.attempt, {LOADED_NAME_OF_TASK}, state.state FROM unsent "
        "JOIN task USING (seq) JOIN state USING (seq) "
        "WHERE state.state <> ? ORDER BY unsent.seq LIMIT ?",  # a running one is sent if its worker turns out to be dead
        (State.RUNNING, STEP),
    ):
        others = [seq for seq, *_, state in rows if state != State.PENDING]
        tasks = _with_chains(database, [row[:-1] for row in rows if row[-1] == State.PENDING])

        def forget(tasks: Sequence[QueuedTask] = tasks, others: Sequence[int] = others) -> None:
            database.execute("DELETE FROM unsent WHERE seq IN (SELECT value FROM json_each(?))", (as_json(others),))
            database.execute_many(  # not one that another process marked meanwhile, after a further attempt
                "DELETE FROM unsent WHERE seq = ? AND (SELECT attempt FROM state WHERE state.seq = unsent.seq) = ?",
                [(task.seq, task.attempt) for task in tasks],
            )

        yield tasks, forget
    while segment := database.row(
        "SELECT first_seq, max(sent_seq, next_seq - 1), last_seq FROM segment WHERE sent_seq < last_seq AND next_seq <= last_seq "
        "ORDER BY last_seq LIMIT 1"
    ):
        first_seq, sent_seq, last_seq = segment
        end = min(sent_seq + STEP, last_seq)
        rows = database.rows(
            f"SELECT seq, id, data, 0, {LOADED_NAME_OF_TASK} FROM task WHERE seq > ? AND seq <= ? "
            "AND NOT EXISTS (SELECT 1 FROM state WHERE state.seq = task.seq) "
            "ORDER BY seq",  # one with a state has ended, or is in unsent if it has to be sent
            (max(sent_seq, first_seq - 1), end),
        )
        tasks = _with_chains(database, rows)
        if len(tasks) < len(rows):
            end = tasks[-1].seq

        def step(first: int = first_seq, end: int = end) -> None:
            database.execute("UPDATE segment SET sent_seq = ? WHERE first_seq = ?", (end, first))

        yield tasks, step


def _with_chains(database: Database, rows: Sequence[tuple[int, str, str, int, str]]) -> list[QueuedTask]:
    """Return the tasks in rows that will be sent now, as ``_queued_tasks`` does, with the chains below them."""
    return chaining.record(database, _queued_tasks(database, rows, have_chains=True))


def _queued_tasks(
    database: Database, rows: Sequence[tuple[int, str, str, int, str]], *, have_chains: bool = False
) -> list[QueuedTask]:
    """Return the tasks in rows, at least the first one and as many as ``STEP_CHARACTERS`` allows."""
    tasks: list[QueuedTask] = []
    size = 0
    for part in chunks(rows, FILL_STEP):
        filled = iter(arguments.fill(database, [data for _, _, data, _, function in part if function]))
        queued = [
            QueuedTask(seq, task_id, next(filled) if function else data, attempt, function=function)
            for seq, task_id, data, attempt, function in part
        ]
        for task in chaining.with_chains(database, queued) if have_chains else queued:
            size += len(task.data) + sum(len(one.data) for one in task.chain.tasks)
            if tasks and size > STEP_CHARACTERS:
                return tasks
            tasks.append(task)
    return tasks


def _is_dead(process: str, touched_at: float, now: float) -> bool:
    """Return whether a sender is dead, or counts as dead."""
    return is_surely_dead(process) or now - touched_at > ABANDONED_AFTER_SECONDS


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
            if other is None or _is_dead(process, touched_at, clock()):
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
