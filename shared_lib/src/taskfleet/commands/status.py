"""``poe status``: show the job's progress."""

import json
import sys
import time
from collections.abc import Sequence

from taskfleet.api.other_jobs import other_jobs
from taskfleet.api.queue import open_job
from taskfleet.settings import Configuration
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import after_job, before_worker, next_steps
from taskfleet.watch.status import Status, gather
from taskfleet.watch.text import status_report

EXAMPLES = """\
  poe status
  poe status --watch            refresh every 2 seconds until all tasks are done
  poe status --json | jq .counts"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("status", "With --watch, refresh it until all tasks are done.", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--watch", nargs="?", const=2.0, type=float, metavar="SECONDS", help="refresh every SECONDS (default 2)"
    )
    arguments = parser.parse_args(argv)
    if arguments.watch is not None and not arguments.watch > 0:
        parser.error("--watch must be above 0 seconds")
    configuration = configure(arguments)
    database = open_job(configuration, read_only=True)
    while True:
        now = time.time()
        status = gather(database, now, by_function=True, configuration=configuration)
        if arguments.watch is not None and sys.stdout.isatty() and not arguments.json:
            print("\x1b[H\x1b[2J", end="")
        print(
            json.dumps(status.to_json())
            if arguments.json
            else f"{status_report(status, now)}\n{_next(status, now, configuration)}",
            flush=True,
        )
        if arguments.watch is None or status.ended == status.total:
            return 0
        time.sleep(arguments.watch)


def _next(status: Status, now: float, configuration: Configuration) -> str:
    if not status.total:
        others = other_jobs(configuration)
        return f"\n{others}" if others else f"\n{next_steps('insert_tasks')}"
    if status.ended == status.total:
        return f"\n{after_job(status)}"
    failures = ["tasks --state failed"] if status.counts[State.FAILED] else []
    if not status.workers and status.booting is not None:
        steps: list[tuple[str, str] | str] = [("status --watch", "waits for them"), "machines"]
        if not status.booting.has_controller:
            steps = [("deploy_pool --continue", "manages the pool"), "machines", ("teardown", "terminates them")]
        return f"\nNo worker is running yet. {status.booting.describe(now)}\n\n{next_steps(*steps, *failures)}"
    if not status.workers:
        return f"\nNo worker is running.\n\n{next_steps(*before_worker(status), 'launch_worker', *failures)}"
    return f"\n{next_steps(*failures)}" if failures else ""
