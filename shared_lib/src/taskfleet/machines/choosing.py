"""Choice of the machines of a pool, by pure functions that also return the reasons.

The best offer has the lowest price per slot, boot disk included; slots that the tasks left cannot make use of do not count. All constraints
apply; if several limit the same quantity, the strictest one decides.
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.machine_terms import Market, Range
from taskfleet.machines import Kind
from taskfleet.machines.catalogue import Catalogue, InstanceType
from taskfleet.machines.constraints import (
    Constraint,
    Rejection,
    bounds,
    count_machines,
    count_without_price,
    reject,
    slots_of,
)
from taskfleet.machines.disks import Disk, DiskType
from taskfleet.machines.needs import Need
from taskfleet.machines.patterns import matches, unmatched
from taskfleet.text import some

#: The number of offers that are kept; a pool whose launches fail for all of them waits.
MAX_OFFERS = 500

#: USD per useful slot and hour, negative CPU rank, type, market and zone.
RankKey = tuple[float, int, str, Market, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An instance type in one zone and market with its price, and the slots and boot disk that the pool would give it."""

    instance_type: str
    zone: str
    market: Market
    usd_per_slot_hour: float
    """Per slot that the tasks left can make use of, see ``Need.useful_slots``."""
    usd_per_hour: float
    """Including the boot disk."""
    machine_usd_per_hour: float
    slots: int
    boot_disk_type: str
    boot_disk_gib: float
    """Whole GiB."""
    boot_disk_iops: int = 0
    """What is ordered for the boot disk; 0 for types whose speed is not ordered."""
    boot_disk_mibps: int = 0
    cpus: int
    memory_gib: float
    cpu_rank: int = 0
    """Higher for faster cores."""
    local_ssd_gib: float = 0.0
    nodes: float = 0.0
    """See ``InstanceType.nodes``."""

    @property
    def has_market(self) -> bool:
        """Whether its market means something: it has a price, and is not a part of a cluster."""
        return self.usd_per_hour > 0 and not self.nodes

    @property
    def price_words(self) -> str:
        """What it costs, for people; empty if nothing."""
        words = [f"{some(self.nodes, 'node')} each"] if self.nodes else []
        words += [self.market] if self.has_market else []
        words += [f"{self.usd_per_hour:.4f} USD per hour"] if self.usd_per_hour else []
        return ", ".join(words)

    is_single: bool = False
    """See ``InstanceType``."""

    @property
    def rank_key(self) -> RankKey:
        """The sort key, the best offer first: lowest price per slot, then fastest processor, then by name."""
        return self.usd_per_slot_hour, -self.cpu_rank, self.instance_type, self.market, self.zone

    @property
    def kind(self) -> Kind:
        """Type, zone and market."""
        return Kind(self.instance_type, self.zone, self.market)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The ranked offers, and the reasons for the choice."""

    ranked: tuple[Offer, ...]
    """The best first; empty if nothing fits."""
    count: int
    """The number of machines of the best offer."""
    fewest: int
    """The minimum number that the constraints allow."""
    limited_by: Constraint
    """The constraint that limits ``count``."""
    rejected: dict[str, tuple[Rejection, ...]] = field(default_factory=dict)
    """By type: all constraints that it violates."""
    useful_slots: float = math.inf
    """See ``Need.useful_slots``."""
    notes: tuple[str, ...] = ()
    """Sentences about patterns and names in the settings that match nothing."""

    @property
    def best(self) -> Offer | None:
        """The best offer; None if nothing fits."""
        return self.ranked[0] if self.ranked else None

    @property
    def chosen(self) -> tuple[Offer, ...]:
        """The offers that are chosen: the best one, or as many as there are machines if each is a single one."""
        return self.ranked[: self.count] if self.best is not None and self.best.is_single else self.ranked[:1]

    @property
    def slots(self) -> int:
        """The slots of all machines that are chosen."""
        chosen = self.chosen
        return sum(one.slots for one in chosen) if len(chosen) == self.count else self.count * chosen[0].slots

    def no_fit_text(self) -> str:
        """Return a sentence with the constraint that excludes most types, if nothing fits."""
        if not self.rejected:
            return " ".join(["The catalogue has no instance types for these regions.", *self.notes])
        constraints = [one.constraint for reasons in self.rejected.values() for one in reasons]
        alone = Counter(reasons[0].constraint for reasons in self.rejected.values() if len(reasons) == 1)
        [(worst, n)] = Counter(constraints).most_common(1)
        text = f"None of {len(self.rejected):,} instance types fits. The constraint that excludes most is: {worst.words} ({n:,})."
        if alone:
            easiest, more = alone.most_common(1)[0]
            verb = "type would" if more == 1 else "types would"
            text += f" Without the constraint on {easiest.words}, {more:,} {verb} fit."
        details = Counter(
            one.text for reasons in self.rejected.values() for one in reasons if one.constraint is Constraint.BOOT_DISK
        )
        if details:
            text += f" Boot disks: {details.most_common(1)[0][0]}."
        return " ".join([text, *self.notes])


def choose(need: Need, catalogue: Catalogue) -> Choice:
    """Return the offers that fit, ranked by price per slot.

    Args:
        need: The constraints.
        catalogue: The offered types and their prices.
    """
    rejected: dict[str, tuple[Rejection, ...]] = {}
    ranking = _Ranking(need, catalogue)
    for kind in catalogue.types.values():
        reasons = reject(need, kind)
        slots = range(0)
        if not reasons:
            slots, reasons = slots_of(need, kind)
        if not reasons:
            rejections = [ranking.add(kind, slots, market) for market in need.markets]
            if all(rejections):
                reasons = [one for one in rejections if one is not None]
        if reasons:
            rejected[kind.name] = tuple(dict.fromkeys(reasons))
    ranked, notes = ranking.offers(), unmatched(need, catalogue)
    if not ranked:
        return Choice(ranked=(), count=0, fewest=0, limited_by=Constraint.NOTHING, rejected=rejected, notes=notes)
    count = count_machines(need, ranked[0].slots, ranked[0].cpus, ranked[0].usd_per_hour)
    assert count is not None
    most, limited_by = count.most, count.limited_by
    if ranked[0].is_single and len(ranked) < most:
        most, limited_by = len(ranked), Constraint.SINGLE
    return Choice(
        ranked=ranked,
        count=most,
        fewest=count.fewest,
        limited_by=limited_by,
        rejected=rejected,
        useful_slots=need.useful_slots,
        notes=notes,
    )


class _Plan(NamedTuple):
    """A number of slots with a boot disk for them."""

    slots: int
    disk: Disk
    fewest: int
    """The minimum number of machines, regardless of their price."""
    most: int

    def allows(self, usd_per_hour: float, allowed: Range) -> bool:
        """Return whether a number of machines at this price each is allowed."""
        fewest, most = bounds(self.fewest, self.most, allowed, usd_per_hour)
        return fewest <= most


class _Candidate(NamedTuple):
    """The parts of an offer; a tuple, because hundreds of thousands of them are sorted."""

    rank_key: RankKey
    """First, since it is the sort key; it is unique."""
    kind: InstanceType
    machine_usd_per_hour: float
    plan: _Plan


class _Ranking:
    """The best offers so far, with the allowed zones and the boot disks of their regions."""

    def __init__(self, need: Need, catalogue: Catalogue) -> None:
        self._need = need
        self._catalogue = catalogue
        self._useful_slots = need.useful_slots
        self._regions: dict[str, str | None] = {}
        """By zone; None for zones that are not allowed."""
        self._disks: dict[str, list[DiskType]] = {}
        for disk in catalogue.disks:
            if not need.boot_disk_types or disk.name in need.boot_disk_types:
                self._disks.setdefault(disk.region, []).append(disk)
        self._found: list[_Candidate] = []
        self._max_usd = math.inf
        """Candidates with a higher price per slot are not among the best."""

    def offers(self) -> tuple[Offer, ...]:
        """Return the best offers, the best first."""
        return tuple(_offer(one) for one in sorted(self._found)[:MAX_OFFERS])

    def add(self, kind: InstanceType, slots: range, market: Market) -> Rejection | None:
        """Add a type's offers in one market; return the reason if there are none."""
        prices = self._catalogue.prices.get((kind.name, market), ())
        if not prices:
            is_unpriced = (kind.name, market) in self._catalogue.unpriced
            text = f"{'no valid price' if is_unpriced else 'not offered'} ({market})"
            return Rejection(Constraint.PRICED, text)
        plans: dict[str, list[_Plan]] = {}
        disk_reasons: list[str] = []
        known = len(self._found)
        for usd, zone in prices:
            if usd > self._max_usd * min(slots[-1], self._useful_slots) and len(self._found) > known:
                break  # the prices are sorted
            region = self._regions[zone] if zone in self._regions else self._region(zone)
            if region is None:
                continue
            if region not in plans:
                plans[region] = self._plan(kind, slots, region, disk_reasons)
            fitting = [
                ((usd + plan.disk.usd_per_hour) / min(plan.slots, self._useful_slots), plan)
                for plan in plans[region]
                if plan.allows(usd + plan.disk.usd_per_hour, self._need.price_usd_per_hour)
            ]
            if fitting:
                each, plan = min(fitting, key=lambda one: (one[0], -one[1].slots, one[1].disk.type_name))
                self._found.append(_Candidate((each, -kind.cpu_rank, kind.name, market, zone), kind, usd, plan))
        if len(self._found) > known:
            self._discard_worst()
            return None
        if not plans:
            return Rejection(Constraint.ZONES, f"not offered in the required zones ({market})")
        if not any(plans.values()) and disk_reasons:
            return Rejection(Constraint.BOOT_DISK, "; ".join(dict.fromkeys(disk_reasons)))
        return Rejection(Constraint.NUMBER, f"the limits allow no machine of this type ({market})")

    def _discard_worst(self) -> None:
        if len(self._found) > 4 * MAX_OFFERS:
            self._found = heapq.nsmallest(MAX_OFFERS, self._found)
            self._max_usd = self._found[-1].rank_key[0]

    def _region(self, zone: str) -> str | None:
        region = self._catalogue.region_of(zone)
        self._regions[zone] = region if matches(zone, self._need.zones) else None
        return self._regions[zone]

    def _plan(self, kind: InstanceType, slots: range, region: str, reasons: list[str]) -> list[_Plan]:
        """Return numbers of slots with a boot disk for them; add the reasons why there is no disk.

        The most slots with the cheapest disk are best, unless only fewer slots or a more expensive disk meet the limits of the pool.
        """
        need = self._need
        disks = [
            disk
            for disk in self._disks.get(region, ())
            if not kind.boot_disk_types or disk.name in kind.boot_disk_types
        ]
        if not disks:
            supported = " or ".join(kind.boot_disk_types) or "any type"
            wanted = " or ".join(need.boot_disk_types) or "any type"
            reasons.append(f"no boot disk in {region}: it supports {supported}, requested is {wanted}")
        plans: list[_Plan] = []
        for number in reversed(slots):
            fewest, most, _ = count_without_price(need, number, kind.cpus)
            if most < fewest:
                continue
            size = need.boot_disk_gib + need.boot_disk_gib_per_cpu * kind.cpus + need.boot_disk_gib_per_task * number
            ordered = [disk.order(size, need.boot_disk_iops, need.boot_disk_mibps) for disk in disks]
            reasons += [one for one in ordered if isinstance(one, str)]
            suitable = [one for one in ordered if isinstance(one, Disk)]
            suitable.sort(key=lambda one: (one.usd_per_hour, one.type_name))
            if need.price_usd_per_hour.low is None:
                suitable = suitable[:1]
            plans += [_Plan(number, disk, fewest, most) for disk in suitable]
            if plans and need.price_usd_per_hour.low is None and not need.boot_disk_gib_per_task:
                break
            if not suitable and not need.boot_disk_gib_per_task:  # with fewer slots the disk would be the same
                break
        return plans


def _offer(one: _Candidate) -> Offer:
    usd_per_slot_hour, _, _, market, zone = one.rank_key
    kind, plan = one.kind, one.plan
    return Offer(
        instance_type=kind.name,
        zone=zone,
        market=market,
        usd_per_slot_hour=usd_per_slot_hour,
        usd_per_hour=one.machine_usd_per_hour + plan.disk.usd_per_hour,
        machine_usd_per_hour=one.machine_usd_per_hour,
        slots=plan.slots,
        boot_disk_type=plan.disk.type_name,
        boot_disk_gib=plan.disk.gib,
        boot_disk_iops=plan.disk.iops,
        boot_disk_mibps=plan.disk.mibps,
        cpus=kind.cpus,
        memory_gib=kind.memory_gib,
        cpu_rank=kind.cpu_rank,
        local_ssd_gib=kind.local_ssd_gib,
        nodes=kind.nodes,
        is_single=kind.is_single,
    )
