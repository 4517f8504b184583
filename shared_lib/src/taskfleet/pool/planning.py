"""Decision which machines of a pool to terminate and launch: pure functions, so that simulations can test them.

``plan`` only decides; the controller carries out the plan.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from taskfleet.invocation import poe
from taskfleet.machine_terms import EPSILON, region_of
from taskfleet.machines import EndReason, LaunchRequest
from taskfleet.machines.choosing import Offer
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.records import SECONDS_PER_HOUR, MachineRecord
from taskfleet.text import amount, counted

#: A machine that still exists after this time is terminated again.
TERMINATE_AGAIN_SECONDS = 60.0
#: The pool gives up after this many unproductive machines, if no machine was ever productive.
MAX_FAILURES = 3
#: The pauses after later unproductive machines double from the first to the second value.
FAILURE_PAUSE_SECONDS = (30.0, 900.0)
#: A machine with a shorter lifetime is of no use, since it would spend most of it booting.
MIN_LIFETIME_SECONDS = 600.0
#: A provider that chooses by capacity gets alternatives that cost up to this factor more than the best offer, up to this number.
COST_FACTOR = 1.25
MAX_ALTERNATIVES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the pool's size and costs."""

    max_machines: float = math.inf
    max_cpus: float = math.inf
    max_slots: float = math.inf
    budget_usd: float = math.inf
    """For all machines of the job ever, whatever their pool."""
    budget_node_hours: float = math.inf
    """The same in node-hours."""
    max_usd_per_hour: float = math.inf
    """For all machines of the job."""
    lifetime_seconds: float = 86_400.0
    """The maximum of the self-destruct timer of a machine."""
    min_lifetime_seconds: float = MIN_LIFETIME_SECONDS
    """Budgets do not shorten the lifetime of a machine below this, or the maximum if it is shorter."""
    boot_seconds: float = 600.0
    """A machine without a heartbeat this long after its start is replaced; the time in a provider's queue does not count."""
    silent_seconds: float = 210.0
    """A machine whose last heartbeat is older is replaced."""
    needs_canary: bool = True
    """Whether the first machine has to be ready before more are launched."""
    machines_per_request: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """The state that a plan is based on."""

    now: float
    tasks_left: int
    """Tasks of the job that are pending, running or waiting: the pool is complete when there is none."""
    tasks_runnable: int
    """Tasks of the pool that are pending or running: machines are launched for these. Those that wait for others may wait for long."""
    open_machines: Sequence[MachineRecord]
    """Those of the pool."""
    other_machines: Sequence[MachineRecord] = ()
    """The open machines of the job's other pools, for what limits the whole job."""
    other_claims: int = 0
    """The number of other pools that need machines and have none: each is left a share of what the job may still spend."""
    last_heartbeats: Mapping[str, float]
    """The time of the last heartbeat from each machine, by token."""
    watched_since: float = 0.0
    """Earlier heartbeats may not be recorded yet, because the controller has just started or its computer was asleep."""
    spent_usd: float
    """By machines of all pools that have ended."""
    spent_node_hours: float = 0.0
    """By machines of all pools that have ended."""
    was_ever_ready: bool
    """Whether any worker of the pool ever sent a heartbeat, so that no canary is needed."""
    was_ever_productive: bool
    """Whether any machine of the pool ever finished a task, or its worker ended normally."""
    failures: Sequence[float]
    """The times at which unproductive machines of the pool ended, since the last productive one."""
    offers: Sequence[Offer]
    """The best first."""
    is_paused: bool = False
    """Whether a user paused the job."""
    next_token: str
    """The unique token of the next launch request."""


