"""What the ledger remembers of a job's machines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskfleet.ledger.database import Database
from taskfleet.machines import Order
from taskfleet.machines.terms import Market

SECONDS_PER_HOUR = 3600.0
#: An order of which nothing was heard may have been carried out as late as this.
UNCERTAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One machine, as it is written down."""

    token: str
    instance_id: str | None
    provider: str
    zone: str
    instance_type: str
    market: Market
    usd_per_hour: float
    slots: int
    lifetime_seconds: float
    ordered_at: float
    started_at: float | None
    ready_at: float | None
    ended_at: float | None
    end_reason: str | None
    ending_since: float | None

    @property
    def kind(self) -> tuple[str, str, Market]:
        """What was ordered, and where: (type, zone, market)."""
        return self.instance_type, self.zone, self.market

    def cost_usd(self, now: float) -> float:
        """Give what it has cost so far, from its order on."""
        return self.usd_per_hour * max(0.0, (self.ended_at or now) - self.ordered_at) / SECONDS_PER_HOUR

    def most_cost_usd(self, now: float) -> float:
        """Give what it can cost in all: whatever happens, it ends itself."""
        if self.ended_at is not None:
            return self.cost_usd(now)
        begun_at = self.started_at or min(now, self.ordered_at + UNCERTAIN_SECONDS)
        seconds = begun_at + self.lifetime_seconds - self.ordered_at
        return self.usd_per_hour * max(seconds, now - self.ordered_at) / SECONDS_PER_HOUR


_COLUMNS = (
    "token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, lifetime_seconds, ordered_at, started_at, ready_at, "
    "ended_at, end_reason, ending_since"
)


def open_machines(database: Database) -> list[Record]:
    """Give the machines that are not known to be gone."""
    return _read(database, "WHERE ended_at IS NULL ORDER BY token")


def all_machines(database: Database) -> list[Record]:
    """Give every machine there ever was, the first first."""
    return _read(database, "ORDER BY ordered_at, token")


def spent_usd(database: Database) -> float:
    """Give what the machines that are gone have cost."""
    found = database.value(
        f"SELECT sum(usd_per_hour * (ended_at - ordered_at)) / {SECONDS_PER_HOUR} FROM machine WHERE ended_at IS NOT NULL"
    )
    return float(found or 0.0)


def count_ever(database: Database) -> int:
    """Give how many machines were ever ordered."""
    return int(database.value("SELECT count(*) FROM machine"))


def write_orders(database: Database, orders: Iterable[Order], *, provider: str, now: float) -> None:
    """Write machines down before they are ordered."""
    with database.transaction():
        database.execute_many(
            "INSERT INTO machine (token, provider, zone, instance_type, market, usd_per_hour, slots, lifetime_seconds, ordered_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    one.token,
                    provider,
                    one.zone,
                    one.instance_type,
                    one.market,
                    one.usd_per_hour,
                    one.slots,
                    one.lifetime_seconds,
                    now,
                )
                for one in orders
            ],
        )


def note_started(database: Database, token: str, instance_id: str, now: float) -> None:
    """Note that a machine is there."""
    with database.transaction():
        database.execute(
            "UPDATE machine SET instance_id = ?, started_at = coalesce(started_at, ?) WHERE token = ?",
            (instance_id, now, token),
        )


def note_ready(database: Database, tokens: Iterable[str], now: float) -> None:
    """Note that workers on these machines were heard."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ready_at = ? WHERE token = ? AND ready_at IS NULL", [(now, token) for token in tokens]
        )


def note_ending(database: Database, tokens: Iterable[str], reason: str, now: float) -> None:
    """Note that machines are about to be ended, and why."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ending_since = ?, end_reason = coalesce(end_reason, ?) WHERE token = ? AND ended_at IS NULL",
            [(now, reason, token) for token in tokens],
        )


def note_ended(database: Database, tokens: Mapping[str, str], now: float) -> None:
    """Note that machines are gone, and why, if no reason is known yet; at the latest they ended themselves when their lifetime was over."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ended_at = min(?, coalesce(started_at, ordered_at + ?) + lifetime_seconds), "
            "end_reason = coalesce(end_reason, ?) WHERE token = ? AND ended_at IS NULL",
            [(now, UNCERTAIN_SECONDS, reason, token) for token, reason in tokens.items()],
        )


def note_never_started(database: Database, tokens: Mapping[str, str]) -> None:
    """Note that orders were not carried out, and why; they cost nothing."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ended_at = ordered_at, end_reason = ? WHERE token = ? AND ended_at IS NULL",
            [(reason, token) for token, reason in tokens.items()],
        )


def reopen(database: Database, token: str, instance_id: str, now: float) -> bool:
    """Take a machine that counted as gone for one that is there; False if there never was one of that name."""
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE machine SET ended_at = NULL, instance_id = ?, started_at = coalesce(started_at, ordered_at), ending_since = ? "
                "WHERE token = ?",
                (instance_id, now, token),
            ).rowcount
        )


def was_ever_ready(database: Database) -> bool:
    """Say whether a worker was ever heard of any machine."""
    return bool(database.value("SELECT EXISTS (SELECT 1 FROM machine WHERE ready_at IS NOT NULL)"))


def boot_failures(database: Database, not_counted: Sequence[str]) -> list[float]:
    """Say when machines ended whose worker was never heard, since the last one that was.

    Args:
        database: The ledger.
        not_counted: Beginnings of reasons that say nothing of the machine itself.
    """
    rows = database.rows(
        "SELECT ended_at, end_reason FROM machine WHERE ended_at > (SELECT coalesce(max(ready_at), 0) FROM machine) "
        "AND started_at IS NOT NULL AND ready_at IS NULL"
    )
    return [ended_at for ended_at, reason in rows if not (reason or "").startswith(tuple(not_counted))]


def _read(database: Database, rest: str) -> list[Record]:
    names = _COLUMNS.split(", ")
    found = []
    for row in database.rows(f"SELECT {_COLUMNS} FROM machine {rest}"):
        values = dict(zip(names, row, strict=True))
        found.append(Record(**{**values, "market": Market(values["market"])}))
    return found
