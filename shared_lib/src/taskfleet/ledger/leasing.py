"""Workers, their leases, and what becomes of the tasks they try.

A worker has one lease for all it holds, renewed in one row. Every change to a task is fenced by the attempt's number and the worker: once
a lease is lost, what its holder says about it changes nothing and is counted as a duplicate.
"""

from collections.abc import Sequence

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.processes.identity import is_surely_dead
from taskfleet.tasks import (
    ATTEMPTS_PER_TASK,
    NO_RETRY,
    SUSPECT_LOSSES,
    Finished,
    FinishReport,
    Lease,
    LeaseLostError,
    Outcome,
    RetryPolicy,
    State,
    attempt_key,
)

#: The highest number an attempt can have.
LAST_ATTEMPT = ATTEMPTS_PER_TASK - 1


_FENCE = "WHERE seq = ? AND attempt = ? AND worker_id = ? AND state = 2"
_SUCCEED = f"UPDATE state SET state = 3, worker_id = NULL {_FENCE}"
_FAIL = f"UPDATE state SET state = 4, worker_id = NULL, kind = ? {_FENCE}"
_TRY_AGAIN = f"UPDATE state SET state = 1, worker_id = NULL, available_at = ? {_FENCE}"
_UNDO_LEASE = f"UPDATE state SET state = 1, worker_id = NULL, available_at = 0, attempt = attempt - 1 {_FENCE}"
#: How often a task of the table state was lost with its worker or slot.
_LOSSES = (
    f"SELECT count(*) FROM attempt WHERE key > state.seq * {ATTEMPTS_PER_TASK} + state.tries_from "
    f"AND key <= state.seq * {ATTEMPTS_PER_TASK} + state.attempt AND outcome = {int(Outcome.LOST)}"
)
#: What attempts that ended so had done is lost.
_IN_VAIN = (Outcome.INTERRUPTED, Outcome.LOST)
_ATTEMPT = "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def register(
    database: Database,
    *,
    hostname: str,
    process: str,
    pid: int,
    slots: int,
    lease_seconds: float,
    now: float,
    machine: str | None = None,
) -> int:
    """Enter a worker, with a lease; return its id.

    Args:
        database: The ledger.
        hostname: Where it is.
        process: Its name among all processes, see ``processes.identity``.
        pid: Its process id.
        slots: Tasks at a time.
        lease_seconds: How long its lease lasts.
        now: Seconds since the epoch.
        machine: The provider's name of the machine of the pool it is on, None for a worker that was started by hand.
    """
    with database.transaction():
        worker_id = database.execute(
            "INSERT INTO worker (hostname, pid, process, slots, started_at, seen_at, lease_until, machine) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (hostname, pid, process, slots, now, now, now + lease_seconds, machine),
        ).lastrowid
    assert worker_id is not None
    return worker_id


def renew(database: Database, worker_id: int, *, lease_seconds: float, now: float) -> None:
    """Extend the worker's lease.

    Raises:
        LeaseLostError: It was lost.
    """
    with database.transaction():
        _renew(database, worker_id, lease_seconds, now)


def end_worker(database: Database, worker_id: int, *, now: float, reason: str = "stopped") -> None:
    """Note that a worker stopped in good order; should it still hold tasks, they go back into the queue."""
    with database.transaction():
        _take_back(database, "worker_id = ?", (worker_id,))
        database.execute(
            "UPDATE worker SET ended_at = ?, seen_at = ?, end_reason = ? WHERE worker_id = ? AND ended_at IS NULL",
            (now, now, reason, worker_id),
        )


