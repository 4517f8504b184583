"""Choosing the machines of a pool: pure, and able to say why.

The best offer is that with the least price per task at a time (per slot), its boot disk counted. All constraints hold at once; where
several limit the same thing, the most constraining wins.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import NamedTuple

from taskfleet.machine_terms import ANY, EPSILON, Architecture, Market, Range
from taskfleet.machines import Kind
from taskfleet.machines.catalogue import Catalogue, DiskType, InstanceType
from taskfleet.settings.pool_fields import PoolSettings

#: Offers that are ranked; a pool that is turned away by all of these waits.
RANKED = 500
#: Nobody's quota has more.
MOST_MACHINES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the machines of a pool have to be, and how many there may be."""

    architecture: Architecture
    """The image's."""
    markets: tuple[Market, ...] = (Market.SPOT, Market.ON_DEMAND)
    zones: tuple[str, ...] = ()
    """Patterns with ``*`` and ``?``; empty for all."""
    instance_types: tuple[str, ...] = ()
    """Patterns; empty for all."""
    cpu_families: tuple[str, ...] = ()
    """Patterns, whatever their case; empty for all."""
    cpu_rank: Range = ANY
    allow_burstable: bool = False
    cpus: Range = ANY
    memory_gib: Range = ANY
    memory_gib_per_cpu: Range = ANY
    memory_gib_per_task: Range = ANY
    local_ssd_gib: Range = ANY
    local_ssd_gib_per_cpu: Range = ANY
    local_ssd_gib_per_task: Range = ANY
    boot_disk_types: tuple[str, ...] = ()
    """Names; empty for all."""
    boot_disk_gib: float = 10.0
    """What the system takes, at least; the two below come on top."""
    boot_disk_gib_per_cpu: float = 0.0
    boot_disk_gib_per_task: float = 0.0
    boot_disk_iops: float = 0.0
    boot_disk_mibps: float = 0.0
    cpus_per_task: float = 1.0
    tasks_per_machine: Range = ANY
    machines: Range = field(default_factory=lambda: Range(1, 10))
    total_cpus: Range = ANY
    simultaneous_tasks: Range = ANY
    price_usd_per_hour: Range = ANY
    """Of all machines together."""
    tasks: int | None = None
    """So many are left: more machines than they fill are not wanted."""


def need_of(settings: PoolSettings, tasks: int | None) -> Need:
    """Return what the settings want machines to be.

    Args:
        settings: Those of the pool; each field of ``Need`` but ``tasks`` has one of its name.
        tasks: How many are left; None if that is not known.
    """
    wanted = {field.name: getattr(settings, field.name) for field in fields(Need) if field.name != "tasks"}
    return Need(tasks=tasks, **wanted)


class Offer(NamedTuple):
    """A kind of machine with its price in one zone and market, and what the pool would do with it."""

    usd_per_slot_hour: float
    cpu_rank: int
    """Negative, so that of two equally dear ones the faster comes first."""
    instance_type: str
    market: Market
    zone: str
    usd_per_hour: float
    """The boot disk's price with it."""
    machine_usd_per_hour: float
    slots: int
    boot_disk_type: str
    boot_disk_gib: float
    cpus: int
    memory_gib: float

    @property
    def kind(self) -> Kind:
        """What is asked for, and where."""
        return Kind(self.instance_type, self.zone, self.market)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and why."""

    ranked: tuple[Offer, ...]
    """The best first; empty if nothing fits."""
    count: int
    """So many machines of the best."""
    fewest: int
    """That the constraints allow."""
    limited_by: str
    """What keeps the count from being higher."""
    rejected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Type to all the reasons why it does not fit."""

    @property
    def best(self) -> Offer | None:
        """The one to take."""
        return self.ranked[0] if self.ranked else None

    def why_nothing(self) -> str:
        """Say which constraint excludes most, if nothing fits."""
        if not self.rejected:
            return "The catalogue has no machines at all for these regions."
        names = [reason.partition(":")[0] for reasons in self.rejected.values() for reason in reasons]
        alone = Counter(reasons[0].partition(":")[0] for reasons in self.rejected.values() if len(reasons) == 1)
        [(worst, n)] = Counter(names).most_common(1)
        text = f"None of {len(self.rejected):,} types of machines fits. {worst} excludes most of them ({n:,})."
        if alone:
            easiest, more = alone.most_common(1)[0]
            verb = "type would" if more == 1 else "types would"
            text += f" Without {easiest}, {more:,} {verb} fit."
        return text


