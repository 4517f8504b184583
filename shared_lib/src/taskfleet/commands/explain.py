"""``poe explain``: explain why a task, the job or the pool is stuck."""

from collections.abc import Sequence

from taskfleet.api.looking import explain
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import harmless

EXAMPLES = """\
  poe explain                                       the job, and its pool if it has one
  poe explain task-17                               one task
  poe explain pool"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("explain", "The explanation names what to change.", EXAMPLES, operands="[TASK | pool]")
    parser.add_argument("what", nargs="?", metavar="TASK", help="a task ID or 'pool'; default: the job")
    arguments = parser.parse_args(argv)
    print(harmless("\n".join(explain(configure(arguments), arguments.what))))
    return 0
