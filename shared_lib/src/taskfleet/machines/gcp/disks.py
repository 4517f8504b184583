"""The boot disk types of Google Cloud: their limits, and the machine series that support them."""

from typing import Final

from taskfleet.machines.disks import DiskLimits, DiskType
from taskfleet.machines.gcp.cpus import is_metal, series_of
from taskfleet.machines.gcp.prices import Rates

#: For Persistent Disk the lesser of read and write performance on a machine with many vCPUs; small machines reach less. Performance per
#: GiB is added to the baseline; ``DiskType`` uses the greater of the two, which is a little too low.
#: https://cloud.google.com/compute/docs/disks/performance
#: Sizes: https://cloud.google.com/compute/docs/disks/persistent-disks#disk-types; a boot disk has at least 10 GiB. The speed of pd-extreme
#: (https://cloud.google.com/compute/docs/disks/extreme-persistent-disk) and of Hyperdisk is ordered, and costs money even if the request
#: does not name it: then Compute Engine sets defaults that are higher than the minimum. The throughput of pd-extreme depends on the size of
#: operations, so it counts as 0. https://cloud.google.com/compute/docs/disks/hd-types/hyperdisk-balanced
#: The other types of Hyperdisk are for data: https://cloud.google.com/compute/docs/disks/hyperdisks
LIMITS: Final = {
    "pd-standard": DiskLimits(min_gib=10, iops_per_gib=0.75, max_iops=7_500, mibps_per_gib=0.12, max_mibps=400),
    "pd-balanced": DiskLimits(
        min_gib=10,
        free_iops=3_000,
        iops_per_gib=6,
        max_iops=80_000,
        free_mibps=140,
        mibps_per_gib=0.28,
        max_mibps=1_200,
    ),
    "pd-ssd": DiskLimits(
        min_gib=10,
        free_iops=6_000,
        iops_per_gib=30,
        max_iops=100_000,
        free_mibps=240,
        mibps_per_gib=0.48,
        max_mibps=1_200,
    ),
    "pd-extreme": DiskLimits(min_gib=500, orders_iops=True, min_iops=10_000, max_iops=120_000, max_mibps=3_000),
    "hyperdisk-balanced": DiskLimits(
        min_gib=10,
        free_iops=3_000,
        free_mibps=140,
        max_iops=160_000,
        max_mibps=2_400,
        orders_iops=True,
        orders_mibps=True,
        min_iops=3_000,
        max_iops_per_gib=500,
        max_mibps_per_iops=0.25,
        min_mibps_per_iops=1 / 256,
    ),
}
_OLD = ("pd-standard", "pd-balanced", "pd-ssd")
_THIRD = ("pd-balanced", "pd-ssd", "hyperdisk-balanced")
_HYPERDISK = ("hyperdisk-balanced",)
_EXTREME = ("pd-extreme",)
#: https://cloud.google.com/compute/docs/disks/persistent-disks and https://cloud.google.com/compute/docs/disks/hyperdisks (machine support)
_BY_SERIES: Final = {
    **dict.fromkeys(("e2", "f1", "g1", "n1", "n2", "n2d", "t2a", "t2d", "c2", "c2d"), _OLD),
    **dict.fromkeys(("c3", "c3d", "z3"), _THIRD),
    "h3": ("pd-balanced", "hyperdisk-balanced"),
    "m1": (*_OLD, *_EXTREME, *_HYPERDISK),
    "m2": (*_OLD, *_EXTREME, *_HYPERDISK),
    "m3": ("pd-balanced", "pd-ssd", *_EXTREME, *_HYPERDISK),
}
#: N2 machines with fewer vCPUs do not support pd-extreme.
_EXTREME_N2_CPUS: Final = 64


def boot_disk_types(type_name: str, cpus: int) -> tuple[str, ...]:
    """Return the disk types that a machine type can boot from; empty if they are unknown.

    Series of the fourth generation and later, and bare metal, support Hyperdisk only.
    """
    series = series_of(type_name)
    if is_metal(type_name):
        return _HYPERDISK
    if series == "n2" and cpus >= _EXTREME_N2_CPUS:
        return (*_OLD, *_EXTREME)
    if series in _BY_SERIES:
        return _BY_SERIES[series]
    return _HYPERDISK if series[1:2] >= "4" else ()


def disk_types(rates: Rates, region: str) -> list[DiskType]:
    """Return the disk types that have a price in a region."""
    return [
        DiskType(
            name=name,
            region=region,
            usd_per_gib_month=usd,
            usd_per_iops_month=rates.get(f"{name} iops", region) or 0.0,
            usd_per_mibps_month=rates.get(f"{name} mibps", region) or 0.0,
            limits=limits,
        )
        for name, limits in LIMITS.items()
        if (usd := rates.get(name, region)) is not None
    ]
