"""``poe teardown``: end and remove all that was made for a job's pool, and show that nothing is left."""

import sys
import time
from collections.abc import Mapping, Sequence

from taskfleet.commands.arguments import configure, confirm, make_parser
from taskfleet.errors import LedgerError
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.machines import EndReason, Machines, MachineState
from taskfleet.machines.provider import provider_of
from taskfleet.pool import control
from taskfleet.pool.ending import by_ledger, by_list, end_all
from taskfleet.pool.job_machines import open_machines
from taskfleet.pool.shipping import clear_bundles
from taskfleet.settings import Configuration
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.text import columns, counted

EXAMPLES = """\
  poe teardown
  poe teardown --yes
  poe teardown --dry-run                            list what is there"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "teardown",
        "End all machines of the job and remove whatever else was made for them. It needs no ledger: what the provider lists counts. It "
        "looks again until nothing is there, and prints the count of each kind of thing.",
        EXAMPLES,
        ("job", "provider", "location", *OWN_GROUPS),
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="list what is there and end nothing")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    try:
        database = open_ledger(configuration.ledger_path, job_id=job_id, project=configuration.project)
    except LedgerError:
        database = None
    machines = open_machines(configuration, database)
    there = [one for one in machines.list() if one.state is not MachineState.ENDED]
    if there:
        rows = [(one.instance_id, one.instance_type, one.zone, str(one.state)) for one in there]
        print(columns(rows, ("machine", "type", "zone", "state")))
    if arguments.dry_run:
        print(f"{counted(len(there), 'machine')} of job {job_id} there. Nothing was ended (--dry-run).")
        return 0
    if there:
        unsure = (
            "" if database is not None else " There is no ledger here: they may be of somebody else's job of that name."
        )
        confirm(f"This ends {counted(len(there), 'machine')} of job {job_id}.{unsure}", job_id, yes=arguments.yes)
    try:
        if database is not None:
            control.ask_to_stop(database, time.time())
        left = end_machines(configuration, machines, database, EndReason.TORN_DOWN)
    finally:
        if database is not None:
            database.close()
    print(f"{counted(len(there), 'machine')} ended. Left of job {job_id} at {machines.name}:")
    for kind, number in left.items():
        print(f"  {kind}: {number}")
    print("\nThe tasks and their results are still there: poe status. Next: poe delete_queue (deletes the job)")
    return 0


def end_machines(
    configuration: Configuration, machines: Machines, database: Database | None, reason: EndReason
) -> Mapping[str, int]:
    """End all machines of the job and what was made for them; give what is left of each kind of thing: nothing."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    end = by_list(machines) if database is None else by_ledger(machines, database, reason, say)
    provider = provider_of(configuration)
    return end_all(
        machines,
        end,
        say,
        clear=lambda: clear_bundles(configuration),
        pause=time.sleep,
        poll_seconds=provider.ending_poll_seconds,
        empty_lists_to_confirm=provider.empty_lists_to_confirm,
    )
