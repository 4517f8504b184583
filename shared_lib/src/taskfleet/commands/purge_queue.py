"""``poe purge_queue``: take all waiting tasks out of the queue."""

from collections.abc import Sequence

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.errors import UsageError
from taskfleet.ledger import counters, repair
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.settings import Configuration
from taskfleet.tasks import State
from taskfleet.text import counted

EXAMPLES = """\
  poe purge_queue
  poe purge_queue --yes
  poe purge_queue --events          only what workers have told and no monitor has taken yet"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "purge_queue", "Take all waiting tasks out of the queue: they become 'killed'. Running ones finish.", EXAMPLES
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tasks", action="store_true", help="the tasks (this is what is done if nothing is said)")
    which.add_argument("--events", action="store_true", help="the events at a service instead: what they tell is lost")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    if arguments.events:
        return _purge_events(configuration, yes=arguments.yes)
    database = open_ledger(configuration.ledger_path, job_id=job_id, project=configuration.project)
    check_queue(database, configuration)
    counts = counters.by_state(database)
    n = counts[State.PENDING] + counts[State.WAITING]
    if not n:
        print("No tasks are waiting. Nothing was changed.")
        return 0
    confirm(f"This takes {n:,} waiting tasks out of job {job_id}.", job_id, yes=arguments.yes)
    killed = repair.purge(database)
    if is_remote(configuration.settings.queue_url):
        with JobQueues(configuration) as queues:
            queues.tasks.purge()
    print(f"Took {counted(killed, 'task')} out of the queue. poe retry --killed puts them back.")
    return 0


def _purge_events(configuration: Configuration, *, yes: bool) -> int:
    settings = configuration.settings
    if not is_remote(settings.queue_url):
        raise UsageError("With QUEUE_URL=ledger there is no queue of events: workers write into the ledger.")
    confirm(
        f"This drops what workers of job {settings.job_id} have told and no monitor has taken: those tasks will count as not done.",
        settings.job_id,
        yes=yes,
    )
    with JobQueues(configuration) as queues:
        queues.events.purge()
    print("Dropped all waiting events.")
    return 0
