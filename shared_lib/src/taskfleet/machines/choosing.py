"""Choosing the machines of a pool: pure, and able to say why.

The best offer is that with the least price per task at a time (per slot), its boot disk counted. All constraints hold at once; where
several limit the same thing, the most constraining wins.
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.machine_terms import Market, Range
from taskfleet.machines import Kind
from taskfleet.machines.catalogue import Catalogue, DiskType, InstanceType
from taskfleet.machines.constraints import (
    Constraint,
    Rejection,
    bounds,
    count_but_for_price,
    count_machines,
    matches,
    reject,
    slots_of,
)
from taskfleet.machines.needs import Need

#: Offers that are ranked; a pool that is turned away by all of these waits.
RANKED = 500

#: Of an offer: USD per slot and hour, the negative CPU rank, type, market and zone.
RankKey = tuple[float, int, str, Market, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A kind of machine with its price in one zone and market, and what the pool would do with it."""

    instance_type: str
    zone: str
    market: Market
    usd_per_slot_hour: float
    usd_per_hour: float
    """The boot disk's price with it."""
    machine_usd_per_hour: float
    slots: int
    boot_disk_type: str
    boot_disk_gib: float
    cpus: int
    memory_gib: float
    cpu_rank: int = 0
    """How fast a core is; the higher, the faster."""

    @property
    def rank_key(self) -> RankKey:
        """What offers are sorted by, the best first: the least price per slot; of two equal ones the faster; then by name."""
        return self.usd_per_slot_hour, -self.cpu_rank, self.instance_type, self.market, self.zone

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
    limited_by: Constraint
    """What keeps the count from being higher."""
    rejected: dict[str, tuple[Rejection, ...]] = field(default_factory=dict)
    """Type to all the reasons why it does not fit."""

    @property
    def best(self) -> Offer | None:
        """The one to take."""
        return self.ranked[0] if self.ranked else None

    def why_nothing(self) -> str:
        """Say which constraint excludes most, if nothing fits."""
        if not self.rejected:
            return "The catalogue has no machines at all for these regions."
        constraints = [one.constraint for reasons in self.rejected.values() for one in reasons]
        alone = Counter(reasons[0].constraint for reasons in self.rejected.values() if len(reasons) == 1)
        [(worst, n)] = Counter(constraints).most_common(1)
        text = f"None of {len(self.rejected):,} types of machines fits. {worst.words} excludes most of them ({n:,})."
        if alone:
            easiest, more = alone.most_common(1)[0]
            verb = "type would" if more == 1 else "types would"
            text += f" Without {easiest.words}, {more:,} {verb} fit."
        return text


def choose(need: Need, catalogue: Catalogue) -> Choice:
    """Find the offer with the least price per slot, and rank the others.

    Args:
        need: The constraints.
        catalogue: What there is, and its prices.
    """
    rejected: dict[str, tuple[Rejection, ...]] = {}
    places = _Places(need, catalogue)
    for kind in catalogue.types.values():
        reasons = reject(need, kind)
        slots = range(0)
        if not reasons:
            slots, reasons = slots_of(need, kind)
        if not reasons:
            against = [places.add(kind, slots, market) for market in need.markets]
            if all(against):
                reasons = [one for one in against if one is not None]
        if reasons:
            rejected[kind.name] = tuple(dict.fromkeys(reasons))
    ranked = places.ranked()
    if not ranked:
        return Choice(ranked=(), count=0, fewest=0, limited_by=Constraint.NOTHING, rejected=rejected)
    count = count_machines(need, ranked[0].slots, ranked[0].cpus, ranked[0].usd_per_hour)
    assert count is not None
    return Choice(ranked=ranked, count=count.most, fewest=count.fewest, limited_by=count.limited_by, rejected=rejected)


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
        fewest, most = bounds(self.fewest, self.most, allowed, usd_per_hour)
        return fewest <= most


class _Candidate(NamedTuple):
    """What an offer is made of, if it is among the best; a tuple, because there are hundreds of thousands to sort."""

    rank_key: RankKey
    """First, so that it decides; no two have the same."""
    kind: InstanceType
    machine_usd_per_hour: float
    plan: _Plan


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
        self._found: list[_Candidate] = []
        self._most_usd = math.inf
        """What costs more per slot is not among the best any more."""

    def ranked(self) -> tuple[Offer, ...]:
        """Give the best offers, the best first."""
        return tuple(_offer(one) for one in sorted(self._found)[:RANKED])

    def add(self, kind: InstanceType, slots: range, market: Market) -> Rejection | None:
        """Take a type's offers in one market; return what is against them, if there is none."""
        prices = self._catalogue.prices.get((kind.name, market), ())
        if not prices:
            is_unpriced = (kind.name, market) in self._catalogue.unpriced
            text = f"{'none that makes sense' if is_unpriced else 'not offered'} ({market})"
            return Rejection(Constraint.PRICED, text)
        plans: dict[str, list[_Plan]] = {}
        known = len(self._found)
        for usd, zone in prices:
            if usd > self._most_usd * slots[-1] and len(self._found) > known:
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
                self._found.append(_Candidate((each, -kind.cpu_rank, kind.name, market, zone), kind, usd, plan))
        if len(self._found) > known:
            self._forget_the_rest()
            return None
        if not plans:
            return Rejection(Constraint.ZONES, f"in none of those wanted ({market})")
        if not any(plans.values()):
            text = "no disk of the types wanted is fast enough, or the limits leave no number of machines"
            return Rejection(Constraint.BOOT_DISK, text)
        return Rejection(Constraint.NUMBER, f"the limits leave none of this kind ({market})")

    def _forget_the_rest(self) -> None:
        if len(self._found) > 4 * RANKED:
            self._found = heapq.nsmallest(RANKED, self._found)
            self._most_usd = self._found[-1].rank_key[0]

    def _region(self, zone: str) -> str | None:
        region = self._catalogue.region_of(zone)
        self._regions[zone] = region if matches(zone, self._need.zones) else None
        return self._regions[zone]

    def _plan(self, kind: InstanceType, slots: range, region: str) -> list[_Plan]:
        """Give numbers of slots with a boot disk for them.

        The most slots and the cheapest disk are best, unless the limits of the whole pool are met by fewer slots or a more expensive
        disk only.
        """
        need = self._need
        disks = [
            disk
            for disk in self._disks.get(region, ())
            if not kind.boot_disk_types or disk.name in kind.boot_disk_types
        ]
        plans: list[_Plan] = []
        for number in reversed(slots):
            fewest, most, _ = count_but_for_price(need, number, kind.cpus)
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


def _offer(one: _Candidate) -> Offer:
    usd_per_slot_hour, _, _, market, zone = one.rank_key
    kind, plan = one.kind, one.plan
    return Offer(
        instance_type=kind.name,
        zone=zone,
        market=market,
        usd_per_slot_hour=usd_per_slot_hour,
        usd_per_hour=one.machine_usd_per_hour + plan.disk_usd_per_hour,
        machine_usd_per_hour=one.machine_usd_per_hour,
        slots=plan.slots,
        boot_disk_type=plan.disk_type,
        boot_disk_gib=plan.disk_gib,
        cpus=kind.cpus,
        memory_gib=kind.memory_gib,
        cpu_rank=kind.cpu_rank,
    )
