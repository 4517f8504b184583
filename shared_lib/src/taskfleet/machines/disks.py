"""Types of boot disks: what a provider allows, what it charges, and what to order so that a disk is as fast as required."""

import math
from dataclasses import dataclass

#: Prices of disks are per month, for which AWS and Google Cloud both count 730 hours.
HOURS_PER_MONTH = 730.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A boot disk as it is ordered."""

    type_name: str
    gib: int
    iops: int = 0
    """The I/O operations per second to order; 0 for types whose speed is not ordered."""
    mibps: int = 0
    """The MiB per second to order; 0 for types whose throughput is not ordered."""
    usd_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskLimits:
    """The sizes and speeds that a provider allows for a type of boot disk; each provider has a table of them, with the sources."""

    min_gib: int = 1
    max_gib: int = 65_536
    free_iops: float = 0.0
    """I/O operations per second that are included in the price of the storage."""
    free_mibps: float = 0.0
    max_iops: float = math.inf
    max_mibps: float = math.inf
    iops_per_gib: float = 0.0
    """For types whose speed depends on their size: what each GiB adds."""
    mibps_per_gib: float = 0.0
    orders_iops: bool = False
    """Whether IOPS are ordered."""
    orders_mibps: bool = False
    min_iops: float = 0.0
    """The smallest number that can be ordered."""
    max_iops_per_gib: float = math.inf
    """The largest number that can be ordered per GiB, above ``free_iops``."""
    max_mibps_per_iops: float = math.inf
    """The highest throughput for each of the ordered IOPS, above ``free_mibps``."""
    min_mibps_per_iops: float = 0.0
    """The lowest throughput that can be ordered for each of the ordered IOPS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskType:
    """A type of boot disk in a region, with its prices."""

    name: str
    region: str
    usd_per_gib_month: float
    usd_per_iops_month: float = 0.0
    """Per ordered I/O operation per second above ``DiskLimits.free_iops``."""
    usd_per_mibps_month: float = 0.0
    """Per ordered MiB/s above ``DiskLimits.free_mibps``."""
    limits: DiskLimits = DiskLimits()

    def order(self, size_gib: float, iops: float = 0.0, mibps: float = 0.0) -> Disk | str:
        """Return the smallest disk that has this size and speed, or the reason why there is none.

        The size is rounded up to whole GiB, and to the minimum of the type; it is not increased to reach a speed.
        """
        limits = self.limits
        gib = max(limits.min_gib, math.ceil(size_gib))
        if gib > limits.max_gib:
            return f"{self.name}: {gib:,} GiB are required, the maximum is {limits.max_gib:,}"
        for wanted, most, unit in ((iops, limits.max_iops, "IOPS"), (mibps, limits.max_mibps, "MiB/s")):
            if wanted > most:
                return f"{self.name}: {wanted:,g} {unit} are required, the maximum is {most:,g}"
        ordered_iops, ordered_mibps = self._speed(iops, mibps)
        has_iops = ordered_iops if limits.orders_iops else max(limits.free_iops, limits.iops_per_gib * gib)
        has_mibps = ordered_mibps if limits.orders_mibps else self._unordered_mibps(gib, ordered_iops)
        if iops > has_iops:
            return f"{self.name}: {iops:,g} IOPS are required, {gib:,} GiB have {has_iops:,g}"
        if mibps > has_mibps:
            return f"{self.name}: {mibps:,g} MiB/s are required, {gib:,} GiB have {has_mibps:,g}"
        if ordered_iops > max(limits.free_iops, limits.max_iops_per_gib * gib):
            least = math.ceil(ordered_iops / limits.max_iops_per_gib)
            cause = f" for {mibps:,g} MiB/s" if ordered_iops > iops and mibps else ""
            return (
                f"{self.name}: {ordered_iops:,} IOPS{cause} need a disk of {least:,} GiB or more "
                f"({limits.max_iops_per_gib:g} IOPS per GiB), and the boot disk has {gib:,} GiB"
            )
        paid_iops, paid_mibps = max(0.0, ordered_iops - limits.free_iops), max(0.0, ordered_mibps - limits.free_mibps)
        if (paid_iops and not self.usd_per_iops_month) or (paid_mibps and not self.usd_per_mibps_month):
            return f"{self.name}: there is no valid price for its speed in {self.region}"
        month = (
            gib * self.usd_per_gib_month + paid_iops * self.usd_per_iops_month + paid_mibps * self.usd_per_mibps_month
        )
        return Disk(
            type_name=self.name, gib=gib, iops=ordered_iops, mibps=ordered_mibps, usd_per_hour=month / HOURS_PER_MONTH
        )

    def _speed(self, iops: float, mibps: float) -> tuple[int, int]:
        """Return the IOPS and the MiB/s to order; 0 for what is not ordered."""
        limits = self.limits
        if not limits.orders_iops:
            return 0, 0
        for_throughput = mibps / limits.max_mibps_per_iops if mibps > limits.free_mibps else 0.0
        ordered = math.ceil(min(limits.max_iops, max(iops, for_throughput, limits.min_iops)))
        if not limits.orders_mibps:
            return ordered, 0
        return ordered, math.ceil(max(mibps, limits.free_mibps, limits.min_mibps_per_iops * ordered))

    def _unordered_mibps(self, gib: int, ordered_iops: int) -> float:
        """Return the throughput of a type for which none is ordered."""
        limits = self.limits
        if limits.orders_iops and math.isfinite(limits.max_mibps_per_iops):
            return min(limits.max_mibps, ordered_iops * limits.max_mibps_per_iops)
        return max(limits.free_mibps, limits.mibps_per_gib * gib)
