"""``poe machines``: list the machines of the job."""

import json
import time
from collections.abc import Sequence
from typing import Any

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.errors import LedgerError, UnreachableError
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.machines import Machine, MachineState
from taskfleet.pool import boot_log, records
from taskfleet.pool.job_machines import open_machines
from taskfleet.pool.observation import match
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import Record
from taskfleet.pool.selection import limits_of, needed
from taskfleet.settings import Configuration
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.text import columns, duration
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
    listed, trouble = [], ""
    try:
        listed = list(provider.list())
    except UnreachableError as error:
        trouble = f"{error} This is what the ledger knows."
    rows = list(_rows(configuration, database, listed, with_ended=arguments.all, is_blind=bool(trouble)))
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    if trouble:
        print(trouble)
    if not rows:
        print("No machines." if arguments.all else "No machines are there; --all lists those that have ended.")
    else:
        print(columns([_cells(row) for row in rows], HEADS))
    if database is not None:
        now = time.time()
        status = gather(database, now)
        if status.costs is not None:
            print(f"\n{cost_line(status.costs)}")
        database.close()
    return 0


def _rows(
    configuration: Configuration,
    database: Database | None,
    listed: Sequence[Machine],
    *,
    with_ended: bool,
    is_blind: bool,
) -> list[dict[str, Any]]:
    now = time.time()
    limits = limits_of(configuration, needed(configuration, None))
    known = [] if database is None else records.all_machines(database)
    last_heartbeats = {} if database is None else records.last_heartbeats(database)
    matched = match(known, listed)
    rows = []
    for record in known:
        if record.ended_at is None or with_ended:
            rows.append(
                _row(record, matched.get(record.token), last_heartbeats.get(record.token), limits, now, is_blind)
            )
    strangers = {one.instance_id for one in matched.values()}
    for one in listed:
        if one.instance_id not in strangers and (with_ended or one.state is not MachineState.ENDED):
            rows.append(_row_of_unknown(one, now))
    return rows


def _row(
    record: Record, machine: Machine | None, last_heartbeat_at: float | None, limits: Limits, now: float, is_blind: bool
) -> dict[str, Any]:
    state = "ended" if record.ended_at is not None else "ordered" if machine is None else str(machine.state)
    remark = record.end_text
    if record.ended_at is None:
        since = record.started_at or record.ordered_at
        if machine is None and not is_blind and record.started_at is not None:
            remark = remark or "not in the provider's list"
        if last_heartbeat_at is None and now - since > limits.boot_seconds:
            remark = remark or "overdue: no worker was heard"
        elif last_heartbeat_at is not None and now - last_heartbeat_at > limits.silent_seconds:
            remark = remark or "overdue: its worker is silent"
    return {
        "token": record.token,
        "instance_id": record.instance_id,
        "instance_type": record.instance_type,
        "zone": record.zone,
        "market": record.market,
        "state": state,
        "slots": record.slots,
        "created_at": record.started_at or record.ordered_at,
        "ended_at": record.ended_at,
        "last_heartbeat_at": last_heartbeat_at,
        "usd_per_hour": record.usd_per_hour,
        "usd": record.cost_usd(now),
        "remark": remark,
    }


def _row_of_unknown(machine: Machine, now: float) -> dict[str, Any]:
    return {
        "token": machine.order,
        "instance_id": machine.instance_id,
        "instance_type": machine.instance_type,
        "zone": machine.zone,
        "market": machine.market,
        "state": machine.state,
        "slots": None,
        "created_at": machine.created_at or now,
        "ended_at": None,
        "last_heartbeat_at": None,
        "usd_per_hour": None,
        "usd": None,
        "remark": machine.detail or "not in this ledger",
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    now = time.time()
    heard = "-" if row["last_heartbeat_at"] is None else f"{duration(max(0.0, now - row['last_heartbeat_at']))} ago"
    return (
        row["instance_id"] or row["token"],
        row["instance_type"],
        row["zone"],
        row["market"],
        row["state"],
        duration(max(0.0, (row["ended_at"] or now) - row["created_at"])),
        heard,
        "-" if row["usd_per_hour"] is None else f"{row['usd_per_hour']:.4f}",
        "-" if row["usd"] is None else f"{row['usd']:.4f}",
        row["remark"],
    )
