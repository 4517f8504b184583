"""Recording what workers elsewhere tell: batches of events become rows, each batch once.

Events come in any order, late, and more than once. A batch that was recorded is known by its worker and number. What an attempt's end
means for its task depends on the attempts' numbers: a success always stands, the first one that is recorded; otherwise the latest attempt
decides, and what an older one says afterwards is history.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.ledger.leasing import LAST_ATTEMPT, keep_attempts
from taskfleet.ledger.repair import PURGED
from taskfleet.messages.events import Batch
from taskfleet.tasks import ATTEMPTS_PER_TASK, Finished, Outcome, State

_OPEN = (State.PENDING, State.RUNNING, State.WAITING)
_ENDED = (State.SUCCEEDED, State.FAILED)


@dataclass(slots=True)
class _Task:
    """A task's row in state, as it is to become."""

    state: int = State.PENDING
    attempt: int = 0
    worker_id: int | None = None
    available_at: float = 0.0
    tries_from: int = 0
    kind: int = 0

    def put_back(self, available_at: float) -> None:
        """Have it wait for its next try, of which there is a message unless it was purged."""
        if self.available_at == PURGED:
            self.state = State.KILLED
        else:
            self.state, self.available_at = State.PENDING, available_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What one batch told that was new."""

    ended: list[tuple[Finished, float | None]] = field(default_factory=list)
    """Attempts that were recorded, under the numbers they have in the ledger; and when the task gets another try, if it does."""
    duplicates: int = 0
    """Attempts that changed nothing."""
    is_known: bool = False
    """Whether the whole batch was recorded earlier."""


def token(database: Database) -> str:
    """Give what tells this ledger from an earlier one of the same job; it travels with every message."""
    return repr(database.value("SELECT created_at FROM job"))


def record(database: Database, batch: Batch, *, now: float) -> Recorded:
    """Record a batch of a worker's events, at once and for good.

    Args:
        database: The job's ledger.
        batch: Of this ledger's job.
        now: Seconds since the epoch.
    """
    with database.transaction():
        source, number = batch.worker.source, batch.number
        if not database.execute("INSERT OR IGNORE INTO event_batch VALUES (?, ?)", (source, number)).rowcount:
            return Recorded(is_known=True)
        worker_id = _record_worker(database, batch)
        seqs = {seq for seq, _ in [*batch.leased, *batch.returned]} | {f.seq for f, _ in batch.ended}
        return _Recording(database, worker_id, seqs).record(batch, now)


def end_silent(database: Database, *, silent_seconds: float, now: float) -> int:
    """Take workers that have told nothing for so long for dead, and their tasks for pending; should one tell something again, it lives.

    Only the list of workers depends on it: whether a task is given to another worker is the queue's business.

    Returns:
        How many were taken for dead.
    """
    silent = database.rows(
        "SELECT worker_id, seen_at FROM worker WHERE ended_at IS NULL AND seen_at < ?", (now - silent_seconds,)
    )
    if silent:
        with database.transaction():
            for worker_id, seen_at in silent:
                states = database.rows(
                    "UPDATE state SET state = iif(available_at = ?, 5, 1), worker_id = NULL, available_at = 0 "
                    "WHERE state = 2 AND worker_id = ? RETURNING state",
                    (PURGED, worker_id),
                )
                for state, n in Counter(state for (state,) in states).items():
                    counters.add(database, State.RUNNING, 0, -n)
                    counters.add(database, State(state), 0, n)
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
            "INSERT INTO worker (hostname, pid, process, slots, started_at, seen_at, lease_until, machine) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            (
                worker.hostname,
                worker.pid,
                worker.source,
                worker.slots,
                worker.started_at,
                batch.told_at,
                worker.machine,
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

    def __init__(self, database: Database, worker_id: int, seqs: set[int]) -> None:
        self._database = database
        self._worker_id = worker_id
        self._before = _read_tasks(database, seqs)
        self._tasks = _read_tasks(database, seqs)
        self._attempts = _read_attempts(database, seqs)
        self._kept: list[Finished] = []
        self._ended: list[tuple[Finished, float | None]] = []
        self._durations: list[float] = []
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
        if task is None or task.state not in _OPEN or (seq * ATTEMPTS_PER_TASK + attempt) in self._attempts:
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
                task.kind = Outcome.EXCEPTION if finished.outcome == Outcome.RETRY else finished.outcome
            else:
                task.put_back(told_at + retry_seconds)
            self._keep(finished, retry_seconds)
        elif finished.seq * ATTEMPTS_PER_TASK + finished.attempt in self._attempts or finished.attempt > task.attempt:
            self._duplicates += 1
        else:
            self._keep(finished, retry_seconds)

    def _succeed(self, task: _Task, finished: Finished) -> None:
        if task.state == State.SUCCEEDED:
            self._duplicates += 1
            return
        # Two workers may have had the same attempt (a service may deliver a message to two); then the ledger numbers the second.
        number = finished.attempt
        while finished.seq * ATTEMPTS_PER_TASK + number in self._attempts and number < LAST_ATTEMPT:
            number += 1
        finished = finished._replace(attempt=number)
        task.state, task.attempt, task.worker_id, task.kind = State.SUCCEEDED, number, None, 0
        self._durations.append(finished.elapsed_seconds)
        self._keep(finished, None)

    def _keep(self, finished: Finished, retry_seconds: float | None) -> None:
        self._attempts.add(finished.seq * ATTEMPTS_PER_TASK + finished.attempt)
        self._kept.append(finished)
        self._ended.append((finished, retry_seconds))

    def _write(self, now: float) -> None:
        database = self._database
        changed = [(seq, task) for seq, task in self._tasks.items() if task != self._before[seq]]
        database.execute_many(
            "INSERT OR REPLACE INTO state (seq, state, attempt, worker_id, available_at, tries_from, kind) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (seq, int(task.state), task.attempt, task.worker_id, task.available_at, task.tries_from, int(task.kind))
                for seq, task in changed
            ],
        )
        counts: Counter[tuple[int, int]] = Counter()
        ended = 0
        for seq, task in changed:
            before = self._before[seq]
            counts[int(before.state), int(before.kind)] -= 1
            counts[int(task.state), int(task.kind)] += 1
            ended += before.state not in _ENDED and task.state in _ENDED
        for (state, kind), n in counts.items():
            counters.add(database, State(state), kind, n)
        keep_attempts(database, self._worker_id, self._kept)
        counters.add_durations(database, self._durations)
        counters.add_finished(database, ended, now)
        counters.tally(database, "duplicates", self._duplicates)
        tried_again = [f for f, retry_seconds in self._ended if retry_seconds is not None]
        counters.tally(database, "retries", sum(f.outcome != Outcome.INTERRUPTED for f in tried_again))
        counters.tally(database, "lost", sum(f.outcome == Outcome.LOST for f, _ in self._ended))


def _read_tasks(database: Database, seqs: Iterable[int]) -> dict[int, _Task]:
    """Read where tasks stand; those that the ledger does not have are left out."""
    rows = database.rows(
        "SELECT task.seq, state, attempt, worker_id, available_at, tries_from, kind FROM json_each(?) "
        "JOIN task ON task.seq = json_each.value LEFT JOIN state ON state.seq = task.seq",
        (_listed(seqs),),
    )
    return {seq: _Task() if rest[0] is None else _Task(*rest) for seq, *rest in rows}


def _read_attempts(database: Database, seqs: Iterable[int]) -> set[int]:
    rows = database.rows(
        f"SELECT attempt.key FROM json_each(?) JOIN attempt ON attempt.key > json_each.value * {ATTEMPTS_PER_TASK} "
        f"AND attempt.key < (json_each.value + 1) * {ATTEMPTS_PER_TASK}",
        (_listed(seqs),),
    )
    return {key for (key,) in rows}


def _listed(seqs: Iterable[int] | Sequence[int]) -> str:
    return f"[{','.join(map(str, sorted(seqs)))}]"
