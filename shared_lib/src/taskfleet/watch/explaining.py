"""Why a job or a task does not move, and what to change: one sentence each."""

from taskfleet.ledger.database import Database
from taskfleet.ledger.inquiry import TaskRecord
from taskfleet.pool import records
from taskfleet.settings import Settings
from taskfleet.tasks import State
from taskfleet.text import counted, duration, rate
from taskfleet.watch.status import Status


def explain_task(database: Database, task: TaskRecord, status: Status, settings: Settings, now: float) -> str:
    """Say where a task stands, and what would move it."""
    last = task.attempts[-1] if task.attempts else None
    name = f"Task {task.task_id}"
    match task.state:
        case State.SUCCEEDED:
            return f"{name} is done: attempt {len(task.attempts)} succeeded."
        case State.FAILED:
            reason = (last.error or "").partition("\n")[0] if last is not None else ""
            kind = "" if task.kind is None else f" ({task.kind.word})"
            return (
                f"{name} failed{kind} after {counted(len(task.attempts), 'attempt')} and is not tried again: {reason} "
                f"Once the cause is mended: poe retry {task.task_id}"
            )
        case State.KILLED:
            return f"{name} was taken out of the queue by poe purge_queue; poe retry {task.task_id} puts it back."
        case State.WAITING:
            return f"{name} waits for another task."
        case State.RUNNING:
            return _explain_running(database, task, settings, now)
    if task.available_at > now and last is not None:
        reason = (last.error or last.outcome.word).partition("\n")[0]
        return (
            f"{name} is tried again in {duration(task.available_at - now)}, because attempt {last.number} ended: {reason} "
            "RETRY_DELAY_SECONDS and RETRY_DELAYS say how long that takes."
        )
    if status.unsent and status.queue_url:
        return f"{name} may not have been sent to {status.queue_url} yet: poe insert_tasks goes on with {counted(status.unsent, 'task')}."
    if not status.workers:
        return f"{name} waits in the queue and nobody works on it: poe launch_worker, or poe deploy_pool."
    ahead = status.counts[State.PENDING]
    pace = f" at {rate(status.rate_per_second)}" if status.rate_per_second else ""
    return (
        f"{name} waits for its turn among {counted(ahead, 'task')}; {counted(len(status.workers), 'worker')} with "
        f"{counted(sum(one.slots for one in status.workers), 'slot')} work on them{pace}."
    )


def _explain_running(database: Database, task: TaskRecord, settings: Settings, now: float) -> str:
    row = database.row(
        "SELECT hostname, seen_at, ended_at, state.attempt FROM state JOIN worker USING (worker_id) WHERE seq = ?",
        (task.seq,),
    )
    if row is None:
        return f"Task {task.task_id} has just changed; ask again."
    hostname, seen_at, ended_at, attempt = row
    silent = now - seen_at
    if ended_at is not None or silent > 3 * max(settings.lease_seconds, 60.0):
        return (
            f"Task {task.task_id} is held by a worker on {hostname} that was last heard {duration(silent)} ago; another one gets it when "
            "somebody looks: poe launch_worker, poe monitor or poe deploy_pool do; poe release revokes this and all other leases."
        )
    limit = (
        "no limit is set (MAX_RUNTIME_SECONDS)"
        if settings.max_runtime_seconds is None
        else f"it may take {duration(settings.max_runtime_seconds)} (MAX_RUNTIME_SECONDS)"
    )
    return f"Task {task.task_id} is with a worker on {hostname}, attempt {attempt}, heard {duration(max(0.0, silent))} ago; {limit}."


def explain_job(database: Database, status: Status, now: float) -> str:
    """Say why a job does not get on, or that it does."""
    left = status.total - status.ended
    if not status.total:
        return "No tasks are inserted: poe insert_tasks."
    if not left:
        failed = status.counts[State.FAILED]
        return f"All tasks have come to an end, {failed:,} failed." + (" poe tasks --state failed" if failed else "")
    if status.unsent and not status.counts[State.RUNNING]:
        return f"{counted(status.unsent, 'task')} were not sent to {status.queue_url} yet: poe insert_tasks goes on with it."
    if not status.workers:
        due_at = database.value(
            f"SELECT min(available_at) FROM state WHERE state = {State.PENDING} AND available_at > ?", (now,)
        )
        delayed = "" if due_at is None else f" (the next retry is due in {duration(due_at - now)})"
        there = records.open_machines(database)
        if there:
            return (
                f"{counted(left, 'task')} left and no worker was heard, but {counted(len(there), 'machine')} may be starting: "
                "poe explain pool says more."
            )
        return f"{counted(left, 'task')} left{delayed} and nobody works on them: poe launch_worker, or poe deploy_pool."
    slots = sum(one.slots for one in status.workers)
    heard = max(one.seen_at for one in status.workers)
    if now - heard > 210:
        hint = (
            "poe monitor has to run where the ledger is"
            if status.queue_url
            else "they have died or their machine sleeps"
        )
        return f"The last of {counted(len(status.workers), 'worker')} was heard {duration(now - heard)} ago: {hint}."
    if not status.rate_per_second:
        running = status.counts[State.RUNNING]
        longest = "" if status.durations is None else f"; the median takes {duration(status.durations.median)}"
        return (
            f"No task came to an end in the last minute: {counted(running, 'task')} with {counted(len(status.workers), 'worker')} "
            f"({counted(slots, 'slot')}){longest}. poe tasks --state running lists them."
        )
    eta = "" if status.eta_seconds is None else f", {duration(status.eta_seconds)} left"
    return f"It moves: {rate(status.rate_per_second)} with {counted(slots, 'slot')}{eta}."
