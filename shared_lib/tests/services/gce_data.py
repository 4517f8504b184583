"""Data of the double of Compute Engine and Cloud Billing: small and fictitious, with the formats and gaps of the real services.

Prices are near the real ones, rounded. On purpose some entries of the price list are missing, zero, old, or look like others.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

#: Regions with their name in descriptions, the factor of their prices, and their zones.
REGIONS: dict[str, tuple[str, float, dict[str, str]]] = {
    "us-central1": ("Iowa", 1.0, {"a": "UP", "b": "UP", "f": "UP"}),
    "europe-west4": ("Netherlands", 1.1, {"a": "UP", "b": "UP", "c": "UP"}),
    "asia-northeast1": ("Tokyo", 1.25, {"a": "UP", "b": "UP", "c": "DOWN"}),
}
ZONES = {
    f"{region}-{letter}": (region, status)
    for region, (_, _, zones) in REGIONS.items()
    for letter, status in zones.items()
}
#: Series with the same price in all American regions.
_AMERICAN = {"us-central1": ("Americas", ["us-central1", "us-east1", "us-west1"])}
_CREATED = "1969-12-31T16:00:00.000-08:00"

#: Name, vCPUs, MiB, and further properties.
MACHINE_TYPES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("e2-micro", 2, 1024, {"isSharedCpu": True}),
    ("e2-small", 2, 2048, {"isSharedCpu": True}),
    ("e2-medium", 2, 4096, {"isSharedCpu": True}),
    ("e2-standard-4", 4, 16384, {}),
    ("e2-highcpu-8", 8, 8192, {}),
    ("f1-micro", 1, 614, {"isSharedCpu": True}),
    ("g1-small", 1, 1740, {"isSharedCpu": True}),
    ("n1-standard-2", 2, 7680, {}),
    ("n1-megamem-96", 96, 1468006, {"deprecated": {"state": "DEPRECATED"}}),
    ("n2-standard-8", 8, 32768, {}),
    ("n2-highmem-64", 64, 524288, {}),
    ("n2-custom-4-8192", 4, 8192, {}),
    ("n2d-standard-4", 4, 16384, {}),
    ("n4-standard-4", 4, 16384, {}),
    ("c2-standard-4", 4, 16384, {}),
    ("c2d-highcpu-4", 4, 8192, {}),
    ("c3-standard-4", 4, 16384, {}),
    ("c3-standard-4-lssd", 4, 16384, {"bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 1}}),
    ("c3-standard-192-metal", 192, 786432, {}),
    ("c4-standard-8-lssd", 8, 30720, {"bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 1}}),
    ("c4a-standard-4", 4, 16384, {"architecture": "ARM64"}),
    ("c4a-standard-4-lssd", 4, 16384, {"architecture": "ARM64", "bundledLocalSsds": {"partitionCount": 1}}),
    ("c4d-standard-4", 4, 15872, {}),
    ("t2a-standard-4", 4, 16384, {"architecture": None}),
    ("t2d-standard-4", 4, 16384, {}),
    ("m1-megamem-96", 96, 1468006, {}),
    ("m2-ultramem-208", 208, 6029312, {}),
    ("m3-ultramem-32", 32, 999424, {}),
    ("z3-highmem-14-standardlssd", 14, 114688, {"bundledLocalSsds": {"partitionCount": 1}}),
    ("q9-standard-4-lssd", 4, 16384, {"bundledLocalSsds": {"partitionCount": 1}}),
    (
        "g2-standard-4",
        4,
        16384,
        {"accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}]},
    ),
]
#: Types that exist in one region only.
_ONLY = {"h3-standard-88": "us-central1"}
MACHINE_TYPES.append(("h3-standard-88", 88, 360448, {}))

#: Series, its words, the hourly on-demand prices of a core and of a GiB, and the same for spot; in Iowa.
_SERIES: list[tuple[str, str, float, float, float | None, float | None]] = [
    ("e2", "E2 Instance", 0.022, 0.003, 0.006, 0.0008),
    ("n1", "N1 Predefined Instance", 0.032, 0.0042, 0.0065, 0.0009),
    ("n2", "N2 Instance", 0.0316, 0.0042, 0.0075, 0.001),
    ("n2d", "N2D AMD Instance", 0.0275, 0.0037, 0.004, 0.0005),
    ("n4", "N4 Instance", 0.03, 0.0034, 0.012, 0.0014),
    ("c2", "Compute optimized", 0.034, 0.0046, 0.009, 0.0012),
    ("c2d", "C2D AMD Instance", 0.0296, 0.004, 0.0045, 0.0006),
    ("c3", "C3 Instance", 0.034, 0.0045, 0.009, 0.0012),
    ("c4", "C4 Instance", 0.0346, 0.004, 0.014, 0.0016),
    ("c4a", "C4A Arm Instance", 0.031, 0.0035, 0.012, 0.0013),
    ("c4d", "C4D Instance", 0.0347, 0.0039, 0.0139, 0.0016),
    ("t2a", "T2A Arm Instance", 0.0308, 0.0042, 0.0, 0.0),
    ("t2d", "T2D AMD Instance", 0.0275, 0.0037, 0.0066, 0.0009),
    ("m1", "Memory-optimized Instance", 0.035, 0.005, 0.0074, 0.0011),
    ("m3", "M3 Memory-optimized Instance", 0.035, 0.005, 0.014, 0.002),
    ("z3", "Z3 Instance", 0.05, 0.0066, 0.02, 0.003),
    ("q9", "Q9 Instance", 0.001, 0.0001, 0.001, 0.0001),
    ("g2", "G2 Instance", 0.025, 0.003, 0.01, 0.001),
    ("h3", "H3 Instance", 0.0441, 0.003, None, None),
]
#: Description, resource group, unit, and price in Iowa.
_DISKS = [
    ("Balanced PD Capacity", "SSD", "GiBy.mo", 0.1),
    ("SSD backed PD Capacity", "SSD", "GiBy.mo", 0.17),
    ("Extreme PD Capacity", "SSD", "GiBy.mo", 0.125),
    ("Extreme PD IOPS", "SSD", "mo", 0.065),
    ("Hyperdisk Balanced Capacity", "SSD", "GiBy.mo", 0.08),
    ("Hyperdisk Balanced IOPS", "SSD", "mo", 0.005),
    ("Hyperdisk Balanced Throughput", "SSD", "mo", 0.04),
]
#: SKUs of other products, in Iowa and extremely expensive, so that a client that uses one by mistake is noticed.
_MISLEADING = [
    ("N2 Custom Instance Core running in Americas", "OnDemand"),
    ("N2 Custom Extended Instance Ram running in Americas", "OnDemand"),
    ("N2 Sole Tenancy Instance Core running in Americas", "OnDemand"),
    ("Sole Tenancy Premium for N2 Sole Tenancy Instance Core running in Americas", "OnDemand"),
    ("Reserved N2 Instance Core running in Americas", "OnDemand"),
    ("DWS Defined Duration N2 Instance Core running in Americas", "OnDemand"),
    ("Commitment v1: N2 Cpu in Americas for 1 Year", "Commit1Yr"),
    ("N2 Instance Core running in Americas", "Commit3Yr"),
    ("Spot Preemptible N2 Custom Instance Core running in Americas", "Preemptible"),
    ("Spot Preemptible N2 Instance Core running in Americas", "OnDemand"),
    ("Regional SSD backed PD Capacity in Iowa", "OnDemand"),
    ("Hyperdisk Balanced Storage Pools Standard Capacity in Iowa", "OnDemand"),
    ("Hyperdisk Balanced High Availability Capacity in Iowa", "OnDemand"),
    ("Hyperdisk Balanced Capacity for Storage Pools in Iowa", "OnDemand"),
    ("C3 Instance Local SSD attached to Calendar mode reservations running in Iowa", "OnDemand"),
]
#: Image families by project: the image, and its architecture. The next LTS of Ubuntu does not exist for Arm.
IMAGES = {
    "ubuntu-os-cloud": {
        "ubuntu-2604-lts-amd64": ("ubuntu-2604-resolute-amd64-v20261105", "X86_64", "2026-11-05T03:12:44.321-08:00"),
        "ubuntu-2404-lts-amd64": ("ubuntu-2404-noble-amd64-v20261101", "X86_64", "2026-11-01T02:00:00.000-07:00"),
        "ubuntu-2404-lts-arm64": ("ubuntu-2404-noble-arm64-v20261101", "ARM64", "2026-11-01T02:10:00.000-07:00"),
    },
    "debian-cloud": {
        "debian-13": ("debian-13-trixie-v20261010", "X86_64", "2026-10-10T10:00:00.000-07:00"),
        "debian-13-arm64": ("debian-13-trixie-arm64-v20261010", "ARM64", "2026-10-10T10:05:00.000-07:00"),
        "debian-12": ("debian-12-bookworm-v20261010", "X86_64", "2026-10-10T10:00:00.000-07:00"),
    },
}


IMAGES["test-project"] = {
    "my-family": ("my-image-2", "X86_64", "2026-10-01T10:00:00.000-07:00"),
    "my-arm-family": ("my-arm-image", "ARM64", "2026-10-01T10:00:00.000-07:00"),
    "my-twin": ("my-image-3", "X86_64", "2026-10-01T10:00:00.000-07:00"),
    "my-other-family": ("my-twin", "X86_64", "2026-10-01T10:00:00.000-07:00"),  # an image called like a family
    "my-big-family": ("my-big-image", "X86_64", "2026-10-01T10:00:00.000-07:00"),
}
#: The size of each image by project and name.
IMAGE_GIB = {
    (project, name): 50 if name == "my-big-image" else 10
    for project, families in IMAGES.items()
    for name, _, _ in families.values()
}


def number(name: str) -> str:
    """Return a resource's ID: a 64-bit number as text, as in the services."""
    return str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1)