def lease(database: Database, worker_id: int, most: int, *, skip: int, lease_seconds: float, now: float) -> list[Lease]:
    """Lease up to ``most`` tasks: first those due for another try, then new ones in the order of the table.

    Args:
        database: The job's ledger.
        worker_id: Who leases; its lease is renewed.
        most: At most so many.
        skip: Leave the first so many tasks of the job to others.
        lease_seconds: How long the worker's lease lasts from now on.
        now: Seconds since the epoch.

    Raises:
        LeaseLostError: The worker's own lease was lost.
    """
    with database.transaction():
        _renew(database, worker_id, lease_seconds, now)
        leases = _lease_again(database, worker_id, most, skip, now)
        while len(leases) < most:
            fresh = _lease_fresh(database, worker_id, most - len(leases), skip)
            if fresh is None:
                break
            leases += fresh
        counters.add(database, State.PENDING, 0, -len(leases))
        counters.add(database, State.RUNNING, 0, len(leases))
    return leases


def give_back(database: Database, worker_id: int, leases: Sequence[Lease]) -> None:
    """Return tasks that were never started; it is as if they had not been leased."""
    with database.transaction():
        n = database.execute_many(_UNDO_LEASE, [(seq, attempt, worker_id) for seq, attempt, *_ in leases])
        counters.add(database, State.RUNNING, 0, -n)
        counters.add(database, State.PENDING, 0, n)


def finish(
    database: Database, worker_id: int, finished: Sequence[Finished], *, policy: RetryPolicy, now: float
) -> FinishReport:
    """Record how attempts ended, and decide which tasks get another try.

    The first recorded success of a task stands; an attempt that has lost its lease changes nothing.
    """
    report = FinishReport()
    successes = [f for f in finished if f.outcome == Outcome.SUCCEEDED]
    with database.transaction():
        database.execute("SAVEPOINT successes")
        n = database.execute_many(_SUCCEED, [(f.seq, f.attempt, worker_id) for f in successes])
        if n != len(successes):
            database.execute("ROLLBACK TO successes")
            recorded = []
            for f in successes:
                if database.execute(_SUCCEED, (f.seq, f.attempt, worker_id)).rowcount == 1:
                    recorded.append(f)
                else:
                    report.duplicates.add((f.seq, f.attempt))
            successes = recorded
        database.execute("RELEASE successes")
        keep_attempts(database, worker_id, successes)
        counters.add(database, State.RUNNING, 0, -len(successes))
        counters.add(database, State.SUCCEEDED, 0, len(successes))
        counters.add_durations(database, [f.elapsed_seconds for f in successes])
        ended = len(successes)
        for f in finished:
            if f.outcome != Outcome.SUCCEEDED:
                ended += _finish_unsuccessful(database, worker_id, f, policy, now, report)
        counters.add_finished(database, ended, now)
        counters.tally(database, "duplicates", len(report.duplicates))
        counters.tally(database, "retries", len(report.retry_delay_seconds))
    return report


def reap(database: Database, *, policy: RetryPolicy, now: float) -> int:
    """Take the tasks of dead workers back: those whose lease ran out, and those whose process is known to be gone.

    A worker holds tasks that it has not begun, and nobody knows which, so a task's first such loss costs it no try, unless none is allowed.

    Returns:
        The number of tasks taken back.
    """
    if not _dead_workers(database, now):
        return 0
    taken = 0
    with database.transaction():
        for worker_id, _ in _dead_workers(database, now):
            database.execute(
                "UPDATE worker SET ended_at = ?, end_reason = 'lost' WHERE worker_id = ?", (now, worker_id)
            )
            report = FinishReport()
            running = database.rows("SELECT seq, attempt FROM state WHERE state = 2 AND worker_id = ?", (worker_id,))
            ended = 0
            for seq, attempt in running:
                lost = Finished(seq, attempt, Outcome.LOST, now, 0.0, error="The worker or its machine died")
                ended += _finish_unsuccessful(database, worker_id, lost, policy, now, report, is_sure=False)
            counters.add_finished(database, ended, now)
            counters.tally(database, "lost", len(running))
            counters.tally(database, "retries", len(report.retry_delay_seconds))
            taken += len(running)
    return taken


def release(database: Database, *, now: float) -> int:
    """Take all leases back, whoever holds them; it does not cost the tasks a try.

    Returns:
        The number of tasks taken back.
    """
    with database.transaction():
        n = _take_back(database, "TRUE", ())
        database.execute("UPDATE worker SET ended_at = ?, end_reason = 'released' WHERE ended_at IS NULL", (now,))
    return n


