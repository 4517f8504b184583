"""Leases tasks to workers and records how their attempts end.

A worker has one lease for all its tasks, which is renewed in one row. Every change of a task is fenced by the attempt's number and the
worker: after a lease is lost, reports of its holder change nothing and count as duplicates.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskfleet.ledger import arguments, attempts, control, frontier, segments
from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import Transitions, changing, lease_columns
from taskfleet.processes.identity import is_surely_dead
from taskfleet.tasks import (
    LAST_ATTEMPT,
    SUSPECT_LOSSES,
    Finished,
    FinishReport,
    Lease,
    LeaseLostError,
    Outcome,
    RetryPolicy,
    State,
)
from taskfleet.version import VERSION

logger = logging.getLogger(__name__)

#: Time for descendants that have to follow, after each call of a worker.
CARRY_SECONDS = 0.1

#: Pending tasks of a manager that have a row in state, in the order of the times at which they are due.
_PENDING = (f"state.manager_id = :manager AND state.state = {State.PENDING}",)
#: Those beyond the first ``skip`` of the job. Each condition is a range of the index; ``+`` keeps SQLite from scanning all rows instead.
_PENDING_BEYOND = (
    f"{_PENDING[0]} AND available_at = 0 AND state.seq > :skip",
    f"{_PENDING[0]} AND available_at > 0 AND +state.seq > :skip",
)
_LEASE_AGAIN = lease_columns(f"min(attempt + 1, {LAST_ATTEMPT})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many tasks of a manager may run at once."""

    concurrent_tasks: int
    """On all workers."""
    slots: int
    """On the worker that asks."""


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
    manager: int = 0,
) -> int:
    """Record a new worker with a lease; return its id.

    Args:
        database: The ledger.
        hostname: Its host.
        process: The identity of its process, see ``processes.identity``.
        pid: Its process id.
        slots: The number of its slots.
        lease_seconds: The duration of its lease.
        now: Seconds since the epoch.
        machine: The provider's name of the pool machine on which it runs; None for a worker that a user started.
        manager: The number of the manager whose tasks it runs.
    """
    with database.transaction():
        worker_id = database.execute(
            "INSERT INTO worker (hostname, pid, process, slots, started_at, seen_at, lease_until, machine, version, "
            "manager_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (hostname, pid, process, slots, now, now, now + lease_seconds, machine, VERSION, manager),
        ).lastrowid
    assert worker_id is not None
    logger.info(
        "Worker %d is process %d on %s, with %d slots and a lease of %g s",
        worker_id,
        pid,
        hostname,
        slots,
        lease_seconds,
    )
    return worker_id


def renew(database: Database, worker_id: int, *, lease_seconds: float, now: float) -> None:
    """Extend the worker's lease.

    Raises:
        LeaseLostError: The lease was lost.
    """
    with database.transaction():
        _renew(database, worker_id, lease_seconds, now)


def end_worker(database: Database, worker_id: int, *, now: float, reason: str = "stopped") -> None:
    """Record that a worker ended. Tasks that it still holds become pending."""
    with changing(database) as change:
        change.put_back(worker_id)
        database.execute(
            "UPDATE worker SET ended_at = ?, seen_at = ?, end_reason = ? WHERE worker_id = ? AND ended_at IS NULL",
            (now, now, reason, worker_id),
        )


def lease(
    database: Database,
    worker_id: int,
    most: int,
    *,
    skip: int,
    lease_seconds: float,
    now: float,
    manager: int = 0,
    limit: Limit | None = None,
) -> list[Lease]:
    """Lease tasks of a manager: first those that are due for a retry or of small insertions, then those of tables in their order.

    While the job is paused, none.

    Args:
        database: The job's ledger.
        worker_id: The worker; its lease is renewed.
        most: The maximum number of tasks.
        skip: Skip the first N tasks of the job.
        lease_seconds: The duration of the worker's lease from now on.
        now: Seconds since the epoch.
        manager: The number of the manager.
        limit: How many of its tasks may run at once.

    Raises:
        LeaseLostError: The worker's lease was lost.
    """
    with changing(database) as change:
        _renew(database, worker_id, lease_seconds, now)
        if control.is_paused(database):
            return []
        if limit is not None:
            most = min(most, _room(database, worker_id, manager, limit))
            if most <= 0:
                return []
        leases = _due(database, worker_id, most, skip, now, manager)
        change.lease(worker_id, [one.seq for one in leases])
        while len(leases) < most and not manager:
            fresh = change.lease_fresh(worker_id, most - len(leases), skip)
            if fresh is None:
                break
            leases += fresh
    return _filled(database, leases) if any(one.function for one in leases) else leases


