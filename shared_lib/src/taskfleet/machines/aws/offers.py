"""The catalogue of AWS: instance types, boot disks and prices, from the EC2 and Price List APIs.

``clouds.aws_permissions`` lists the permissions that are used. The calls are free of charge.

EC2 allows about 20 such requests per second and region, after a burst of 100
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html); botocore waits and retries throttled requests.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.machine_terms import Architecture, Hardware, Market
from taskfleet.machines.aws.cpus import cpu_of
from taskfleet.machines.aws.disks import LIMITS
from taskfleet.machines.aws.images import PROVIDER
from taskfleet.machines.catalogue import Catalogue, InstanceType, make_catalogue
from taskfleet.machines.disks import DiskType

#: Where the Price List API for all regions is called, and DescribeRegions if no region is set.
PRICES_REGION = "us-east-1"
_GB_IN_GIB = 1e9 / 2**30

#: Attributes of those AmazonEC2 products that are plain hourly instances: not dedicated, without licences, not a reservation.
_PLAIN_INSTANCES = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}
#: Suffixes of usage types of disks in the price list, where io1 is "piops".
_SUFFIXES = {"gp3": "gp3", "gp2": "gp2", "io1": "piops", "io2": "io2"}
#: Product families, and the prefix of their usage types.
_FAMILIES = {
    "Storage": "EBS:VolumeUsage.",
    "System Operation": "EBS:VolumeP-IOPS.",
    "Provisioned Throughput": "EBS:VolumeP-Throughput.",
}
#: Units of the price list, in GiB, IOPS or MiB/s.
_UNITS = {"GB-Mo": 1, "GB-month": 1, "IOPS-Mo": 1, "MiBps-Mo": 1, "GiBps-mo": 1024}


def fetch(regions: Sequence[str], *, now: float) -> Catalogue:
    """Fetch the instance types of some regions, with their prices for Linux by zone and market.

    Args:
        regions: Such as "eu-west-1".
        now: Seconds since the epoch; the spot prices are the newest since then, usually those that were valid then.

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
    """Return the regions that are enabled for the account, each with its zones.

    Raises:
        ProviderError: As ``fetch``.
    """
    client = AwsClient()
    response = client.call(client.region or PRICES_REGION, "DescribeRegions")
    names = sorted(one["RegionName"] for one in response["Regions"] if one.get("OptInStatus") != "not-opted-in")
    found = client.run_parallel({name: partial(_zones, client, name) for name in names}, all_or_nothing=True)
    return [(name, found[name]) for name in names]


def _types(client: AwsClient, region: str) -> dict[str, tuple[InstanceType, frozenset[Market]]]:
    """Return the instance types that run Linux, with their markets."""
    found = {}
    for page in client.pages(region, "DescribeInstanceTypes"):
        for one in page["InstanceTypes"]:
            name = one["InstanceType"]
            supported = one.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
            architecture = next((each for each in Architecture if each in supported), None)
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
                hardware=_hardware(one),
            )
            usages = one.get("SupportedUsageClasses", ())
            found[name] = (instance_type, frozenset(market for market in Market if market in usages))
    return found


#: Fields of types with special hardware: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceTypeInfo.html
_HARDWARE_FIELDS = {
    "GpuInfo": Hardware.GPU,
    "FpgaInfo": Hardware.FPGA,
    "InferenceAcceleratorInfo": Hardware.ACCELERATOR,
    "NeuronInfo": Hardware.ACCELERATOR,
    "MediaAcceleratorInfo": Hardware.ACCELERATOR,
}
#: The same by the beginning of the name, since EC2 omits these fields for some types.
#: https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
_HARDWARE_FAMILIES = {
    r"p\d|g\d|gr\d": Hardware.GPU,
    r"f\d": Hardware.FPGA,
    r"inf\d|trn\d|dl\d|vt\d": Hardware.ACCELERATOR,
    r"u-|u\d": Hardware.HIGH_MEMORY,
}