def next_due_at(database: Database, skip: int) -> float | None:
    """Say when the next task that waits for a retry may be leased by a worker that leaves the first ``skip`` to others.

    None if none waits.
    """
    due: float | None = database.value(
        "SELECT available_at FROM state WHERE state = 1 AND seq > ? ORDER BY available_at LIMIT 1", (skip,)
    )
    return due


def has_leasable(database: Database, skip: int) -> bool:
    """Whether a task is pending, due or not, for a worker that leaves the first ``skip`` to others."""
    return (
        database.value("SELECT 1 FROM state WHERE state = 1 AND seq > ? LIMIT 1", (skip,)) is not None
        or database.value("SELECT 1 FROM segment WHERE next_seq <= last_seq AND last_seq > ? LIMIT 1", (skip,))
        is not None
    )


def _take_back(database: Database, whose: str, parameters: tuple[int, ...]) -> int:
    n = database.execute(
        f"UPDATE state SET state = 1, worker_id = NULL, available_at = 0 WHERE state = 2 AND {whose}", parameters
    ).rowcount
    counters.add(database, State.RUNNING, 0, -n)
    counters.add(database, State.PENDING, 0, n)
    return n


def _renew(database: Database, worker_id: int, lease_seconds: float, now: float) -> None:
    renewed = database.execute(
        "UPDATE worker SET seen_at = ?, lease_until = ? WHERE worker_id = ? AND ended_at IS NULL",
        (now, now + lease_seconds, worker_id),
    )
    if renewed.rowcount != 1:
        raise LeaseLostError


def _lease_again(database: Database, worker_id: int, most: int, skip: int, now: float) -> list[Lease]:
    due = database.rows(
        f"SELECT seq, ({_LOSSES}) FROM state WHERE state = 1 AND available_at <= ? AND seq > ? ORDER BY available_at, seq LIMIT ?",
        (now, skip, most),
    )
    seqs = [seq for seq, losses in due if losses < SUSPECT_LOSSES]
    if len(seqs) < len(due) and not _holds_suspect(database, worker_id):
        seqs.append(next(seq for seq, losses in due if losses >= SUSPECT_LOSSES))
    # A task that used up its attempt numbers (by being interrupted or put back) goes on with the last one.
    leased = database.rows(
        f"UPDATE state SET state = 2, attempt = min(attempt + 1, {LAST_ATTEMPT}), worker_id = ? "
        f"WHERE seq IN ({','.join(map(str, seqs))}) RETURNING seq, attempt",
        (worker_id,),
    )
    return [
        Lease(seq, attempt, *database.row("SELECT id, data FROM task WHERE seq = ?", (seq,)) or ("", ""))
        for seq, attempt in leased
    ]


def _holds_suspect(database: Database, worker_id: int) -> bool:
    """Whether the worker has a task already that may be why others died: no other one is to be lost with it again."""
    return (
        database.value(
            f"SELECT 1 FROM state WHERE state = 2 AND worker_id = ? AND ({_LOSSES}) >= {SUSPECT_LOSSES} LIMIT 1",
            (worker_id,),
        )
        is not None
    )


def _lease_fresh(database: Database, worker_id: int, most: int, skip: int) -> list[Lease] | None:
    """Move one segment's cursor on, over a gap perhaps; None if there is no segment left."""
    segment = database.row(
        "SELECT first_seq, next_seq, last_seq FROM segment WHERE next_seq <= last_seq AND last_seq > ? ORDER BY first_seq LIMIT 1",
        (skip,),
    )
    if segment is None:
        return None
    first_seq, next_seq, last_seq = segment
    if next_seq <= skip:  # leave the part before to others, as a segment of its own
        database.execute("UPDATE segment SET last_seq = ? WHERE first_seq = ?", (skip, first_seq))
        first_seq = next_seq = skip + 1
        database.execute(
            "INSERT INTO segment (first_seq, next_seq, last_seq) VALUES (?, ?, ?)", (first_seq, next_seq, last_seq)
        )
    rows = database.rows(
        "SELECT seq, 1, id, data FROM task WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?", (next_seq, last_seq, most)
    )
    end = rows[-1][0] + 1 if len(rows) == most else last_seq + 1
    database.execute("UPDATE segment SET next_seq = ? WHERE first_seq = ?", (end, first_seq))
    database.execute(
        "INSERT INTO state (seq, state, attempt, worker_id) SELECT seq, 2, 1, ? FROM task WHERE seq >= ? AND seq < ?",
        (worker_id, next_seq, end),
    )
    return [Lease._make(row) for row in rows]


