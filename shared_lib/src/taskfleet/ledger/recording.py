"""Recording what workers elsewhere tell: batches of events become rows, each batch once.

Events come in any order, late, and more than once. A batch that was recorded is known by its worker and number. What an attempt's end
means for its task depends on the attempts' numbers: a success always stands, the first one that is recorded; otherwise the latest attempt
decides, and what an older one says afterwards is history.
"""

from dataclasses import dataclass, field

from taskfleet.ledger import attempts, standing
from taskfleet.ledger.database import Database
from taskfleet.ledger.standing import Standing
from taskfleet.ledger.transitions import Transitions, changing, kind_of_failure
from taskfleet.messages.events import Batch
from taskfleet.tasks import LAST_ATTEMPT, Finished, Outcome, State, attempt_key

_OPEN = (State.PENDING, State.RUNNING, State.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What was new in one batch."""

    ended: list[tuple[Finished, float | None]] = field(default_factory=list)
    """Attempts that were recorded, under the numbers they have in the ledger; and when the task gets another try, if it does."""
    duplicates: int = 0
    """Attempts that changed nothing."""
    is_known: bool = False
    """Whether the whole batch was recorded earlier."""


def token(database: Database) -> str:
    """Return what tells this ledger from an earlier one of the same job; it travels with every message."""
    return repr(database.value("SELECT created_at FROM job"))


def record(database: Database, batch: Batch, *, now: float) -> Recorded:
    """Record a batch of a worker's events, at once and for good.

    Args:
        database: The job's ledger.
        batch: Of this ledger's job.
        now: Seconds since the epoch.
    """
    with changing(database) as change:
        is_new = database.execute(
            "INSERT OR IGNORE INTO event_batch (source, number) VALUES (?, ?)", (batch.worker.source, batch.number)
        ).rowcount
        if not is_new:
            return Recorded(is_known=True)
        worker_id = _record_worker(database, batch)
        seqs = {seq for seq, _ in [*batch.leased, *batch.returned]} | {f.seq for f, _ in batch.ended}
        return _Recording(database, change, worker_id, seqs).record(batch, now)


def end_silent(database: Database, *, silent_seconds: float, now: float) -> int:
    """Consider workers dead that have reported nothing for this long, and their tasks pending; one that reports again is alive.

    Only the list of workers depends on it: whether a task is given to another worker is the queue's business.

    Returns:
        How many were taken for dead.
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
    return len(silent)


def _record_worker(database: Database, batch: Batch) -> int:
    """Enter the worker, or what is new of it; batches may come in any order."""
    worker = batch.worker
    worker_id: int | None = database.value("SELECT worker_id FROM worker WHERE process = ?", (worker.source,))
    if worker_id is None:
        worker_id = database.execute(
            "INSERT INTO worker (hostname, pid, process, slots, started_at, seen_at, lease_until, machine, version) "
            "VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
            (
                worker.hostname,
                worker.pid,
                worker.source,
                worker.slots,
                worker.started_at,
                batch.told_at,
                worker.machine,
                worker.version,
            ),
        ).lastrowid
        assert worker_id is not None
    else:
        database.execute(
            "UPDATE worker SET seen_at = max(seen_at, ?), ended_at = iif(end_reason = 'lost' AND ended_at < ?, NULL, ended_at) "
            "WHERE worker_id = ?",
            (batch.told_at, batch.told_at, worker_id),
        )
    if batch.end_reason:
        database.execute(
            "UPDATE worker SET ended_at = ?, end_reason = ? WHERE worker_id = ?",
            (batch.told_at, batch.end_reason, worker_id),
        )
    return worker_id


class _Recording:
    """One batch, inside an open transaction."""

    def __init__(self, database: Database, change: Transitions, worker_id: int, seqs: set[int]) -> None:
        self._change = change
        self._worker_id = worker_id
        self._before = standing.read(database, seqs)
        self._tasks = standing.read(database, seqs)
        self._attempts = attempts.known_keys(database, seqs)
        self._ended: list[tuple[Finished, float | None]] = []
        self._duplicates = 0

    def record(self, batch: Batch, now: float) -> Recorded:
        for seq, attempt in batch.leased:
            self._lease(seq, attempt)
        for seq, attempt in batch.returned:
            self._return(seq, attempt)
        for finished, retry_seconds in batch.ended:
            if finished.seq in self._tasks:
                self._end(finished, retry_seconds, batch.told_at)
        self._write(now)
        return Recorded(ended=self._ended, duplicates=self._duplicates)

    def _lease(self, seq: int, attempt: int) -> None:
        task = self._tasks.get(seq)
        if task is None or task.state not in _OPEN or attempt_key(seq, attempt) in self._attempts:
            return
        if attempt > task.attempt or (attempt == task.attempt and task.state == State.PENDING):
            task.state, task.attempt, task.worker_id = State.RUNNING, attempt, self._worker_id

    def _return(self, seq: int, attempt: int) -> None:
        task = self._tasks.get(seq)
        if task is not None and (task.state, task.attempt, task.worker_id) == (State.RUNNING, attempt, self._worker_id):
            task.attempt, task.worker_id = attempt - 1, None
            task.put_back(0.0)

    def _end(self, finished: Finished, retry_seconds: float | None, told_at: float) -> None:
        task = self._tasks[finished.seq]
        if finished.outcome == Outcome.SUCCEEDED:
            self._succeed(task, finished)
        elif task.state in _OPEN and finished.attempt >= task.attempt:
            task.attempt, task.worker_id = finished.attempt, None
            if retry_seconds is None:
                task.state = State.FAILED
                task.kind = kind_of_failure(finished)
            else:
                task.put_back(told_at + retry_seconds)
            self._keep(finished, retry_seconds)
        elif attempt_key(finished.seq, finished.attempt) in self._attempts or finished.attempt > task.attempt:
            self._duplicates += 1
        else:
            self._keep(finished, retry_seconds)

    def _succeed(self, task: Standing, finished: Finished) -> None:
        if task.state == State.SUCCEEDED:
            self._duplicates += 1
            return
        # Two workers may have had the same attempt (a service may deliver a message to two); then the ledger numbers the second.
        number = finished.attempt
        while attempt_key(finished.seq, number) in self._attempts and number < LAST_ATTEMPT:
            number += 1
        finished = finished._replace(attempt=number)
        task.state, task.attempt, task.worker_id, task.kind = State.SUCCEEDED, number, None, 0
        self._keep(finished, None)

    def _keep(self, finished: Finished, retry_seconds: float | None) -> None:
        self._attempts.add(attempt_key(finished.seq, finished.attempt))
        self._ended.append((finished, retry_seconds))

    def _write(self, now: float) -> None:
        change = self._change
        change.settle(self._before, self._tasks, now)
        change.keep_attempts(self._worker_id, [finished for finished, _ in self._ended])
        change.count_duplicates(self._duplicates)
        change.count_retries([finished for finished, retry_seconds in self._ended if retry_seconds is not None])
        change.count_lost(sum(finished.outcome == Outcome.LOST for finished, _ in self._ended))
