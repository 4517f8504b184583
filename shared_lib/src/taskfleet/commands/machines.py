"""``poe machines``: list the machines of the job."""

import json
import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.errors import LedgerError, UnreachableError
from taskfleet.ledger.database import open_ledger
from taskfleet.pool import boot_log
from taskfleet.pool.job_machines import open_machines
from taskfleet.pool.selection import limits_of, needed
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.text import columns, duration
from taskfleet.watch.machines import MachineRow, machine_rows
from taskfleet.watch.status import gather
from taskfleet.watch.text import cost_line

EXAMPLES = """\
  poe machines                                      those that are there
  poe machines --all                                those that have ended too, with the reason
  poe machines --console NAME                       how far a machine's boot came, and what it has printed
  poe machines --json | jq .                        each as an object"""

HEADS = ("machine", "type", "zone", "market", "state", "age", "last heartbeat", "USD/h", "USD", "")


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "machines",
        "List the machines of the job, as the provider and the ledger know them: since when they are there, when their worker was last "
        "heard, what they cost, and what is overdue.",
        EXAMPLES,
        ("job", "provider", "location", *OWN_GROUPS),
    )
    parser.add_argument("--all", action="store_true", help="those that have ended too")
    parser.add_argument(
        "--console", metavar="NAME", help="say how far a machine's boot came, and print what it has printed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    try:
        database = open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
    except LedgerError:
        database = None
    provider = open_machines(configuration, database)
    if arguments.console:
        text = provider.console(arguments.console)
        if found := boot_log.summary(text):
            print(f"{found}\n")
        print(text or f"{arguments.console} has printed nothing that the provider keeps.")
        return 0
    listed, trouble = None, ""
    try:
        listed = list(provider.list())
    except UnreachableError as error:
        trouble = f"{error} This is what the ledger knows."
    now = time.time()
    limits = limits_of(configuration, needed(configuration, None))
    rows = machine_rows(database, listed, limits, now, with_ended=arguments.all)
    if arguments.json:
        for row in rows:
            print(json.dumps(row.to_json()))
        return 0
    if trouble:
        print(trouble)
    if not rows:
        print("No machines." if arguments.all else "No machines are there; --all lists those that have ended.")
    else:
        print(columns([_cells(row, now) for row in rows], HEADS))
    if database is not None:
        status = gather(database, now)
        if status.costs is not None:
            print(f"\n{cost_line(status.costs)}")
        database.close()
    return 0


def _cells(row: MachineRow, now: float) -> tuple[str, ...]:
    heard = "-" if row.last_heartbeat_at is None else f"{duration(max(0.0, now - row.last_heartbeat_at))} ago"
    return (
        row.instance_id or row.token,
        row.instance_type,
        row.zone,
        row.market,
        row.state,
        duration(max(0.0, (row.ended_at or now) - row.created_at)),
        heard,
        "-" if row.usd_per_hour is None else f"{row.usd_per_hour:.4f}",
        "-" if row.usd is None else f"{row.usd:.4f}",
        row.remark,
    )
