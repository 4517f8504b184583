"""Changes of the records of a job's machines in the ledger."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from taskfleet.ledger.database import Database
from taskfleet.machines import LaunchRequest, Machine, MachineState
from taskfleet.pool.records import UNCERTAIN_SECONDS, End
from taskfleet.version import VERSION

if TYPE_CHECKING:
    from taskfleet.machines.choosing import Offer  # not needed at run time, and slow to import


def add_request(
    database: Database,
    request: LaunchRequest,
    *,
    provider: str,
    now: float,
    can_queue: bool = False,
    manager_id: int = 0,
) -> None:
    """Add the machines of a launch request before it is sent, with the highest price, the most CPUs and the most nodes of its offers.

    Args:
        database: The ledger.
        request: The request.
        provider: The name of the provider.
        now: Seconds since the epoch.
        can_queue: Whether the machines may be queued at no cost.
        manager_id: The number of the manager whose pool they belong to.
    """
    best = request.offers[0]
    usd_per_hour = max(one.usd_per_hour for one in request.offers)
    slots = min(one.slots for one in request.offers)
    cpus = max(one.cpus for one in request.offers)
    nodes = max(one.nodes for one in request.offers)
    with database.transaction():
        database.execute_many(
            "INSERT INTO machine (token, order_token, provider, zone, instance_type, market, usd_per_hour, slots, cpus, lifetime_seconds, "
            "ordered_at, can_queue, version, manager_id, nodes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    manager_id,
                    nodes,
                )
                for token in request.tokens
            ],
        )


def mark_started(
    database: Database, token: str, instance_id: str, offer: "Offer | None", now: float, running_at: float | None
) -> None:
    """Record that a machine was launched.

    Args:
        database: The ledger.
        token: Of the machine.
        instance_id: The provider's ID.
        offer: The offer that was launched; None if it is unknown.
        now: Seconds since the epoch.
        running_at: When it started to run; None if it is queued.
    """
    with database.transaction():
        database.execute(
            "UPDATE machine SET instance_id = ?, started_at = coalesce(started_at, ?), running_at = coalesce(running_at, ?) "
            "WHERE token = ?",
            (instance_id, now, running_at, token),
        )
        if offer is not None:
            database.execute(
                "UPDATE machine SET instance_type = ?, zone = ?, market = ?, usd_per_hour = ?, slots = ?, cpus = ?, nodes = ? "
                "WHERE token = ?",
                (
                    offer.instance_type,
                    offer.zone,
                    offer.market,
                    offer.usd_per_hour,
                    offer.slots,
                    offer.cpus,
                    offer.nodes,
                    token,
                ),
            )


def mark_running(database: Database, running_at: Mapping[str, float]) -> None:
    """Record when queued machines started to run, by token."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET running_at = ? WHERE token = ? AND running_at IS NULL AND ended_at IS NULL",
            [(since, token) for token, since in running_at.items()],
        )


def update_details(database: Database, details: Mapping[str, str]) -> None:
    """Record the provider's texts about existing machines, by token."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET detail = ? WHERE token = ? AND end_reason IS NULL",
            [(detail, token) for token, detail in details.items()],
        )


def mark_ready(database: Database, tokens: Iterable[str], now: float) -> None:
    """Record that a worker on each machine has sent a heartbeat."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ready_at = ? WHERE token = ? AND ready_at IS NULL", [(now, token) for token in tokens]
        )


def mark_ending(database: Database, tokens: Iterable[str], end: End, now: float) -> None:
    """Record that machines are about to be terminated, with the reason unless there is one already."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ending_since = ?, detail = iif(end_reason IS NULL, ?, detail), end_reason = coalesce(end_reason, ?) "
            "WHERE token = ? AND ended_at IS NULL",
            [(now, end.detail, end.reason, token) for token in tokens],
        )


def mark_ended(database: Database, ends: Mapping[str, End], now: float) -> None:
    """Record that machines have ended, with the reason unless there is one already.

    Unless their provider reports when they ended, their self-destruct timer ended them at the latest. Whatever the provider's clock says,
    they ended after their start and before now. Queued machines that never ran end now, and have cost nothing.
    """
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET running_at = coalesce(running_at, ?1), ended_at = coalesce("
            "min(max(?7, coalesce(running_at, ?1, ordered_at)), ?2), min(?2, lifetime_seconds + "
            "iif(can_queue, coalesce(running_at, ?1), coalesce(started_at, ordered_at + ?3))), ?2), "
            "detail = iif(end_reason IS NULL, ?4, detail), end_reason = coalesce(end_reason, ?5) WHERE token = ?6 AND ended_at IS NULL",
            [
                (end.running_at, now, UNCERTAIN_SECONDS, end.detail, end.reason, token, end.ended_at)
                for token, end in ends.items()
            ],
        )


def mark_never_started(database: Database, ends: Mapping[str, End]) -> None:
    """Record that machines were not launched, with the reason; they cost nothing."""
    with database.transaction():
        database.execute_many(
            "UPDATE machine SET ended_at = ordered_at, end_reason = ?, detail = ? WHERE token = ? AND ended_at IS NULL",
            [(end.reason, end.detail, token) for token, end in ends.items()],
        )


def reopen(database: Database, machine: Machine, now: float) -> bool:
    """Record that an unexpected machine exists: reopen the record of it that was closed too early.

    Returns:
        Whether there is such a record.
    """
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
                    machine.request_token,
                    now,
                    machine.state is MachineState.QUEUED,
                    machine.running_since,
                ),
            ).rowcount
        )
