"""``poe launch_worker``: run tasks on the CPUs of this machine."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from taskfleet.api.working import WorkReport, work
from taskfleet.pool.manifest import check_code
from taskfleet.settings.reader import find_project
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser, script_folder
from taskfleet.terminal.guard import INTERRUPTED, guarded
from taskfleet.terminal.hints import after_job, next_steps

EXAMPLES = """\
  poe launch_worker                                 on all CPUs, until all tasks are done
  poe launch_worker --slots 4 --max-tasks 10        ten tasks, four at a time
  poe launch_worker --tasks-per-process 0           for many tasks of milliseconds
  poe launch_worker -- --my-option 3                arguments after -- are passed to tasks as context.args"""


def launch_worker(argv: Sequence[str] | None = None) -> None:
    """Run tasks until all are done; a project's ``run.py`` calls this function.

    After an error, or if it was stopped, it exits the interpreter with the exit code of the command.

    Args:
        argv: The command-line arguments; None for those of the script.
    """
    code = guarded(lambda: run(sys.argv[1:] if argv is None else argv), is_output_optional=True)
    if code:
        sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command; return 0 if no tasks were left, 130 if the worker was stopped."""
    argv = list(argv)
    at = argv.index("--") if "--" in argv else len(argv)
    arguments, start = make_parser("launch_worker", "", EXAMPLES).parse_args(argv[:at]), script_folder()
    # first, since the project's settings are part of its code
    check_code(find_project((start or Path.cwd()).resolve()), os.environ)
    report = work(configure(arguments, start=start), argv[at + 1 :])
    print(f"{report.text}\n\n{_next(report)}")
    return INTERRUPTED if report.was_stopped else 0


def _next(report: WorkReport) -> str:
    status = report.status
    if status is None:
        return next_steps(("monitor", "where the ledger is"))
    if status.counts[State.PENDING] or status.counts[State.RUNNING]:
        return next_steps(("launch_worker", "to continue"))
    return after_job(status)
