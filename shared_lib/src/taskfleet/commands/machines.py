"""``poe machines``: list the job's machines."""

import json
import time
from collections.abc import Sequence

from taskfleet.api.machines import console, machines
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import columns, duration
from taskfleet.watch.machines import MachineRow
from taskfleet.watch.text import cost_line

EXAMPLES = """\
  poe machines                                      machines that have not ended
  poe machines --all                                also those that have ended, with the reason
  poe machines --console NAME                       boot progress and console output of a machine
  poe machines --json | jq .                        one JSON object per machine"""

HEADS = ("machine", "type", "zone", "market", "state", "age", "last heartbeat", "USD/h", "USD", "")


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "machines",
        "The list combines the provider's data and the ledger: age, last heartbeat of the worker, cost, overdue deadlines.",
        EXAMPLES,
    )
    parser.add_argument("--all", action="store_true", help="include machines that have ended")
    parser.add_argument("--console", metavar="NAME", help="show the boot progress and the console output of a machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    if arguments.console:
        found = console(configuration, arguments.console)
        if found.summary:
            print(f"{found.summary}\n")
        print(found.text or f"There is no console output of machine {arguments.console} yet, or no such machine.")
        return 0
    now = time.time()
    listed = machines(configuration, with_ended=arguments.all)
    if arguments.json:
        for row in listed.rows:
            print(json.dumps(row.to_json()))
        return 0
    if listed.error:
        print(f"{listed.error} The list below is from the ledger.")
    if not listed.rows:
        print("No machines." if arguments.all else "No active machines. --all includes those that have ended.")
    else:
        print(columns([_cells(row, now) for row in listed.rows], HEADS))
    if listed.costs is not None:
        print(f"\n{cost_line(listed.costs)}")
    return 0


def _cells(row: MachineRow, now: float) -> tuple[str, ...]:
    heartbeat = "-" if row.last_heartbeat_at is None else f"{duration(max(0.0, now - row.last_heartbeat_at))} ago"
    return (
        row.instance_id or row.token,
        row.instance_type,
        row.zone,
        row.market,
        row.state,
        duration(max(0.0, (row.ended_at or now) - row.created_at)),
        heartbeat,
        "-" if row.usd_per_hour is None else f"{row.usd_per_hour:.4f}",
        "-" if row.usd is None else f"{row.usd:.4f}",
        row.remark,
    )
