"""Prices of Google Cloud's machines and disks, computed from the SKUs of the Cloud Billing Catalog.

Google has no price per machine type: the price is the sum of the prices of its cores, memory and local SSD, for each of which there is a
SKU per series, region and market. Only the description of a SKU identifies it. https://cloud.google.com/compute/vm-instance-pricing
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskfleet.machine_terms import Market
from taskfleet.machines.disks import HOURS_PER_MONTH
from taskfleet.machines.gcp.cpus import series_of

#: The vCPUs that shared-core types are billed for.
#: https://cloud.google.com/compute/docs/general-purpose-machines#e2-shared-core
BILLED_CPUS: Final = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}
#: Types with one SKU for the whole machine.
WHOLE_TYPES: Final = frozenset({"f1-micro", "g1-small"})
#: Series whose bundled disks are billed as plain "SSD backed Local Storage"; each of the other series has a separate SKU.
#: https://cloud.google.com/compute/disks-image-pricing#localssdpricing
PLAIN_LOCAL_SSD: Final = frozenset({"c3", "c3d", "z3"})
#: Types whose price is not the sum of their SKUs.
UNKNOWN_SUMS: Final = frozenset({"m4-ultramem-224"})

_HOUR, _GIB_HOUR, _GIB_MONTH, _MONTH = "h", "GiBy.h", "GiBy.mo", "mo"
_SPOT = r"(?P<spot>(?:Spot )?Preemptible )?"
_SERIES = re.compile(
    _SPOT
    + r"(?P<series>[A-Z]\d[A-Z]?)(?: AMD| Arm| Memory-optimized| Predefined)? Instance "
    + r"(?P<part>Core|Ram|Local SSD) running in .+"
)
#: Descriptions that do not name the series.
_NAMED = [
    (re.compile(_SPOT + pattern), name)
    for pattern, name in [
        (r"Compute optimized (?:Instance )?(?P<part>Core|Ram) running in .+", "c2"),
        (r"Memory-optimized Instance (?P<part>Core|Ram) running in .+", "m1"),
        (
            r"Memory Optimized Upgrade Premium for Memory-optimized Instance (?P<part>Core|Ram) running in .+",
            "m2 premium",
        ),
        (r"(?P<part>Micro) Instance with burstable CPU running in .+", "f1-micro"),
        (r"(?P<part>Small) Instance with 1 VCPU running in .+", "g1-small"),
    ]
]
_LOCAL_SSD = re.compile(
    r"SSD backed Local Storage(?P<spot> attached to (?:Spot )?Preemptible VMs?)?(?: (?:running )?in .+)?"
)
_DISKS = [
    (re.compile(rf"{words}(?: in .+)?"), part, unit)
    for words, part, unit in [
        ("Storage PD Capacity", "pd-standard", _GIB_MONTH),
        ("Balanced PD Capacity", "pd-balanced", _GIB_MONTH),
        ("SSD backed PD Capacity", "pd-ssd", _GIB_MONTH),
        ("Extreme PD Capacity", "pd-extreme", _GIB_MONTH),
        ("Extreme PD IOPS", "pd-extreme iops", _MONTH),
        ("Hyperdisk Balanced Capacity", "hyperdisk-balanced", _GIB_MONTH),
        ("Hyperdisk Balanced IOPS", "hyperdisk-balanced iops", _MONTH),
        ("Hyperdisk Balanced Throughput", "hyperdisk-balanced mibps", _MONTH),
    ]
]
_PART_UNITS = {"Core": _HOUR, "Ram": _GIB_HOUR, "Local SSD": _GIB_MONTH, "Micro": _HOUR, "Small": _HOUR}
_MARKETS = {"OnDemand": Market.ON_DEMAND, "Preemptible": Market.SPOT}


class Rates:
    """Prices of the billed parts of machines in USD: per core and hour, per GiB and hour or month, and so on."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str, Market], float] = {}

    def add(self, skus: Iterable[Mapping[str, Any]]) -> None:
        """Add SKUs of the catalogue (https://cloud.google.com/billing/docs/reference/rest/v1/services.skus).

        SKUs with other usage types, units or currencies, and with missing or zero prices, are skipped. Of two SKUs for the same part the
        more expensive one is used, so that an obsolete SKU never makes a machine look cheap.
        """
        for sku in skus:
            found = _part_of(sku)
            usd = _usd(sku, found[2]) if found else None
            if found is None or usd is None:
                continue
            part, market, _ = found
            for region in sku.get("serviceRegions", ()):
                key = (part, region, market)
                self._rates[key] = max(usd, self._rates.get(key, 0.0))

    def get(self, part: str, region: str, market: Market = Market.ON_DEMAND) -> float | None:
        """Return the price of a part: "n2 core", "n2 ram", "n2 ssd", "ssd", "f1-micro", "pd-ssd", "pd-extreme iops"."""
        return self._rates.get((part, region, market))

    def machine_usd_per_hour(
        self, name: str, region: str, market: Market, *, cpus: int, memory_gib: float, local_ssd_gib: float
    ) -> float | None:
        """Return a machine type's price; None if the price of any part is unknown.

        Args:
            name: The machine type.
            region: Of the price.
            market: Spot or on-demand.
            cpus: The vCPUs of the machine type.
            memory_gib: The memory of the machine type.
            local_ssd_gib: The bundled local SSD; NaN if the size is unknown.
        """
        series = series_of(name)
        if name in WHOLE_TYPES:
            return self.get(name, region, market)
        if name in UNKNOWN_SUMS:
            return None
        bases = ["m1", "m2 premium"] if series == "m2" else [series]
        usd = 0.0
        for base in bases:
            core, ram = self.get(f"{base} core", region, market), self.get(f"{base} ram", region, market)
            if core is None or ram is None:
                return None
            usd += BILLED_CPUS.get(name, cpus) * core + memory_gib * ram
        if local_ssd_gib:
            ssd = self.get("ssd" if series in PLAIN_LOCAL_SSD else f"{series} ssd", region, market)
            if ssd is None:
                return None
            usd += local_ssd_gib * ssd / HOURS_PER_MONTH
        return usd if math.isfinite(usd) else None


