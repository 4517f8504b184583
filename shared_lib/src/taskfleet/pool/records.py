"""Records of a job's machines in the ledger; ``updates`` changes them."""

from dataclasses import dataclass

from taskfleet.errors import UnusableLedgerError
from taskfleet.ledger.database import Database
from taskfleet.machine_terms import Market
from taskfleet.machines import EndReason, Kind

SECONDS_PER_HOUR = 3600.0
#: A launch request without a response may have been carried out up to this much later.
UNCERTAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class End:
    """The end of a machine, or the reason why it was not launched."""

    reason: EndReason
    detail: str = ""
    """The provider's text."""
    running_at: float | None = None
    """The earliest time at which it may have started to run, if it may have been queued and was not known to run."""
    ended_at: float | None = None
    """When it ended; None if the provider does not report it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """A machine in the ledger."""

    token: str
    order_token: str
    instance_id: str | None
    provider: str
    zone: str
    instance_type: str
    market: Market
    usd_per_hour: float
    slots: int
    cpus: int
    lifetime_seconds: float
    ordered_at: float
    started_at: float | None
    ready_at: float | None
    ended_at: float | None
    end_reason: EndReason | None
    ending_since: float | None
    detail: str
    """The provider's text: why it ended, was not launched, or does not run yet."""
    can_queue: bool
    """Whether it may be queued by its provider at no cost."""
    running_at: float | None
    """The earliest time at which it may have started to run; None while it is queued, and if it never ran."""
    manager_id: int = 0
    """The number of the manager whose pool it belongs to."""
    nodes: float = 0.0
    """See ``InstanceType.nodes``."""

    @property
    def has_market(self) -> bool:
        """Whether its market means something: it has a price, and is not a part of a cluster."""
        return self.usd_per_hour > 0 and not self.nodes

    @property
    def end_text(self) -> str:
        """The reason for its end, for people; empty if it has not ended and is not being terminated."""
        return "" if self.end_reason is None else self.end_reason.describe(self.detail)

    @property
    def kind(self) -> Kind:
        """Type, zone and market."""
        return Kind(self.instance_type, self.zone, self.market)

    @property
    def is_queued(self) -> bool:
        """Whether it is queued by its provider, as far as is known."""
        return self.can_queue and self.started_at is not None and self.running_at is None and self.ended_at is None

    @property
    def boots_since(self) -> float | None:
        """The earliest time at which its boot may have begun; None if it may still be queued."""
        return self.running_at or (None if self.can_queue else self.ordered_at)

    @property
    def paid_from(self) -> float | None:
        """When its costs begin: with the launch request, or with its start if it may be queued; None if they have not begun."""
        return self.running_at if self.can_queue else self.ordered_at

    def paid_seconds(self, now: float) -> float:
        """Return the time that it has cost so far."""
        if self.paid_from is None:
            return 0.0
        return max(0.0, (self.ended_at or now) - self.paid_from)

    def max_paid_seconds(self, now: float) -> float:
        """Return the time that it costs at most in total, which the self-destruct timer limits."""
        if self.ended_at is not None:
            return self.paid_seconds(now)
        if self.can_queue:
            seconds = 0.0 if self.running_at is None else now - self.running_at
            return max(seconds, self.lifetime_seconds)
        begun_at = self.started_at or min(now, self.ordered_at + UNCERTAIN_SECONDS)
        seconds = begun_at + self.lifetime_seconds - self.ordered_at
        return max(seconds, now - self.ordered_at)

    def cost_usd(self, now: float) -> float:
        """Return its costs so far."""
        return self.usd_per_hour * self.paid_seconds(now) / SECONDS_PER_HOUR

    def max_cost_usd(self, now: float) -> float:
        """Return its maximum total costs."""
        return self.usd_per_hour * self.max_paid_seconds(now) / SECONDS_PER_HOUR

    def node_hours(self, now: float) -> float:
        """Return its node-hours so far."""
        return self.nodes * self.paid_seconds(now) / SECONDS_PER_HOUR

    def max_node_hours(self, now: float) -> float:
        """Return its maximum total node-hours."""
        return self.nodes * self.max_paid_seconds(now) / SECONDS_PER_HOUR


_MARKETS = {one.value: one for one in Market}
COLUMNS = (
    "token, order_token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, cpus, lifetime_seconds, ordered_at, "
    "started_at, ready_at, ended_at, end_reason, ending_since, detail, can_queue, "
    "running_at, manager_id, nodes"
)


def open_machines(database: Database, manager_id: int | None = None) -> list[MachineRecord]:
    """Return the machines that are not known to have ended, of the pool of a manager or of all pools."""
    found = _read(database, "WHERE ended_at IS NULL ORDER BY token")
    return found if manager_id is None else [one for one in found if one.manager_id == manager_id]


def requests_of_other_pools(database: Database, manager_id: int) -> set[str]:
    """Return the tokens of the launch requests of all pools but that of a manager."""
    return {token for (token,) in database.rows("SELECT order_token FROM machine WHERE manager_id <> ?", (manager_id,))}


