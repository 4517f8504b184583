"""``poe copy_queue``: send the job's pending tasks to another queue as well."""

from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.commands.move_queue import checked
from taskfleet.errors import UsageError
from taskfleet.ledger import sending
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import is_remote, public
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.text import counted

EXAMPLES = """\
  poe copy_queue --to postgresql://me@host/db"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "copy_queue",
        "Send all pending tasks to a queue at another service as well; nothing else changes. Workers there need QUEUE_URL to say so, and "
        "so does a monitor that is to hear them: poe monitor --queue-url URL. Whichever is done first counts.",
        EXAMPLES,
    )
    parser.add_argument("--to", required=True, metavar="URL", help="as QUEUE_URL")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    target = checked(arguments.to)
    if not is_remote(target) or public(target) == public(configuration.settings.queue_url):
        raise UsageError("--to must be a queue at a service, another one than QUEUE_URL. Nothing was changed.")
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    check_queue(database, configuration)
    with JobQueues(configuration, target) as queues:
        queues.create()
        n = queues.send(database, sending.pending(database))
    print(f"Sent {counted(n, 'task')} to {public(target)}.")
    return 0
