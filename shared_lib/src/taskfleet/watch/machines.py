"""The machines of a job as rows: what the ledger and the provider know of each, and what is overdue."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason, Machine, MachineState
from taskfleet.pool import records
from taskfleet.pool.matching import match
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import MachineRecord
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.tasks import JSON

#: The state of a machine that was requested and that its provider does not list.
ORDERED = "ordered"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRow:
    """A machine at one instant. Times are seconds since the epoch; what only the ledger knows is None for machines that are not in it."""

    token: str
    """Its own; of one that is not in the ledger, that of its request."""
    instance_id: str | None
    """Its provider's name for it, once it is known."""
    manager: str | None
    """The name of the manager whose pool it belongs to; None if it is not in the ledger."""
    instance_type: str
    zone: str
    market: str
    state: str
    """As in ``MachineState``, or ``ORDERED``."""
    slots: int | None
    created_at: float
    """When it was accepted or, before that is known, requested."""
    running_at: float | None
    """When it started running; None while it is queued, and before anything is known of it."""
    ended_at: float | None
    last_heartbeat_at: float | None
    """The last heartbeat of its worker."""
    usd_per_hour: float | None
    usd: float | None
    """So far."""
    nodes: float | None
    """Of a cluster, see ``InstanceType.nodes``; 0 for machines without nodes."""
    node_hours: float | None
    """So far."""
    end_reason: EndReason | None
    """Why it ended, or is being terminated."""
    detail: str
    """The provider's text: why it ended, or why it does not run yet."""
    remark: str
    """A remark for people."""

    def to_json(self) -> dict[str, JSON]:
        """Return the object that ``poe machines --json`` prints."""
        return asdict(self)


def machine_rows(
    database: Database | None,
    listed: Sequence[Machine] | None,
    limits: Limits,
    now: float,
    *,
    own_limits: Mapping[str, Limits] | None = None,
    with_ended: bool = False,
) -> list[MachineRow]:
    """Return a row for each machine: first those in the ledger, in the order of their requests, then others that are listed.

    Args:
        database: The job's ledger, if there is one.
        listed: The provider's list; None if it does not answer.
        limits: The pool's limits, for what is overdue.
        now: Seconds since the epoch.
        own_limits: The limits of pools that have others, by the names of their managers.
        with_ended: Whether to return those that have ended too.
    """
    known = [] if database is None else records.all_machines(database)
    names = {0: DEFAULT_MANAGER, **({} if database is None else managers.names(database))}
    last_heartbeats = {} if database is None else records.last_heartbeats(database)
    matched = match(known, listed or ())
    rows = []
    for one in known:
        if one.ended_at is None or with_ended:
            manager = names.get(one.manager_id, DEFAULT_MANAGER)
            limits_here = (own_limits or {}).get(manager, limits)
            heartbeat_at = last_heartbeats.get(one.token)
            rows.append(
                _row(one, manager, matched.get(one.token), heartbeat_at, limits_here, now, is_blind=listed is None)
            )
    of_the_ledger = {one.instance_id for one in matched.values()}
    return rows + [
        _row_of_unknown(one, now)
        for one in listed or ()
        if one.instance_id not in of_the_ledger and (with_ended or one.state is not MachineState.ENDED)
    ]


def _row(
    record: MachineRecord,
    manager: str,
    machine: Machine | None,
    last_heartbeat_at: float | None,
    limits: Limits,
    now: float,
    *,
    is_blind: bool,
) -> MachineRow:
    detail = record.detail if machine is None or record.end_reason is not None else machine.detail
    remark = record.end_text
    if record.ended_at is None and not remark:
        is_missing = machine is None and not is_blind and record.started_at is not None
        remark = (
            "not in the provider's list" if is_missing else _overdue(record, last_heartbeat_at, limits, now) or detail
        )
    return MachineRow(
        token=record.token,
        instance_id=record.instance_id,
        manager=manager,
        instance_type=record.instance_type,
        zone=record.zone,
        market=record.market,
        state=_state(record, machine),
        slots=record.slots,
        created_at=record.started_at or record.ordered_at,
        running_at=record.running_at,
        ended_at=record.ended_at,
        last_heartbeat_at=last_heartbeat_at,
        usd_per_hour=record.usd_per_hour,
        usd=record.cost_usd(now),
        nodes=record.nodes,
        node_hours=record.node_hours(now),
        end_reason=record.end_reason,
        detail=detail,
        remark=remark,
    )


def _state(record: MachineRecord, machine: Machine | None) -> str:
    if record.ended_at is not None:
        return MachineState.ENDED
    if machine is not None:
        return machine.state
    return MachineState.QUEUED if record.is_queued else ORDERED


def _overdue(record: MachineRecord, last_heartbeat_at: float | None, limits: Limits, now: float) -> str:
    if last_heartbeat_at is not None:
        return "overdue: no heartbeat from its worker" if now - last_heartbeat_at > limits.silent_seconds else ""
    since = record.boots_since
    return "overdue: its worker has not started" if since is not None and now - since > limits.boot_seconds else ""


def _row_of_unknown(machine: Machine, now: float) -> MachineRow:
    return MachineRow(
        token=machine.request_token,
        instance_id=machine.instance_id,
        manager=None,
        instance_type=machine.instance_type,
        zone=machine.zone,
        market=machine.market,
        state=machine.state,
        slots=None,
        created_at=machine.created_at or now,
        running_at=machine.running_since,
        ended_at=None,
        last_heartbeat_at=None,
        usd_per_hour=None,
        usd=None,
        nodes=None,
        node_hours=None,
        end_reason=machine.end_reason,
        detail=machine.detail,
        remark=machine.detail or "not in this ledger",
    )
