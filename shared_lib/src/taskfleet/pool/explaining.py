"""Why a pool does not move, and what to change."""

from collections import Counter

from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason
from taskfleet.pool import control, records
from taskfleet.pool.control import ABSENT_SECONDS
from taskfleet.pool.controller import failures
from taskfleet.pool.planning import MOST_FAILURES, Limits
from taskfleet.pool.records import Record
from taskfleet.text import counted, duration

#: What was refused longer ago explains nothing now.
RECENT_SECONDS = 3600.0

_SEE_THE_TEXT = "See the text: asking again does not help"
#: What to do about machines that were not launched.
_REMEDIES = {
    EndReason.STOCK_OUT: "More REGIONS, types or MARKETS give more to choose from",
    EndReason.QUOTA: "Ask the provider for a higher quota, or lower MACHINES or TOTAL_CPUS",
    EndReason.THROTTLED: "It is asked again by itself",
    EndReason.PRICE: "Add on-demand to MARKETS",
    EndReason.INVALID: _SEE_THE_TEXT,
    EndReason.LAUNCH_ERROR: _SEE_THE_TEXT,
}


def explain_pool(database: Database, limits: Limits, tasks_left: int, now: float) -> list[str]:
    """Say what keeps a pool from moving, the weightiest first; one sentence each."""
    machines = records.all_machines(database)
    there = [one for one in machines if one.ended_at is None]
    if not tasks_left:
        gone = "no machine is there" if not there else f"{counted(len(there), 'machine')} to be ended: poe teardown"
        return [f"No tasks are left, {gone}."]
    found = [*_about_controller(database, there, now), *_about_failures(database, machines)]
    found += _about_failed_launches(machines, now)
    found += _about_money(machines, there, limits, now)
    found += _about_machines(database, there, limits, now)
    slots = sum(one.slots for one in there)
    if not found and there:
        return [
            f"{counted(len(there), 'machine')} with {counted(slots, 'slot')} are at {counted(tasks_left, 'task')}; nothing is amiss."
        ]
    return found or [f"{counted(tasks_left, 'task')} left and no machine was ever ordered: poe deploy_pool."]


def _about_controller(database: Database, there: list[Record], now: float) -> list[str]:
    controller, seen_at = control.controller(database)
    if controller is not None and now - seen_at < ABSENT_SECONDS:
        return []
    since = f" since {duration(now - seen_at)}" if seen_at else ""
    if there:
        return [
            f"Nobody looks after the pool{since}: {counted(len(there), 'machine')} may be there and none is replaced; "
            "poe deploy_pool --continue."
        ]
    return [f"Nobody looks after the pool{since} and no machine is there: poe deploy_pool."]


def _about_failures(database: Database, machines: list[Record]) -> list[str]:
    worked = records.has_worked(database)
    n = len(failures(database, worked))
    if not n:
        return []
    names = [one.instance_id or one.token for one in machines if one.ended_at and one.token not in worked]
    text = f"The last {counted(n, 'machine')} did nothing before they ended"
    if not worked and n >= MOST_FAILURES:
        text += ", so the pool gives up"
    return [f"{text}: poe machines --console {names[-1]} shows what it printed."]


def _about_failed_launches(machines: list[Record], now: float) -> list[str]:
    failed = [
        one
        for one in machines
        if one.end_reason in _REMEDIES and one.ended_at == one.ordered_at and now - one.ordered_at < RECENT_SECONDS
    ]
    if not failed:
        return []
    [(reason, n)] = Counter(one.end_reason for one in failed).most_common(1)
    assert reason is not None
    last = failed[-1]
    return [
        f"In the last hour {counted(n, 'machine')} were refused ({reason.words}), the last one {last.instance_type} in {last.zone}, "
        f"{last.market}, {duration(now - last.ordered_at)} ago: {last.end_text}. {_REMEDIES[reason]}."
    ]


def _about_money(machines: list[Record], there: list[Record], limits: Limits, now: float) -> list[str]:
    spent = sum(one.cost_usd(now) for one in machines)
    committed = sum(one.most_cost_usd(now) for one in machines)
    if committed < 0.99 * limits.budget_usd:
        return []
    return [
        f"The budget is used up: of {limits.budget_usd:.2f} USD {spent:.2f} are spent and {committed - spent:.2f} set aside for "
        f"{counted(len(there), 'machine')}; BUDGET_USD allows more."
    ]


def _about_machines(database: Database, there: list[Record], limits: Limits, now: float) -> list[str]:
    last_heartbeats = records.last_heartbeats(database)
    queued = [one for one in there if one.is_queued and one.token not in last_heartbeats]
    found = []
    for one in there:
        heard = last_heartbeats.get(one.token)
        name = one.instance_id or one.token
        if heard is not None and now - heard > limits.silent_seconds:
            found.append(f"The worker on {name} is silent since {duration(now - heard)}.")
        elif heard is None and one.boots_since is not None and now - one.boots_since > limits.boot_seconds / 2:
            age = (
                f"runs since {duration(now - one.boots_since)}"
                if one.can_queue
                else f"was ordered {duration(now - one.ordered_at)} ago"
            )
            found.append(f"{name} {age} and no worker was heard: poe machines --console {name}{_in_words(one)}")
    found += _about_queue(queued, now)
    booting = [one for one in there if one.token not in last_heartbeats]
    if not found and booting and len(booting) == len(there):
        found.append(
            f"{counted(len(booting), 'machine')} boot; they have until {duration(limits.boot_seconds)} after their start (BOOT_MINUTES)."
        )
    elif not found and len(there) >= limits.most_machines:
        found.append(f"As many machines as there may be work ({len(there)}): MACHINES allows more.")
    return found


def _about_queue(queued: list[Record], now: float) -> list[str]:
    if not queued:
        return []
    first = min(queued, key=lambda one: one.ordered_at)
    told = Counter(one.detail for one in queued if one.detail).most_common(1)
    return [
        f"{counted(len(queued), 'machine')} in the provider's queue, the first for {duration(now - first.ordered_at)}; what waits costs "
        f"nothing.{f' The provider says: {told[0][0]}.' if told else ''}"
    ]


def _in_words(one: Record) -> str:
    return f" (the provider says: {one.detail})" if one.detail else ""
