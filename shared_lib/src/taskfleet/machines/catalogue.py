"""What machines a provider has, and what they cost: types, boot disks, prices by zone and market; kept on disk with their date."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from taskfleet.errors import CatalogueError
from taskfleet.files import write_atomically
from taskfleet.machine_terms import Architecture, Market

#: Prices of disks are per month, which the providers take for so many hours (AWS and Google Cloud: 730).
HOURS_PER_MONTH = 730.0
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """A kind of machine."""

    name: str
    cpus: int
    """Virtual ones, as the provider counts them."""
    memory_gib: float
    architecture: Architecture
    local_ssd_gib: float = 0.0
    """Of all its local disks together, whose price is in the machine's."""
    cpu_family: str = ""
    """Such as "Intel Sapphire Rapids"; empty if unknown."""
    cpu_rank: int = 0
    """Higher is faster, see ``cpus.py``; 0 if unknown."""
    is_burstable: bool = False
    """Whether it gets its whole speed for a while only."""
    boot_disk_types: tuple[str, ...] = ()
    """Those it can have; empty for all of the provider's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskType:
    """A kind of boot disk in a region, by its prices."""

    name: str
    region: str
    usd_per_gib_month: float
    usd_per_iops_month: float = 0.0
    """For each input or output operation per second above the free ones."""
    usd_per_mibps_month: float = 0.0
    """For each MiB/s above the free ones."""
    free_iops: float = 0.0
    free_mibps: float = 0.0
    most_iops: float = math.inf
    """More cannot be had; of disks whose speed goes with their size, see ``iops_per_gib``."""
    most_mibps: float = math.inf
    iops_per_gib: float = 0.0
    mibps_per_gib: float = 0.0

    def usd_per_hour(self, size_gib: float, iops: float = 0.0, mibps: float = 0.0) -> float | None:
        """Give the price of a disk of that size that does so much; None if there is none."""
        has_iops = max(self.free_iops, self.iops_per_gib * size_gib)
        has_mibps = max(self.free_mibps, self.mibps_per_gib * size_gib)
        more_iops, more_mibps = max(0.0, iops - has_iops), max(0.0, mibps - has_mibps)
        if iops > self.most_iops or mibps > self.most_mibps:
            return None
        if (more_iops and not self.usd_per_iops_month) or (more_mibps and not self.usd_per_mibps_month):
            return None
        month = size_gib * self.usd_per_gib_month
        return (month + more_iops * self.usd_per_iops_month + more_mibps * self.usd_per_mibps_month) / HOURS_PER_MONTH


class Price(NamedTuple):
    """What a type costs in one zone and market."""

    usd_per_hour: float
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All a provider offers in some regions."""

    provider: str
    regions: tuple[str, ...]
    fetched_at: float
    """Seconds since the epoch."""
    types: Mapping[str, InstanceType]
    disks: tuple[DiskType, ...]
    prices: Mapping[tuple[str, Market], tuple[Price, ...]]
    """By type and market, the cheapest zone first; without those that are missing, zero or not finite."""
    unpriced: frozenset[tuple[str, Market]] = field(default_factory=frozenset)
    """Offered somewhere, but at no price that makes sense."""

    @property
    def offer_count(self) -> int:
        """The number of types times zones times markets."""
        return sum(map(len, self.prices.values()))

    def region_of(self, zone: str) -> str:
        """Give the region that a zone is in; its name begins like the zone's. Empty if it is in none that was asked for."""
        return max((region for region in self.regions if zone.startswith(region)), key=len, default="")


def make_catalogue(
    *,
    provider: str,
    regions: Iterable[str],
    fetched_at: float,
    types: Iterable[InstanceType],
    disks: Iterable[DiskType],
    prices: Iterable[tuple[str, Market, str, float | None]],
) -> Catalogue:
    """Sort what was fetched.

    Args:
        provider: Whose.
        regions: That were asked for.
        fetched_at: Seconds since the epoch.
        types: Kinds of machines.
        disks: Kinds of boot disks.
        prices: Type, market, zone, USD per hour; a price that is missing, zero, negative or not finite is none.
    """
    known = {one.name: one for one in types}
    found: dict[tuple[str, Market], list[Price]] = {}
    offered = set()
    for name, market, zone, usd in prices:
        if name not in known:
            continue
        offered.add((name, market))
        if usd is not None and math.isfinite(usd) and usd > 0:
            found.setdefault((name, market), []).append(Price(usd, zone))
    return Catalogue(
        provider=provider,
        regions=tuple(regions),
        fetched_at=fetched_at,
        types=known,
        disks=tuple(disks),
        prices={key: tuple(sorted(each)) for key, each in found.items()},
        unpriced=frozenset(offered - found.keys()),
    )


def save(catalogue: Catalogue, path: Path) -> None:
    """Keep a catalogue, whole or not at all."""
    content = {
        "version": VERSION,
        "provider": catalogue.provider,
        "regions": catalogue.regions,
        "fetched_at": catalogue.fetched_at,
        "types": [_without_defaults(one) for one in catalogue.types.values()],
        "disks": [_without_defaults(one) for one in catalogue.disks],
        "prices": [
            [name, market, [[one.zone, one.usd_per_hour] for one in each]]
            for (name, market), each in catalogue.prices.items()
        ],
        "unpriced": sorted([name, market] for name, market in catalogue.unpriced),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content))


def load(path: Path) -> Catalogue | None:
    """Read a kept catalogue; None if there is none, or one of another version.

    Raises:
        CatalogueError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return None
        prices = [
            (name, Market(market), zone, usd) for name, market, each in content["prices"] for zone, usd in each
        ] + [(name, Market(market), "", None) for name, market in content["unpriced"]]
        return make_catalogue(
            provider=content["provider"],
            regions=content["regions"],
            fetched_at=content["fetched_at"],
            types=[_instance_type(one) for one in content["types"]],
            disks=[DiskType(**one) for one in content["disks"]],
            prices=prices,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogueError(
            f"The kept catalogue {path} cannot be read ({type(error).__name__}: {error}). Delete it, it is made again."
        ) from None


def _instance_type(values: dict[str, Any]) -> InstanceType:
    values["architecture"] = Architecture(values["architecture"])
    values["boot_disk_types"] = tuple(values.get("boot_disk_types", ()))
    return InstanceType(**values)


def _without_defaults(one: Any) -> dict[str, Any]:
    """Give what differs from the defaults; infinity, which JSON has not, is a default."""
    return {each.name: value for each in dataclasses.fields(one) if (value := getattr(one, each.name)) != each.default}
