"""``poe purge``: take all waiting tasks out of the queue."""

from collections.abc import Sequence

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.ledger import counters, repair
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import State
from taskfleet.watch.text import counted

EXAMPLES = """\
  poe purge
  poe purge --yes"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "purge", "Take all waiting tasks out of the queue: they become 'killed'. Running ones finish.", EXAMPLES
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    database = open_ledger(configuration.ledger_path, job_id=job_id)
    counts = counters.by_state(database)
    n = counts[State.PENDING] + counts[State.WAITING]
    if not n:
        print("No tasks are waiting. Nothing was changed.")
        return 0
    confirm(f"This takes {n:,} waiting tasks out of job {job_id}.", job_id, yes=arguments.yes)
    print(f"Took {counted(repair.purge(database), 'task')} out of the queue. poe retry --killed puts them back.")
    return 0
