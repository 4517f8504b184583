"""What to do next with a pool of machines: pure functions of what is known, so that they can be tried out on made-up clouds.

``observe`` compares what is written down with what the provider lists; ``plan`` decides on what to end and what to order. Neither does
anything: the controller carries out what they return.
"""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from taskfleet.machine_terms import EPSILON, Market, region_of
from taskfleet.machines import Machine, MachineState, Refusal
from taskfleet.machines.choosing import Offer
from taskfleet.pool.records import SECONDS_PER_HOUR, Record

#: What was started a moment ago may be missing in the provider's list for so long.
LIST_GRACE_SECONDS = 120.0
#: A machine that was asked to end and is still there is asked again after so long.
END_AGAIN_SECONDS = 60.0
#: So many first machines that did nothing are enough to see that none ever will.
MOST_FAILURES = 3
#: Later, machines that did nothing are followed by pauses that double from the first to the second.
FAILURE_PAUSE_SECONDS = (30.0, 900.0)
#: A machine for less time than this is of no use; most of it would be its boot.
SHORTEST_LIFETIME_SECONDS = 600.0
#: More machines in one order would only make it long.
MACHINES_PER_ORDER = 100
#: A provider that chooses by itself where there is room may take offers that are dearer than the best by this, and so many of them.
DEARER_BY = 1.25
MOST_OFFERS = 20

#: Why machines are ended or seen to be gone.
DONE, LATE, SILENT, UNKNOWN, NEVER_STARTED, GONE, STOPPED = (
    "all tasks are done",
    "no worker was heard in time",
    "its worker fell silent",
    "not in the ledger",
    "never seen to start",
    "gone",
    "stopped by the user",
)

#: For how long an offer is left alone after a refusal, at first and at most; twice as long each time.
COOL_DOWN_SECONDS = {
    Refusal.STOCK_OUT: (300.0, 3600.0),
    Refusal.QUOTA: (120.0, 1800.0),
    Refusal.PRICE: (600.0, 3600.0),
    Refusal.THROTTLED: (2.0, 60.0),
    Refusal.INVALID: (math.inf, math.inf),
}
PREEMPTION_COOL_DOWN_SECONDS = (300.0, 3600.0)


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
    """A machine ends itself after so long at the latest."""
    boot_seconds: float = 600.0
    """A machine whose worker was not heard so long after its start is replaced."""
    silent_seconds: float = 210.0
    """A machine whose worker was not heard for so long is replaced."""


@dataclass(frozen=True, slots=True)
class _CoolDown:
    until: float
    strikes: int


@dataclass(slots=True)
class Coolness:
    """Which offers are left alone for a while, and until when. Lost with the controller: it then finds out again."""

    _marks: dict[tuple[str, ...], _CoolDown] = field(default_factory=dict)

    def refused(self, kind: tuple[str, str, Market], refusal: Refusal, now: float) -> None:
        """Note that an offer was refused."""
        self._mark(_mark_of(kind, refusal), COOL_DOWN_SECONDS[refusal], now)

    def preempted(self, kind: tuple[str, str, Market], now: float) -> None:
        """Note that a machine was taken away."""
        self._mark(kind, PREEMPTION_COOL_DOWN_SECONDS, now)

    def started(self, kind: tuple[str, str, Market]) -> None:
        """Note that an offer was had: its next refusal counts as the first."""
        for refusal in (Refusal.QUOTA, Refusal.THROTTLED, Refusal.STOCK_OUT):
            self._marks.pop(_mark_of(kind, refusal), None)

    def until(self, kind: tuple[str, str, Market]) -> float:
        """Say until when an offer is left alone; 0 if it is not."""
        marks = (
            self._marks.get(_mark_of(kind, refusal))
            for refusal in (Refusal.STOCK_OUT, Refusal.QUOTA, Refusal.THROTTLED)
        )
        return max((one.until for one in marks if one is not None), default=0.0)

    def _mark(self, mark: tuple[str, ...], seconds: tuple[float, float], now: float) -> None:
        known = self._marks.get(mark)
        strikes = 0 if known is None else known.strikes + 1
        self._marks[mark] = _CoolDown(now + min(seconds[0] * 2.0 ** min(strikes, 30), seconds[1]), strikes)


def _mark_of(kind: tuple[str, str, Market], refusal: Refusal) -> tuple[str, ...]:
    _, zone, market = kind
    match refusal:
        case Refusal.THROTTLED:
            return ("everything",)
        case Refusal.QUOTA:
            return (region_of(zone), market)
    return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the provider's list says of the machines that are written down."""

    started: dict[str, Machine] = field(default_factory=dict)
    """Token to machine: these are there, and were not known to be."""
    ended: dict[str, str] = field(default_factory=dict)
    """Token to reason: these are gone."""
    strays: tuple[Machine, ...] = ()
    """There, and not among the open ones: to be ended."""