def choose(need: Need, catalogue: Catalogue) -> Choice:
    """Find the offer with the least price per slot, and rank the others.

    Args:
        need: The constraints.
        catalogue: What there is, and its prices.
    """
    rejected: dict[str, tuple[str, ...]] = {}
    places = _Places(need, catalogue)
    for kind in catalogue.types.values():
        reasons = _unfit(need, kind)
        slots = range(0)
        if not reasons:
            slots, reasons = _slots(need, kind)
        if not reasons:
            against = [places.add(kind, slots, market) for market in need.markets]
            if all(against):
                reasons = [one for one in against if one]
        if reasons:
            rejected[kind.name] = tuple(dict.fromkeys(reasons))
    ranked = places.ranked()
    if not ranked:
        return Choice(ranked=(), count=0, fewest=0, limited_by="", rejected=rejected)
    count = count_machines(need, ranked[0].slots, ranked[0].cpus, ranked[0].usd_per_hour)
    assert count is not None
    return Choice(ranked=ranked, count=count.most, fewest=count.fewest, limited_by=count.limited_by, rejected=rejected)


class Count(NamedTuple):
    """How many machines of a kind a pool may have."""

    fewest: int
    most: int
    limited_by: str
    """What keeps it from being more."""


def count_machines(need: Need, slots: int, cpus: int, usd_per_hour: float) -> Count | None:
    """Say how many machines of a kind a pool may have; None if the constraints allow no number.

    Args:
        need: The constraints.
        slots: Tasks at a time on each.
        cpus: Of each.
        usd_per_hour: Of each.
    """
    found = _limit_but_for_price(need, slots, cpus)
    found = _limit(found, "the price of all machines", need.price_usd_per_hour, usd_per_hour)
    fewest, most, limited_by = found
    if most < fewest:
        return None
    if need.tasks is not None and math.ceil(need.tasks / slots) < most:
        most, limited_by = max(fewest, math.ceil(need.tasks / slots)), "the number of tasks"
    return Count(fewest, most, limited_by)


def _limit_but_for_price(need: Need, slots: int, cpus: int) -> Count:
    found = Count(1, MOST_MACHINES, "the most there can be")
    found = _limit(found, "the number of machines", need.machines, 1)
    found = _limit(found, "the number of CPUs of all machines", need.total_cpus, cpus)
    return _limit(found, "the number of simultaneous tasks", need.simultaneous_tasks, slots)


def _limit(found: Count, name: str, allowed: Range, each: float) -> Count:
    """Narrow a number of machines down by what all of them together may be; no number is left if the fewest are more than the most."""
    fewest, most, limited_by = found
    if allowed.low is not None:
        fewest = max(fewest, math.ceil(allowed.low / each - EPSILON))
    if allowed.high is not None and (limit := math.floor(allowed.high / each + EPSILON)) < most:
        most, limited_by = limit, name
    return Count(fewest, most, limited_by)


# --- one type ---


