"""Catalogues of instance types, boot disks and prices by zone and market, and their cache files."""

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

#: Prices of disks are per month, for which AWS and Google Cloud both count 730 hours.
HOURS_PER_MONTH = 730.0
VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """A type of machine."""

    name: str
    cpus: int
    """Virtual CPUs, as the provider counts them."""
    memory_gib: float
    architecture: Architecture
    local_ssd_gib: float = 0.0
    """The total size of its local disks, whose price is included in the machine's."""
    cpu_family: str = ""
    """Such as "Intel Sapphire Rapids"; empty if it is unknown."""
    cpu_rank: int = 0
    """Higher is faster, see ``cpus.py``; 0 if it is unknown."""
    is_burstable: bool = False
    """Whether it has full speed only for limited bursts."""
    boot_disk_types: tuple[str, ...] = ()
    """The supported types; empty for all of the provider's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskType:
    """A type of boot disk in a region, with its prices."""

    name: str
    region: str
    usd_per_gib_month: float
    usd_per_iops_month: float = 0.0
    """Per I/O operation per second above ``free_iops``."""
    usd_per_mibps_month: float = 0.0
    """Per MiB/s above ``free_mibps``."""
    free_iops: float = 0.0
    free_mibps: float = 0.0
    max_iops: float = math.inf
    max_mibps: float = math.inf
    iops_per_gib: float = 0.0
    """For disks whose performance depends on their size."""
    mibps_per_gib: float = 0.0

    def usd_per_hour(self, size_gib: float, iops: float = 0.0, mibps: float = 0.0) -> float | None:
        """Return the price of a disk with this size and performance; None if the type does not support them."""
        baseline_iops = max(self.free_iops, self.iops_per_gib * size_gib)
        baseline_mibps = max(self.free_mibps, self.mibps_per_gib * size_gib)
        more_iops, more_mibps = max(0.0, iops - baseline_iops), max(0.0, mibps - baseline_mibps)
        if iops > self.max_iops or mibps > self.max_mibps:
            return None
        if (more_iops and not self.usd_per_iops_month) or (more_mibps and not self.usd_per_mibps_month):
            return None
        month = size_gib * self.usd_per_gib_month
        return (month + more_iops * self.usd_per_iops_month + more_mibps * self.usd_per_mibps_month) / HOURS_PER_MONTH


class Price(NamedTuple):
    """The price of a type in one zone and market."""

    usd_per_hour: float
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All offers of a provider in some regions."""

    provider: str
    regions: tuple[str, ...]
    fetched_at: float
    """Seconds since the epoch."""
    types: Mapping[str, InstanceType]
    disks: tuple[DiskType, ...]
    prices: Mapping[tuple[str, Market], tuple[Price, ...]]
    """By type and market, the cheapest zone first; without prices that are missing, zero or not finite."""
    unpriced: frozenset[tuple[str, Market]] = field(default_factory=frozenset)
    """Types and markets that are offered, but without a valid price."""

    @property
    def offer_count(self) -> int:
        """The number of types times zones times markets."""
        return sum(map(len, self.prices.values()))

    def region_of(self, zone: str) -> str:
        """Return the region of a zone, whose name is a prefix of the zone's; empty if the catalogue does not have the region."""
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
    """Return a catalogue of fetched data.

    Args:
        provider: The provider's name.
        regions: The requested regions.
        fetched_at: Seconds since the epoch.
        types: Of machines.
        disks: Types of boot disks.
        prices: Type, market, zone, USD per hour; a price that is missing, zero, negative or not finite is omitted.
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
    """Write a catalogue to its cache file atomically."""
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
    """Return the catalogue of a cache file; None if the file does not exist, or has another version.

    Raises:
        CatalogueError: The file is corrupt.
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
            f"The cached catalogue {path} cannot be read ({type(error).__name__}: {error}). Delete the file; it will be fetched again."
        ) from None


def _instance_type(values: dict[str, Any]) -> InstanceType:
    values["architecture"] = Architecture(values["architecture"])
    values["boot_disk_types"] = tuple(values.get("boot_disk_types", ()))
    return InstanceType(**values)


def _without_defaults(one: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults; infinity, which JSON does not support, is always a default."""
    return {each.name: value for each in dataclasses.fields(one) if (value := getattr(one, each.name)) != each.default}
