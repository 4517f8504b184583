"""``poe machines``: list the job's machines."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.api.machines import console, machines
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.listing import add_listing, arrange, limited, print_left_out
from taskfleet.text import columns, details, duration, harmless
from taskfleet.watch.machines import MachineRow
from taskfleet.watch.text import cost_lines

EXAMPLES = """\
  poe machines                                      machines that have not ended
  poe machines --all                                also those that have ended, with the reason
  poe machines --filter spot --sort-by zone,-created
  poe machines --console NAME                       boot progress and console output of a machine
  poe machines --json | jq .                        one JSON object per machine"""

FIELDS: dict[str, Callable[[MachineRow], Any]] = {
    "machine": lambda row: row.instance_id or row.token,
    "manager": lambda row: row.manager or "-",
    "type": lambda row: row.instance_type,
    "zone": lambda row: row.zone,
    "market": lambda row: row.market,
    "state": lambda row: row.state,
    "created": lambda row: row.created_at,
    "usd_per_hour": lambda row: row.usd_per_hour,
    "usd": lambda row: row.usd,
    "nodes": lambda row: row.nodes,
    "node_hours": lambda row: row.node_hours,
    "remark": lambda row: row.remark,
}
#: The names that rms-cloud-tasks has for them.
_ALIASES = {
    **dict.fromkeys(("id", "i"), "machine"),
    **dict.fromkeys(("creation_time", "creation", "time", "c"), "created"),
}
HEADS = (
    "machine",
    "type",
    "zone",
    "market",
    "state",
    "age",
    "last heartbeat",
    "nodes",
    "node-hours",
    "USD/h",
    "USD",
    "",
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "machines",
        "The list combines the provider's data and the ledger: age, last heartbeat of the worker, cost, overdue deadlines.",
        EXAMPLES,
    )
    parser.add_argument(
        "--all", "--include-terminated", dest="all", action="store_true", help="include machines that have ended"
    )
    add_listing(parser, FIELDS, order="launch order")
    parser.add_argument("--detail", action="store_true", help="show each machine with all its values")
    parser.add_argument("--console", metavar="NAME", help="show the boot progress and the console output of a machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    if arguments.console:
        found = console(configuration, arguments.console)
        if found.summary:
            print(f"{harmless(found.summary)}\n")
        print(harmless(found.text) or f"Machine {arguments.console} has printed nothing yet.")
        return 0
    now = time.time()
    listed = machines(configuration, with_ended=arguments.all)
    rows = arrange(listed.rows, arguments, FIELDS, _ALIASES)
    shown = limited(rows, arguments)
    if arguments.json:
        for row in shown:
            print(json.dumps(row.to_json()))
        return 0
    if listed.error:
        print(f"{harmless(listed.error)} The list below is from the ledger.")
    if not listed.rows:
        print("No machines." if arguments.all else "No active machines. --all includes those that have ended.")
    elif not shown:
        print(f"No machine matches --filter {arguments.filter}.")
    elif arguments.detail:
        print(details([_details(row) for row in shown]))
    else:
        heads: tuple[str, ...] = HEADS
        cells: list[tuple[str, ...]] = [_cells(row, now) for row in shown]
        if has_pools(listed.rows):
            cells = [(one[0], row.manager or "-", *one[1:]) for one, row in zip(cells, shown, strict=True)]
            heads = (HEADS[0], "manager", *HEADS[1:])
        print(columns(cells, heads, without=_unused(shown)))
    print_left_out(rows, shown)
    if listed.costs is not None:
        print("\n" + "\n".join(cost_lines(listed.costs)))
    return 0


def has_pools(rows: Sequence[MachineRow]) -> bool:
    """Return whether machines belong to other pools than that of the default manager."""
    return any(row.manager not in (None, DEFAULT_MANAGER) for row in rows)


def _unused(rows: Sequence[MachineRow]) -> list[str]:
    """Return the headings of columns that mean nothing for any of the machines."""
    has_nodes = any(row.nodes for row in rows)
    unused = [] if has_nodes else ["nodes", "node-hours"]
    if all(row.usd_per_hour == 0 or row.nodes for row in rows):
        unused.append("market")
    if not any(row.usd_per_hour for row in rows) and (has_nodes or all(row.usd is not None for row in rows)):
        unused += ["USD/h", "USD"]
    return unused


def _details(row: MachineRow) -> dict[str, str]:
    texts = {}
    for name, value in row.to_json().items():
        is_time = name.endswith("_at") and isinstance(value, float)
        text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value)) if is_time else str(value)  # type: ignore[arg-type]
        texts[name.replace("_", " ")] = "-" if value in (None, "") else text
    return texts


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
        "-" if row.nodes is None else f"{row.nodes:.3g}",
        "-" if row.node_hours is None else f"{row.node_hours:.4f}",
        "-" if row.usd_per_hour is None else f"{row.usd_per_hour:.4f}",
        "-" if row.usd is None else f"{row.usd:.4f}",
        row.remark,
    )
