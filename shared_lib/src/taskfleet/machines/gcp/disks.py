"""The boot disk types of Google Cloud: their performance, and the machine series that support them."""

from dataclasses import dataclass
from typing import Final

from taskfleet.machines.catalogue import DiskType
from taskfleet.machines.gcp.cpus import series_of
from taskfleet.machines.gcp.prices import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    free_iops: float = 0.0
    free_mibps: float = 0.0
    max_iops: float
    max_mibps: float
    iops_per_gib: float = 0.0
    mibps_per_gib: float = 0.0


#: The lesser of read and write performance on a machine with many vCPUs; small machines reach less. Performance per GiB is added to the
#: baseline; ``DiskType`` uses the greater of the two, which is a little too low.
#: https://cloud.google.com/compute/docs/disks/performance and https://cloud.google.com/compute/docs/disks/hd-types/hyperdisk-balanced
#: The throughput of pd-extreme depends on its provisioned IOPS, which ``DiskType`` cannot express; so it counts as 0.
RULES: Final = {
    "pd-standard": _Rule(iops_per_gib=0.75, max_iops=7_500, mibps_per_gib=0.12, max_mibps=400),
    "pd-balanced": _Rule(
        free_iops=3_000, iops_per_gib=6, max_iops=80_000, free_mibps=140, mibps_per_gib=0.28, max_mibps=1_200
    ),
    "pd-ssd": _Rule(
        free_iops=6_000, iops_per_gib=30, max_iops=100_000, free_mibps=240, mibps_per_gib=0.48, max_mibps=1_200
    ),
    "pd-extreme": _Rule(max_iops=120_000, max_mibps=3_000),
    "hyperdisk-balanced": _Rule(free_iops=3_000, max_iops=160_000, free_mibps=140, max_mibps=2_400),
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

    Series of the fourth generation and later support Hyperdisk only.
    """
    series = series_of(type_name)
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
            free_iops=rule.free_iops,
            free_mibps=rule.free_mibps,
            max_iops=rule.max_iops,
            max_mibps=rule.max_mibps,
            iops_per_gib=rule.iops_per_gib,
            mibps_per_gib=rule.mibps_per_gib,
        )
        for name, rule in RULES.items()
        if (usd := rates.get(name, region)) is not None
    ]
