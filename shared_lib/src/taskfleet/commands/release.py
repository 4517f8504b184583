"""``poe release``: take all leases back."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import make_parser, open_job
from taskfleet.ledger import leasing
from taskfleet.watch.text import counted

EXAMPLES = """\
  poe release"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "release",
        "Take all leases back, so that the tasks can be leased at once. For workers that were lost: their leases end by themselves "
        "half a minute later. What a worker still alive finishes afterwards is ignored and done again.",
        EXAMPLES,
    )
    n = leasing.release(open_job(parser.parse_args(argv)), now=time.time())
    print(f"Released {counted(n, 'task')}." + ("\n\nNext: poe launch_worker" if n else ""))
    return 0
