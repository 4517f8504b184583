"""``poe move_queue``: move the tasks to another queue."""

from collections.abc import Sequence

from taskfleet.api.queue import check_move, move
from taskfleet.queues.addresses import redact_url
from taskfleet.terminal.arguments import configure, make_parser, queue_argument
from taskfleet.terminal.prompts import confirm
from taskfleet.text import counted

EXAMPLES = """\
  poe move_queue --to sqs://my-job            from QUEUE_URL to SQS
  poe move_queue --to ledger                  back to the ledger"""

DETAILS = "All unfinished tasks are moved. An old service queue is deleted after its events are recorded. Stop all workers first."


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("move_queue", DETAILS, EXAMPLES)
    parser.add_argument("--to", required=True, metavar="URL", help="URL of the new queue, in the form of QUEUE_URL")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    target, job_id = queue_argument("--to", arguments.to), configuration.settings.job_id
    check_move(configuration, target)
    source = redact_url(configuration.settings.queue_url)
    confirm(f"This moves the tasks of job {job_id} from {source} to {redact_url(target)}.", job_id, yes=arguments.yes)
    n = move(configuration, target)
    print(
        f"Moved {counted(n, 'task')} to {redact_url(target)}.\n\nNext: set QUEUE_URL={redact_url(target)} in config/task.env"
    )
    return 0