def give_back(database: Database, worker_id: int, leases: Sequence[Lease]) -> None:
    """Return tasks that were not begun, as if they had not been leased."""
    with changing(database) as change:
        change.give_back(worker_id, leases)


def finish(
    database: Database, worker_id: int, finished: Sequence[Finished], *, policy: RetryPolicy, now: float
) -> FinishReport:
    """Record how attempts ended, and decide which tasks are retried.

    An attempt that has lost its lease changes nothing.
    """
    report = FinishReport()
    with changing(database) as change:
        refused = change.succeed(worker_id, [f for f in finished if f.outcome == Outcome.SUCCEEDED], now)
        report.duplicates.update(f.key for f in refused)
        for f in finished:
            if f.outcome == Outcome.SUCCEEDED:
                continue
            delay = policy.delay_after(f, attempts.count_earlier(database, f))
            if not _end_unsuccessful(change, worker_id, f, delay, now):
                report.duplicates.add(f.key)
            elif delay is not None and f.outcome != Outcome.INTERRUPTED:
                report.retry_delay_seconds[f.key] = delay
    frontier.carry(database, CARRY_SECONDS)
    return report


def reap(
    database: Database, *, policy: RetryPolicy, now: float, policies: Mapping[int, RetryPolicy] | None = None
) -> int:
    """Release the tasks of dead workers: those whose lease expired, and those whose process is known to be dead.

    A worker holds tasks that it has not begun, and the ledger does not know which. So the first loss of a task does not count, unless no
    retries of lost tasks are allowed.

    Args:
        database: The job's ledger.
        policy: Decides which tasks are retried.
        now: Seconds since the epoch.
        policies: Those of managers with policies of their own, by their numbers.

    Returns:
        The number of tasks released.
    """
    if not _dead_workers(database, now):
        return 0
    taken = 0
    with changing(database) as change:
        for worker_id in _dead_workers(database, now):
            database.execute(
                "UPDATE worker SET ended_at = ?, end_reason = 'lost' WHERE worker_id = ?", (now, worker_id)
            )
            manager = database.value("SELECT manager_id FROM worker WHERE worker_id = ?", (worker_id,))
            of_worker = (policies or {}).get(manager, policy)
            running = database.rows(
                f"SELECT seq, attempt FROM state WHERE state = {State.RUNNING} AND worker_id = ?", (worker_id,)
            )
            for seq, attempt in running:
                lost = Finished(
                    seq=seq,
                    attempt=attempt,
                    outcome=Outcome.LOST,
                    started_at=now,
                    elapsed_seconds=0.0,
                    error="The worker or its machine died",
                )
                delay = of_worker.delay_after(lost, attempts.count_earlier(database, lost), has_begun=False)
                _end_unsuccessful(change, worker_id, lost, delay, now)
            change.count_lost(len(running))
            logger.info("Worker %d is dead: its %d running tasks are released", worker_id, len(running))
            taken += len(running)
    frontier.carry(database, CARRY_SECONDS)
    return taken


def release(database: Database, *, now: float) -> int:
    """Revoke all leases, including those of live workers; this does not count against the tasks' retries.

    Returns:
        The number of tasks released.
    """
    with changing(database) as change:
        n = change.put_back()
        database.execute("UPDATE worker SET ended_at = ?, end_reason = 'released' WHERE ended_at IS NULL", (now,))
    logger.info("All leases are revoked: %d running tasks are released", n)
    return n


def attended(database: Database, now: float) -> set[int]:
    """Return the numbers of the managers that have a worker that is alive."""
    dead = set(_dead_workers(database, now))
    rows = database.rows("SELECT worker_id, manager_id FROM worker WHERE ended_at IS NULL")
    return {manager_id for worker_id, manager_id in rows if worker_id not in dead}


