"""Explain why a job or a task is stuck, and what to change."""

from taskfleet.invocation import poe
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.ledger.dependencies import waits_in_the_end_for
from taskfleet.ledger.lost_files import remedy
from taskfleet.ledger.queries import AttemptRecord, TaskRecord, find_task
from taskfleet.settings import Settings
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.tasks import KILLED_AT_TIME_LIMIT, State
from taskfleet.text import counted, duration, rate
from taskfleet.watch.limited import describe_limited
from taskfleet.watch.pace import WINDOW_SECONDS, window_seconds
from taskfleet.watch.status import Status
from taskfleet.watch.text import held_up_lines
from taskfleet.watch.unattended import describe_unattended

#: How many lines of what a task printed are shown.
SHOWN_LINES = 5


def explain_task(database: Database, task: TaskRecord, status: Status, settings: Settings, now: float) -> str:
    """Return the state of a task, and the reason why it has not ended."""
    last = task.attempts[-1] if task.attempts else None
    name = f"Task {task.task_id}"
    match task.state:
        case State.SUCCEEDED:
            return f"{name} is done: attempt {len(task.attempts)} succeeded."
        case State.FAILED if task.graph.cause is not None:
            return (
                f"{name} was not run, because {task.graph.cause.sentence}\n"
                f"When the cause is fixed, put that task back into the queue, and this one follows: "
                f"{poe(f'retry {task.graph.cause.task_id}')}"
            )
        case State.FAILED:
            reason = (last.error or "").partition("\n")[0] if last is not None else ""
            again = poe(f"retry {task.task_id}")
            kind = "" if task.kind is None else f" ({task.kind.word})"
            what = f"{name} failed{kind} after {counted(len(task.attempts), 'attempt')} and is not retried: {reason}"
            lost = remedy(database, reason, poe, task.task_id)
            then = lost or f"When the cause is fixed, put it back into the queue: {again}"
            return "\n".join([what, *_printed(last), then])
        case State.KILLED:
            return _explain_killed(database, task, last)
        case State.WAITING:
            return _explain_waiting(database, task, status, settings, now)
        case State.RUNNING:
            return _explain_running(database, task, settings, now)
    if task.available_at > now and last is not None:
        reason = (last.error or last.outcome.word).partition("\n")[0]
        return (
            f"{name} is retried in {duration(task.available_at - now)}, because attempt {last.number} ended: {reason}\n"
            "RETRY_DELAY_SECONDS and RETRY_DELAYS set the delay."
        )
    if status.is_paused:
        return f"{name} is pending, and the job is paused: {poe('resume')}"
    if status.unsent and status.queue_url:
        return (
            f"{name} may not have been sent to {status.queue_url} yet: {poe('insert_tasks')} continues with "
            f"{counted(status.unsent, 'task')}."
        )
    manager = managers.of_task(database, task.seq) or DEFAULT_MANAGER
    if manager in status.unattended and (status.workers or status.queue_url):
        n = status.unattended[manager]
        return f"{name} is pending. {describe_unattended(manager, n, has_controller=status.has_controller)}"
    if manager in status.limited:
        return f"{name} is pending. {describe_limited(manager, status.limited[manager])}; it starts when one of them has ended."
    if not status.workers and status.booting is not None:
        return f"{name} is pending, and no worker is running yet. {status.booting.describe(now)}"
    if not status.workers:
        return f"{name} is pending, but no worker is running. Start one: {poe('launch_worker')} or {poe('deploy_pool')}"
    ahead = status.counts[State.PENDING]
    pace = f" at {rate(status.rate_per_second)}" if status.rate_per_second else ""
    return (
        f"{name} is pending, one of {counted(ahead, 'task')}; {counted(len(status.workers), 'worker')} with "
        f"{counted(sum(one.slots for one in status.workers), 'slot')} are running{pace}."
    )


