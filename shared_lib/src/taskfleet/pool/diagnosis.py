"""Diagnosis of pools without progress: the reasons, and what to change."""

from collections import Counter
from collections.abc import Mapping

from taskfleet.invocation import poe
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason
from taskfleet.pool import control, records
from taskfleet.pool.job_state import failures
from taskfleet.pool.planning import MAX_FAILURES, Limits
from taskfleet.pool.records import SECONDS_PER_HOUR, MachineRecord
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.text import amount, counted, duration

#: Older launch failures are ignored.
RECENT_SECONDS = 3600.0

_FIX_CAUSE = "Correct this: a retry would fail, too"
#: What to do about launch failures.
_REMEDIES = {
    EndReason.STOCK_OUT: "Add REGIONS, instance types or MARKETS to have more offers",
    EndReason.QUOTA: "Ask the provider for a higher quota, or lower MACHINES or TOTAL_CPUS",
    EndReason.THROTTLED: "The launch is retried automatically",
    EndReason.PRICE: "Add on-demand to MARKETS",
    EndReason.INVALID: _FIX_CAUSE,
    EndReason.LAUNCH_ERROR: _FIX_CAUSE,
}


def diagnose_pools(
    database: Database, limits: Limits, own_limits: Mapping[str, Limits], tasks_left: int, now: float
) -> list[str]:
    """Return the reasons for which the pools of a job make no progress, the most important first, in a sentence each.

    Args:
        database: The job's ledger.
        limits: The limits of the pool of the default manager.
        own_limits: Those of other pools that have others, by the names of their managers.
        tasks_left: The number of tasks of the job that have not ended.
        now: Seconds since the epoch.
    """
    machines = records.all_machines(database)
    existing = [one for one in machines if one.ended_at is None]
    if not tasks_left:
        if not existing:
            return ["No tasks are left, and no machines exist."]
        return [f"No tasks are left, but {_exist(len(existing))}. {poe('teardown')} terminates them."]
    found = _about_controller(database, existing, now)
    wanted = managers.runnable(database)
    numbers = sorted({one.manager_id for one in machines} | wanted.keys()) or [0]
    names = {0: DEFAULT_MANAGER, **managers.names(database)}
    by_pool = {}
    for number in numbers:
        name = names.get(number, DEFAULT_MANAGER)
        of_pool = [one for one in machines if one.manager_id == number]
        by_pool[name] = _about_pool(database, number, of_pool, own_limits.get(name, limits), wanted.get(number, 0), now)
    has_several = len(numbers) > 1 or numbers != [0]
    found += [f"Pool {name}: {text}" if has_several else text for name, texts in by_pool.items() for text in texts]
    found += _about_budgets(machines, existing, limits, now)
    if not found and existing:
        slots = sum(one.slots for one in existing)
        return [
            f"No problem found: {counted(len(existing), 'machine')} with {counted(slots, 'slot')} for {counted(tasks_left, 'task')} left."
        ]
    left = f"{counted(tasks_left, 'task')} left, but no machine was ever launched"
    return found or [f"{left}. {poe('deploy_pool')} launches machines."]


def _about_pool(
    database: Database, number: int, machines: list[MachineRecord], limits: Limits, wanted: int, now: float
) -> list[str]:
    """Return the reasons for which the pool of one manager makes no progress; ``wanted`` is the number of its tasks that can run."""
    existing = [one for one in machines if one.ended_at is None]
    found = _about_failures(database, machines, now, number)
    found += _about_failed_launches(machines, now)
    found += _about_machines(database, existing, limits, now)
    if not found and number and wanted and not existing and _has_controller(database, now):
        found.append(f"{counted(wanted, 'task')} can run, and no machine exists.")
    return found


def _exist(n: int) -> str:
    return f"{counted(n, 'machine')} {'exists' if n == 1 else 'exist'}"


def _has_controller(database: Database, now: float) -> bool:
    return control.running(database, now) is not None


def _about_controller(database: Database, existing: list[MachineRecord], now: float) -> list[str]:
    if _has_controller(database, now):
        return []
    _, seen_at = control.controller(database)
    since = f"The pool has had no controller for {duration(now - seen_at)}" if seen_at else "The pool has no controller"
    if existing:
        return [
            f"{since}: {counted(len(existing), 'machine')} may still exist, and failed machines are not replaced. "
            f"{poe('deploy_pool --continue')} continues the pool."
        ]
    return [f"{since}, and no machines exist. {poe('deploy_pool')} launches machines."]


