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
  poe machines                                      those that have not ended
  poe machines --all                                those that have ended too, with the reason
  poe machines --console NAME                       how far a machine's boot came, and its console output
  poe machines --json | jq .                        each as an object"""

HEADS = ("machine", "type", "zone", "market", "state", "age", "last heartbeat", "USD/h", "USD", "")


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "machines",
        "The provider's list and the ledger are combined: age, last heartbeat of the worker, cost, and what is overdue.",
        EXAMPLES,
    )
    parser.add_argument("--all", action="store_true", help="list those that have ended too")
    parser.add_argument("--console", metavar="NAME", help="show how far a machine's boot came, and its console output")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    if arguments.console:
        found = console(configuration, arguments.console)
        if found.summary:
            print(f"{found.summary}\n")
        print(found.text or f"The provider has no console output of {arguments.console}.")
        return 0
    now = time.time()
    listed = machines(configuration, with_ended=arguments.all)
    if arguments.json:
        for row in listed.rows:
            print(json.dumps(row.to_json()))
        return 0
    if listed.error:
        print(f"{listed.error} This is what the ledger knows.")
    if not listed.rows:
        print("No machines." if arguments.all else "No machines are active; --all lists those that have ended.")
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