def _finish_unsuccessful(
    database: Database,
    worker_id: int,
    f: Finished,
    policy: RetryPolicy,
    now: float,
    report: FinishReport,
    *,
    is_sure: bool = True,
) -> int:
    """Record one attempt that did not succeed; return 1 if the task came to its end."""
    outcome = Outcome(f.outcome)
    fence = (f.seq, f.attempt, worker_id)
    delay = _retry_delay(database, f, outcome, policy, is_sure)
    if delay is None:
        kind = Outcome.EXCEPTION if outcome is Outcome.RETRY else outcome
        changed = database.execute(_FAIL, (int(kind), *fence)).rowcount
    else:
        changed = database.execute(_TRY_AGAIN, (now + delay if delay else 0.0, *fence)).rowcount
    if changed != 1:
        report.duplicates.add((f.seq, f.attempt))
        return 0
    counters.add(database, State.RUNNING, 0, -1)
    if delay is None:
        counters.add(database, State.FAILED, int(kind), 1)
    else:
        counters.add(database, State.PENDING, 0, 1)
        if outcome is not Outcome.INTERRUPTED:
            report.retry_delay_seconds[f.seq, f.attempt] = delay
    keep_attempts(database, worker_id, [f])
    return int(delay is None)


def _retry_delay(database: Database, f: Finished, outcome: Outcome, policy: RetryPolicy, is_sure: bool) -> float | None:
    if f.retry_delay_seconds == NO_RETRY or (f.attempt >= LAST_ATTEMPT and outcome is not Outcome.INTERRUPTED):
        return None
    tries_from = database.value("SELECT tries_from FROM state WHERE seq = ?", (f.seq,)) or 0
    earlier = database.value(
        "SELECT count(*) FROM attempt WHERE key > ? AND key < ? AND outcome = ?",
        (attempt_key(f.seq, tries_from), attempt_key(f.seq, f.attempt), int(outcome)),
    )
    delay = policy.delay_before_loss(earlier) if not is_sure else policy.delay_before_retry(outcome, earlier)
    if delay is not None and f.retry_delay_seconds is not None:
        return f.retry_delay_seconds
    return delay


def keep_attempts(database: Database, worker_id: int, finished: Sequence[Finished]) -> None:
    """Write down how attempts ended, and how long the worker was at them."""
    busy_seconds = sum(f.elapsed_seconds for f in finished if f.outcome not in _IN_VAIN)
    if busy_seconds:
        database.execute(
            "UPDATE worker SET busy_seconds = busy_seconds + ? WHERE worker_id = ?", (busy_seconds, worker_id)
        )
    database.execute_many(
        _ATTEMPT,
        [
            (
                f.seq * ATTEMPTS_PER_TASK + f.attempt,
                worker_id,
                int(f.outcome),
                f.started_at,
                f.elapsed_seconds,
                f.result,
                f.error,
                f.output,
                f.exit_code,
                f.peak_memory_mib,
            )
            for f in finished
        ],
    )


def _dead_workers(database: Database, now: float) -> list[tuple[int, str]]:
    alive = database.rows("SELECT worker_id, process, lease_until FROM worker WHERE ended_at IS NULL")
    return [(worker_id, process) for worker_id, process, until in alive if until < now or is_surely_dead(process)]
