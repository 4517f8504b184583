"""Which boot disks Google Cloud has, what they do, and which machine series take them."""

from dataclasses import dataclass
from typing import Final

from taskfleet.machines.catalogue import DiskType
from taskfleet.machines.gcp.cpus import series_of
from taskfleet.machines.gcp.prices import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    free_iops: float = 0.0
    free_mibps: float = 0.0
    most_iops: float
    most_mibps: float
    iops_per_gib: float = 0.0
    mibps_per_gib: float = 0.0


#: The lesser of reading and writing, on a machine with many vCPUs: small machines reach less. What a size adds comes on top of what is
#: free; ``DiskType`` takes the greater of the two, so it promises a little less than there is.
#: https://cloud.google.com/compute/docs/disks/performance and https://cloud.google.com/compute/docs/disks/hd-types/hyperdisk-balanced
#: The throughput of pd-extreme goes with the operations bought, which ``DiskType`` cannot say; so it promises none.
RULES: Final = {
    "pd-standard": _Rule(iops_per_gib=0.75, most_iops=7_500, mibps_per_gib=0.12, most_mibps=400),
    "pd-balanced": _Rule(
        free_iops=3_000, iops_per_gib=6, most_iops=80_000, free_mibps=140, mibps_per_gib=0.28, most_mibps=1_200
    ),
    "pd-ssd": _Rule(
        free_iops=6_000, iops_per_gib=30, most_iops=100_000, free_mibps=240, mibps_per_gib=0.48, most_mibps=1_200
    ),
    "pd-extreme": _Rule(most_iops=120_000, most_mibps=3_000),
    "hyperdisk-balanced": _Rule(free_iops=3_000, most_iops=160_000, free_mibps=140, most_mibps=2_400),
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
#: N2 machines with fewer vCPUs do not take pd-extreme.
_EXTREME_N2_CPUS: Final = 64


def boot_disk_types(type_name: str, cpus: int) -> tuple[str, ...]:
    """Give the disk types a machine type boots from; empty if that is not known.

    Series of the fourth generation and later take Hyperdisk only.
    """
    series = series_of(type_name)
    if series == "n2" and cpus >= _EXTREME_N2_CPUS:
        return (*_OLD, *_EXTREME)
    if series in _BY_SERIES:
        return _BY_SERIES[series]
    return _HYPERDISK if series[1:2] >= "4" else ()


def disk_types(rates: Rates, region: str) -> list[DiskType]:
    """Give the disk types that have a price in a region."""
    return [
        DiskType(
            name=name,
            region=region,
            usd_per_gib_month=usd,
            usd_per_iops_month=rates.get(f"{name} iops", region) or 0.0,
            usd_per_mibps_month=rates.get(f"{name} mibps", region) or 0.0,
            free_iops=rule.free_iops,
            free_mibps=rule.free_mibps,
            most_iops=rule.most_iops,
            most_mibps=rule.most_mibps,
            iops_per_gib=rule.iops_per_gib,
            mibps_per_gib=rule.mibps_per_gib,
        )
        for name, rule in RULES.items()
        if (usd := rates.get(name, region)) is not None
    ]
