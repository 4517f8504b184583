"""``poe flow``: run the script that makes a graph of tasks."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from taskfleet.api.queue import open_job
from taskfleet.errors import UsageError
from taskfleet.ledger import counters
from taskfleet.settings import Configuration
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser, users_path
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted, harmless

SCRIPT = "flow.py"
#: Some tasks failed; some are left.
FAILED, LEFT = 3, 5

EXAMPLES = """\
  poe flow
  poe flow --dry-run                    how many tasks of each function it would insert
  poe flow analysis.py -- --year 2026   another script, with arguments of its own

Exit codes: 0 all tasks succeeded, 3 some failed, 5 some are left because the script did not wait for them, 1 another error."""
DETAILS = """\
It is run as `python flow.py` would, with the settings in the flags. Calls that the job has already are not inserted again, so a script can
be run again after any change or interruption."""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    words = list(argv)
    at = words.index("--") if "--" in words else len(words)
    parser = make_parser("flow", DETAILS, EXAMPLES, operands="[SCRIPT] [-- ARGUMENT ...]")
    parser.add_argument(
        "script", nargs="?", metavar="SCRIPT", help=f"the script; default {SCRIPT} in the project's folder"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be inserted; insert and run nothing")
    arguments = parser.parse_args(words[:at])
    configuration = configure(arguments)
    path = _find(arguments.script, configuration)
    given = [name for name in configuration.texts if getattr(arguments, name, None) is not None]
    os.environ.update({name: configuration.texts[name] for name in given})
    from taskfleet.graph import script_run

    script_run.env_file = arguments.env_file
    return _dry_run(path, words[at + 1 :]) if arguments.dry_run else _run(path, words[at + 1 :])


def _find(script: str | None, configuration: Configuration) -> Path:
    path = configuration.project / SCRIPT if script is None else users_path(script)
    if path.is_file():
        return path
    if script is not None:
        raise UsageError(f"There is no script {path}.")
    raise UsageError(
        f"There is no {SCRIPT} in {configuration.project}. Write one that calls functions inside `with flow(NAME):`, or name another "
        "script: poe flow SCRIPT"
    )


def _run(path: Path, arguments: Sequence[str]) -> int:
    from taskfleet.graph import script_run
    from taskfleet.graph.futures import TaskError

    try:
        code = script_run.run_script(path, arguments)
    except TaskError as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        code = FAILED
    if code not in (0, FAILED):
        return code
    codes = [_report(one) for one in {flow.job_id: flow.configuration for flow in script_run.opened}.values()]
    return code or next((one for one in (FAILED, LEFT) if one in codes), 0)


def _report(configuration: Configuration) -> int:
    """Print how a job stands, unless all its tasks succeeded; return the exit code that says it."""
    if not configuration.ledger_path.exists():
        return 0
    with closing(open_job(configuration, read_only=True)) as database:
        counts = counters.by_state(database)
    failed = counts[State.FAILED] + counts[State.KILLED]
    left = counts[State.WAITING] + counts[State.PENDING] + counts[State.RUNNING]
    if not failed and not left:
        return 0
    job_id = configuration.settings.job_id
    print(
        f"Job {job_id}: {counted(counts[State.SUCCEEDED], 'task')} succeeded, {failed:,} failed, {left:,} left.\n",
        file=sys.stderr,
    )
    flag = f" --job-id {job_id}"
    steps = [(f"status{flag}", "names the causes")] if failed else []
    steps += [(f"launch_worker{flag}", "runs those that are left")] if left else []
    print(next_steps(*steps), file=sys.stderr)
    return FAILED if failed else LEFT


def _dry_run(path: Path, arguments: Sequence[str]) -> int:
    from taskfleet.graph import script_run
    from taskfleet.graph.dry_run import DryFlow

    script_run.make_flows_by(DryFlow)
    code = script_run.run_script(path, arguments)
    for flow in script_run.opened:
        print(flow.report())
    if not script_run.opened and not code:
        print(f"{path.name} opened no flow. Nothing would be inserted.")
    return code
