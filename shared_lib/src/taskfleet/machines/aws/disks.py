"""The boot disk types of AWS, with the limits of Elastic Block Store (EBS)."""

from typing import Final

from taskfleet.machines.disks import DiskLimits

#: Sizes, IOPS and throughput: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html. IOPS per GiB, throughput per
#: IOPS, and the speed of gp2 without bursts: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html and
#: https://docs.aws.amazon.com/ebs/latest/userguide/provisioned-iops.html. An operation transfers at most 256 KiB, hence 0.25 MiB/s per
#: IOPS. For io1 and io2 the table has what every instance type supports: those of the Nitro system reach more.
#: No machine can boot from st1 and sc1: https://docs.aws.amazon.com/ebs/latest/userguide/hdd-vols.html.
LIMITS: Final = {
    "gp3": DiskLimits(
        max_gib=65_536,
        free_iops=3_000,
        free_mibps=125,
        max_iops=80_000,
        max_mibps=2_000,
        orders_iops=True,
        orders_mibps=True,
        min_iops=3_000,
        max_iops_per_gib=500,
        max_mibps_per_iops=0.25,
    ),
    "gp2": DiskLimits(
        max_gib=16_384,
        free_iops=100,
        iops_per_gib=3,
        max_iops=16_000,
        free_mibps=25,
        mibps_per_gib=0.75,
        max_mibps=250,
    ),
    "io1": DiskLimits(
        min_gib=4,
        max_gib=16_384,
        max_iops=32_000,
        max_mibps=500,
        orders_iops=True,
        min_iops=100,
        max_iops_per_gib=50,
        max_mibps_per_iops=0.25,
    ),
    "io2": DiskLimits(
        min_gib=4,
        max_gib=65_536,
        max_iops=32_000,
        max_mibps=500,
        orders_iops=True,
        min_iops=100,
        max_iops_per_gib=500,
        max_mibps_per_iops=0.25,
    ),
}
