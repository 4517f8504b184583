"""``poe purge_queue``: remove all pending tasks from the queue."""

from collections.abc import Sequence

from taskfleet.api.queue import count_unstarted, purge, purge_events
from taskfleet.errors import UsageError
from taskfleet.invocation import poe
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.prompts import confirm
from taskfleet.text import counted

EXAMPLES = """\
  poe purge_queue
  poe purge_queue --yes
  poe purge_queue --events          only the events that no monitor has recorded yet"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "purge_queue", "Their state becomes 'killed'; they can be put back. Running tasks finish.", EXAMPLES
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tasks", action="store_true", help="remove the tasks (the default)")
    which.add_argument(
        "--events", action="store_true", help="delete unrecorded events in the service queue instead of tasks"
    )
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    if arguments.events:
        return _purge_events(configuration, yes=arguments.yes)
    job_id = configuration.settings.job_id
    n = count_unstarted(configuration)
    if not n:
        print("No tasks are pending. Nothing was changed.")
        return 0
    confirm(f"This removes {counted(n, 'pending task')} from the queue of job {job_id}.", job_id, yes=arguments.yes)
    killed = purge(configuration)
    print(f"Removed {counted(killed, 'task')} from the queue. {poe('retry --killed')} puts them back.")
    return 0


def _purge_events(configuration: Configuration, *, yes: bool) -> int:
    settings = configuration.settings
    if not is_remote(settings.queue_url):
        raise UsageError("QUEUE_URL=ledger has no event queue: workers write to the ledger directly.")
    confirm(
        f"This deletes the events of job {settings.job_id} that are not recorded yet: their tasks will count as unfinished.",
        settings.job_id,
        yes=yes,
    )
    purge_events(configuration)
    print("Deleted all events in the queue.")
    return 0
