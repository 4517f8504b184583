"""``poe release``: take all leases back."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.ledger import leasing, moving
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import check_queue, send_if_remote
from taskfleet.watch.text import counted

EXAMPLES = """\
  poe release"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "release",
        "Take all leases back, so that the tasks can be leased at once. For workers that were lost: their leases end by themselves half a "
        "minute later. What a worker still alive finishes afterwards is ignored and done again. With a queue at a service, where nobody "
        "can take a lease from another, the tasks are sent once more; what is done first counts.",
        EXAMPLES,
    )
    configuration = configure(parser.parse_args(argv))
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    check_queue(database, configuration)
    if is_remote(configuration.settings.queue_url):
        n = moving.send_again(database)
        send_if_remote(database, configuration)
    else:
        n = leasing.release(database, now=time.time())
    print(f"Released {counted(n, 'task')}." + ("\n\nNext: poe launch_worker" if n else ""))
    return 0
