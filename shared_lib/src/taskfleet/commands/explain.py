"""``poe explain``: why a task, the job or the pool does not move."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.errors import CommandError
from taskfleet.ledger import inquiry
from taskfleet.ledger.database import open_ledger
from taskfleet.pool.explaining import explain_pool
from taskfleet.pool.selection import limits_of, needed
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.watch.explaining import explain_job, explain_task
from taskfleet.watch.status import gather

EXAMPLES = """\
  poe explain                                       the job, and its pool if it has one
  poe explain task-17                               one task
  poe explain pool"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "explain",
        "Say in a sentence why a task, the job or its pool does not move, and what to change.",
        EXAMPLES,
        ("job", "limits", "provider", "location", "number", "lifetime", *OWN_GROUPS),
        operands="[TASK | pool]",
    )
    parser.add_argument("what", nargs="?", metavar="TASK", help="a task's id, or 'pool'; the job if left out")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    now = time.time()
    database = open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
    status = gather(database, now)
    pool = explain_pool(
        database, limits_of(configuration, needed(configuration, None)), status.total - status.ended, now
    )
    try:
        if arguments.what == "pool":
            print("\n".join(pool))
        elif arguments.what is not None:
            task = inquiry.find_task(database, arguments.what)
            if task is None:
                raise CommandError(
                    f"Job {configuration.settings.job_id} has no task {arguments.what!r}. poe tasks lists them."
                )
            print(explain_task(database, task, status, configuration.settings, now))
        else:
            print(explain_job(database, status, now))
            if status.costs is not None and status.ended < status.total:
                print("\n".join(pool))
    finally:
        database.close()
    return 0
