"""``poe delete_queue``: delete the job."""

import time
from collections.abc import Sequence
from pathlib import Path

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.errors import CommandError
from taskfleet.ledger.database import open_ledger
from taskfleet.processes.identity import is_surely_dead
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.watch.status import gather

EXAMPLES = """\
  poe delete_queue
  poe delete_queue --yes"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "delete_queue", "Delete the job: its queue and its ledger, with all tasks, results and failures.", EXAMPLES
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also while workers are at it, or if the file is damaged")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    path, job_id = configuration.ledger_path, configuration.settings.job_id
    if not arguments.force:
        database = open_ledger(path, job_id=job_id, project=configuration.project)
        check_queue(database, configuration)
        status = gather(database, time.time())
        alive = database.rows("SELECT process, lease_until FROM worker WHERE ended_at IS NULL")
        database.close()
        if any(until > time.time() and not is_surely_dead(process) for process, until in alive):
            raise CommandError(f"Workers are at job {job_id}. Stop them first, or add --force. Nothing was deleted.")
        what = (
            f"This deletes job {job_id} with {status.total:,} tasks, {status.ended:,} of them done, and their results."
        )
    else:
        what = f"This deletes job {job_id} and all of {path}."
    confirm(what, job_id, yes=arguments.yes)
    if is_remote(configuration.settings.queue_url):
        with JobQueues(configuration) as queues:
            queues.delete()
    existed = path.exists()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal"), Path(f"{path}-writer")):
        name.unlink(missing_ok=True)
    print(f"Deleted {path}." if existed else f"{path} was not there.")
    return 0