def match(
    open_machines: Iterable[Record], listed: Iterable[Machine], closed_ids: Container[str] = ()
) -> dict[str, Machine]:
    """Find the machine of each token: the one that is known to be it, or has that name, or else any of the same order.

    Args:
        open_machines: Those that are not known to be gone.
        listed: All that the provider has of this job.
        closed_ids: The provider's names of machines that are known to be gone; it may still list them.
    """
    by_id = {one.instance_id: one for one in listed if one.instance_id not in closed_ids}
    found: dict[str, Machine] = {}
    nameless = []
    for record in open_machines:
        name = record.instance_id or record.token
        if name in by_id:
            found[record.token] = by_id.pop(name)
        elif record.instance_id is None:
            nameless.append(record)
    by_order: dict[str, list[Machine]] = {}
    for one in sorted(by_id.values(), key=lambda one: one.instance_id, reverse=True):
        by_order.setdefault(one.order, []).append(one)
    for record in nameless:
        if candidates := by_order.get(record.order_token):
            found[record.token] = candidates.pop()
    return found


def observe(
    open_machines: Sequence[Record],
    listed: Sequence[Machine],
    now: float,
    looked_at: float | None = None,
    closed_ids: Container[str] = (),
) -> Observed:
    """Compare the open machines with the provider's list.

    Args:
        open_machines: Those that are not known to be gone.
        listed: All that the provider has of this job.
        now: Seconds since the epoch.
        looked_at: When the list before this one was asked for, None if nobody knows. An order of which nothing was ever seen counts as
            not carried out only if somebody has looked all the time: else a machine may have come and gone.
        closed_ids: See ``match``.
    """
    was_watched = looked_at is not None and now - looked_at <= LIST_GRACE_SECONDS
    matched = match(open_machines, listed, closed_ids)
    started: dict[str, Machine] = {}
    ended: dict[str, str] = {}
    for record in open_machines:
        machine = matched.get(record.token)
        if machine is None:
            if now - (record.started_at or record.ordered_at) > LIST_GRACE_SECONDS:
                was_seen = record.started_at is not None or not was_watched
                ended[record.token] = GONE if was_seen else NEVER_STARTED
        elif machine.state is MachineState.ENDED:
            ended[record.token] = machine.reason or GONE
        elif record.instance_id is None or record.started_at is None:
            started[record.token] = machine
    known = {one.instance_id for one in matched.values()}
    strays = tuple(
        one
        for one in listed
        if one.instance_id not in known and one.state not in (MachineState.ENDING, MachineState.ENDED)
    )
    return Observed(started=started, ended=ended, strays=strays)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known when the plan is made."""

    now: float
    tasks_left: int
    """That have not come to an end."""
    open_machines: Sequence[Record]
    heard_at: Mapping[str, float]
    """When a worker on each machine was last heard, by token."""
    watched_since: float = 0.0
    """What was told before may not be known yet: the controller has just begun, or its computer was asleep."""
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


@dataclass(frozen=True, slots=True)
class Purchase:
    """Machines to order."""

    offers: tuple[Offer, ...]
    """The best first; see ``Order.offers``."""
    number: int
    lifetime_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now."""

    end: dict[str, str] = field(default_factory=dict)
    """Token to reason."""
    purchase: Purchase | None = None
    is_complete: bool = False
    """All tasks are done and no machine is known to be there."""
    gives_up: str = ""
    """Why the pool cannot go on, when no machine works any more."""
    waits_for: str = ""
    """In one sentence: why nothing is ordered, if more would be wanted and there may be more."""


def plan(state: State, limits: Limits, coolness: Coolness) -> Plan:
    """Decide what to end and what to order."""
    end = _to_end(state, limits)
    if not state.tasks_left:
        return Plan(end=end, is_complete=not state.open_machines)
    staying = [one for one in state.open_machines if one.token not in end and one.ending_since is None]
    purchase, why_not = _to_order(state, limits, coolness, staying)
    is_hopeless = isinstance(why_not, _Hopeless) and not state.open_machines
    return Plan(end=end, purchase=purchase, waits_for=why_not, gives_up=why_not if is_hopeless else "")


class _Hopeless(str):
    """A reason that does not pass by itself."""

    __slots__ = ()