def _unfit(need: Need, kind: InstanceType) -> list[str]:
    """Say all that is against a type, its prices apart."""
    reasons: list[str] = []
    if kind.architecture is not need.architecture:
        reasons.append(f"architecture: {kind.architecture}, the image wants {need.architecture}")
    if not _matches(kind.name, need.instance_types):
        reasons.append(f"instance types: not one of {', '.join(need.instance_types)}")
    if not _matches(kind.cpu_family.lower(), [one.lower() for one in need.cpu_families]):
        reasons.append(f"CPU family: {kind.cpu_family or 'unknown'}")
    if kind.is_burstable and not need.allow_burstable:
        reasons.append("burstable: has its whole speed for a while only")
    for name, value, allowed in (
        ("CPU rank", kind.cpu_rank, need.cpu_rank),
        ("CPUs", kind.cpus, need.cpus),
        ("memory", kind.memory_gib, need.memory_gib),
        ("memory per CPU", kind.memory_gib / kind.cpus, need.memory_gib_per_cpu),
        ("local SSD", kind.local_ssd_gib, need.local_ssd_gib),
        ("local SSD per CPU", kind.local_ssd_gib / kind.cpus, need.local_ssd_gib_per_cpu),
    ):
        if value not in allowed:
            reasons.append(f"{name}: {value:g}, wanted is {allowed.in_words()}")
    return reasons


def _slots(need: Need, kind: InstanceType) -> tuple[range, list[str]]:
    """Say how many tasks at a time a machine may have: a range, or what is against any number."""
    fewest, most = 1, math.floor(kind.cpus / need.cpus_per_task + EPSILON)
    if most < 1:
        return range(0), [f"CPUs per task: has {kind.cpus}, wanted are {need.cpus_per_task:g}"]
    shared = (
        ("memory per task", kind.memory_gib, need.memory_gib_per_task),
        ("local SSD per task", kind.local_ssd_gib, need.local_ssd_gib_per_task),
    )
    for name, has, each in shared:
        if each.low:
            most = min(most, math.floor(has / each.low + EPSILON))
        if each.high is not None and has > 0:
            if each.high <= 0:
                return range(0), [f"{name}: {has:g} GiB, wanted is {each.in_words()}"]
            fewest = max(fewest, math.ceil(has / each.high - EPSILON))
        if most < fewest:
            return range(0), [
                f"{name}: {has:g} GiB, wanted is {each.in_words()} for each of {max(1, fewest)} tasks or more"
            ]
    if need.tasks_per_machine.low is not None:
        fewest = max(fewest, math.ceil(need.tasks_per_machine.low - EPSILON))
    if need.tasks_per_machine.high is not None:
        most = min(most, math.floor(need.tasks_per_machine.high + EPSILON))
    if most < fewest:
        return range(0), [f"tasks per machine: has room for {most}, wanted is {need.tasks_per_machine.in_words()}"]
    return range(fewest, most + 1), []


# --- where, and at which price ---


class _Plan(NamedTuple):
    """A number of slots, and a boot disk for them."""

    slots: int
    disk_gib: float
    disk_type: str
    disk_usd_per_hour: float
    fewest: int
    """Machines, for what all of them together have to be, their price apart."""
    most: int

    def allows(self, usd_per_hour: float, allowed: Range) -> bool:
        """Whether there is a number of machines at that price each."""
        fewest, most, _ = _limit(Count(self.fewest, self.most, ""), "", allowed, usd_per_hour)
        return fewest <= most


