"""What the ledger remembers of a job's machines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskfleet.ledger.database import Database
from taskfleet.machine_terms import Market
from taskfleet.machines import EndReason, Kind, LaunchRequest, Machine, MachineState
from taskfleet.version import VERSION

if TYPE_CHECKING:
    from taskfleet.machines.choosing import Offer  # which the status of a job has no use for

SECONDS_PER_HOUR = 3600.0
#: An order of which nothing was heard may have been carried out as late as this.
UNCERTAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class End:
    """How a machine came to its end, or why it never was there."""

    reason: EndReason
    detail: str = ""
    """In the provider's words."""
    running_at: float | None = None
    """When it began to run, at the earliest, if it may have queued and was not known to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One machine, as it is written down."""

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
    """In the provider's words: why it ended, was not launched, or does not run yet."""
    can_queue: bool
    """Whether it may wait in its provider's queue, unpaid."""
    running_at: float | None
    """When it began to run, at the earliest; None while it waits, and if it never ran."""

    @property
    def end_text(self) -> str:
        """Why it is not there, or is being ended, for people; empty if neither."""
        return "" if self.end_reason is None else self.end_reason.told(self.detail)

    @property
    def kind(self) -> Kind:
        """What was asked for, and where."""
        return Kind(self.instance_type, self.zone, self.market)

    @property
    def is_queued(self) -> bool:
        """Whether it waits in its provider's queue, as far as is known."""
        return self.can_queue and self.started_at is not None and self.running_at is None and self.ended_at is None

    @property
    def boots_since(self) -> float | None:
        """Since when it boots, at the earliest; None of one that may still be queued."""
        return self.running_at or (None if self.can_queue else self.ordered_at)

    @property
    def paid_from(self) -> float | None:
        """From when it costs money: from its request on, or from its start where it may queue; None if it has not begun to cost any."""
        return self.running_at if self.can_queue else self.ordered_at

    def cost_usd(self, now: float) -> float:
        """Return what it has cost so far."""
        if self.paid_from is None:
            return 0.0
        return self.usd_per_hour * max(0.0, (self.ended_at or now) - self.paid_from) / SECONDS_PER_HOUR

    def most_cost_usd(self, now: float) -> float:
        """Return what it can cost in all: whatever happens, it ends itself."""
        if self.ended_at is not None:
            return self.cost_usd(now)
        if self.can_queue:
            seconds = 0.0 if self.running_at is None else now - self.running_at
            return self.usd_per_hour * max(seconds, self.lifetime_seconds) / SECONDS_PER_HOUR
        begun_at = self.started_at or min(now, self.ordered_at + UNCERTAIN_SECONDS)
        seconds = begun_at + self.lifetime_seconds - self.ordered_at
        return self.usd_per_hour * max(seconds, now - self.ordered_at) / SECONDS_PER_HOUR


_MARKETS = {one.value: one for one in Market}
_COLUMNS = (
    "token, order_token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, cpus, lifetime_seconds, ordered_at, "
    "started_at, ready_at, ended_at, end_reason, ending_since, detail, can_queue, "
    "running_at"
)


def open_machines(database: Database) -> list[Record]:
    """Give the machines that are not known to be gone."""
    return _read(database, "WHERE ended_at IS NULL ORDER BY token")


def all_machines(database: Database) -> list[Record]:
    """Give every machine there ever was, the first first."""
    return _read(database, "ORDER BY ordered_at, token")


def spent_usd(database: Database) -> float:
    """Return what the machines that are gone have cost."""
    found = database.value(
        f"SELECT sum(usd_per_hour * (ended_at - iif(can_queue, coalesce(running_at, ended_at), ordered_at))) / {SECONDS_PER_HOUR} "
        "FROM machine WHERE ended_at IS NOT NULL"
    )
    return float(found or 0.0)


def count_requests(database: Database) -> int:
    """Return how many launch requests were ever made."""
    return int(database.value("SELECT count(DISTINCT order_token) FROM machine"))


def write_request(
    database: Database, request: LaunchRequest, *, provider: str, now: float, can_queue: bool = False
) -> None:
    """Write machines down before they are launched: as expensive and as big as any of what they may be."""
    best = request.offers[0]
    usd_per_hour = max(one.usd_per_hour for one in request.offers)
    slots = min(one.slots for one in request.offers)
    cpus = max(one.cpus for one in request.offers)
    with database.transaction():
        database.execute_many(
            "INSERT INTO machine (token, order_token, provider, zone, instance_type, market, usd_per_hour, slots, cpus, lifetime_seconds, "
            "ordered_at, can_queue, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    token,
                    request.token,
                    provider,
                    best.zone,
                    best.instance_type,
                    best.market,
                    usd_per_hour,
                    slots,
                    cpus,
                    request.lifetime_seconds,
                    now,
                    can_queue,
                    VERSION,
                )
                for token in request.tokens
            ],
        )


def note_started(
    database: Database, token: str, instance_id: str, offer: "Offer | None", now: float, running_at: float | None
) -> None:
    """Note that a machine is there.

    Args:
        database: The ledger.
        token: The machine's.
        instance_id: The provider's name for it.
        offer: Which of the offers it is, if that is known.
        now: Seconds since the epoch.
        running_at: Since when it runs; None if it is queued.
    """
    with database.transaction():
        database.execute(
            "UPDATE machine SET instance_id = ?, started_at = coalesce(started_at, ?), running_at = coalesce(running_at, ?) "
            "WHERE token = ?",
            (instance_id, now, running_at, token),
        )
        if offer is not None:
            database.execute(
                "UPDATE machine SET instance_type = ?, zone = ?, market = ?, usd_per_hour = ?, slots = ?, cpus = ? WHERE token = ?",
                (offer.instance_type, offer.zone, offer.market, offer.usd_per_hour, offer.slots, offer.cpus, token),
            )