def _part_of(sku: Mapping[str, Any]) -> tuple[str, Market, str] | None:
    """Return the part that a SKU is the price of, its market and its unit; None if it is none of a machine."""
    description = sku.get("description", "")
    market = _MARKETS.get(sku.get("category", {}).get("usageType", ""))
    if market is None:
        return None
    if found := _LOCAL_SSD.fullmatch(description):  # the SKUs for spot machines have either usage type
        return "ssd", Market.SPOT if found["spot"] else Market.ON_DEMAND, _GIB_MONTH
    for pattern, part, unit in _DISKS:
        if market is Market.ON_DEMAND and pattern.fullmatch(description):
            return part, market, unit
    for pattern, name in [(_SERIES, ""), *_NAMED]:
        if (found := pattern.fullmatch(description)) and bool(found["spot"]) == (market is Market.SPOT):
            part = found["part"]
            whole = name or found["series"].lower()
            return (
                whole if name in WHOLE_TYPES else f"{whole} {part.split()[-1].lower()}",
                market,
                _PART_UNITS[part],
            )
    return None


def _usd(sku: Mapping[str, Any], unit: str) -> float | None:
    """Return a SKU's current price, that of the most expensive tier: the first ones may be free of charge."""
    try:
        expression = sku["pricingInfo"][-1]["pricingExpression"]
        prices = [tier["unitPrice"] for tier in expression["tieredRates"]]
        if expression["usageUnit"] != unit or any(price.get("currencyCode", "USD") != "USD" for price in prices):
            return None
        usd = max(int(price.get("units", 0)) + int(price.get("nanos", 0)) / 1e9 for price in prices)
    except (KeyError, IndexError, ValueError, TypeError):
        return None
    return usd if usd > 0 else None