def machine_types(zone: str) -> list[dict[str, Any]]:
    """Return the machine types of a zone, without links."""
    return [
        {
            "kind": "compute#machineType",
            "id": number(name),
            "creationTimestamp": _CREATED,
            "name": name,
            "description": f"{cpus} vCPU, {memory / 1024:g} GB RAM",
            "guestCpus": cpus,
            "memoryMb": memory,
            "imageSpaceGb": 0,
            "maximumPersistentDisks": 128,
            "maximumPersistentDisksSizeGb": "263168",
            "zone": zone,
            "isSharedCpu": False,
            **{key: value for key, value in ({"architecture": "X86_64"} | more).items() if value is not None},
        }
        for name, cpus, memory, more in MACHINE_TYPES
        if _ONLY.get(name, ZONES[zone][0]) == ZONES[zone][0]
    ]


def skus() -> list[dict[str, Any]]:
    """Return the whole price list."""
    return [*_cores(), *_local_ssds(), *_disks(), *_others()]


def _cores() -> Iterator[dict[str, Any]]:
    for series, words, *prices in _SERIES:
        for region, (place, factor, _) in REGIONS.items():
            where, names = _AMERICAN.get(region, (place, [region]))
            for (part, unit, group), usd, usage in zip(
                2 * [("Core", "h", "CPU"), ("Ram", "GiBy.h", "RAM")],
                prices,
                ["OnDemand", "OnDemand", "Preemptible", "Preemptible"],
                strict=True,
            ):
                if usd is None or (series == "c4d" and part == "Ram"):
                    continue  # no memory of C4D, no spot market of H3
                if (series, region, usage) == ("n4", "europe-west4", "Preemptible") and part == "Core":
                    continue
                if (series, region, part) == ("c2d", "asia-northeast1", "Core"):
                    usd = 0.0
                spot = "Spot Preemptible " if usage == "Preemptible" else ""
                group = "N1Standard" if series == "n1" else group
                yield _sku(
                    f"{spot}{words} {part} running in {where}", usage, names, unit, usd * factor, "Compute", group
                )


