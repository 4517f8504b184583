"""What to do next with a pool of machines: a pure function of what is known, so that it can be tried out on made-up clouds.

``plan`` decides what to end and what to launch. It does nothing: the controller carries out what it returns.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from taskfleet.machine_terms import EPSILON, region_of
from taskfleet.machines import EndReason, LaunchRequest
from taskfleet.machines.choosing import Offer
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.records import SECONDS_PER_HOUR, Record

#: A machine that was asked to end and is still there is asked again after this long.
END_AGAIN_SECONDS = 60.0
#: So many first machines that did nothing are enough to see that none ever will.
MOST_FAILURES = 3
#: Later, machines that did nothing are followed by pauses that double from the first to the second.
FAILURE_PAUSE_SECONDS = (30.0, 900.0)
#: A machine for less time than this is of no use; most of it would be its boot.
SHORTEST_LIFETIME_SECONDS = 600.0
#: A provider that chooses by itself where there is room may take offers that cost more than the best by this factor, and so many of them.
COST_FACTOR = 1.25
MOST_OFFERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the pool may be and cost."""

    most_machines: float = math.inf
    most_cpus: float = math.inf
    most_slots: float = math.inf
    budget_usd: float = math.inf
    """For all machines of the job, ever."""
    most_usd_per_hour: float = math.inf
    lifetime_seconds: float = 86_400.0
    """A machine ends itself this long after its start at the latest."""
    boot_seconds: float = 600.0
    """A machine is replaced whose worker was not heard this long after its start; the time in a queue does not count."""
    silent_seconds: float = 210.0
    """A machine is replaced whose worker was not heard for this long."""
    needs_canary: bool = True
    """The first machine has to get ready before more are launched."""
    machines_per_request: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known when the plan is made."""

    now: float
    tasks_left: int
    """That have not come to an end."""
    open_machines: Sequence[Record]
    last_heartbeats: Mapping[str, float]
    """When a worker on each machine gave its last sign of life, by token."""
    watched_since: float = 0.0
    """What was reported before may not be known yet: the controller has just begun, or its computer was asleep."""
    spent_usd: float
    """On machines that are gone."""
    was_ever_ready: bool
    """Whether a worker of this pool was ever heard: the canary sings."""
    has_worked: bool
    """Whether any machine ever did something of use."""
    failures: Sequence[float]
    """When the latest machines ended that did nothing of use, with none in between that did."""
    offers: Sequence[Offer]
    """The best first."""
    next_token: str
    """What the next launch request is called; no other ever was."""


class HoldReason(StrEnum):
    """Why no machine is launched although tasks would fill more."""

    NO_OFFER = "no_offer"
    """Nothing that is offered fits."""
    NOTHING_WORKED = "nothing_worked"
    """The first machines were launched and did nothing."""
    ALL_REFUSED = "all_refused"
    """The provider refuses every kind of machine that fits, for good."""
    COOLING_DOWN = "cooling_down"
    """No kind of machine that fits is to be had now."""
    CANARY = "canary"
    """The first machine is not ready yet."""
    FAILURE_PAUSE = "failure_pause"
    """The latest machines did nothing before they ended."""
    HOURLY_PRICE = "hourly_price"
    """All machines together may cost no more per hour."""
    BUDGET = "budget"
    """The budget is spent, or set aside for the machines that are there."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why no machine is launched."""

    reason: HoldReason
    text: str
    """In a sentence, with its figures."""
    is_final: bool = False
    """Whether it does not pass by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now."""

    end: dict[str, EndReason] = field(default_factory=dict)
    """By token: why."""
    launch: LaunchRequest | None = None
    hold: Hold | None = None
    """Why nothing is launched, if more machines would be wanted and there may be more."""
    is_complete: bool = False
    """All tasks are done and no machine is known to be there."""
    gives_up: bool = False
    """No machine is there any more, and the hold is final."""


def plan(state: State, limits: Limits, cooldowns: Cooldowns) -> Plan:
    """Decide what to end and what to launch.

    Args:
        state: What is known.
        limits: What the pool may be and cost.
        cooldowns: Which offers are left alone. They are read only; but whoever carries the plan out changes them by what comes of it.
    """
    end = _to_end(state, limits)
    if not state.tasks_left:
        return Plan(end=end, is_complete=not state.open_machines)
    staying = [one for one in state.open_machines if one.token not in end and one.ending_since is None]
    found = _to_launch(state, limits, cooldowns, staying)
    if isinstance(found, Hold):
        return Plan(end=end, hold=found, gives_up=found.is_final and not state.open_machines)
    return Plan(end=end, launch=found)


def _to_end(state: State, limits: Limits) -> dict[str, EndReason]:
    end: dict[str, EndReason] = {}
    is_barren = _nothing_worked(state) and not any(_was_heard(one, state) for one in state.open_machines)
    for one in state.open_machines:
        if one.ending_since is not None:
            if state.now - one.ending_since > END_AGAIN_SECONDS:
                end[one.token] = one.end_reason or EndReason.STOPPED
        elif not state.tasks_left:
            end[one.token] = EndReason.DONE
        elif one.is_queued and is_barren:
            end[one.token] = EndReason.NOTHING_WORKED
        elif _was_heard(one, state):
            heard_at = max(state.last_heartbeats.get(one.token, 0.0), one.ready_at or 0.0, state.watched_since)
            if state.now - heard_at > limits.silent_seconds:
                end[one.token] = EndReason.SILENT
        elif one.running_at is not None and state.now - max(one.running_at, state.watched_since) > limits.boot_seconds:
            end[one.token] = EndReason.LATE
    return end


