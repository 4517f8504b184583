"""``poe move_queue``: have the job's tasks travel by another queue."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.errors import CommandError, UsageError
from taskfleet.ledger import counters, moving
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.processes.identity import is_surely_dead
from taskfleet.queues.addresses import is_remote, public
from taskfleet.queues.job import JobQueues, check_queue, process_of
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import queue_url
from taskfleet.tasks import State
from taskfleet.text import counted
from taskfleet.watch.monitor import SILENT_SECONDS, Monitor
from taskfleet.watch.sending import SendingDisplay

EXAMPLES = """\
  poe move_queue --to sqs://my-job            from where QUEUE_URL points to SQS
  poe move_queue --to ledger                  back here"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "move_queue",
        "Have all tasks that are not done travel by another queue. The old queues at a service are emptied and deleted; what workers have "
        "told is taken into the ledger before. Stop the workers first.",
        EXAMPLES,
    )
    parser.add_argument("--to", required=True, metavar="URL", help="as QUEUE_URL")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    target = checked(arguments.to)
    source = configuration.settings.queue_url
    if public(source) == public(target) or not (is_remote(source) or is_remote(target)):
        raise CommandError(f"The tasks are at {public(source)} already. Nothing was changed.")
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    check_queue(database, configuration)
    _refuse_workers(database)
    confirm(
        f"This moves the tasks of job {configuration.settings.job_id} from {public(source)} to {public(target)}.",
        configuration.settings.job_id,
        yes=arguments.yes,
    )
    if is_remote(target):
        with JobQueues(configuration, target) as queues:
            queues.create()
    if is_remote(source):
        _empty(database, configuration)
    moving.move(database, public(target) if is_remote(target) else None)
    if is_remote(target):
        with JobQueues(configuration, target) as queues, SendingDisplay() as display:
            queues.send_unsent(database, display)
    if is_remote(source):
        with JobQueues(configuration) as queues:
            queues.delete()
    n = counters.by_state(database)[State.PENDING]
    print(f"Moved {counted(n, 'task')} to {public(target)}.\n\nNext: set QUEUE_URL={public(target)} in config/task.env")
    return 0


def checked(url: str) -> str:
    """Take an address from the command line."""
    try:
        return queue_url(url)
    except ValueError as error:
        raise UsageError(f"--to {url!r}: it must be {error}.") from error


def _refuse_workers(database: Database) -> None:
    alive = database.rows(
        "SELECT process, max(lease_until, seen_at + ?) FROM worker WHERE ended_at IS NULL", (SILENT_SECONDS,)
    )
    if any(until > time.time() and not is_surely_dead(process_of(source)) for source, until in alive):
        raise CommandError(
            "Workers are at this job. Stop them first, or wait until those that died count as dead (poe status lists them). Nothing was "
            "changed."
        )


def _empty(database: Database, configuration: Configuration) -> None:
    """Take all that was told into the ledger, and drop the tasks that wait at the service."""
    with JobQueues(configuration) as queues:
        if not queues.tasks.exists():
            return
        queues.tasks.purge()
        monitor = Monitor(database, configuration, queues.events, prints=False)
        while monitor.step():
            pass
        monitor.close()
