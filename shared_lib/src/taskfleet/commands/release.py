"""``poe release``: revoke all leases."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.ledger import leasing, moving
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues, check_queue, send_if_remote
from taskfleet.settings import Configuration
from taskfleet.text import counted
from taskfleet.watch.sending import SendingDisplay

EXAMPLES = """\
  poe release"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "release",
        "Revoke all leases, including those of live workers, so that their tasks can be leased at once; it costs the tasks no try. The "
        "leases of a worker that died end by themselves half a minute later: this is for those who cannot wait, or do not trust a worker. "
        "A live worker goes on as a new one, and what it finishes of the tasks it held is ignored and done again. With a queue at a "
        "service, where nobody can revoke another's lease, the tasks are sent once more; what is done first counts. A queue that was "
        "deleted is made again, with all that is not done.",
        EXAMPLES,
    )
    configuration = configure(parser.parse_args(argv))
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    check_queue(database, configuration)
    if is_remote(configuration.settings.queue_url):
        n = _release_remotely(database, configuration)
    else:
        n = leasing.release(database, now=time.time())
    print(f"Revoked all leases: {counted(n, 'task')} put back." + ("\n\nNext: poe launch_worker" if n else ""))
    return 0


def _release_remotely(database: Database, configuration: Configuration) -> int:
    with JobQueues(configuration) as queues:
        was_deleted = not queues.tasks.exists()
        queues.create()
    if was_deleted:
        moving.move(database, database.value("SELECT queue_url FROM job"))
        return _send(database, configuration)
    n = moving.send_again(database)
    _send(database, configuration)
    return n


def _send(database: Database, configuration: Configuration) -> int:
    with SendingDisplay() as display:
        return send_if_remote(database, configuration, display)