def _was_heard(one: Record, state: State) -> bool:
    return one.token in state.last_heartbeats or one.ready_at is not None


def _nothing_worked(state: State) -> bool:
    """Whether so many first machines did nothing that none ever will."""
    return not state.has_worked and len(state.failures) >= MOST_FAILURES


def _to_launch(
    state: State, limits: Limits, cooldowns: Cooldowns, staying: Sequence[Record]
) -> LaunchRequest | Hold | None:
    """Return what to launch, or why nothing although more would be wanted; None if there are enough, or as many as there may be."""
    if not state.offers:
        return Hold(HoldReason.NO_OFFER, "there is no offer that fits", is_final=True)
    if state.tasks_left <= sum(one.slots for one in staying):
        return None
    if len(state.open_machines) >= limits.most_machines:
        return None
    failures = len(state.failures)
    if _nothing_worked(state):
        text = f"the first {failures} machines were started and no worker on them did anything"
        return Hold(HoldReason.NOTHING_WORKED, text, is_final=True)
    offer = next((one for one in state.offers if cooldowns.until(one.kind) <= state.now), None)
    if offer is None:
        first_at = min(cooldowns.until(one.kind) for one in state.offers)
        if math.isinf(first_at):
            return Hold(HoldReason.ALL_REFUSED, "the provider refuses every kind of machine that fits", is_final=True)
        text = f"no kind of machine that fits is to be had now; the next is asked for in {first_at - state.now:.0f} s"
        return Hold(HoldReason.COOLING_DOWN, text)
    offers = _alternatives(offer, state, cooldowns)
    wanted = _wanted(state, limits, staying, offers)
    if wanted <= 0:
        return None
    awaits_canary = limits.needs_canary and not state.was_ever_ready
    if awaits_canary and state.open_machines:
        return Hold(HoldReason.CANARY, "the first machine has to get ready before others are started")
    if state.was_ever_ready and failures:
        first, longest = FAILURE_PAUSE_SECONDS
        pause = min(first * 2.0 ** (failures - 1), longest)
        if state.now < max(state.failures) + pause:
            text = f"the last {failures} machines did nothing before they ended: a pause of {pause:g} s"
            return Hold(HoldReason.FAILURE_PAUSE, text)
    return _afford(state, limits, staying, offers, wanted)


def _alternatives(best: Offer, state: State, cooldowns: Cooldowns) -> tuple[Offer, ...]:
    """Return what serves nearly as well in the same region and market, the best first."""
    region = region_of(best.zone)
    similar = (
        one
        for one in state.offers
        if one.market is best.market
        and one.usd_per_slot_hour <= best.usd_per_slot_hour * COST_FACTOR
        and region_of(one.zone) == region
        and cooldowns.until(one.kind) <= state.now
    )
    return tuple(islice(similar, MOST_OFFERS))


def _wanted(state: State, limits: Limits, staying: Sequence[Record], offers: Sequence[Offer]) -> int:
    """Return how many more machines the tasks fill and the limits allow, whichever of the offers they are."""
    missing_slots = state.tasks_left - sum(one.slots for one in staying)
    rooms = (
        limits.most_machines - len(state.open_machines),
        (limits.most_cpus - sum(one.cpus for one in state.open_machines)) / max(one.cpus for one in offers),
        (limits.most_slots - sum(one.slots for one in state.open_machines)) / max(one.slots for one in offers),
        math.ceil(missing_slots / min(one.slots for one in offers)),
    )
    return math.floor(min(rooms) + EPSILON)


def _afford(
    state: State, limits: Limits, staying: Sequence[Record], offers: tuple[Offer, ...], wanted: int
) -> LaunchRequest | Hold:
    """Launch as many as the budget bears, for as long as it bears, whichever of the offers they are."""
    usd_per_hour = max(one.usd_per_hour for one in offers)
    hourly = limits.most_usd_per_hour - sum(one.usd_per_hour for one in state.open_machines)
    if wanted * usd_per_hour > hourly + EPSILON:
        wanted = max(0, math.floor(hourly / usd_per_hour + EPSILON))
        if not wanted:
            text = "another machine would make all of them cost more per hour than they may"
            return Hold(HoldReason.HOURLY_PRICE, text)
    committed = state.spent_usd + sum(one.most_cost_usd(state.now) for one in state.open_machines)
    free_usd = limits.budget_usd - committed
    shortest = min(SHORTEST_LIFETIME_SECONDS, limits.lifetime_seconds)
    usd_per_second = usd_per_hour / SECONDS_PER_HOUR
    if math.isfinite(free_usd) and usd_per_second * shortest * wanted > free_usd:
        wanted = max(0, math.floor(free_usd / (usd_per_second * shortest)))
        if not wanted:
            text = f"the budget of {limits.budget_usd:.2f} USD is used up: {committed:.2f} are spent or set aside for what runs"
            return Hold(HoldReason.BUDGET, text, is_final=not staying)
    lifetime = limits.lifetime_seconds
    if math.isfinite(free_usd) and usd_per_second > 0:
        lifetime = min(lifetime, free_usd / (usd_per_second * wanted))
    number = 1 if limits.needs_canary and not state.was_ever_ready else min(wanted, limits.machines_per_request)
    return LaunchRequest(token=state.next_token, number=number, offers=offers, lifetime_seconds=lifetime)