class HoldReason(StrEnum):
    """The reason why no machine is launched although there are tasks for more."""

    NO_OFFER = "no_offer"
    """No offer fits."""
    NOTHING_WORKED = "nothing_worked"
    """No task ran on the first machines."""
    ALL_REFUSED = "all_refused"
    """The provider rejects every offer that fits, permanently, or launch requests whatever the offer."""
    QUOTA = "quota"
    """The account's quota is too small for every offer that fits, and no machine was ever ready."""
    COOLING_DOWN = "cooling_down"
    """Every offer that fits has a cooldown."""
    CANARY = "canary"
    """The first machine is not ready yet."""
    FAILURE_PAUSE = "failure_pause"
    """The last machines were unproductive."""
    PAUSED = "paused"
    """A user paused the job."""
    HOURLY_PRICE = "hourly_price"
    """The hourly price limit is reached."""
    BUDGET = "budget"
    """The budget is spent, or reserved for the existing machines."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The reason why no machine is launched, with its figures."""

    reason: HoldReason
    text: str
    """For people."""
    is_final: bool = False
    """Whether the reason is permanent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The next actions."""

    end: dict[str, EndReason] = field(default_factory=dict)
    """The machines to terminate: the reasons by token."""
    launch: LaunchRequest | None = None
    hold: Hold | None = None
    """The reason why nothing is launched although more machines are needed and allowed."""
    is_complete: bool = False
    """Whether all tasks are done and no machine exists."""
    gives_up: bool = False
    """Whether no machine exists, and the hold is final."""
    is_idle: bool = False
    """Whether no machine exists, and no task can run: all that are left wait for those of other pools."""
    is_claim: bool = False
    """Whether tasks can run and no machine exists, and only what the whole job may spend is in the way."""


def plan(state: PoolState, limits: Limits, cooldowns: Cooldowns) -> Plan:
    """Return which machines to terminate and launch.

    Args:
        state: The current state.
        limits: Of the pool.
        cooldowns: Of offers; they are not changed here, but by the controller after a launch.
    """
    end = _to_terminate(state, limits)
    if not state.tasks_left:
        return Plan(end=end, is_complete=not state.open_machines)
    staying = [one for one in state.open_machines if one.token not in end and one.ending_since is None]
    found = _to_launch(state, limits, cooldowns, staying)
    is_empty = not state.open_machines
    if isinstance(found, Hold):
        is_claim = is_empty and found.reason in (HoldReason.HOURLY_PRICE, HoldReason.BUDGET)
        return Plan(end=end, hold=found, gives_up=found.is_final and is_empty, is_claim=is_claim)
    return Plan(end=end, launch=found, is_idle=is_empty and state.tasks_runnable <= 0)


def with_spares(request: LaunchRequest, state: PoolState, limits: Limits, most: int) -> LaunchRequest:
    """Return a request for machines that run one after the other, as many at once as another one has.

    Args:
        request: The other request.
        state: The state it is based on.
        limits: Of the pool.
        most: How many machines there may be in all; the budget allows fewer, if each may run for its whole lifetime.
    """
    staying = [one for one in state.open_machines if one.ending_since is None]
    in_turn = replace(
        limits, max_usd_per_hour=math.inf, machines_per_request=most
    )  # the others are not there at the same time

    def exceeds_budget(number: int) -> bool:
        found = _afford(state, in_turn, staying, request.offers, number)
        return isinstance(found, Hold) or (found.number, found.lifetime_seconds) < (number, request.lifetime_seconds)

    first, last = request.number, max(most, request.number)
    number = first + bisect_left(range(first + 1, last + 1), True, key=exceeds_budget)
    return replace(request, number=number, at_once=request.number)


def _to_terminate(state: PoolState, limits: Limits) -> dict[str, EndReason]:
    end: dict[str, EndReason] = {}
    is_hopeless = _is_unproductive(state) and not any(_was_ready(one, state) for one in state.open_machines)
    for one in state.open_machines:
        if one.ending_since is not None:
            if state.now - one.ending_since > TERMINATE_AGAIN_SECONDS:
                end[one.token] = one.end_reason or EndReason.STOPPED
        elif not state.tasks_left:
            end[one.token] = EndReason.DONE
        elif one.is_queued and is_hopeless:
            end[one.token] = EndReason.NOTHING_WORKED
        elif _was_ready(one, state):
            last_heartbeat = max(state.last_heartbeats.get(one.token, 0.0), one.ready_at or 0.0, state.watched_since)
            if state.now - last_heartbeat > limits.silent_seconds:
                end[one.token] = EndReason.SILENT
        elif one.running_at is not None and state.now - max(one.running_at, state.watched_since) > limits.boot_seconds:
            end[one.token] = EndReason.LATE
    return end


def _was_ready(one: MachineRecord, state: PoolState) -> bool:
    return one.token in state.last_heartbeats or one.ready_at is not None


def _is_unproductive(state: PoolState) -> bool:
    """Return whether the first machines were all unproductive, so that further ones would be, too."""
    return not state.was_ever_productive and len(state.failures) >= MAX_FAILURES