class _Places:
    """The zones that may be used, the boot disks in their regions, and the best offers found there so far."""

    def __init__(self, need: Need, catalogue: Catalogue) -> None:
        self._need = need
        self._catalogue = catalogue
        self._regions: dict[str, str | None] = {}
        """By zone; None for those that may not be used."""
        self._disks: dict[str, list[DiskType]] = {}
        for disk in catalogue.disks:
            if not need.boot_disk_types or disk.name in need.boot_disk_types:
                self._disks.setdefault(disk.region, []).append(disk)
        self._found: list[Offer] = []
        self._dearest = math.inf
        """What is dearer per slot is not among the best any more."""

    def ranked(self) -> tuple[Offer, ...]:
        """Give the best offers, the best first."""
        return tuple(sorted(self._found)[:RANKED])

    def add(self, kind: InstanceType, slots: range, market: Market) -> str:
        """Take a type's offers in one market; return what is against them, if there is none."""
        prices = self._catalogue.prices.get((kind.name, market), ())
        if not prices:
            is_unpriced = (kind.name, market) in self._catalogue.unpriced
            return f"price: {'none that makes sense' if is_unpriced else 'not offered'} ({market})"
        plans: dict[str, list[_Plan]] = {}
        known = len(self._found)
        for usd, zone in prices:
            if usd > self._dearest * slots[-1] and len(self._found) > known:
                break  # so are all that follow
            region = self._regions[zone] if zone in self._regions else self._region(zone)
            if region is None:
                continue
            if region not in plans:
                plans[region] = self._plan(kind, slots, region)
            fitting = [
                ((usd + plan.disk_usd_per_hour) / plan.slots, plan)
                for plan in plans[region]
                if plan.allows(usd + plan.disk_usd_per_hour, self._need.price_usd_per_hour)
            ]
            if fitting:
                each, plan = min(fitting)
                self._found.append(_offer(kind, market, zone, usd, each, plan))
        if len(self._found) > known:
            self._forget_dearest()
            return ""
        if not plans:
            return f"zone: in none of those wanted ({market})"
        if not any(plans.values()):
            return "boot disk or number of machines: no disk of the types wanted is fast enough, or the limits leave no number of machines"
        return f"number of machines: the limits leave none of this kind ({market})"

    def _forget_dearest(self) -> None:
        if len(self._found) > 4 * RANKED:
            self._found = heapq.nsmallest(RANKED, self._found)
            self._dearest = self._found[-1].usd_per_slot_hour

    def _region(self, zone: str) -> str | None:
        region = self._catalogue.region_of(zone)
        self._regions[zone] = region if _matches(zone, self._need.zones) else None
        return self._regions[zone]

    def _plan(self, kind: InstanceType, slots: range, region: str) -> list[_Plan]:
        """Give numbers of slots with a boot disk for them.

        The most slots and the cheapest disk are best, unless the limits of the whole pool are met by fewer slots or a dearer disk only.
        """
        need = self._need
        disks = [
            disk
            for disk in self._disks.get(region, ())
            if not kind.boot_disk_types or disk.name in kind.boot_disk_types
        ]
        plans: list[_Plan] = []
        for number in reversed(slots):
            fewest, most, _ = _limit_but_for_price(need, number, kind.cpus)
            if most < fewest:
                continue
            size = need.boot_disk_gib + need.boot_disk_gib_per_cpu * kind.cpus + need.boot_disk_gib_per_task * number
            priced = [(disk.usd_per_hour(size, need.boot_disk_iops, need.boot_disk_mibps), disk.name) for disk in disks]
            here = sorted((usd, name) for usd, name in priced if usd is not None)
            if need.price_usd_per_hour.low is None:
                here = here[:1]
            plans += [_Plan(number, size, name, usd, fewest, most) for usd, name in here]
            if plans and need.price_usd_per_hour.low is None and not need.boot_disk_gib_per_task:
                break
        return plans


def _offer(kind: InstanceType, market: Market, zone: str, usd: float, each: float, plan: _Plan) -> Offer:
    return Offer(
        usd_per_slot_hour=each,
        cpu_rank=-kind.cpu_rank,
        instance_type=kind.name,
        market=market,
        zone=zone,
        usd_per_hour=usd + plan.disk_usd_per_hour,
        machine_usd_per_hour=usd,
        slots=plan.slots,
        boot_disk_type=plan.disk_type,
        boot_disk_gib=plan.disk_gib,
        cpus=kind.cpus,
        memory_gib=kind.memory_gib,
    )


def _matches(text: str, patterns: Iterable[str]) -> bool:
    patterns = list(patterns)
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