def _to_end(state: State, limits: Limits) -> dict[str, str]:
    end: dict[str, str] = {}
    for one in state.open_machines:
        if one.ending_since is not None:
            if state.now - one.ending_since > END_AGAIN_SECONDS:
                end[one.token] = one.end_reason or STOPPED
        elif not state.tasks_left:
            end[one.token] = DONE
        elif one.token in state.heard_at or one.ready_at is not None:
            heard_at = max(state.heard_at.get(one.token, 0.0), one.ready_at or 0.0, state.watched_since)
            if state.now - heard_at > limits.silent_seconds:
                end[one.token] = SILENT
        elif one.started_at is not None and state.now - max(one.started_at, state.watched_since) > limits.boot_seconds:
            end[one.token] = LATE
    return end


def _to_order(
    state: State, limits: Limits, coolness: Coolness, staying: Sequence[Record]
) -> tuple[Purchase | None, str]:
    if not state.offers:
        return None, _Hopeless("there is no offer that fits")
    if state.tasks_left <= sum(one.slots for one in staying):
        return None, ""
    if len(state.open_machines) >= limits.most_machines:
        return None, ""
    failures = len(state.failures)
    if not state.has_worked and failures >= MOST_FAILURES:
        return None, _Hopeless(f"the first {failures} machines were started and no worker on them did anything")
    offer = next((one for one in state.offers if coolness.until(kind_of(one)) <= state.now), None)
    if offer is None:
        first_at = min(coolness.until(kind_of(one)) for one in state.offers)
        if math.isinf(first_at):
            return None, _Hopeless("the provider refuses every kind of machine that fits")
        return (
            None,
            f"no kind of machine that fits is to be had now; the next is asked for in {first_at - state.now:.0f} s",
        )
    offers = _alternatives(offer, state, coolness)
    wanted = _wanted(state, limits, staying, offers)
    if wanted <= 0:
        return None, ""
    if not state.was_ever_ready and state.open_machines:
        return None, "the first machine has to get ready before others are started"
    if state.was_ever_ready and failures:
        first, longest = FAILURE_PAUSE_SECONDS
        pause = min(first * 2.0 ** (failures - 1), longest)
        if state.now < max(state.failures) + pause:
            return None, f"the last {failures} machines did nothing before they ended: a pause of {pause:g} s"
    return _afford(state, limits, staying, offers, wanted)


def _alternatives(best: Offer, state: State, coolness: Coolness) -> tuple[Offer, ...]:
    """Give what serves nearly as well in the same region and market, the best first."""
    region = region_of(best.zone)
    similar = (
        one
        for one in state.offers
        if one.market is best.market
        and one.usd_per_slot_hour <= best.usd_per_slot_hour * DEARER_BY
        and region_of(one.zone) == region
        and coolness.until(kind_of(one)) <= state.now
    )
    return tuple(islice(similar, MOST_OFFERS))


def _wanted(state: State, limits: Limits, staying: Sequence[Record], offers: Sequence[Offer]) -> int:
    """Say how many more machines the tasks fill and the limits allow, whichever of the offers they are."""
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
) -> tuple[Purchase | None, str]:
    """Order as many as the budget bears, for as long as it bears, whichever of the offers they are."""
    usd_per_hour = max(one.usd_per_hour for one in offers)
    hourly = limits.most_usd_per_hour - sum(one.usd_per_hour for one in state.open_machines)
    if wanted * usd_per_hour > hourly + EPSILON:
        wanted = max(0, math.floor(hourly / usd_per_hour + EPSILON))
        if not wanted:
            return None, "another machine would make all of them dearer per hour than they may be"
    committed = state.spent_usd + sum(one.most_cost_usd(state.now) for one in state.open_machines)
    free_usd = limits.budget_usd - committed
    shortest = min(SHORTEST_LIFETIME_SECONDS, limits.lifetime_seconds)
    usd_per_second = usd_per_hour / SECONDS_PER_HOUR
    if math.isfinite(free_usd) and usd_per_second * shortest * wanted > free_usd:
        wanted = max(0, math.floor(free_usd / (usd_per_second * shortest)))
        if not wanted:
            text = f"the budget of {limits.budget_usd:.2f} USD is used up: {committed:.2f} are spent or set aside for what runs"
            return None, text if staying else _Hopeless(text)
    lifetime = limits.lifetime_seconds
    if math.isfinite(free_usd) and usd_per_second > 0:
        lifetime = min(lifetime, free_usd / (usd_per_second * wanted))
    number = min(wanted, MACHINES_PER_ORDER) if state.was_ever_ready else 1
    return Purchase(offers, number, lifetime), ""


def kind_of(offer: Offer) -> tuple[str, str, Market]:
    """What is asked for, and where: (type, zone, market)."""
    return offer.instance_type, offer.zone, offer.market