def _to_launch(
    state: PoolState, limits: Limits, cooldowns: Cooldowns, staying: Sequence[MachineRecord]
) -> LaunchRequest | Hold | None:
    """Return what to launch, or the reason for launching nothing; None if no more machines are needed or allowed."""
    if not state.offers:
        return Hold(HoldReason.NO_OFFER, "no offer fits", is_final=True)
    missing_slots = state.tasks_runnable - sum(one.slots for one in staying)
    if missing_slots <= 0:
        return None
    if len(state.open_machines) >= limits.max_machines:
        return None
    if state.is_paused:
        return Hold(HoldReason.PAUSED, f"the job is paused; {poe('resume')} continues")
    failures = len(state.failures)
    if _is_unproductive(state):
        text = f"{failures} machines were launched and no task ran on any of them"
        return Hold(HoldReason.NOTHING_WORKED, text, is_final=True)
    if (rejection := cooldowns.general_rejection) is not None:
        return Hold(
            HoldReason.ALL_REFUSED, f"the provider rejects one offer after the other: {rejection}", is_final=True
        )
    taken = {one.kind for one in state.open_machines}
    free = [one for one in state.offers if not (one.is_single and one.kind in taken)]
    if not free:
        return None
    ranked = _ranked(free, missing_slots)
    offer = next((one for one in ranked if cooldowns.until(one.kind, one.cpus) <= state.now), None)
    if offer is None:
        return _unavailable(ranked, state, cooldowns)
    offers = _alternatives(offer, ranked, missing_slots, state.now, cooldowns)
    wanted = _wanted(state, limits, missing_slots, offers)
    if wanted <= 0:
        return None
    awaits_canary = limits.needs_canary and not state.was_ever_ready
    if awaits_canary and state.open_machines:
        return Hold(HoldReason.CANARY, "the first machine has to be ready before more are launched")
    if state.was_ever_ready and failures:
        first, longest = FAILURE_PAUSE_SECONDS
        pause = min(first * 2.0 ** (failures - 1), longest)
        if state.now < max(state.failures) + pause:
            text = f"no task ran on the last {counted(failures, 'machine')}; the pause is {pause:g} s"
            return Hold(HoldReason.FAILURE_PAUSE, text)
    return _afford(state, limits, staying, offers, wanted)


def _unavailable(ranked: Sequence[Offer], state: PoolState, cooldowns: Cooldowns) -> Hold:
    """Return the reason why no offer is available."""
    first_at = min(cooldowns.until(one.kind, one.cpus) for one in ranked)
    if math.isinf(first_at):
        return Hold(HoldReason.ALL_REFUSED, "the provider rejects every offer that fits", is_final=True)
    quota = _quota(ranked, state.now, cooldowns)
    if quota is not None and not state.open_machines and not state.was_ever_ready:
        text = f"the quota of this account is too small for every offer that fits ({quota}). Ask the provider for a higher one"
        return Hold(HoldReason.QUOTA, text, is_final=True)
    text = f"every offer that fits has a cooldown after failures; the next launch is in {first_at - state.now:.0f} s"
    return Hold(HoldReason.COOLING_DOWN, text)


def _ranked(offers: Sequence[Offer], missing_slots: int) -> Sequence[Offer]:
    """Return the offers, the best first for a number of tasks without a slot: slots beyond these do not count."""
    if all(one.slots <= missing_slots for one in offers):
        return offers
    return sorted(offers, key=lambda one: _usd_per_useful_slot(one, missing_slots))


def _usd_per_useful_slot(one: Offer, missing_slots: int) -> float:
    return max(one.usd_per_slot_hour, one.usd_per_hour / missing_slots)


def _quota(offers: Sequence[Offer], now: float, cooldowns: Cooldowns) -> str | None:
    """Return the provider's text if quotas, or permanent rejections, exclude all offers; None if there are other reasons."""
    texts = [
        cooldowns.quota_text(one.kind, one.cpus, now)
        for one in offers
        if math.isfinite(cooldowns.until(one.kind, one.cpus))
    ]
    return texts[0] if None not in texts else None


