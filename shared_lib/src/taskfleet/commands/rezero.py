"""``poe rezero``: count inserted and completed tasks from zero."""

from collections.abc import Sequence

from taskfleet.api.queue import rezero
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps

EXAMPLES = """\
  poe rezero"""

DETAILS = (
    "From now on, poe status also shows how many tasks were inserted and completed since this command, for jobs that are used again and "
    "again. The totals, the tasks and their results stay: tasks that have ended are not run again."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    rezero(configure(make_parser("rezero", DETAILS, EXAMPLES).parse_args(argv)))
    print(f"Counting from zero.\n\n{next_steps('status')}")
    return 0