def next_due_at(database: Database, skip: int, manager: int = 0) -> float | None:
    """Return when the next pending task of a manager with a row in state is due, beyond the first ``skip`` of the job.

    Seconds since the epoch, 0 for a task that is due at any time; None if there is none.
    """
    for condition in _PENDING_BEYOND if skip else _PENDING:
        due: float | None = database.value(
            f"SELECT available_at FROM state WHERE {condition} ORDER BY available_at LIMIT 1",
            {"skip": skip, "manager": manager},
        )
        if due is not None:
            return due
    return None


def has_leasable(database: Database, skip: int, manager: int = 0) -> bool:
    """Return whether a task of a manager is pending, due or not, beyond the first ``skip`` of the job."""
    if next_due_at(database, skip, manager) is not None:
        return True
    return not manager and segments.first_open(database, skip) is not None


def count_running(database: Database, manager: int) -> dict[int, int]:
    """Return the number of tasks that each worker of a manager has leased, by the worker's number, without those that have none."""
    return dict(
        database.rows(
            "SELECT worker.worker_id, count(*) FROM worker JOIN state ON state.worker_id = worker.worker_id "
            f"AND state = {State.RUNNING} WHERE worker.manager_id = ? AND ended_at IS NULL GROUP BY worker.worker_id",
            (manager,),
        )
    )


def _room(database: Database, worker_id: int, manager: int, limit: Limit) -> int:
    """Return how many tasks a worker may lease: as many as it can begin, so that it takes no part of the limit from others."""
    running = count_running(database, manager)
    return min(limit.concurrent_tasks - sum(running.values()), limit.slots - running.get(worker_id, 0))


def _filled(database: Database, leases: Sequence[Lease]) -> list[Lease]:
    """Return leases with the results of other tasks in their data."""
    data = iter(arguments.fill(database, [one.data for one in leases if one.function]))
    return [one._replace(data=next(data)) if one.function else one for one in leases]


def _renew(database: Database, worker_id: int, lease_seconds: float, now: float) -> None:
    renewed = database.execute(
        "UPDATE worker SET seen_at = ?, lease_until = ? WHERE worker_id = ? AND ended_at IS NULL",
        (now, now + lease_seconds, worker_id),
    )
    if renewed.rowcount != 1:
        raise LeaseLostError


def _due(database: Database, worker_id: int, most: int, skip: int, now: float, manager: int) -> list[Lease]:
    """Return leases on a manager's pending tasks with a row in state, with at most one that is suspected to have killed workers."""
    leases: list[Lease] = []
    holds_suspect: bool | None = None
    seen = 0
    for condition in _PENDING_BEYOND if skip else _PENDING:
        rows = database.rows(
            f"SELECT {_LEASE_AGAIN}, ({attempts.LOSSES}) FROM state JOIN task ON task.seq = state.seq "
            f"WHERE {condition} AND available_at <= :now ORDER BY available_at, state.seq LIMIT :most",
            {"skip": skip, "now": now, "most": most - seen, "manager": manager},
        )
        seen += len(rows)
        for *lease, losses in rows:
            if losses >= SUSPECT_LOSSES:
                if holds_suspect is None:
                    holds_suspect = _holds_suspect(database, worker_id)
                if holds_suspect:
                    continue
                holds_suspect = True
            leases.append(Lease._make(lease))
        if seen >= most:
            break
    return leases


def _holds_suspect(database: Database, worker_id: int) -> bool:
    """Return whether the worker runs a task that is suspected to have killed workers: no other suspect should be lost with it."""
    return (
        database.value(
            f"SELECT 1 FROM state WHERE state = {State.RUNNING} AND worker_id = ? AND ({attempts.LOSSES}) >= {SUSPECT_LOSSES} LIMIT 1",
            (worker_id,),
        )
        is not None
    )


def _end_unsuccessful(change: Transitions, worker_id: int, finished: Finished, delay: float | None, now: float) -> bool:
    """Record an attempt that did not succeed; return False if it had lost its lease."""
    if finished.outcome == Outcome.KILLED:
        return change.end_killed(worker_id, finished, now)
    if delay is None:
        return change.fail(worker_id, finished, now)
    return change.retry_later(worker_id, finished, delay, now)


def _dead_workers(database: Database, now: float) -> list[int]:
    alive = database.rows("SELECT worker_id, process, lease_until FROM worker WHERE ended_at IS NULL")
    return [worker_id for worker_id, process, until in alive if until < now or is_surely_dead(process)]