def _hardware(one: Mapping[str, Any]) -> tuple[Hardware, ...]:
    """Return the special hardware of a type."""
    name = one["InstanceType"]
    found = {kind for field, kind in _HARDWARE_FIELDS.items() if one.get(field)}
    found |= {kind for pattern, kind in _HARDWARE_FAMILIES.items() if re.match(pattern, name)}
    if one.get("BareMetal") or ".metal" in name:
        found.add(Hardware.METAL)
    return tuple(sorted(found))


def _offered(client: AwsClient, region: str) -> set[tuple[str, str]]:
    """Return the offered types by zone, without local zones and the like, which have separate prices."""
    return {
        (one["InstanceType"], one["Location"])
        for page in client.pages(region, "DescribeInstanceTypeOfferings", LocationType="availability-zone")
        for one in page["InstanceTypeOfferings"]
        if one["Location"][:-1] == region
    }


def _spot_prices(client: AwsClient, region: str, now: float) -> dict[tuple[str, str], float | None]:
    """Return the prices by type and zone: EC2 lists the changes since a time, and the prices that were valid then."""
    newest: dict[tuple[str, str], tuple[datetime, float | None]] = {}
    arguments: dict[str, Any] = {"StartTime": datetime.fromtimestamp(now, UTC), "ProductDescriptions": ["Linux/UNIX"]}
    for page in client.pages(region, "DescribeSpotPriceHistory", **arguments):
        for one in page["SpotPriceHistory"]:
            key = one["InstanceType"], one["AvailabilityZone"]
            if key not in newest or newest[key][0] < one["Timestamp"]:
                newest[key] = one["Timestamp"], _number(one.get("SpotPrice"))
    return {key: usd for key, (_, usd) in newest.items()}


def _list_prices(client: AwsClient, region: str) -> dict[str, float]:
    """Return the on-demand prices by type; of several the highest, so that no price is too low."""
    found: dict[str, float] = {}
    for product in _products(client, region, _PLAIN_INSTANCES):
        attributes = product["product"]["attributes"]
        if attributes.get("marketoption", "OnDemand") != "OnDemand" or "instanceType" not in attributes:
            continue
        for unit, usd in _prices(product):
            if unit == "Hrs":
                found[attributes["instanceType"]] = max(usd, found.get(attributes["instanceType"], 0.0))
    return found


def _disk_prices(client: AwsClient, region: str, family: str) -> dict[str, float]:
    """Return the monthly prices by disk type; of several the highest (io2: the price of the first 32,000 IOPS)."""
    usages = {_FAMILIES[family] + suffix: name for name, suffix in _SUFFIXES.items()}
    found: dict[str, float] = {}
    for product in _products(client, region, {"productFamily": family}):
        usage = product["product"]["attributes"].get("usagetype", "")
        name = usages.get(usage[usage.find("EBS:") :])  # outside us-east-1 there is a region prefix such as EUW1-
        for unit, usd in _prices(product):
            if name is not None and unit in _UNITS:
                found[name] = max(usd / _UNITS[unit], found.get(name, 0.0))
    return found


def _disks(
    region: str, storage: Mapping[str, float], iops: Mapping[str, float], throughput: Mapping[str, float]
) -> Iterator[DiskType]:
    for name, limits in LIMITS.items():
        if storage.get(name, 0.0) > 0:
            yield DiskType(
                name=name,
                region=region,
                usd_per_gib_month=storage[name],
                usd_per_iops_month=iops.get(name, 0.0),
                usd_per_mibps_month=throughput.get(name, 0.0),
                limits=limits,
            )


def _zones(client: AwsClient, region: str) -> list[str]:
    wanted = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    response = client.call(region, "DescribeAvailabilityZones", Filters=wanted)
    return sorted(one["ZoneName"] for one in response["AvailabilityZones"])


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
    """Yield the unit and the price in USD of each on-demand price dimension."""
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
