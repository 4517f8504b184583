"""Format progress and reports as text."""

from decimal import Decimal

from taskfleet.invocation import poe
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.queries import LibraryVersions
from taskfleet.pool.costs import Costs
from taskfleet.tasks import State
from taskfleet.text import counted, duration, rate
from taskfleet.watch.status import Status

LINE = "=" * 60


def progress_line(status: Status) -> str:
    """Return the progress as one line."""
    if not status.total:
        return "no tasks are inserted"
    share = 100 * status.ended // status.total if status.total else 100  # rounded down: 100 % is when all are done
    parts = [f"{status.ended:,} of {status.total:,} tasks done ({share} %)"]
    if status.counts[State.FAILED]:
        parts.append(f"{status.counts[State.FAILED]:,} failed")
    if status.rate_per_second:
        parts.append(rate(status.rate_per_second))
    if status.eta_seconds:
        parts.append(f"{duration(status.eta_seconds)} left")
    return ", ".join(parts)


def status_report(status: Status, now: float) -> str:
    """Return what ``poe status`` prints."""
    width = len(f"{status.total:,}")
    lines = [f"Job {status.job_id}: {progress_line(status)}", ""]
    for state in State:
        n = status.counts[state]
        if n or state not in (State.WAITING, State.KILLED):
            lines.append(f"  {state.word:<10} {n:>{width},}")
    if status.durations is not None:
        lines += ["", *duration_lines(status.durations)]
    lines += _failure_lines(status)
    if status.retries or status.duplicates or status.lost:
        lines += [
            "",
            f"Retries: {status.retries:,}   lost with their worker: {status.lost:,}   duplicate results ignored: {status.duplicates:,}",
        ]
    if status.costs is not None:
        lines += ["", cost_line(status.costs)]
    if status.queue_url:
        lines += ["", f"Queue: {status.queue_url}; {poe('monitor')} records the events that workers report."]
    if status.unsent:
        lines += ["", f"{counted(status.unsent, 'task')} not sent to the queue yet; {poe('insert_tasks')} continues."]
    if status.workers:
        lines += ["", "Workers:"]
        for worker in status.workers:
            lines.append(
                f"  {worker.hostname} (pid {worker.pid}): {worker.running:,} tasks leased, {worker.slots} slots, "
                f"last heartbeat {duration(max(0.0, now - worker.seen_at))} ago"
            )
    if status.versions is not None and status.versions.is_mixed:
        lines += ["", _versions_line(status.versions)]
    return "\n".join(lines)


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
    lines += [f"  {state.word.capitalize()}: {n:,}" for state, n in status.counts.items() if n]
    if status.began_at is not None:
        elapsed = max(now - status.began_at, 1e-3)
        if not left and status.last_end_at is not None:
            elapsed = min(elapsed, max(status.last_end_at - status.began_at, 1e-3))
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
    lines += ["", f"Spot terminations: {status.spot_terminations:,}"]
    if status.costs is not None:
        lines += ["", cost_line(status.costs)]
    return "\n".join([*lines, "", LINE])


def cost_line(costs: Costs) -> str:
    """Return the cost of the machines as one sentence."""
    queued = f" ({costs.machines_queued:,} queued)" if costs.machines_queued else ""
    counts = f"Machines: {costs.machines:,} active{queued}, {costs.machines_ever:,} in total"
    if not costs.so_far_usd and not costs.usd_per_hour and not costs.machines_queued:
        return f"{counts}, at no cost."
    parts = [f"{counts}. Cost so far: {_usd(costs.so_far_usd)}"]
    if costs.usd_per_task is not None:
        parts.append(f"{costs.usd_per_task:.2g} USD per task")
    if costs.machines:
        parts.append(f"{costs.usd_per_hour:.4f} USD per hour now")
        if costs.at_the_end_usd is not None:
            parts.append(f"estimated total {_usd(costs.at_the_end_usd)}")
    parts.append(f"wasted: {_usd(costs.boot_usd)} booting, {_usd(costs.idle_usd)} idle or lost")
    return ", ".join(parts) + "."


def _usd(value: float) -> str:
    return f"{value:.2f} USD" if value >= 1 or not value else f"{value:.4f} USD"


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
    lines = []
    for kind, n in status.failures.items():
        if n:
            task_id, reason = status.examples.get(kind, ("", ""))
            example = f"   for example {task_id}: {reason}" if task_id else ""
            lines.append(f"  {n:>6,} {kind.word:<9}{example}".rstrip())
    return ["", "Failures:", *lines] if lines else []


def _figure(seconds: float) -> str:
    if seconds >= 0.1 or seconds == 0:
        return f"{seconds:.2f}"
    return format(Decimal(f"{seconds:.2g}"), "f")  # without an exponent
