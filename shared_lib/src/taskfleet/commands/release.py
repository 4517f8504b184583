"""``poe release``: revoke all leases."""

from collections.abc import Sequence

from taskfleet.api.queue import release
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe release"""

DETAILS = (
    "Their tasks can be leased again at once; this does not count as a retry. The leases of a dead worker expire by themselves "
    "(LEASE_SECONDS); use this command if you cannot wait, or do not trust a worker. A live worker continues as a new worker; its results "
    "of the tasks that it had leased are ignored, and these tasks run again. A service queue cannot revoke leases: the tasks are sent "
    "again, and the first result counts. A service queue that was deleted is created again, with all unfinished tasks."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("release", DETAILS, EXAMPLES)
    n = release(configure(parser.parse_args(argv)))
    print(f"Revoked all leases: {counted(n, 'task')} put back." + (f"\n\n{next_steps('launch_worker')}" if n else ""))
    return 0
