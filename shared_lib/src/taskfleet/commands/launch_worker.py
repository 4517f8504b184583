"""``poe launch_worker``: run tasks on the CPUs of this machine."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from taskfleet.api.team import LEFT, is_team_needed, join_team, work_as_team
from taskfleet.api.working import WorkReport, work
from taskfleet.errors import UsageError
from taskfleet.pool.manifest import check_code
from taskfleet.processes.identity import MANAGER_VARIABLE
from taskfleet.settings.environment import enter_environment
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.settings.reader import find_project
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser, script_folder
from taskfleet.terminal.guard import INTERRUPTED
from taskfleet.terminal.hints import after_job, before_worker, next_steps
from taskfleet.worker.hooks import Hooks

EXAMPLES = """\
  poe launch_worker                                 on all CPUs, until all tasks are done
  poe launch_worker --slots 4 --max-tasks 10        ten tasks, four at a time
  poe launch_worker --tasks-per-process 0           for many tasks of milliseconds
  poe launch_worker --manager gpu                   only tasks of functions with app(..., manager="gpu")
  poe launch_worker -- --my-option 3                arguments after -- are passed to tasks as context.args"""


def run(argv: Sequence[str], hooks: Hooks | None = None) -> int:
    """Run the command; return 0 if no tasks were left, 130 if the worker was stopped."""
    argv = list(argv)
    at = argv.index("--") if "--" in argv else len(argv)
    parser = make_parser("launch_worker", "", EXAMPLES)
    parser.add_argument(
        "--manager",
        metavar="NAME",
        help=f"run only the tasks of this manager; '{DEFAULT_MANAGER}': only those of functions without one. With the ledger's own queue, "
        "the tasks of all managers are run otherwise, by a process for each; with a service queue, only those without one",
    )
    arguments, start = parser.parse_args(argv[:at]), script_folder()
    # first, since the project's settings are part of its code
    check_code(find_project((start or Path.cwd()).resolve()), os.environ)
    configuration = configure(arguments, start=start)
    of_team = join_team()
    of_machine = os.environ.pop(MANAGER_VARIABLE, None)  # popped, so that tasks may run workers of their own
    name = (arguments.manager or of_machine) if of_team is None else of_team
    if name is None and is_team_needed(configuration):
        if hooks is not None and Path(sys.argv[0]).resolve() != configuration.project / "run.py":
            raise UsageError(
                "The tasks of each manager are run by a process of its own, which would not call before_fn, after_fn and stop_fn. Call "
                "launch_worker with them in the run.py of the project, or choose one manager: --manager NAME"
            )
        report = work_as_team(configuration, argv)
    else:
        configuration = configuration.of_manager("" if name in (None, DEFAULT_MANAGER) else name)
        enter_environment(configuration)
        report = work(configuration, argv[at + 1 :], hooks=hooks, shows_progress=of_team is None)
        if of_team is not None:
            wants_no_more = configuration.settings.max_tasks is not None or (hooks is not None and hooks.has_stopped)
            return INTERRUPTED if report.was_stopped else LEFT if wants_no_more else 0
    print(f"{report.text}\n\n{_next(report, arguments.manager)}")
    return INTERRUPTED if report.was_stopped else 0


def _next(report: WorkReport, manager: str | None) -> str:
    status = report.status
    if status is None:
        return next_steps(("monitor", "where the ledger is"))
    if status.counts[State.PENDING] or status.counts[State.RUNNING]:
        if status.unattended and manager not in status.unattended:  # what is left is for other managers
            manager = None
        command = f"launch_worker --manager {manager}" if manager else "launch_worker"
        return next_steps(*before_worker(status), (command, "to continue"))
    return after_job(status)
