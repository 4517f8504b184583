"""``poe stop``: end all machines of the job."""

import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.commands.teardown import end_machines
from taskfleet.ledger.database import open_ledger
from taskfleet.machines import EndReason
from taskfleet.pool import control
from taskfleet.pool.job_machines import open_machines
from taskfleet.settings.declaring import OWN_GROUPS

EXAMPLES = """\
  poe stop
  poe stop --yes"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "stop",
        "End all machines of the job, and the poe deploy_pool that looks after them. Running tasks go back to the queue; nothing is lost.",
        EXAMPLES,
        ("job", "provider", "location", *OWN_GROUPS),
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    confirm(f"This ends all machines of job {job_id}.", job_id, yes=arguments.yes)
    database = open_ledger(configuration.ledger_path, job_id=job_id, project=configuration.project)
    try:
        if control.ask_to_stop(database, time.time()):
            print("The poe deploy_pool that looks after them was told to end.")
        end_machines(configuration, open_machines(configuration, database), database, EndReason.STOPPED)
    finally:
        database.close()
    print("No machine is left.\n\nNext: poe deploy_pool (to go on), poe status")
    return 0
