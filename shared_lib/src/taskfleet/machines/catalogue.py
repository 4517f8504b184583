"""Catalogues of instance types, boot disks and prices by zone and market, and their cache files."""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from taskfleet.errors import CatalogueError
from taskfleet.files import write_atomically
from taskfleet.machine_terms import Architecture, Hardware, Market
from taskfleet.machines.disks import DiskLimits, DiskType

VERSION = 3
#: More than any provider has; larger figures are errors of the data, and would make a useless machine look cheap.
MAX_CPUS, MAX_GIB, MAX_USD_PER_HOUR = 100_000, 10_000_000.0, 1_000_000.0
#: Names of types, zones and regions, which are printed, and become parts of requests.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


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
    hardware: tuple[Hardware, ...] = ()
    """Special hardware, for which it is chosen on request only."""
    nodes: float = 0.0
    """The nodes of a cluster that it is charged for, less than 1 for a part of one; 0 for machines without nodes."""
    is_single: bool = False
    """Whether there is only one machine of it for each pool: it is a certain computer."""


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
        prices: Type, market, zone, USD per hour; a price that is missing, zero, negative, not finite or absurdly high is omitted, and so
            are types and zones with impossible names or figures.
    """
    known = {one.name: one for one in types if _is_possible(one)}
    found: dict[tuple[str, Market], list[Price]] = {}
    offered = set()
    for name, market, zone, usd in prices:
        if name not in known or not (_NAME.fullmatch(zone) or (usd is None and not zone)):
            continue
        offered.add((name, market))
        if usd is not None and 0 < usd < MAX_USD_PER_HOUR:  # not NaN, either
            found.setdefault((name, market), []).append(Price(usd, zone))
    return Catalogue(
        provider=provider,
        regions=tuple(regions),
        fetched_at=fetched_at,
        types=known,
        disks=tuple(one for one in disks if _is_possible_disk(one)),
        prices={key: tuple(sorted(each)) for key, each in found.items()},
        unpriced=frozenset(offered - found.keys()),
    )


def _is_possible(one: InstanceType) -> bool:
    """Return whether a type has a name and figures that a machine can have."""
    return (
        _NAME.fullmatch(one.name) is not None
        and 1 <= one.cpus <= MAX_CPUS
        and 0 < one.memory_gib <= MAX_GIB
        and 0 <= one.local_ssd_gib <= MAX_GIB
    )


def _is_possible_disk(one: DiskType) -> bool:
    prices = (one.usd_per_gib_month, one.usd_per_iops_month, one.usd_per_mibps_month)
    return all(0 <= usd < MAX_USD_PER_HOUR for usd in prices)


def save(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue to its cache file atomically."""
    content = {
        "version": VERSION,
        "provider": catalogue.provider,
        "regions": catalogue.regions,
        "fetched_at": catalogue.fetched_at,
        "types": [_without_defaults(one) for one in catalogue.types.values()],
        "disks": [_without_defaults(one) | {"limits": _without_defaults(one.limits)} for one in catalogue.disks],
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
        provider, regions = content["provider"], content["regions"]
        if not all(isinstance(one, str) for one in (provider, *regions)):
            raise TypeError("names are not texts")
        return make_catalogue(
            provider=provider,
            regions=regions,
            fetched_at=float(content["fetched_at"]),
            types=[_instance_type(one) for one in content["types"]],
            disks=[_disk_type(one) for one in content["disks"]],
            prices=prices,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CatalogueError(
            f"The cached catalogue {path} cannot be read ({type(error).__name__}: {error}). Delete the file; it will be fetched again."
        ) from None


def _instance_type(values: dict[str, Any]) -> InstanceType:
    values["architecture"] = Architecture(values["architecture"])
    values["boot_disk_types"] = tuple(map(str, values.get("boot_disk_types", ())))
    values["hardware"] = tuple(Hardware(one) for one in values.get("hardware", ()))
    return InstanceType(**_typed(InstanceType, values))


def _disk_type(values: dict[str, Any]) -> DiskType:
    limits = DiskLimits(**_typed(DiskLimits, values["limits"]))
    return DiskType(**_typed(DiskType, {**values, "limits": limits}))


def _typed(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of fields of a class.

    Raises:
        TypeError: A number or a text is not one.
    """
    types = {one.name: one.type for one in dataclasses.fields(kind)}
    for name, value in values.items():
        wanted = types.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if (wanted is float and not is_number) or (wanted in (int, str, bool) and type(value) is not wanted):
            raise TypeError(f"{name} is {value!r}")
    return values


def _without_defaults(one: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults; infinity, which JSON does not support, is always a default."""
    return {each.name: value for each in dataclasses.fields(one) if (value := getattr(one, each.name)) != each.default}