def _local_ssds() -> Iterator[dict[str, Any]]:
    for region, (place, factor, _) in REGIONS.items():
        # Where a place is not named, entries for spot machines are among those on demand, as in the real list.
        legacy = region == "us-central1"
        tail, spot_usage = ("", "OnDemand") if legacy else (f" in {place}", "Preemptible")
        yield _sku(
            f"SSD backed Local Storage{tail}", "OnDemand", [region], "GiBy.mo", 0.08 * factor, "Storage", "LocalSSD"
        )
        yield _sku(
            f"SSD backed Local Storage attached to Spot Preemptible VMs{tail}",
            spot_usage,
            [region],
            "GiBy.mo",
            0.032 * factor,
            "Storage",
            "LocalSSD",
        )
        yield _sku(
            f"Z3 Instance Local SSD running in {place}", "OnDemand", [region], "GiBy.mo", 0.01, "Compute", "LocalSSD"
        )
        for series in ("C4", "C4A") if region != "asia-northeast1" else ("C4A",):  # none of C4 in Tokyo
            for spot, usage, usd in [("", "OnDemand", 0.16), ("Spot Preemptible ", "Preemptible", 0.06)]:
                yield _sku(
                    f"{spot}{series} Instance Local SSD running in {place}",
                    usage,
                    [region],
                    "GiBy.mo",
                    usd * factor,
                    "Compute",
                    "LocalSSD",
                )