def _about_failures(database: Database, machines: list[MachineRecord], now: float, number: int) -> list[str]:
    productive = records.productive_machines(database, number)
    n = len(failures(database, productive, manager_id=number))
    if not n:
        return []
    names = [one.instance_id or one.token for one in machines if one.ended_at and one.token not in productive]
    text = f"No task ran on the last {counted(n, 'machine')} before {'it' if n == 1 else 'they'} ended"
    if not productive and n >= MAX_FAILURES and not _has_controller(database, now):
        text += ", so the pool gave up"
    return [f"{text}. {poe(f'machines --console {names[-1]}')} shows the console of the last one."]


def _about_failed_launches(machines: list[MachineRecord], now: float) -> list[str]:
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
    market = f", {last.market}" if last.has_market else ""
    return [
        f"{counted(n, 'machine')} not launched in the last hour ({reason.words}), the last one {last.instance_type} in "
        f"{last.zone}{market}, {duration(now - last.ordered_at)} ago: {last.end_text}. {_REMEDIES[reason]}."
    ]


def _about_budgets(
    machines: list[MachineRecord], existing: list[MachineRecord], limits: Limits, now: float
) -> list[str]:
    found = []
    least_hours = min(limits.min_lifetime_seconds, limits.lifetime_seconds) / SECONDS_PER_HOUR
    for budget, rates, unit, setting in (
        (limits.budget_usd, [one.usd_per_hour for one in machines], "USD", "BUDGET_USD"),
        (limits.budget_node_hours, [one.nodes for one in machines], "node-hours", "BUDGET_NODE_HOURS"),
    ):
        spent = sum(rate * one.paid_seconds(now) / SECONDS_PER_HOUR for rate, one in zip(rates, machines, strict=True))
        committed = sum(
            rate * one.max_paid_seconds(now) / SECONDS_PER_HOUR for rate, one in zip(rates, machines, strict=True)
        )
        least = min(filter(None, rates), default=0.0) * least_hours
        if committed + least > budget:
            found.append(
                f"The budget of {amount(budget, unit)} is used up: {amount(spent, unit)} are spent, and {amount(committed - spent, unit)} "
                f"reserved for {counted(len(existing), 'machine')}. Increase {setting} to continue."
            )
    return found


def _about_machines(database: Database, existing: list[MachineRecord], limits: Limits, now: float) -> list[str]:
    last_heartbeats = records.last_heartbeats(database)
    queued = [one for one in existing if one.is_queued and one.token not in last_heartbeats]
    found = []
    for one in existing:
        heartbeat_at = last_heartbeats.get(one.token)
        name = one.instance_id or one.token
        if heartbeat_at is not None and now - heartbeat_at > limits.silent_seconds:
            found.append(f"The last heartbeat from {name} was {duration(now - heartbeat_at)} ago.")
        elif heartbeat_at is None and one.boots_since is not None and now - one.boots_since > limits.boot_seconds / 2:
            age = "started" if one.can_queue else "was launched"
            text = f"{name} {age} {duration(now - one.boots_since)} ago and has sent no heartbeat{_detail(one)}"
            found.append(f"{text}. {poe(f'machines --console {name}')} shows its console.")
    found += _about_queue(queued, now)
    booting = [one for one in existing if one.token not in last_heartbeats]
    if not found and booting and len(booting) == len(existing):
        found.append(
            f"{counted(len(booting), 'machine')} booting; the limit is {duration(limits.boot_seconds)} after the start (BOOT_MINUTES)."
        )
    elif not found and len(existing) >= limits.max_machines:
        found.append(f"The maximum number of machines is running ({len(existing)}). Increase MACHINES for more.")
    return found


def _about_queue(queued: list[MachineRecord], now: float) -> list[str]:
    if not queued:
        return []
    first = min(queued, key=lambda one: one.ordered_at)
    details = Counter(one.detail for one in queued if one.detail).most_common(1)
    return [
        f"{counted(len(queued), 'machine')} in the provider's queue, the first for {duration(now - first.ordered_at)}, at no cost."
        f"{f' The provider reports: {details[0][0]}.' if details else ''}"
    ]


def _detail(one: MachineRecord) -> str:
    return f" (the provider reports: {one.detail})" if one.detail else ""