def note_running(database: Database, running_at: Mapping[str, float]) -> None:
    """Note since when machines run that were queued, by token."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET running_at = ? WHERE token = ? AND running_at IS NULL AND ended_at IS NULL",
            [(since, token) for token, since in running_at.items()],
        )


def note_details(database: Database, details: Mapping[str, str]) -> None:
    """Note what the provider says of machines that are there, by token."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET detail = ? WHERE token = ? AND end_reason IS NULL",
            [(detail, token) for token, detail in details.items()],
        )


def note_ready(database: Database, tokens: Iterable[str], now: float) -> None:
    """Note that workers on these machines were heard."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ready_at = ? WHERE token = ? AND ready_at IS NULL", [(now, token) for token in tokens]
        )


def note_ending(database: Database, tokens: Iterable[str], end: End, now: float) -> None:
    """Note that machines are about to be ended, and why, if no reason is known yet."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ending_since = ?, detail = iif(end_reason IS NULL, ?, detail), end_reason = coalesce(end_reason, ?) "
            "WHERE token = ? AND ended_at IS NULL",
            [(now, end.detail, end.reason, token) for token in tokens],
        )


def note_ended(database: Database, ends: Mapping[str, End], now: float) -> None:
    """Note that machines are gone, and why, if no reason is known yet; at the latest they ended themselves when their lifetime was over.

    What was queued and never ran ends now, and has cost nothing.
    """
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET running_at = coalesce(running_at, ?1), ended_at = coalesce(min(?2, lifetime_seconds + "
            "iif(can_queue, coalesce(running_at, ?1), coalesce(started_at, ordered_at + ?3))), ?2), "
            "detail = iif(end_reason IS NULL, ?4, detail), end_reason = coalesce(end_reason, ?5) WHERE token = ?6 AND ended_at IS NULL",
            [(end.running_at, now, UNCERTAIN_SECONDS, end.detail, end.reason, token) for token, end in ends.items()],
        )


def note_never_started(database: Database, ends: Mapping[str, End]) -> None:
    """Note that machines were not launched, and why; they cost nothing."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ended_at = ordered_at, end_reason = ?, detail = ? WHERE token = ? AND ended_at IS NULL",
            [(end.reason, end.detail, token) for token, end in ends.items()],
        )


def reopen(database: Database, machine: Machine, now: float) -> bool:
    """Take one that counted as gone for a machine that is there; False if none was ever asked for that it could be."""
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE machine SET ended_at = NULL, instance_id = ?1, started_at = coalesce(started_at, ordered_at), ending_since = ?3, "
                "running_at = CASE WHEN NOT can_queue THEN coalesce(running_at, ordered_at) WHEN ?4 THEN NULL "
                "ELSE coalesce(max(?5, ordered_at), running_at, ordered_at) END "
                "WHERE token = (SELECT token FROM machine WHERE instance_id = ?1 OR token = ?1 "
                "OR (order_token = ?2 AND instance_id IS NULL AND ended_at IS NOT NULL) "
                "ORDER BY coalesce(instance_id, token) = ?1 DESC, token LIMIT 1)",
                (
                    machine.instance_id,
                    machine.order,
                    now,
                    machine.state is MachineState.QUEUED,
                    machine.running_since,
                ),
            ).rowcount
        )


def closed_ids(database: Database, since: float) -> set[str]:
    """Give the providers' names of the machines that were seen to be gone lately."""
    return {
        name
        for (name,) in database.rows(
            "SELECT instance_id FROM machine WHERE ended_at >= ? AND instance_id IS NOT NULL", (since,)
        )
    }


def last_heartbeats(database: Database) -> dict[str, float]:
    """Return when a worker on each machine gave its last sign of life, by token."""
    return dict(
        database.rows(
            "SELECT machine.token, max(worker.seen_at) FROM machine JOIN worker ON worker.machine = machine.instance_id "
            "WHERE worker.end_reason IS NOT 'failed' GROUP BY machine.token"
        )
    )


def was_ever_ready(database: Database) -> bool:
    """Say whether a worker was ever heard of any machine."""
    return bool(database.value("SELECT EXISTS (SELECT 1 FROM machine WHERE ready_at IS NOT NULL)"))


def has_worked(database: Database) -> dict[str, float]:
    """Say of each machine on which a task came to an end, or a worker in good order, when it was last heard, by token."""
    return dict(
        database.rows(
            "SELECT machine.token, max(worker.seen_at) FROM machine JOIN worker ON worker.machine = machine.instance_id "
            "WHERE worker.busy_seconds > 0 OR worker.end_reason IN ('stopped', 'preempted') GROUP BY machine.token"
        )
    )


def ended_since(database: Database, since: float) -> list[Record]:
    """Return the machines that ran, and ended later than that."""
    ran = "started_at IS NOT NULL AND running_at IS NOT NULL"
    return _read(database, f"WHERE ended_at > {since!r} AND {ran} ORDER BY ended_at")


def _read(database: Database, rest: str) -> list[Record]:
    return [_record(*row) for row in database.rows(f"SELECT {_COLUMNS} FROM machine {rest}")]


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
) -> Record:
    """Make a record of the values of ``_COLUMNS``; by name, since a pool of a thousand machines makes thousands of them in each step."""
    return Record(
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
    )
