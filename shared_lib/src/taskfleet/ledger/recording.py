"""Records events reported by remote workers, each batch once.

Events arrive in any order, late and more than once. A recorded batch is known by its worker and number. The effect of an attempt's end
depends on the attempts' numbers: the first recorded success always counts; otherwise the latest attempt decides the state of the task, and
earlier attempts are only stored.
"""

import logging
from dataclasses import dataclass, field

from taskfleet.ledger import attempts, chaining, code, frontier, managers, task_states
from taskfleet.ledger.database import Database
from taskfleet.ledger.environments import set_environment
from taskfleet.ledger.task_states import TaskState
from taskfleet.ledger.transitions import Transitions, changing, kind_of_failure
from taskfleet.messages.events import Batch
from taskfleet.messages.fields import storable
from taskfleet.messages.formats import ForeignMessageError
from taskfleet.tasks import LAST_ATTEMPT, NO_RETRY, Finished, Outcome, State, attempt_key

logger = logging.getLogger(__name__)

_OPEN = (State.PENDING, State.RUNNING, State.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The new parts of a batch."""

    ended: list[tuple[Finished, float | None]] = field(default_factory=list)
    """The attempts that were recorded, with their numbers in the ledger, and the delay of the next attempt; None if there is none."""
    duplicates: int = 0
    """The number of attempts that changed nothing."""
    is_known: bool = False
    """Whether the batch was recorded before."""


def token(database: Database) -> str:
    """Return what distinguishes this ledger from an earlier one of the same job; every message has it."""
    return repr(database.value("SELECT created_at FROM job"))


def record(database: Database, batch: Batch, *, now: float) -> Recorded:
    """Record a batch of events in one transaction.

    Args:
        database: The job's ledger.
        batch: A batch of this ledger's job.
        now: Seconds since the epoch.

    Raises:
        ForeignMessageError: It is about a task that the job does not have; nothing was recorded.
    """
    with changing(database) as change:
        is_new = database.execute(
            "INSERT OR IGNORE INTO event_batch (source, number) VALUES (?, ?)", (batch.worker.source, batch.number)
        ).rowcount
        if not is_new:
            logger.debug("Batch %d of %s is recorded already", batch.number, batch.worker.source)
            return Recorded(is_known=True)
        worker_id = _record_worker(database, batch)
        code.register_worker_code(database, worker_id, batch.codes)
        if batch.packages:
            set_environment(database, worker_id, batch.packages)
        seqs = {seq for seq, _ in [*batch.leased, *batch.returned]} | {f.seq for f, _ in batch.ended}
        recorded = _Recording(database, change, worker_id, seqs).record(batch, now)
    frontier.carry(database)
    return recorded


def end_silent(database: Database, *, silent_seconds: float, now: float) -> int:
    """Record that workers without a heartbeat for this long are dead and their tasks pending; a worker that reports again is alive.

    This affects only the list of workers: the queue decides whether a task is delivered to another worker.

    Returns:
        The number of workers that count as dead now.
    """
    silent = database.rows(
        "SELECT worker_id, seen_at FROM worker WHERE ended_at IS NULL AND seen_at < ?", (now - silent_seconds,)
    )
    if silent:
        with changing(database) as change:
            for worker_id, seen_at in silent:
                change.put_back(worker_id)
                database.execute(
                    "UPDATE worker SET ended_at = ?, end_reason = 'lost' WHERE worker_id = ?", (seen_at, worker_id)
                )
                logger.info("Worker %d counts as dead: its last heartbeat was %.0f s ago", worker_id, now - seen_at)
    return len(silent)


def _record_worker(database: Database, batch: Batch) -> int:
    """Record the worker or its changes; batches may come in any order."""
    worker = batch.worker
    worker_id: int | None = database.value("SELECT worker_id FROM worker WHERE process = ?", (worker.source,))
    if worker_id is None:
        worker_id = database.execute(
            "INSERT INTO worker (hostname, pid, process, slots, started_at, seen_at, lease_until, machine, version, "
            "manager_id) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
            (
                worker.hostname,
                worker.pid,
                worker.source,
                worker.slots,
                worker.started_at,
                batch.reported_at,
                worker.machine,
                worker.version,
                managers.enter(database, worker.manager),
            ),
        ).lastrowid
        assert worker_id is not None
    else:
        database.execute(
            "UPDATE worker SET seen_at = max(seen_at, ?), ended_at = iif(end_reason = 'lost' AND ended_at < ?, NULL, ended_at) "
            "WHERE worker_id = ?",
            (batch.reported_at, batch.reported_at, worker_id),
        )
    if batch.end_reason:
        database.execute(
            "UPDATE worker SET ended_at = ?, end_reason = ? WHERE worker_id = ?",
            (batch.reported_at, batch.end_reason, worker_id),
        )
    return worker_id


class _Recording:
    """The recording of one batch, inside an open transaction."""

    def __init__(self, database: Database, change: Transitions, worker_id: int, seqs: set[int]) -> None:
        self._database = database
        self._change = change
        self._worker_id = worker_id
        self._before = task_states.read(database, seqs)
        self._tasks = task_states.read(database, seqs)
        unknown = seqs - self._before.keys()
        if unknown:
            raise ForeignMessageError(
                f"The queue has events of task number {min(unknown)}, which the job does not have."
            )
        self._attempts = attempts.known_keys(database, seqs)
        self._ended: list[tuple[Finished, float | None]] = []
        self._duplicates = 0
        self._settled: list[int] = []
        """Tasks whose message is gone for good."""
        self._spared: list[int] = []
        """Tasks that a worker killed although the user had taken that back."""

    def record(self, batch: Batch, now: float) -> Recorded:
        for seq, attempt in batch.leased:
            self._lease(seq, attempt)
        for seq, attempt in batch.returned:
            self._return(seq, attempt)
        for finished, retry_seconds in batch.ended:
            self._end(finished, retry_seconds, batch.reported_at)
        chaining.note_sent(self._database, batch.continued)
        self._write(now)
        return Recorded(ended=self._ended, duplicates=self._duplicates)

    def _lease(self, seq: int, attempt: int) -> None:
        task = self._tasks[seq]
        if task.state not in _OPEN or attempt_key(seq, attempt) in self._attempts:
            return
        if attempt > task.attempt or (attempt == task.attempt and task.state == State.PENDING):
            task.state, task.attempt, task.worker_id = State.RUNNING, attempt, self._worker_id

    def _return(self, seq: int, attempt: int) -> None:
        task = self._tasks[seq]
        if (task.state, task.attempt, task.worker_id) == (State.RUNNING, attempt, self._worker_id):
            task.attempt, task.worker_id = attempt - 1, None
            task.put_back(0.0)

    def _end(self, finished: Finished, retry_seconds: float | None, reported_at: float) -> None:
        task = self._tasks[finished.seq]
        if finished.outcome == Outcome.LOST and attempt_key(finished.seq, finished.attempt) in self._attempts:
            return  # it had ended before its worker died
        if retry_seconds is None and finished.outcome != Outcome.INTERRUPTED:
            self._settled.append(finished.seq)
        if finished.outcome == Outcome.SUCCEEDED:
            self._succeed(task, finished)
        elif finished.outcome == Outcome.KILLED:
            self._kill(task, finished)
        elif task.state in _OPEN and finished.attempt >= task.attempt and _counts(task, finished):
            task.attempt, task.worker_id = finished.attempt, None
            if retry_seconds is None and finished.outcome != Outcome.INTERRUPTED:  # which no task fails with
                task.state = State.FAILED
                task.kind = kind_of_failure(finished)
            else:
                task.put_back(reported_at + (retry_seconds or 0.0))
            self._keep(finished, retry_seconds)
        elif attempt_key(finished.seq, finished.attempt) in self._attempts or finished.attempt > task.attempt:
            self._duplicates += 1
        else:
            self._keep(finished, retry_seconds)

    def _succeed(self, task: TaskState, finished: Finished) -> None:
        if task.state == State.SUCCEEDED:
            self._duplicates += 1
            return
        # A service may deliver a message to two workers, which then run the same attempt; the ledger gives the second one a new number.
        number = min(max(finished.attempt, task.tries_from + 1), LAST_ATTEMPT)
        while attempt_key(finished.seq, number) in self._attempts and number < LAST_ATTEMPT:
            number += 1
        finished = finished._replace(attempt=number)
        task.state, task.attempt, task.worker_id, task.kind = State.SUCCEEDED, number, None, 0
        self._keep(finished, None)

    def _kill(self, task: TaskState, finished: Finished) -> None:
        if attempt_key(finished.seq, finished.attempt) in self._attempts:
            self._duplicates += 1
            return
        if task.state in _OPEN and finished.attempt >= task.attempt:
            task.attempt, task.worker_id = finished.attempt, None
            if finished.retry_delay_seconds == NO_RETRY or self._change.is_cancelled(finished.seq):
                task.state, task.available_at = State.KILLED, 0.0
            else:
                task.put_back(0.0)
                self._spared.append(finished.seq)
        self._keep(finished, None)

    def _keep(self, finished: Finished, retry_seconds: float | None) -> None:
        self._attempts.add(attempt_key(finished.seq, finished.attempt))
        finished = finished._replace(error=storable(finished.error), output=storable(finished.output))
        self._ended.append((finished, retry_seconds))

    def _write(self, now: float) -> None:
        change = self._change
        change.settle(self._before, self._tasks, now)
        change.forget_cancelled(self._settled)
        chaining.forget(self._database, self._settled)
        change.send_again(self._spared)
        change.keep_attempts(self._worker_id, [finished for finished, _ in self._ended])
        change.count_duplicates(self._duplicates)
        change.count_retries([finished for finished, retry_seconds in self._ended if retry_seconds is not None])
        change.count_lost(sum(finished.outcome == Outcome.LOST for finished, _ in self._ended))


def _counts(task: TaskState, finished: Finished) -> bool:
    """Return whether an attempt is one of those since the user had the task run again."""
    return finished.attempt > task.tries_from or finished.attempt == LAST_ATTEMPT