def _alternatives(
    best: Offer, ranked: Sequence[Offer], missing_slots: int, now: float, cooldowns: Cooldowns
) -> tuple[Offer, ...]:
    """Return the available offers of the same region and market with similar prices, the best first."""
    region, most_usd = region_of(best.zone), COST_FACTOR * _usd_per_useful_slot(best, missing_slots)
    similar = (
        one
        for one in ranked
        if one.market is best.market
        and _usd_per_useful_slot(one, missing_slots) <= most_usd
        and region_of(one.zone) == region
        and cooldowns.until(one.kind, one.cpus) <= now
    )
    return tuple(islice(similar, MAX_ALTERNATIVES))


def _wanted(state: PoolState, limits: Limits, missing_slots: int, offers: Sequence[Offer]) -> int:
    """Return how many more machines the tasks need and the limits allow, whichever of the offers the provider chooses."""
    bounds = (
        limits.max_machines - len(state.open_machines),
        (limits.max_cpus - sum(one.cpus for one in state.open_machines)) / max(one.cpus for one in offers),
        (limits.max_slots - sum(one.slots for one in state.open_machines)) / max(one.slots for one in offers),
        math.ceil(missing_slots / min(one.slots for one in offers)),
        len(offers) if offers[0].is_single else math.inf,
    )
    return math.floor(min(bounds) + EPSILON)


def _afford(
    state: PoolState, limits: Limits, staying: Sequence[MachineRecord], offers: tuple[Offer, ...], wanted: int
) -> LaunchRequest | Hold:
    """Return a request for as many machines and as long a lifetime as the budget allows, whichever of the offers the provider chooses."""
    usd_per_hour = max(one.usd_per_hour for one in offers)
    of_job = (*state.open_machines, *state.other_machines)
    hourly = _share(limits.max_usd_per_hour - sum(one.usd_per_hour for one in of_job), usd_per_hour, state)
    if wanted * usd_per_hour > hourly + EPSILON:
        wanted = max(0, math.floor(hourly / usd_per_hour + EPSILON))
        if not wanted:
            text = (
                f"another machine would exceed the limit of {limits.max_usd_per_hour:g} USD per hour for all machines"
            )
            return Hold(HoldReason.HOURLY_PRICE, text)
    budgets = [one for one in _budgets(state, limits, offers, of_job) if one.per_hour > 0 and math.isfinite(one.total)]
    shortest = min(limits.min_lifetime_seconds, limits.lifetime_seconds)
    free_hours = math.inf
    """Of machines, in all, that the budgets allow."""
    for one in budgets:
        least = one.per_hour * shortest / SECONDS_PER_HOUR
        free = _share(one.total - one.committed, least, state)
        free_hours = min(free_hours, free / one.per_hour)
        if least * wanted > free:
            wanted = max(0, math.floor(free / least))
        if not wanted:
            text = (
                f"the budget of {amount(one.total, one.unit)} is used up: {amount(one.committed, one.unit)} are spent or reserved for "
                f"existing machines, and another one needs {amount(least, one.unit)}"
            )
            return Hold(HoldReason.BUDGET, text, is_final=not staying and not state.other_machines)
    lifetime = min(limits.lifetime_seconds, free_hours * SECONDS_PER_HOUR / wanted)
    number = 1 if limits.needs_canary and not state.was_ever_ready else min(wanted, limits.machines_per_request)
    return LaunchRequest(token=state.next_token, number=number, offers=offers, lifetime_seconds=lifetime)


class _Budget(NamedTuple):
    """A budget of the job, and what another machine takes of it."""

    unit: str
    total: float
    committed: float
    """What is spent, or reserved for existing machines."""
    per_hour: float
    """By another machine."""


def _budgets(
    state: PoolState, limits: Limits, offers: Sequence[Offer], of_job: Sequence[MachineRecord]
) -> tuple[_Budget, _Budget]:
    now = state.now
    return (
        _Budget(
            "USD",
            limits.budget_usd,
            state.spent_usd + sum(one.max_cost_usd(now) for one in of_job),
            max(one.usd_per_hour for one in offers),
        ),
        _Budget(
            "node-hours",
            limits.budget_node_hours,
            state.spent_node_hours + sum(one.max_node_hours(now) for one in of_job),
            max(one.nodes for one in offers),
        ),
    )


def _share(left: float, of_one: float, state: PoolState) -> float:
    """Return the pool's share of what the job may still spend: what one machine needs, even if that is more."""
    return max(left / (1 + state.other_claims), min(left, of_one))
