"""``poe launch_worker``: work on the job's tasks on this machine."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from taskfleet import cli
from taskfleet.commands.arguments import configure, make_parser, script_folder
from taskfleet.events import EventFile, make_event
from taskfleet.ledger.database import open_ledger
from taskfleet.processes import available_slots, hostname
from taskfleet.queues import Queue
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.embedded import EmbeddedQueue
from taskfleet.queues.job import check_queue
from taskfleet.settings import Configuration, Settings
from taskfleet.tasks import State
from taskfleet.watch.progress import Progress
from taskfleet.watch.status import Status, gather
from taskfleet.watch.text import final_report
from taskfleet.worker.notice import make_watcher
from taskfleet.worker.order import Order
from taskfleet.worker.supervisor import Observer, Supervisor

EXAMPLES = """\
  poe launch_worker                                 on all CPUs, until all tasks are done
  poe launch_worker --slots 4 --max-tasks 10        try a few first
  poe launch_worker --tasks-per-process 0           for many tasks of milliseconds
  poe launch_worker -- --my-option 3                what stands after -- reaches the task as context.args"""


def launch_worker(argv: Sequence[str] | None = None) -> None:
    """Work until all tasks are done; what a project's ``run.py`` calls. Exits with the command's code.

    Args:
        argv: The command line, that of the script if None.
    """
    sys.exit(cli.guarded(lambda: run(sys.argv[1:] if argv is None else argv)))


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when the worker came to its end, 130 when it was stopped."""
    argv, own = _split(list(argv))
    parser = make_parser(
        "launch_worker",
        "Work on the job's tasks on this machine.",
        EXAMPLES,
        ("job", "worker", "limits", "retries", "watch"),
    )
    configuration = configure(parser.parse_args(argv), start=script_folder())
    if is_remote(configuration.settings.queue_url):
        from taskfleet.commands.remote_worker import work_remotely

        return work_remotely(configuration, own)
    return _work_here(configuration, own)


def _work_here(configuration: Configuration, own: Sequence[str]) -> int:
    """Work on tasks in the ledger."""
    settings = configuration.settings
    database = open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
    check_queue(database, configuration)
    slots = settings.slots or available_slots()
    queue = EmbeddedQueue(database, settings, slots=slots, now=time.time())
    progress = Progress(database, every_seconds=settings.progress_seconds, verbose=settings.verbose)
    was_stopped = supervise(configuration, queue, progress, make_order(configuration, slots=slots, args=own))
    status = gather(database, time.time())
    database.close()
    print(f"{final_report(status, time.time())}\n\nNext: {_next(status)}")
    return cli.INTERRUPTED if was_stopped else 0


def supervise(configuration: Configuration, queue: Queue, progress: Progress, order: Order) -> bool:
    """Work on a queue until it is done with or somebody says stop; return whether somebody did."""
    settings = configuration.settings
    observers: list[Observer] = [progress]
    events = None
    if settings.event_file:
        events = EventFile(configuration.project / Path(settings.event_file).expanduser())
        observers.append(events)
    supervisor = Supervisor(
        queue,
        order,
        observers=observers,
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.shutdown_grace_seconds,
        keep_waiting=settings.keep_waiting,
        max_tasks=settings.max_tasks,
        notice_after_seconds=settings.simulate_spot_termination_after_seconds,
        notice_seconds=settings.simulate_spot_termination_delay_seconds,
        watcher=make_watcher(os.environ),
        exports=configuration.exports,
    )
    progress.say(_greeting(settings, order.slots))
    end_reason = "failed"
    try:
        supervisor.run()
        end_reason = "preempted" if supervisor.was_preempted else "stopped"
    except Exception as error:
        if events is not None:
            events.write(make_event("fatal_exception", time.time(), exception=f"{type(error).__name__}: {error}"))
        raise
    finally:
        queue.close(time.time(), end_reason)
        progress.close(time.time())
        if events is not None:
            events.close()
    return supervisor.was_stopped


def make_order(
    configuration: Configuration, *, slots: int, args: Sequence[str], most_result_bytes: int | None = None
) -> Order:
    """Take what concerns the tasks from the settings."""
    settings = configuration.settings
    return Order(
        function=settings.task_function,
        project=str(configuration.project),
        job_id=settings.job_id,
        hostname=hostname(),
        output_path=settings.output_path,
        args=tuple(args),
        slots=slots,
        tasks_per_process=settings.tasks_per_process,
        max_runtime_seconds=settings.max_runtime_seconds,
        memory_limit_bytes=None if settings.memory_limit_gib is None else int(settings.memory_limit_gib * 2**30),
        max_result_bytes=min(int(settings.max_result_mib * 2**20), most_result_bytes or sys.maxsize),
        output_tail_bytes=int(settings.output_tail_kib * 2**10),
        start_method=settings.start_method,
    )


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _greeting(settings: Settings, slots: int) -> str:
    process = {0: "a process kept for ever", 1: "a process for each task"}.get(
        settings.tasks_per_process, f"a process for {settings.tasks_per_process} tasks"
    )
    if settings.start_method != "fork":
        process += f" (START_METHOD={settings.start_method})"
    limits = []
    if settings.max_runtime_seconds is not None:
        limits.append(f"at most {settings.max_runtime_seconds:g} s each")
    if settings.memory_limit_gib is not None:
        limits.append(f"at most {settings.memory_limit_gib:g} GiB each")
    return f"Worker for job {settings.job_id}: {slots} tasks at once, {', '.join([process, *limits])}. Ctrl-C once to finish and stop."


def _next(status: Status) -> str:
    if status.counts[State.PENDING] or status.counts[State.RUNNING]:
        return "poe launch_worker   (to go on)"
    if status.counts[State.FAILED]:
        return "poe tasks --state failed   (what went wrong), then poe retry --failed"
    return "poe results -o results.feather"
