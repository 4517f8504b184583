"""Explain why a job or a task is stuck, and what to change."""

from taskfleet.invocation import poe
from taskfleet.ledger.database import Database
from taskfleet.ledger.queries import TaskRecord
from taskfleet.pool import records
from taskfleet.settings import Settings
from taskfleet.tasks import State
from taskfleet.text import counted, duration, rate
from taskfleet.watch.status import Status


def explain_task(database: Database, task: TaskRecord, status: Status, settings: Settings, now: float) -> str:
    """Return the state of a task, and the reason why it has not ended."""
    last = task.attempts[-1] if task.attempts else None
    name = f"Task {task.task_id}"
    match task.state:
        case State.SUCCEEDED:
            return f"{name} is done: attempt {len(task.attempts)} succeeded."
        case State.FAILED:
            reason = (last.error or "").partition("\n")[0] if last is not None else ""
            kind = "" if task.kind is None else f" ({task.kind.word})"
            return (
                f"{name} failed{kind} after {counted(len(task.attempts), 'attempt')} and is not retried: {reason}\n"
                f"When the cause is fixed, put it back into the queue: {poe(f'retry {task.task_id}')}"
            )
        case State.KILLED:
            return f"{name} was removed from the queue by poe purge_queue; {poe(f'retry {task.task_id}')} puts it back."
        case State.WAITING:
            return f"{name} is waiting for another task."
        case State.RUNNING:
            return _explain_running(database, task, settings, now)
    if task.available_at > now and last is not None:
        reason = (last.error or last.outcome.word).partition("\n")[0]
        return (
            f"{name} is retried in {duration(task.available_at - now)}, because attempt {last.number} ended: {reason}\n"
            "RETRY_DELAY_SECONDS and RETRY_DELAYS set the delay."
        )
    if status.unsent and status.queue_url:
        return (
            f"{name} may not have been sent to {status.queue_url} yet: {poe('insert_tasks')} continues with "
            f"{counted(status.unsent, 'task')}."
        )
    if not status.workers:
        return f"{name} is pending, but no worker is running. Start one: {poe('launch_worker')} or {poe('deploy_pool')}"
    ahead = status.counts[State.PENDING]
    pace = f" at {rate(status.rate_per_second)}" if status.rate_per_second else ""
    return (
        f"{name} is pending, one of {counted(ahead, 'task')}; {counted(len(status.workers), 'worker')} with "
        f"{counted(sum(one.slots for one in status.workers), 'slot')} are running{pace}."
    )


def _explain_running(database: Database, task: TaskRecord, settings: Settings, now: float) -> str:
    row = database.row(
        "SELECT hostname, seen_at, ended_at, state.attempt FROM state JOIN worker USING (worker_id) WHERE seq = ?",
        (task.seq,),
    )
    if row is None:
        return f"Task {task.task_id} is changing state; try again."
    hostname, seen_at, ended_at, attempt = row
    silent = now - seen_at
    if ended_at is not None or silent > 3 * max(settings.lease_seconds, 60.0):
        return (
            f"Task {task.task_id} is held by a worker on {hostname} whose last heartbeat was {duration(silent)} ago. It returns to the "
            f"queue when a worker, a monitor or a pool runs: {poe('launch_worker')}. {poe('release')} revokes this and all other leases."
        )
    limit = (
        "its run time has no limit (MAX_RUNTIME_SECONDS)"
        if settings.max_runtime_seconds is None
        else f"its run time is limited to {duration(settings.max_runtime_seconds)} (MAX_RUNTIME_SECONDS)"
    )
    return (
        f"Task {task.task_id}, attempt {attempt}, is leased by a worker on {hostname} (last heartbeat "
        f"{duration(max(0.0, silent))} ago); {limit}."
    )


def explain_job(database: Database, status: Status, now: float) -> str:
    """Return the reason why a job is stuck, or that it is not."""
    left = status.total - status.ended
    if not status.total:
        return f"No tasks are inserted. Insert them: {poe('insert_tasks')}"
    if not left:
        failed = status.counts[State.FAILED]
        return f"All tasks have ended, {failed:,} failed." + (
            f" {poe('tasks --state failed')} lists them." if failed else ""
        )
    if status.unsent and not status.counts[State.RUNNING]:
        return (
            f"{counted(status.unsent, 'task')} are not sent to {status.queue_url} yet: {poe('insert_tasks')} continues."
        )
    if not status.workers:
        due_at = database.value(
            f"SELECT min(available_at) FROM state WHERE state = {State.PENDING} AND available_at > ?", (now,)
        )
        delayed = "" if due_at is None else f" (the next retry is due in {duration(due_at - now)})"
        machines = records.open_machines(database)
        if machines:
            return (
                f"{counted(left, 'task')} left and no worker has started, but {counted(len(machines), 'machine')} may be starting: "
                f"see {poe('explain pool')}."
            )
        return f"{counted(left, 'task')} left{delayed}, but no worker is running. Start one: {poe('launch_worker')} or {poe('deploy_pool')}"
    slots = sum(one.slots for one in status.workers)
    heartbeat_at = max(one.seen_at for one in status.workers)
    if now - heartbeat_at > 210:
        hint = (
            f"{poe('monitor')} must run to record heartbeats"
            if status.queue_url
            else "they have died, or their machines are suspended"
        )
        return f"The last heartbeat of {counted(len(status.workers), 'worker')} was {duration(now - heartbeat_at)} ago: {hint}."
    if not status.rate_per_second:
        running = status.counts[State.RUNNING]
        longest = "" if status.durations is None else f"; the median takes {duration(status.durations.median)}"
        return (
            f"No task ended in the last minute: {counted(running, 'task')} with {counted(len(status.workers), 'worker')} "
            f"({counted(slots, 'slot')}){longest}. {poe('tasks --state running')} lists them."
        )
    eta = "" if status.eta_seconds is None else f", {duration(status.eta_seconds)} left"
    return f"The job is not stuck: {rate(status.rate_per_second)} with {counted(slots, 'slot')}{eta}."
