"""``poe copy_queue``: send the pending tasks to another queue as well."""

from collections.abc import Sequence

from taskfleet.api.queue import copy
from taskfleet.queues.addresses import redact_url
from taskfleet.terminal.arguments import configure, make_parser, queue_argument
from taskfleet.text import counted

EXAMPLES = """\
  poe copy_queue --to postgresql://me@host/db"""

DETAILS = (
    "The job keeps its own queue. Workers of the other queue, and a monitor that records their events, need its URL: "
    "poe monitor --queue-url URL. The first result of a task counts."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("copy_queue", DETAILS, EXAMPLES)
    parser.add_argument("--to", required=True, metavar="URL", help="URL of the other queue, in the form of QUEUE_URL")
    arguments = parser.parse_args(argv)
    target = queue_argument("--to", arguments.to)
    n = copy(configure(arguments), target)
    print(f"Sent {counted(n, 'task')} to {redact_url(target)}.")
    return 0
