"""Format progress and reports as text."""

from decimal import Decimal

from taskfleet.invocation import poe
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.queries import LibraryVersions
from taskfleet.pool.costs import Costs
from taskfleet.tasks import Outcome, State
from taskfleet.text import clock, columns, counted, duration, harmless, one_line, rate, some
from taskfleet.watch.limited import describe_limited
from taskfleet.watch.status import PREFETCHED, Status
from taskfleet.watch.unattended import describe_unattended

LINE = "=" * 60
#: The number of causes shown for each kind of failure.
CAUSES_PER_KIND = 5


def progress_line(status: Status) -> str:
    """Return the progress as one line."""
    if not status.total:
        return "no tasks are inserted"
    return ", ".join(
        [f"{status.ended:,} of {status.total:,} tasks done ({percentage(status)} %)", *progress_figures(status)]
    )


def percentage(status: Status) -> int:
    """Return how many percent of the tasks have ended, rounded down: 100 is when all have."""
    return 100 * status.ended // status.total if status.total else 100


def progress_figures(status: Status) -> list[str]:
    """Return the number of failed tasks, the rate and the time left, as far as there are any."""
    figures = []
    if status.counts[State.FAILED]:
        figures.append(f"{status.counts[State.FAILED]:,} failed")
    if status.rate_per_second:
        figures.append(rate(status.rate_per_second))
    if status.eta_seconds:
        figures.append(f"{duration(status.eta_seconds)} left")
    return figures


def status_report(status: Status, now: float) -> str:
    """Return what ``poe status`` prints."""
    width = len(f"{status.total:,}")
    lines = [f"Job {status.job_id}: {progress_line(status)}", ""]
    for word, n in status.shown_counts.items():
        if n or word not in (State.WAITING.word, State.KILLED.word, PREFETCHED):
            lines.append(f"  {word:<10} {n:>{width},}")
    lines += _function_lines(status)
    if status.is_paused:
        lines += ["", f"The job is paused: no task starts until {poe('resume')}."]
    if status.cancelled:
        lines += ["", f"{counted(status.cancelled, 'running task')} cancelled, and not killed by the worker yet."]
    if status.began_at is not None:
        ended = "" if status.ended_at is None else f", ended {_moment(status.ended_at)}"
        lines += ["", f"Started {_moment(status.began_at)}{ended}"]
    if status.durations is not None:
        lines += ["", *duration_lines(status.durations)]
    lines += _failure_lines(status)
    if status.retries or status.duplicates or status.lost:
        lines += [
            "",
            f"Retries: {status.retries:,}   lost with their worker: {status.lost:,}   duplicate results ignored: {status.duplicates:,}",
        ]
    if status.since_rezero is not None:
        since = status.since_rezero
        lines += [
            "",
            f"Since {poe('rezero')}, {duration(max(0.0, now - since.at))} ago: {since.inserted:,} inserted, {since.completed:,} completed",
        ]
    if status.costs is not None:
        lines += ["", *cost_lines(status.costs)]
    if status.queue_url:
        lines += ["", f"Queue: {status.queue_url}; {poe('monitor')} records the events that workers report."]
    if status.unsent:
        lines += ["", f"{counted(status.unsent, 'task')} not sent to the queue yet; {poe('insert_tasks')} continues."]
    if status.workers:
        lines += ["", "Workers:"]
        for worker in status.workers:
            lines.append(
                f"  {one_line(worker.hostname)} (pid {worker.pid}{f', manager {worker.manager}' if worker.manager else ''}): "
                f"{worker.slots} slots, {worker.running:,} running, "
                f"{worker.leased - worker.running:,} prefetched, last heartbeat {duration(max(0.0, now - worker.seen_at))} ago"
            )
    if (
        status.workers or status.queue_url
    ) and not status.is_paused:  # without workers, any of them runs the tasks of all managers
        lines += ["", *held_up] if (held_up := held_up_lines(status)) else []
    if status.booting is not None and status.workers:
        lines += ["", status.booting.describe(now)]
    if status.versions is not None and status.versions.is_mixed:
        lines += ["", _versions_line(status.versions)]
    return harmless("\n".join(lines))


def held_up_lines(status: Status) -> list[str]:
    """Return a line for each manager that has tasks to run and no worker, or as many running ones as allowed."""
    lines = [
        f"{describe_unattended(name, n, has_controller=status.has_controller)}."
        for name, n in status.unattended.items()
    ]
    return lines + [f"{describe_limited(name, limit)}." for name, limit in status.limited.items()]


def _function_lines(status: Status) -> list[str]:
    """Return a line for each function of a graph, with the number of its tasks in each state."""
    rows = []
    for one in status.functions or ():
        parts = [f"{n:,} {state.word}" for state, n in one.counts.items() if n]
        rows.append((f"  {one_line(one.name)}", f"{one.total:,}", ", ".join(parts)))
    return ["", columns(rows, ("  function", "tasks", "states"))] if rows else []


def _versions_line(versions: LibraryVersions) -> str:
    """Return which versions of the library are used at the same time, as one line."""
    parts = [f"the ledger was last updated by {versions.job or 'an unknown version'}"]
    for what, numbers in (("worker", versions.workers), ("machine", versions.machines)):
        parts += [f"{counted(n, what)} with {version or 'an unknown version'}" for version, n in numbers.items()]
    return f"Versions of the library differ: {', '.join(parts)}."