def _printed(attempt: AttemptRecord | None) -> list[str]:
    """Return the last lines that an attempt printed, with a title."""
    if attempt is None:
        return []
    texts = {"output": attempt.output}
    if attempt.stderr is not None:
        texts = {"standard output": attempt.stdout, "standard error": attempt.stderr}
    return [
        "\n  ".join([f"The end of its {name}:", *text.rstrip().splitlines()[-SHOWN_LINES:]])
        for name, text in texts.items()
        if text
    ]


def _explain_waiting(database: Database, task: TaskRecord, status: Status, settings: Settings, now: float) -> str:
    """Return what a task waits for, and why the first of those tasks has not ended."""
    graph = task.graph
    named = ", ".join(
        f"{one.task_id} ({one.state.word}{f' on {one.hostname}' if one.hostname else ''})" for one in graph.open_parents
    )
    more = ", …" if graph.missing > len(graph.open_parents) else ""
    lines = [f"Task {task.task_id} waits for {graph.missing:,} of {counted(graph.parents, 'task')}: {named}{more}"]
    first = waits_in_the_end_for(database, task.seq)
    found = None if first is None else find_task(database, first.task_id)
    if found is None or found.state is State.WAITING:
        lines.append("What has changed is being passed on to the tasks that depend on it; a running worker does that.")
    else:
        lines.append(explain_task(database, found, status, settings, now))
    return "\n".join(lines)


def _explain_killed(database: Database, task: TaskRecord, last: AttemptRecord | None) -> str:
    root_id = database.value(
        "SELECT root.id FROM state JOIN task AS root ON root.seq = root_seq WHERE state.seq = ?", (task.seq,)
    )
    if root_id is not None:
        return f"Task {task.task_id} was killed because task {root_id} was; {poe(f'retry {root_id}')} puts both back into the queue."
    if last is not None and last.error == KILLED_AT_TIME_LIMIT:
        return f"Task {task.task_id} was killed when its machine reached its time limit; {poe(f'retry {task.task_id}')} puts it back."
    return f"Task {task.task_id} was cancelled, or removed from the queue; {poe(f'retry {task.task_id}')} puts it back."


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
    is_alone = not status.workers and not status.queue_url  # then any worker runs the tasks of all managers
    held_up = [] if is_alone or status.is_paused else held_up_lines(status)
    return "\n".join([*held_up, _explain_job(database, status, now)])


def _explain_job(database: Database, status: Status, now: float) -> str:
    left = status.total - status.ended
    if not status.total:
        return f"No tasks are inserted. Insert them: {poe('insert_tasks')}"
    if not left:
        failed = status.counts[State.FAILED]
        return f"All tasks have ended, {failed:,} failed." + (
            f" {poe('tasks --state failed')} lists them." if failed else ""
        )
    if status.is_paused:
        running = status.counts[State.RUNNING]
        finish = f", {counted(running, 'running task')} among them finish" if running else ""
        return f"The job is paused, {counted(left, 'task')} left{finish}. {poe('resume')} lets tasks start again."
    if status.unsent and not status.counts[State.RUNNING]:
        return (
            f"{counted(status.unsent, 'task')} are not sent to {status.queue_url} yet: {poe('insert_tasks')} continues."
        )
    if not status.workers:
        if status.booting is not None:
            return f"{counted(left, 'task')} left, and no worker is running yet. {status.booting.describe(now)}"
        due_at = database.value(
            f"SELECT min(available_at) FROM state WHERE state = {State.PENDING} AND available_at > ?", (now,)
        )
        delayed = "" if due_at is None else f" (the next retry is due in {duration(due_at - now)})"
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
        median = "" if status.durations is None else f"; the median takes {duration(status.durations.median)}"
        seconds = window_seconds(status.durations)
        window = "minute" if seconds == WINDOW_SECONDS else duration(seconds)
        return (
            f"No task ended in the last {window}: {counted(running, 'task')} with {counted(len(status.workers), 'worker')} "
            f"({counted(slots, 'slot')}){median}. {poe('tasks --state running')} lists them."
        )
    eta = "" if status.eta_seconds is None else f", {duration(status.eta_seconds)} left"
    return f"The job is not stuck: {rate(status.rate_per_second)} with {counted(slots, 'slot')}{eta}."
