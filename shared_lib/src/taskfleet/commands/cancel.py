"""``poe cancel``: stop tasks that have not ended."""

from collections.abc import Sequence

from taskfleet.api.steering import cancel
from taskfleet.errors import CommandError, UsageError
from taskfleet.invocation import poe
from taskfleet.ledger.cancelling import OPEN, CancelReport
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.prompts import confirm
from taskfleet.text import counted

EXAMPLES = """\
  poe cancel addition-task-000001         one task, also if it runs
  poe cancel --state running              the tasks that run now
  poe cancel --function average           all tasks of a graph that call a function, and those that wait for them
  poe cancel --all --yes"""
#: More tasks are cancelled only after a confirmation.
MANY = 1000


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "cancel",
        "Pending tasks are killed at once, running ones within seconds by their workers; a task that succeeds before that has "
        "succeeded. Tasks that wait for a cancelled one are killed too.",
        EXAMPLES,
        operands="[ID ...]",
    )
    parser.add_argument("task_ids", nargs="*", metavar="ID", help="IDs of tasks")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all tasks that have not ended")
    which.add_argument("--state", choices=[state.word for state in OPEN], help="all tasks in this state")
    which.add_argument("--function", metavar="NAME", help="all tasks of a graph that call this function")
    parser.add_argument(
        "--yes", action="store_true", help=f"do not ask for confirmation, as for more than {MANY:,} tasks"
    )
    arguments = parser.parse_args(argv)
    states = OPEN if arguments.all else tuple(state for state in OPEN if state.word == arguments.state)
    if not (arguments.task_ids or states or arguments.function):
        raise UsageError("Specify the tasks: IDs, --all, --state STATE or --function NAME.")
    configuration = configure(arguments)
    if not arguments.yes:
        found = cancel(configuration, arguments.task_ids, states=states, function=arguments.function, dry_run=True)
        n = found.cancelled
        if n > MANY:
            confirm(f"This cancels {_described(found)}.", str(n), yes=False)
    report = cancel(configuration, arguments.task_ids, states=states, function=arguments.function)
    left = _left(report)
    if not report.cancelled:
        if report.unknown:
            raise CommandError(f"{left} Nothing was changed.")
        print(
            f"No tasks to cancel. {left} Nothing was changed." if left else "No tasks to cancel. Nothing was changed."
        )
        return 0
    print(f"Cancelled {_described(report)}. {poe('retry --killed')} puts cancelled tasks back.")
    if report.running:
        print("Running tasks are killed by their workers within seconds, unless they succeed before.")
    if left:
        print(left)
    return 0


def _described(report: CancelReport) -> str:
    """Return the number of tasks that are cancelled, and what they were."""
    states = {State.PENDING: report.pending, State.WAITING: report.waiting, State.RUNNING: report.running}
    parts = ", ".join(f"{n:,} {state.word}" for state, n in states.items() if n)
    return f"{counted(report.cancelled, 'task')} ({parts})"


def _left(report: CancelReport) -> str:
    """Return which tasks are left as they are, as sentences; an empty string if there are none."""
    parts = []
    if report.ended:
        parts.append(f"{counted(report.ended, 'task')} had ended already.")
    if report.unknown:
        parts.append(f"{counted(report.unknown, 'task ID')} unknown.")
    return " ".join(parts)
