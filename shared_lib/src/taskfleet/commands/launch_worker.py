"""``poe launch_worker``: work on the job's tasks on this machine."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from taskfleet.commands.arguments import configure, make_parser, script_folder
from taskfleet.commands.guard import INTERRUPTED, guarded
from taskfleet.ledger.database import open_ledger
from taskfleet.pool.manifest import check_code
from taskfleet.processes.identity import available_slots
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.embedded import EmbeddedQueue
from taskfleet.queues.job import check_queue
from taskfleet.settings import Configuration
from taskfleet.settings.reader import find_project
from taskfleet.tasks import State
from taskfleet.watch.progress import Progress
from taskfleet.watch.status import Status, gather
from taskfleet.watch.text import final_report
from taskfleet.worker.running import make_config, supervise

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
    sys.exit(guarded(lambda: run(sys.argv[1:] if argv is None else argv)))


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when the worker came to its end, 130 when it was stopped, 2 when this machine holds the wrong code."""
    argv, own = _split(list(argv))
    parser = make_parser(
        "launch_worker",
        "Work on the job's tasks on this machine.",
        EXAMPLES,
        ("job", "worker", "limits", "retries", "watch"),
    )
    arguments, start = parser.parse_args(argv), script_folder()
    # first, since the project's settings are part of its code
    check_code(find_project((start or Path.cwd()).resolve()), os.environ)
    configuration = configure(arguments, start=start)
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
    was_stopped = supervise(configuration, queue, progress, make_config(configuration, slots=slots, args=own))
    status = gather(database, time.time())
    database.close()
    print(f"{final_report(status, time.time())}\n\nNext: {_next(status)}")
    return INTERRUPTED if was_stopped else 0


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _next(status: Status) -> str:
    if status.counts[State.PENDING] or status.counts[State.RUNNING]:
        return "poe launch_worker   (to go on)"
    if status.counts[State.FAILED]:
        return "poe tasks --state failed   (what went wrong), then poe retry --failed"
    return "poe results -o results.feather"
