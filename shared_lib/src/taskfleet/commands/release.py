"""``poe release``: revoke all leases."""

from collections.abc import Sequence

from taskfleet.api.queue import release
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe release"""

DETAILS = (
    "Their tasks can be leased again at once and lose no attempt. The leases of a worker that died expire by themselves after half a "
    "minute: this is for those who cannot wait, or do not trust a worker. A live worker continues as a new one; what it finishes of the "
    "tasks it held is ignored and done again. With a service queue, where leases cannot be revoked, the tasks are sent again, and the "
    "first result counts. A queue that was deleted is created again, with all tasks that have not ended."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("release", DETAILS, EXAMPLES)
    n = release(configure(parser.parse_args(argv)))
    print(f"Revoked all leases: {counted(n, 'task')} put back." + (f"\n\n{next_steps('launch_worker')}" if n else ""))
    return 0