def _disks() -> Iterator[dict[str, Any]]:
    for region, (place, factor, _) in REGIONS.items():
        for words, group, unit, usd in _DISKS:
            if words == "Hyperdisk Balanced Capacity" and region == "asia-northeast1":
                continue
            if words == "Hyperdisk Balanced IOPS" and region == "europe-west4":
                usd = 0.0
            yield _sku(f"{words} in {place}", "OnDemand", [region], unit, usd * factor, "Storage", group)
        tail = "" if region == "us-central1" else f" in {place}"
        yield _sku(
            f"Storage PD Capacity{tail}", "OnDemand", [region], "GiBy.mo", 0.04 * factor, "Storage", "PDStandard", 30
        )


def _others() -> Iterator[dict[str, Any]]:
    for words, group, usd, spot_usd, free_hours in [
        ("Micro Instance with burstable CPU", "F1Micro", 0.0076, 0.0035, 744),
        ("Small Instance with 1 VCPU", "G1Small", 0.0257, 0.0, 0),
    ]:
        where, names = "running in Americas", ["us-central1"]
        yield _sku(f"{words} {where}", "OnDemand", names, "h", usd, "Compute", group, free_hours)
        yield _sku(f"Spot Preemptible {words} {where}", "Preemptible", names, "h", spot_usd, "Compute", group)
    for part, unit, usd in [("Core", "h", 0.02), ("Ram", "GiBy.h", 0.003)]:
        yield _sku(
            f"Memory Optimized Upgrade Premium for Memory-optimized Instance {part} running in Americas",
            "OnDemand",
            ["us-central1"],
            unit,
            usd,
            "Compute",
            "CPU" if part == "Core" else "RAM",
        )
    for description, usage in _MISLEADING:
        unit = "GiBy.h" if " Ram " in description else "GiBy.mo" if "Capacity" in description else "h"
        yield _sku(description, usage, ["us-central1"], unit, 9.0, "Compute", "CPU")
    # Left over from a former price, in another unit, and without any price.
    yield _sku("N2D AMD Instance Core running in Iowa", "OnDemand", ["us-central1"], "h", 0.0001, "Compute", "CPU")
    yield _sku("E2 Instance Core running in Iowa", "OnDemand", ["us-central1"], "mo", 99.0, "Compute", "CPU")
    bare = _sku("E2 Instance Ram running in Iowa", "OnDemand", ["us-central1"], "GiBy.h", 1.0, "Compute", "RAM")
    yield bare | {"pricingInfo": []}


def _sku(
    description: str,
    usage: str,
    regions: list[str],
    unit: str,
    usd: float,
    family: str,
    group: str,
    free_amount: int = 0,
) -> dict[str, Any]:
    digits = hashlib.sha256(f"{description}|{usage}|{unit}".encode()).hexdigest().upper()
    sku_id = "-".join(digits[at : at + 4] for at in (0, 4, 8))
    tiers = [(0, 0.0), (free_amount, usd)] if free_amount else [(0, usd)]

    def pricing(at: str, factor: float) -> dict[str, Any]:
        return {
            "summary": "",
            "pricingExpression": {
                "usageUnit": unit,
                "displayQuantity": 1,
                "tieredRates": [
                    {"startUsageAmount": start, "unitPrice": _money(each * factor)} for start, each in tiers
                ],
                "usageUnitDescription": unit,
                "baseUnit": "s" if unit in ("h", "mo") else "By.s",
                "baseUnitDescription": "second" if unit in ("h", "mo") else "byte second",
                "baseUnitConversionFactor": 3600,
            },
            "currencyConversionRate": 1,
            "effectiveTime": at,
        }

    return {
        "name": f"services/6F81-5844-456A/skus/{sku_id}",
        "skuId": sku_id,
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": group,
            "usageType": usage,
        },
        "serviceRegions": regions,
        # In the order of time: what it cost before, and what it costs.
        "pricingInfo": [pricing("2026-11-01T07:00:00Z", 0.5), pricing("2026-11-20T07:00:00Z", 1.0)],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "MULTI_REGIONAL" if len(regions) > 1 else "REGIONAL", "regions": regions},
    }


def _money(usd: float) -> dict[str, Any]:
    nanos = round(usd * 1e9)
    return {"currencyCode": "USD", "units": str(nanos // 10**9), "nanos": nanos % 10**9}