def all_machines(database: Database) -> list[MachineRecord]:
    """Return all machines of the job ever, the oldest first."""
    return _read(database, "ORDER BY ordered_at, token")


def spent_usd(database: Database) -> float:
    """Return the costs of the machines that have ended."""
    return _spent(database, "usd_per_hour")


def spent_node_hours(database: Database) -> float:
    """Return the node-hours of the machines that have ended."""
    return _spent(database, "nodes")


def _spent(database: Database, per_hour: str) -> float:
    found = database.value(
        f"SELECT sum({per_hour} * (ended_at - iif(can_queue, coalesce(running_at, ended_at), ordered_at))) / {SECONDS_PER_HOUR} "
        "FROM machine WHERE ended_at IS NOT NULL"
    )
    return float(found or 0.0)


def count_requests(database: Database) -> int:
    """Return the number of launch requests ever."""
    return int(database.value("SELECT count(DISTINCT order_token) FROM machine"))


def closed_ids(database: Database, since: float) -> set[str]:
    """Return the provider's IDs of machines that have ended recently."""
    return {
        name
        for (name,) in database.rows(
            "SELECT instance_id FROM machine WHERE ended_at >= ? AND instance_id IS NOT NULL", (since,)
        )
    }


def last_heartbeats(database: Database) -> dict[str, float]:
    """Return the time of the last heartbeat from each machine, by token."""
    return dict(
        database.rows(
            "SELECT machine.token, max(worker.seen_at) FROM machine JOIN worker ON worker.machine = machine.instance_id "
            "WHERE worker.end_reason IS NOT 'failed' GROUP BY machine.token"
        )
    )


def was_ever_ready(database: Database, manager_id: int = 0) -> bool:
    """Return whether a worker on any machine of a pool ever sent a heartbeat."""
    return bool(
        database.value(
            "SELECT EXISTS (SELECT 1 FROM machine WHERE ready_at IS NOT NULL AND manager_id = ?)", (manager_id,)
        )
    )


def productive_machines(database: Database, manager_id: int = 0) -> dict[str, float]:
    """Return the time of the last heartbeat from each machine of a pool that finished a task, or whose worker ended normally, by token."""
    return dict(
        database.rows(
            "SELECT machine.token, max(worker.seen_at) FROM machine JOIN worker ON worker.machine = machine.instance_id "
            "WHERE machine.manager_id = ? AND (worker.busy_seconds > 0 OR worker.end_reason IN ('stopped', 'preempted')) "
            "GROUP BY machine.token",
            (manager_id,),
        )
    )


def has_run_tasks(database: Database, instance_id: str) -> bool:
    """Return whether a machine finished a task."""
    return bool(
        database.value("SELECT EXISTS (SELECT 1 FROM worker WHERE machine = ? AND busy_seconds > 0)", (instance_id,))
    )


def ended_since(database: Database, since: float, manager_id: int = 0) -> list[MachineRecord]:
    """Return the machines of a pool that ran, and ended after a time."""
    ran = "started_at IS NOT NULL AND running_at IS NOT NULL"
    return _read(
        database, f"WHERE ended_at > {since!r} AND {ran} AND machine.manager_id = {manager_id} ORDER BY ended_at"
    )


def _read(database: Database, rest: str) -> list[MachineRecord]:
    rows = database.rows(f"SELECT {COLUMNS} FROM machine {rest}")
    try:
        return [_record(*row) for row in rows]
    except (KeyError, ValueError) as error:
        raise UnusableLedgerError(
            f"The ledger {database.path} has a machine with an unknown market or end ({error}): it is damaged, or another program changed "
            "it."
        ) from error


def _record(
    token: str,
    order_token: str,
    instance_id: str | None,
    provider: str,
    zone: str,
    instance_type: str,
    market: str,
    usd_per_hour: float,
    slots: int,
    cpus: int,
    lifetime_seconds: float,
    ordered_at: float,
    started_at: float | None,
    ready_at: float | None,
    ended_at: float | None,
    end_reason: str | None,
    ending_since: float | None,
    detail: str,
    can_queue: int,
    running_at: float | None,
    manager_id: int,
    nodes: float,
) -> MachineRecord:
    """Return a record of the values of ``COLUMNS``; by name, since a pool of a thousand machines creates thousands of them in each step."""
    return MachineRecord(
        token=token,
        order_token=order_token,
        instance_id=instance_id,
        provider=provider,
        zone=zone,
        instance_type=instance_type,
        market=_MARKETS[market],
        usd_per_hour=usd_per_hour,
        slots=slots,
        cpus=cpus,
        lifetime_seconds=lifetime_seconds,
        ordered_at=ordered_at,
        started_at=started_at,
        ready_at=ready_at,
        ended_at=ended_at,
        end_reason=None if end_reason is None else EndReason(end_reason),
        ending_since=ending_since,
        detail=detail,
        can_queue=bool(can_queue),
        running_at=running_at,
        manager_id=manager_id,
        nodes=nodes,
    )