def final_report(status: Status, now: float, who: str = "worker") -> str:
    """Return what a worker, a pool or a monitor prints at its end.

    Args:
        status: The job's status.
        now: Seconds since the epoch.
        who: What ends, for the title of a job that is not complete.
    """
    left = status.total - status.ended
    title = "JOB COMPLETE" if not left else f"{who.upper()} STOPPED, JOB NOT COMPLETE"
    if not status.total:
        title = "NO TASKS ARE INSERTED"
    lines = [LINE, f"{title}: {status.job_id}", LINE, "", f"Total tasks: {status.total:,}"]
    lines += [f"  {word.capitalize()}: {n:,}" for word, n in status.shown_counts.items() if n]
    if status.began_at is not None:
        elapsed = max(min(now, status.ended_at or now) - status.began_at, 1e-3)
        done = status.counts[State.SUCCEEDED] + status.counts[State.FAILED]
        lines += ["", f"Elapsed time: {duration(elapsed)}", f"Tasks/hour: {3600 * done / elapsed:,.1f}"]
    if status.durations is not None:
        lines += ["", *duration_lines(status.durations)]
    lines += _failure_lines(status)
    if status.retries or status.duplicates or status.lost:
        lines += [
            "",
            f"Retries: {status.retries:,}; lost with their worker: {status.lost:,}; duplicate results ignored: {status.duplicates:,}",
        ]
    is_cluster = status.costs is not None and status.costs.node_hours is not None
    what = "Workers ended by time limits or preemption" if is_cluster else "Spot terminations"
    lines += ["", f"{what}: {status.spot_terminations:,}"]
    if status.costs is not None:
        lines += ["", *cost_lines(status.costs)]
    return harmless("\n".join([*lines, "", LINE]))


def cost_lines(costs: Costs) -> list[str]:
    """Return the cost of the machines as sentences, and a line for each pool if there were several."""
    lines = [cost_line(costs)]
    for name, one in costs.by_manager.items():
        spent = f", {_cost(one.so_far_node_hours, 'node-hours')}" if one.so_far_node_hours else ""
        spent += f", {_cost(one.so_far_usd, 'USD')}" if one.so_far_usd or costs.so_far_usd else ""
        lines.append(f"  pool {name}: {one.machines:,} active, {one.machines_ever:,} in total{spent}")
    return lines


def cost_line(costs: Costs) -> str:
    """Return the cost of the machines as one line."""
    queued = f" ({costs.machines_queued:,} queued)" if costs.machines_queued else ""
    counts = f"Machines: {costs.machines:,} active{queued}, {costs.machines_ever:,} in total"
    sentences = []
    if (hours := costs.node_hours) is not None:
        now = f"{some(hours.per_hour, 'node')} now" if costs.machines else ""
        spent = hours.so_far, hours.per_task, now, hours.at_the_end
        sentences.append(_sentence("node-hours", *spent, boot=hours.boot, idle=hours.idle))
    if costs.so_far_usd or costs.usd_per_hour or (costs.machines_queued and hours is None):
        now = f"{costs.usd_per_hour:.4f} USD per hour now" if costs.machines else ""
        spent = costs.so_far_usd, costs.usd_per_task, now, costs.at_the_end_usd
        sentences.append(_sentence("USD", *spent, boot=costs.boot_usd, idle=costs.idle_usd))
    if not sentences:
        return f"{counts}, at no cost."
    return f"{counts}. Cost so far: {'; in USD: '.join(sentences)}."


def _sentence(
    unit: str, so_far: float, per_task: float | None, now: str, at_the_end: float | None, *, boot: float, idle: float
) -> str:
    """Return the costs in one unit; ``now`` says what the machines cost at present, and is empty if there are none."""
    parts = [_cost(so_far, unit)]
    if per_task is not None:
        parts.append(f"{per_task:.2g} {unit} per task")
    if now:
        parts.append(now)
        if at_the_end is not None:
            parts.append(f"estimated total {_cost(at_the_end, unit)}")
    parts.append(f"wasted: {_cost(boot, unit)} booting, {_cost(idle, unit)} idle or lost")
    return ", ".join(parts)


def _cost(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if value >= 1 or not value else f"{value:.4f} {unit}"


def duration_lines(durations: Durations) -> list[str]:
    """Return the statistics of the durations as lines."""
    d = durations
    return [
        "Task durations:",
        f"  Range:  {_figure(d.low)} to {_figure(d.high)} seconds",
        f"  Mean:   {_figure(d.mean)} ± {_figure(d.standard_deviation)} seconds",
        f"  Median: {_figure(d.median)} seconds",
        f"  90th %: {_figure(d.percentile_90)} seconds",
        f"  95th %: {_figure(d.percentile_95)} seconds",
    ]


def _failure_lines(status: Status) -> list[str]:
    """Return a line for each of the most frequent causes, and one for the others of a kind that were examined, and one for the rest."""
    lines = []
    has_more = False
    for kind, n in status.failures.items():
        causes = [cause for cause in status.causes if cause.kind is kind]
        for cause in causes[:CAUSES_PER_KIND]:
            if kind is Outcome.UPSTREAM:
                example = f"because {one_line(cause.reason)}"
            else:
                example = f"for example {one_line(f'{cause.task_id}: {cause.reason}')}"
            lines.append(f"  {cause.n:>6,} {kind.word:<9}   {example}")
        others = sum(cause.n for cause in causes[CAUSES_PER_KIND:])
        for more, what in ((others, "other causes"), (n - sum(cause.n for cause in causes), "not examined")):
            if more > 0:  # less while descendants follow
                has_more = True
                lines.append(f"  {more:>6,} {kind.word:<9}   {what}")
    if not lines:
        return []
    if has_more:
        lines.append(f"{poe('tasks --state failed')} lists them.")
    return ["", "Failures:", *lines]


def _moment(at: float) -> str:
    return clock(at, "%Y-%m-%d %H:%M:%S %Z")


def _figure(seconds: float) -> str:
    if seconds >= 0.1 or seconds == 0:
        return f"{seconds:.2f}"
    return format(Decimal(f"{seconds:.2g}"), "f")  # without an exponent
