"""What machines AWS has, and what they cost, asked from AWS itself.

The permissions that are used are in ``clouds.aws_permissions``. None of the calls costs anything.

EC2 answers about 20 such requests a second in a region, after 100 at once
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html); botocore waits and asks again when it is turned away.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.machine_terms import Architecture, Market
from taskfleet.machines.aws.cpus import cpu_of
from taskfleet.machines.catalogue import Catalogue, DiskType, InstanceType, make_catalogue
from taskfleet.machines.images import Image

PROVIDER = "aws"
#: Where the price list of every region is kept, and which region is asked for the others if none is set.
PRICES_REGION = "us-east-1"
#: How many names ssm:GetParameters takes at once.
_PARAMETERS = 10
_GB_IN_GIB = 1e9 / 2**30

#: How products of AmazonEC2 are found that are plain machines by the hour: not dedicated, no licences in the price, not a reservation.
_PLAIN_MACHINES = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}
#: What disks are sure to do, without bursts: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html. Those of io1 and io2
#: that every type of machine allows. Hard disks (st1, sc1) cannot be booted from, so they are not here.
_SPEEDS: dict[str, dict[str, float]] = {
    "gp3": {"free_iops": 3000, "free_mibps": 125, "most_iops": 80_000, "most_mibps": 2000},
    "gp2": {
        "free_iops": 100,
        "iops_per_gib": 3,
        "most_iops": 16_000,
        "free_mibps": 25,  # operations of 256 KiB, as also below
        "mibps_per_gib": 0.75,
        "most_mibps": 250,
    },
    "io1": {"most_iops": 32_000, "most_mibps": 500},
    "io2": {"most_iops": 32_000, "most_mibps": 500},
}
_MIBPS_PER_IOPS = 0.25
#: How usage of disks ends in the price list; io1 is as old as to be just "piops" there.
_SUFFIXES = {"gp3": "gp3", "gp2": "gp2", "io1": "piops", "io2": "io2"}
#: Product families, and how their usage begins.
_FAMILIES = {
    "Storage": "EBS:VolumeUsage.",
    "System Operation": "EBS:VolumeP-IOPS.",
    "Provisioned Throughput": "EBS:VolumeP-Throughput.",
}
#: What a unit of the price list is of what a price is given for.
_UNITS = {"GB-Mo": 1, "GB-month": 1, "IOPS-Mo": 1, "MiBps-Mo": 1, "GiBps-mo": 1024}

_UBUNTU = "/aws/service/canonical/ubuntu/server/{release}/stable/current/{architecture}/hvm/ebs-gp3/ami-id"
_DEBIAN = "/aws/service/debian/release/{release}/latest/{architecture}"
_AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"


def fetch(regions: Sequence[str], *, now: float) -> Catalogue:
    """Ask AWS for all its machines in some regions, and what they cost on Linux, by zone and market.

    Args:
        regions: Such as "eu-west-1".
        now: Seconds since the epoch; of spot prices the newest since then is taken, as a rule what was valid then.

    Raises:
        ProviderError: No credentials, no permission, an unknown region, no network.
    """
    regions = tuple(dict.fromkeys(regions))
    client = AwsClient()
    jobs: dict[tuple[str, str], Callable[[], Any]] = {}
    for region in regions:
        jobs["list", region] = partial(_list_prices, client, region)
        jobs["types", region] = partial(_types, client, region)
        jobs["spot", region] = partial(_spot_prices, client, region, now)
        jobs["offered", region] = partial(_offered, client, region)
    jobs |= {
        (family, region): partial(_disk_prices, client, region, family) for region in regions for family in _FAMILIES
    }
    found = client.run_parallel(jobs, all_or_nothing=True)
    types: dict[str, InstanceType] = {}
    prices: list[tuple[str, Market, str, float | None]] = []
    for region in regions:
        in_region = found["types", region]
        types |= {name: one for name, (one, _) in in_region.items()}
        for name, zone in found["offered", region]:
            if name not in in_region:
                continue
            markets = in_region[name][1]
            if Market.SPOT in markets:
                prices.append((name, Market.SPOT, zone, found["spot", region].get((name, zone))))
            if Market.ON_DEMAND in markets:
                prices.append((name, Market.ON_DEMAND, zone, found["list", region].get(name)))
    return make_catalogue(
        provider=PROVIDER,
        regions=regions,
        fetched_at=now,
        types=types.values(),
        disks=[disk for region in regions for disk in _disks(region, *(found[family, region] for family in _FAMILIES))],
        prices=prices,
    )


def regions() -> list[tuple[str, list[str]]]:
    """Give the regions that are enabled for the account, each with its zones.

    Raises:
        ProviderError: As ``fetch``.
    """
    client = AwsClient()
    answer = client.call(client.region or PRICES_REGION, "DescribeRegions")
    names = sorted(one["RegionName"] for one in answer["Regions"] if one.get("OptInStatus") != "not-opted-in")
    found = client.run_parallel({name: partial(_zones, client, name) for name in names}, all_or_nothing=True)
    return [(name, found[name]) for name in names]


def images(region: str, *, now: float) -> list[Image]:
    """Give the newest Ubuntu LTS, Debian and Amazon Linux images, each for both architectures.

    They are those that their makers name in AWS's public parameters; an instance is launched from their ids in this region only.

    Args:
        region: Such as "eu-west-1".
        now: Seconds since the epoch; which releases there may be by then.

    Raises:
        ProviderError: As ``fetch``.
    """
    client = AwsClient()
    year = datetime.fromtimestamp(now, UTC).year
    releases = {
        _DEBIAN: [str(number) for number in range(12 + max(0, year - 2023) // 2, 11, -1)],
    }
    wanted = [ubuntu_parameters(architecture, now=now) for architecture in Architecture]
    wanted += [
        [template.format(release=release, architecture=architecture) for release in newest_first]
        for template, newest_first in releases.items()
        for architecture in ("amd64", "arm64")
    ]
    wanted += [[_AMAZON_LINUX.format(architecture=architecture)] for architecture in ("x86_64", "arm64")]
    names = [name for each in wanted for name in each]
    ids: dict[str, str] = {}
    for start in range(0, len(names), _PARAMETERS):
        answer = client.call(region, "GetParameters", service="ssm", Names=names[start : start + _PARAMETERS])
        ids |= {one["Name"]: one["Value"] for one in answer["Parameters"]}
    newest = [next((ids[name] for name in each if name in ids), None) for each in wanted]
    chosen = [one for one in newest if one is not None]
    if not chosen:
        return []
    described = {one["ImageId"]: one for one in client.call(region, "DescribeImages", ImageIds=chosen)["Images"]}
    return [
        Image(
            id=one,
            name=described[one]["Name"],
            architecture=Architecture(described[one]["Architecture"]),
            created_at=datetime.fromisoformat(described[one]["CreationDate"]).timestamp(),
            provider=PROVIDER,
        )
        for one in chosen
        if one in described
    ]


def ubuntu_parameters(architecture: Architecture, *, now: float) -> list[str]:
    """Give the names of AWS's public parameters in which the ids of Ubuntu LTS images are, the newest release first.

    Args:
        architecture: What the image is for.
        now: Seconds since the epoch; releases that there cannot be by then are left out.
    """
    year = datetime.fromtimestamp(now, UTC).year
    name = {Architecture.X86_64: "amd64", Architecture.ARM64: "arm64"}[architecture]
    return [_UBUNTU.format(release=f"{even % 100}.04", architecture=name) for even in range(year - year % 2, 2023, -2)]


def _types(client: AwsClient, region: str) -> dict[str, tuple[InstanceType, frozenset[Market]]]:
    """Give the types that run Linux, and in which markets they are."""
    found = {}
    for page in client.pages(region, "DescribeInstanceTypes"):
        for one in page["InstanceTypes"]:
            name = one["InstanceType"]
            programs = one.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
            architecture = next((each for each in Architecture if each in programs), None)
            if architecture is None or "hvm" not in one.get("SupportedVirtualizationTypes", ()):
                continue
            family, rank = cpu_of(name)
            disks = one.get("InstanceStorageInfo", {}).get("Disks", ())
            instance_type = InstanceType(
                name=name,
                cpus=one["VCpuInfo"]["DefaultVCpus"],
                memory_gib=one["MemoryInfo"]["SizeInMiB"] / 1024,
                architecture=architecture,
                local_ssd_gib=sum(
                    each["SizeInGB"] * each["Count"] * _GB_IN_GIB for each in disks if each["Type"] == "ssd"
                ),
                cpu_family=family,
                cpu_rank=rank,
                is_burstable=one.get("BurstablePerformanceSupported", False),
            )
            usages = one.get("SupportedUsageClasses", ())
            found[name] = (instance_type, frozenset(market for market in Market if market in usages))
    return found


def _offered(client: AwsClient, region: str) -> set[tuple[str, str]]:
    """Give types and zones; not local zones and the like, which have prices of their own."""
    return {
        (one["InstanceType"], one["Location"])
        for page in client.pages(region, "DescribeInstanceTypeOfferings", LocationType="availability-zone")
        for one in page["InstanceTypeOfferings"]
        if one["Location"][:-1] == region
    }


def _spot_prices(client: AwsClient, region: str, now: float) -> dict[tuple[str, str], float | None]:
    """Give the prices by type and zone: EC2 tells what has changed since a time, and what was valid then."""
    newest: dict[tuple[str, str], tuple[datetime, float | None]] = {}
    arguments: dict[str, Any] = {"StartTime": datetime.fromtimestamp(now, UTC), "ProductDescriptions": ["Linux/UNIX"]}
    for page in client.pages(region, "DescribeSpotPriceHistory", **arguments):
        for one in page["SpotPriceHistory"]:
            key = one["InstanceType"], one["AvailabilityZone"]
            if key not in newest or newest[key][0] < one["Timestamp"]:
                newest[key] = one["Timestamp"], _number(one.get("SpotPrice"))
    return {key: usd for key, (_, usd) in newest.items()}


def _list_prices(client: AwsClient, region: str) -> dict[str, float]:
    """Give the prices by type; of several the highest, so that none is too good to be true."""
    found: dict[str, float] = {}
    for product in _products(client, region, _PLAIN_MACHINES):
        attributes = product["product"]["attributes"]
        if attributes.get("marketoption", "OnDemand") != "OnDemand" or "instanceType" not in attributes:
            continue
        for unit, usd in _prices(product):
            if unit == "Hrs":
                found[attributes["instanceType"]] = max(usd, found.get(attributes["instanceType"], 0.0))
    return found


def _disk_prices(client: AwsClient, region: str, family: str) -> dict[str, float]:
    """Give the prices of a month by kind of disk; of several the highest (io2: of the first 32,000 operations)."""
    usages = {_FAMILIES[family] + suffix: name for name, suffix in _SUFFIXES.items()}
    found: dict[str, float] = {}
    for product in _products(client, region, {"productFamily": family}):
        usage = product["product"]["attributes"].get("usagetype", "")
        name = usages.get(usage[usage.find("EBS:") :])  # outside us-east-1 it begins with a region, as in EUW1-
        for unit, usd in _prices(product):
            if name is not None and unit in _UNITS:
                found[name] = max(usd / _UNITS[unit], found.get(name, 0.0))
    return found


def _disks(
    region: str, storage: Mapping[str, float], iops: Mapping[str, float], throughput: Mapping[str, float]
) -> Iterator[DiskType]:
    for name, speeds in _SPEEDS.items():
        if storage.get(name, 0.0) <= 0:
            continue
        is_by_iops = name.startswith(
            "io"
        )  # throughput comes with operations, which alone are paid; who wants both pays too much here
        usd_per_iops = iops.get(name, 0.0)
        yield DiskType(
            name=name,
            region=region,
            usd_per_gib_month=storage[name],
            usd_per_iops_month=usd_per_iops,
            usd_per_mibps_month=usd_per_iops / _MIBPS_PER_IOPS if is_by_iops else throughput.get(name, 0.0),
            **speeds,
        )


def _zones(client: AwsClient, region: str) -> list[str]:
    wanted = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    answer = client.call(region, "DescribeAvailabilityZones", Filters=wanted)
    return sorted(one["ZoneName"] for one in answer["AvailabilityZones"])


def _products(client: AwsClient, region: str, attributes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    filters = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value}
        for name, value in {"regionCode": region, **attributes}.items()
    ]
    arguments: dict[str, Any] = {"ServiceCode": "AmazonEC2", "Filters": filters}
    for page in client.pages(PRICES_REGION, "GetProducts", service="pricing", **arguments):
        for text in page["PriceList"]:
            yield json.loads(text)


def _prices(product: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give units and USD of what is paid as it is used."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            usd = _number(dimension["pricePerUnit"].get("USD"))
            if usd is not None:
                yield dimension["unit"], usd


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
