"""The catalogue and images of AWS, with the real client at the double, and its errors."""

import math
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from taskfleet.clouds import aws_client
from taskfleet.errors import ProviderError
from taskfleet.machine_terms import Hardware, Range
from taskfleet.machines.aws import images as aws_images
from taskfleet.machines.aws import offers as aws_offers
from taskfleet.machines.aws.cpus import AWS, cpu_of
from taskfleet.machines.catalogue import Architecture, Market
from taskfleet.machines.choosing import choose
from taskfleet.machines.cpus import YEARS
from taskfleet.machines.gcp.cpus import GCP
from taskfleet.machines.needs import Need

from shared_lib.tests.machines.conftest import point_at
from shared_lib.tests.services import ec2 as double

#: The smallest region has two zones and 672 types.
SMALL, LARGE = "us-west-1", "us-east-1"
ZONES = ("us-west-1a", "us-west-1b")
LOCAL_ZONE = "us-east-1-bos-1a"


@pytest.fixture(scope="module")
def catalogue(ec2_service, tmp_path_factory):
    """The catalogue of two regions, with some prices set; ``requests`` are the requests for it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        point_at(monkeypatch, ec2_service, tmp_path_factory.mktemp("home"))
        for place, usd in {ZONES[0]: 0.0312, ZONES[1]: 0.0297, SMALL: 0.106}.items():
            ec2_service.price("c5.large", place, usd)
        for place in (*ZONES, SMALL):
            ec2_service.price("m5.xlarge", place, 0)
            ec2_service.price("m5.2xlarge", place, None)
        ec2_service.price("r5.large", ZONES[0], 0)
        ec2_service.price("r5.large", ZONES[1], 0.05)
        before = ec2_service.requests()
        yield aws_offers.fetch([SMALL, LARGE], now=time.time()), ec2_service.requests() - before


@pytest.fixture
def whole(catalogue):
    return catalogue[0]


def in_small(catalogue, name, market):
    return [(one.zone, one.usd_per_hour) for one in catalogue.prices.get((name, market), ()) if one.zone in ZONES]


def test_spot_prices_are_of_a_zone_and_list_prices_of_all_the_cheapest_first(whole):
    assert in_small(whole, "c5.large", Market.SPOT) == [(ZONES[1], 0.0297), (ZONES[0], 0.0312)]
    assert in_small(whole, "c5.large", Market.ON_DEMAND) == [(ZONES[0], 0.106), (ZONES[1], 0.106)]


def test_each_offer_of_both_regions_is_there_with_its_price_and_no_other(ec2, whole):
    """Every page was read, and prices for Windows, dedicated or reserved instances and former prices were ignored."""
    wanted = {}
    for region in (SMALL, LARGE):
        client = boto3.client("ec2", region_name=region)
        types = {
            one["InstanceType"]: one
            for page in client.get_paginator("describe_instance_types").paginate()
            for one in page["InstanceTypes"]
        }
        for page in client.get_paginator("describe_instance_type_offerings").paginate(LocationType="availability-zone"):
            for one in page["InstanceTypeOfferings"]:
                name, zone = one["InstanceType"], one["Location"]
                if zone == LOCAL_ZONE:
                    continue
                usages = types[name]["SupportedUsageClasses"]
                prices = {"spot": double.spot_price(name, zone), "on-demand": double.list_price(name, region)}
                for market, usd in prices.items():
                    if market in usages and usd is not None and float(usd) > 0 and not name.startswith("mac"):
                        wanted[name, market, zone] = float(usd)
    found = {(*key, one.zone): one.usd_per_hour for key, each in whole.prices.items() for one in each}
    given = {"c5.large", "c5.xlarge", "m5.xlarge", "m5.2xlarge", "r5.large"}  # by this file
    assert len(wanted) > 14_000
    assert {key for key in wanted if key[0] not in given} == {key for key in found if key[0] not in given}
    assert all(found[key] == pytest.approx(usd, abs=1e-6) for key, usd in wanted.items() if key[0] not in given)


def test_missing_and_zero_prices_are_not_believed(ec2, whole):
    """m5.xlarge costs nothing, m5.2xlarge has no price, r5.large costs nothing in one zone."""
    catalogue = aws_offers.fetch([SMALL], now=time.time())
    for name in ("m5.xlarge", "m5.2xlarge"):
        for market in Market:
            assert (name, market) in catalogue.unpriced
            assert (name, market) not in catalogue.prices
    assert in_small(catalogue, "r5.large", Market.SPOT) == [(ZONES[1], 0.05)]
    assert ("r5.large", Market.SPOT) not in catalogue.unpriced
    assert all(one.usd_per_hour > 0 for each in catalogue.prices.values() for one in each)


@pytest.mark.parametrize(
    ("name", "cpus", "memory_gib", "architecture", "cpu", "is_burstable"),
    [
        ("m5d.large", 2, 8.0, Architecture.X86_64, "Intel Skylake", False),
        ("t3.micro", 2, 1.0, Architecture.X86_64, "Intel Skylake", True),
        ("t3.nano", 2, 0.5, Architecture.X86_64, "Intel Skylake", True),
        ("c7g.xlarge", 4, 8.0, Architecture.ARM64, "AWS Graviton3", False),
        ("m5.metal", 96, 384.0, Architecture.X86_64, "Intel Skylake", False),
        ("m3.medium", 1, 3.75, Architecture.X86_64, "Intel Sandy Bridge", False),
    ],
)
def test_a_type_is_as_aws_describes_it(whole, name, cpus, memory_gib, architecture, cpu, is_burstable):
    found = whole.types[name]
    assert (found.cpus, found.memory_gib, found.architecture) == (cpus, memory_gib, architecture)
    assert (found.cpu_family, found.cpu_rank) == (cpu, YEARS[cpu] - 2000)
    assert found.is_burstable is is_burstable


@pytest.mark.parametrize(
    ("name", "hardware"),
    [
        ("m5.large", ()),
        ("m5.metal", (Hardware.METAL,)),
        ("c7i.metal-24xl", (Hardware.METAL,)),
        ("p5.4xlarge", (Hardware.GPU,)),
        ("g4dn.metal", (Hardware.GPU, Hardware.METAL)),
        ("f2.6xlarge", (Hardware.FPGA,)),
        ("inf1.xlarge", (Hardware.ACCELERATOR,)),
        ("trn1.2xlarge", (Hardware.ACCELERATOR,)),
        ("vt1.3xlarge", (Hardware.ACCELERATOR,)),
        ("u-6tb1.112xlarge", (Hardware.HIGH_MEMORY,)),
    ],
)
def test_special_hardware_is_known(whole, name, hardware):
    assert whole.types[name].hardware == hardware


def test_no_machine_with_special_hardware_is_chosen_unless_requested(whole):
    wanted = Need(architecture=Architecture.X86_64, tasks=3, price_usd_per_hour=Range(None, 1000))
    chosen = choose(wanted, whole)
    assert not [one for one in chosen.ranked if whole.types[one.instance_type].hardware]
    assert chosen.best.cpus <= 8  # three tasks never get hundreds of CPUs
    metal = choose(replace(wanted, instance_types=("*.metal*",), special_hardware=(Hardware.METAL,)), whole)
    assert metal.best.instance_type.partition(".")[2].startswith("metal")


def test_local_disks_count_all_together_in_gib_if_they_are_ssds(whole):
    assert whole.types["m5d.large"].local_ssd_gib == pytest.approx(75e9 / 2**30)
    assert whole.types["m5d.24xlarge"].local_ssd_gib == pytest.approx(4 * 900e9 / 2**30)
    assert whole.types["m5.large"].local_ssd_gib == 0
    assert whole.types["d2.xlarge"].local_ssd_gib == 0


def test_local_zones_are_left_out_for_they_have_other_list_prices(ec2, whole):
    client = boto3.client("ec2", region_name=LARGE)
    there = client.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "location", "Values": [LOCAL_ZONE]}]
    )
    assert there["InstanceTypeOfferings"]
    assert LOCAL_ZONE not in {one.zone for each in whole.prices.values() for one in each}


def test_macs_are_left_out(whole):
    assert not [name for name in whole.types if name.startswith("mac")]
    assert len(whole.types) > 1300


def test_a_type_that_is_not_sold_on_a_market_has_no_price_there(whole):
    """EC2 reports that HPC instances are on-demand only: their spot price is not missing."""
    spotless = {name for name in whole.types if (name, Market.SPOT) not in whole.prices}
    assert any(name.startswith("hpc") for name in spotless)
    assert not [name for name, market in whole.unpriced if name.startswith("hpc") and market == Market.SPOT]


def test_boot_disks_have_their_prices_and_speeds(whole):
    disks = {one.name: one for one in whole.disks if one.region == LARGE}
    assert set(disks) == {"gp3", "gp2", "io1", "io2"}
    gp3, gp2, io2 = disks["gp3"], disks["gp2"], disks["io2"]
    assert (gp3.usd_per_gib_month, gp3.usd_per_iops_month, gp3.usd_per_mibps_month) == (0.08, 0.005, 0.04)
    assert usd(gp3, 100) == pytest.approx(8 / 730)
    assert usd(gp3, 100, iops=3000, mibps=125) == usd(gp3, 100)
    assert usd(gp3, 100, iops=4000, mibps=225) == pytest.approx((8 + 5 + 4) / 730)
    assert usd(gp2, 1000, iops=3000, mibps=250) == pytest.approx(100 / 730)
    assert (io2.usd_per_gib_month, io2.usd_per_iops_month) == (0.13, 0.066)
    assert usd(disks["io1"], 100, iops=1000) == pytest.approx((12.5 + 65) / 730)
    assert usd(disks["io1"], 100, mibps=250) == pytest.approx((12.5 + 65) / 730)


def usd(disk, gib, **speed):
    return disk.order(gib, **speed).usd_per_hour


@pytest.mark.parametrize(
    ("name", "gib", "speed", "ordered"),
    [
        ("gp3", 20, {}, (20, 3000, 125)),
        ("gp3", 20.5, {"iops": 10_000}, (21, 10_000, 125)),
        ("gp3", 20, {"mibps": 1000}, (20, 4000, 1000)),  # 0.25 MiB/s per IOPS
        ("gp3", 160, {"iops": 80_000, "mibps": 2000}, (160, 80_000, 2000)),
        ("gp3", 1, {}, (1, 3000, 125)),  # what is included needs no size
        ("gp2", 20, {"iops": 100, "mibps": 25}, (20, 0, 0)),
        ("io1", 1, {}, (4, 100, 0)),
        ("io1", 20, {"iops": 1000}, (20, 1000, 0)),
        ("io1", 40, {"mibps": 500}, (40, 2000, 0)),
        ("io2", 64, {"iops": 32_000, "mibps": 500}, (64, 32_000, 0)),
    ],
)
def test_a_disk_is_ordered_as_fast_as_required_within_the_limits_of_aws(whole, name, gib, speed, ordered):
    disk = next(one for one in whole.disks if (one.name, one.region) == (name, LARGE))
    found = disk.order(gib, **speed)
    assert (found.gib, found.iops, found.mibps) == ordered


@pytest.mark.parametrize(
    ("name", "gib", "speed", "reason"),
    [
        (
            "gp3",
            20,
            {"iops": 16_000},
            "gp3: 16,000 IOPS need a disk of 32 GiB or more (500 IOPS per GiB), and the boot disk has 20 GiB",
        ),
        ("gp3", 15, {"mibps": 2000}, "gp3: 8,000 IOPS for 2,000 MiB/s need a disk of 16 GiB or more"),
        ("gp3", 200, {"iops": 80_001}, "gp3: 80,001 IOPS are required, the maximum is 80,000"),
        ("gp3", 200, {"mibps": 2001}, "gp3: 2,001 MiB/s are required, the maximum is 2,000"),
        ("gp3", 65_537, {}, "gp3: 65,537 GiB are required, the maximum is 65,536"),
        ("gp2", 100, {"iops": 301}, "gp2: 301 IOPS are required, 100 GiB have 300"),
        ("gp2", 20, {"mibps": 26}, "gp2: 26 MiB/s are required, 20 GiB have 25"),
        ("io1", 20, {"iops": 1001}, "io1: 1,001 IOPS need a disk of 21 GiB or more (50 IOPS per GiB)"),
        ("io1", 20, {"mibps": 300}, "io1: 1,200 IOPS for 300 MiB/s need a disk of 24 GiB or more"),
        ("io2", 20, {"iops": 10_001}, "io2: 10,001 IOPS need a disk of 21 GiB or more (500 IOPS per GiB)"),
    ],
)
def test_a_disk_beyond_the_limits_of_aws_is_not_ordered(whole, name, gib, speed, reason):
    disk = next(one for one in whole.disks if (one.name, one.region) == (name, LARGE))
    assert disk.order(gib, **speed).startswith(reason)


def test_each_region_has_its_own_disk_prices(whole):
    small = {one.name: one for one in whole.disks if one.region == SMALL}
    large = {one.name: one for one in whole.disks if one.region == LARGE}
    ratios = {small[name].usd_per_gib_month / large[name].usd_per_gib_month for name in large}
    assert small.keys() == large.keys()
    assert max(ratios) == pytest.approx(min(ratios))
    assert min(ratios) > 1


def test_no_more_pages_are_requested_than_needed(ec2):
    """The valid spot prices are fetched, not the history of 90 days."""
    count = {}
    client = boto3.client("ec2", region_name=SMALL)
    for name, key in (("types", "InstanceTypes"), ("type_offerings", "InstanceTypeOfferings")):
        how = {"LocationType": "availability-zone"} if "Offerings" in key else {}
        pages = client.get_paginator(f"describe_instance_{name}").paginate(**how)
        count[key] = sum(len(page[key]) for page in pages)
    before = ec2.requests()
    catalogue = aws_offers.fetch([SMALL], now=time.time())
    asked = ec2.requests() - before
    assert len(catalogue.types) == count["InstanceTypes"] > 600
    assert asked["DescribeInstanceTypes"] == math.ceil(count["InstanceTypes"] / 100)
    assert asked["DescribeInstanceTypeOfferings"] == math.ceil(count["InstanceTypeOfferings"] / 1000) == 2
    assert asked["DescribeSpotPriceHistory"] == 2
    assert asked["GetProducts"] <= math.ceil(1.05 * count["InstanceTypes"] / 100) + 3


def test_of_several_spot_prices_the_newest_counts(ec2, whole):
    """EC2 returns the prices that were valid an hour ago, and the changes since."""
    earlier = aws_offers.fetch([SMALL], now=time.time() - 3600)
    assert in_small(earlier, "c5.large", Market.SPOT) == in_small(whole, "c5.large", Market.SPOT)


def test_a_catalogue_knows_what_was_asked_and_when(ec2):
    now = time.time()
    catalogue = aws_offers.fetch([SMALL, SMALL], now=now)
    assert (catalogue.provider, catalogue.regions, catalogue.fetched_at) == ("aws", (SMALL,), now)
    assert len(in_small(catalogue, "c5.large", Market.SPOT)) == 2


def test_being_turned_away_for_asking_too_often_is_sat_out(ec2):
    expected = aws_offers.fetch([SMALL], now=time.time())
    for action in ("DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "DescribeSpotPriceHistory"):
        ec2.fault(action, code="RequestLimitExceeded", status=503, times=2)
    ec2.fault("GetProducts", code="ThrottlingException", status=400, times=3)
    ec2.fault("GetProducts", "lost")
    before = ec2.requests()
    found = aws_offers.fetch([SMALL], now=expected.fetched_at)
    assert found == expected
    assert (ec2.requests() - before)["DescribeInstanceTypes"] == 2 + 7


SENTENCES = [
    (
        "DescribeInstanceTypes",
        {
            "code": "UnauthorizedOperation",
            "status": 403,
            "message": "You are not authorized. Encoded authorization failure message: abcdef",
        },
        r"AWS EC2 in us-west-1: these AWS credentials lack the permission ec2:DescribeInstanceTypes\. Ask for it to be granted\. "
        r"\(You are not authorized\)$",
    ),
    (
        "DescribeSpotPriceHistory",
        {"code": "UnauthorizedOperation", "status": 403},
        r"lack the permission ec2:DescribeSpotPriceHistory",
    ),
    (
        "GetProducts",
        {"code": "AccessDeniedException"},
        r"The price list of AWS in us-east-1: these AWS credentials lack the permission pricing:GetProducts\. Ask",
    ),
    ("DescribeInstanceTypes", {"code": "RequestExpired"}, r"the clock of this machine is wrong"),
    ("DescribeInstanceTypes", {"code": "ExpiredToken", "status": 403}, r"credentials have expired\. Renew them"),
    ("GetProducts", {"code": "ExpiredTokenException"}, r"The price list of AWS .*credentials have expired\. Renew"),
    ("GetProducts", {"code": "UnrecognizedClientException"}, r"does not know these credentials\. .*AWS_PROFILE"),
    ("GetProducts", {"code": "InvalidSignatureException"}, r"secret key or the clock of this machine is wrong"),
    (
        "DescribeInstanceTypeOfferings",
        {"code": "AuthFailure", "status": 401},
        r"does not accept these credentials, or region us-west-1 is not enabled .*--region-name us-west-1",
    ),
    ("DescribeInstanceTypes", {"code": "OptInRequired"}, r"the region is not enabled for this account"),
    (
        "DescribeInstanceTypes",
        {"code": "InvalidParameterValue", "message": "Value (3) is invalid."},
        r"ec2:DescribeInstanceTypes was rejected: Value \(3\) is invalid\. \(InvalidParameterValue\)",
    ),
]


@pytest.mark.parametrize(
    ("action", "fault", "sentence"), SENTENCES, ids=[f"{action}-{fault['code']}" for action, fault, _ in SENTENCES]
)
def test_what_does_not_pass_is_reported_with_the_remedy(ec2, action, fault, sentence):
    ec2.fault(action, **fault, times=None)
    with pytest.raises(ProviderError, match=sentence) as caught:
        aws_offers.fetch([SMALL], now=time.time())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"code": "RequestLimitExceeded", "status": 503}, r"AWS throttles ec2:DescribeRegions"),
        ({"code": "InternalError", "status": 500}, r"internal error for ec2:DescribeRegions\. Try again"),
    ],
)
def test_a_lasting_error_is_reported_after_several_attempts(ec2, monkeypatch, fault, sentence):
    monkeypatch.setattr(aws_client, "MAX_ATTEMPTS", 3)
    ec2.fault("DescribeRegions", **fault, times=None)
    before = ec2.requests()
    with pytest.raises(ProviderError, match=sentence):
        aws_offers.regions()
    assert (ec2.requests() - before)["DescribeRegions"] == 3


def test_one_refusal_ends_the_other_questions(ec2):
    aws_offers.fetch([SMALL], now=time.time())
    before = ec2.requests()
    ec2.fault("DescribeSpotPriceHistory", code="UnauthorizedOperation", status=403, times=None)
    with pytest.raises(ProviderError, match="DescribeSpotPriceHistory"):
        aws_offers.fetch([SMALL, LARGE], now=time.time())
    asked = ec2.requests() - before
    assert asked["DescribeInstanceTypes"] < 7 + 14
    assert sum(asked.values()) < 25


def test_no_credentials_are_reported(ec2, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        ProviderError, match=r"^AWS: no AWS credentials were found\. Log in \(aws configure, aws sso login\)"
    ):
        aws_offers.fetch([SMALL], now=time.time())
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(ProviderError, match=r"missing.* could not be found\. Check AWS_PROFILE"):
        aws_offers.fetch([SMALL], now=time.time())


@pytest.fixture
def nobody(ec2, monkeypatch):
    """An endpoint without a server, which is called once only."""
    monkeypatch.setattr(aws_client, "MAX_ATTEMPTS", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_no_network_is_reported(nobody, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    sentence = (
        r"^(AWS EC2 in us-west-1|The price list of AWS in us-east-1) does not answer \(.*\)\. "
        r"Check the network, and AWS_ENDPOINT_URL if it is set\.$"
    )
    with pytest.raises(ProviderError, match=sentence):
        aws_offers.fetch([SMALL], now=time.time())


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        ("us-east-1a", r"^AWS region 'us-east-1a' is not known to the installed SDK\. Did you mean us-east-1 "),
        ("qqqq", r"^AWS region 'qqqq' is not known to the installed SDK\. Regions look like eu-west-1\.$"),
        ("eu west", r"^AWS region 'eu west' is not known to the installed SDK\. Did you mean eu-west-"),
    ],
)
def test_an_unknown_region_is_reported(nobody, monkeypatch, region, sentence):
    """EC2 has no endpoint there; the price list, in another region, just has no such prices."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", nobody)
    with pytest.raises(ProviderError, match=sentence):
        aws_offers.fetch([region], now=time.time())


def test_what_is_not_aws_is_reported(ec2, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", ec2.environment()["AWS_ENDPOINT_URL"] + "/moto-api/")
    with pytest.raises(ProviderError, match=r"the response is not from AWS\. Check the network"):
        aws_offers.regions()


def test_regions_are_the_enabled_ones_with_their_zones(ec2):
    found = dict(aws_offers.regions())
    assert found[SMALL] == list(ZONES)
    assert len(found[LARGE]) == 6
    assert "ap-east-1" not in found  # moto: not opted in
    assert list(found) == sorted(found)


def test_images_are_the_newest_releases_for_both_architectures(ec2):
    now = datetime(2026, 11, 20, tzinfo=UTC).timestamp()
    found = aws_images.fetch_images(SMALL, now=now)
    for architecture, word in ((Architecture.X86_64, "amd64"), (Architecture.ARM64, "arm64")):
        names = [one.name for one in found if one.architecture == architecture]
        assert [name.partition("-server")[0] for name in names if "ubuntu" in name] == [
            f"ubuntu/images/hvm-ssd-gp3/ubuntu-resolute-26.04-{word}"
        ]
        assert [name for name in names if "debian" in name] == [f"debian-13-{word}-20261001-2250"]
        assert len([name for name in names if name.startswith("al2023-ami-2023")]) == 1
    assert len(found) == 6
    assert {one.provider for one in found} == {"aws"}
    ubuntu = next(one for one in found if "ubuntu" in one.name)
    assert ubuntu.id.startswith("ami-")
    assert ubuntu.created_at == datetime(2026, 10, 1, 12, tzinfo=UTC).timestamp()


def test_images_of_releases_to_come_are_not_needed(ec2):
    """In 2031 later releases are searched for, too; in 2025, 26.04 is not."""
    later = aws_images.fetch_images(SMALL, now=datetime(2031, 1, 1, tzinfo=UTC).timestamp())
    earlier = aws_images.fetch_images(SMALL, now=datetime(2025, 9, 1, tzinfo=UTC).timestamp())
    assert any("ubuntu-resolute-26.04" in one.name for one in later)
    assert {one.name.split("-server")[0] for one in earlier if "ubuntu" in one.name} == {
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64",
    }
    assert any("debian-13" in one.name for one in earlier)


def test_missing_permissions_for_images_are_reported(ec2):
    ec2.fault("GetParameters", code="AccessDeniedException")
    with pytest.raises(
        ProviderError, match=r"AWS Systems Manager in us-west-1: .* lack the permission ssm:GetParameters\. Ask"
    ):
        aws_images.fetch_images(SMALL, now=time.time())


@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("m7i.large", "Intel Sapphire Rapids"),
        ("m7i-flex.large", "Intel Sapphire Rapids"),
        ("c7g.16xlarge", "AWS Graviton3"),
        ("m7a.medium", "AMD EPYC Genoa"),
        ("c8g.metal-24xl", "AWS Graviton4"),
    ],
)
def test_a_processor_is_known_by_the_family(name, cpu):
    assert cpu_of(name) == (cpu, YEARS[cpu] - 2000)


def test_what_is_not_known_has_no_processor():
    assert cpu_of("zz9.large") == ("", 0)
    assert cpu_of("") == ("", 0)


def test_newer_generations_rank_higher():
    for older, newer in [("m5", "m6i"), ("m6i", "m7i"), ("m7i", "m8i"), ("m6g", "m7g"), ("m7g", "m8g"), ("m6a", "m7a")]:
        assert cpu_of(f"{older}.large")[1] < cpu_of(f"{newer}.large")[1]


def test_the_makers_in_the_table_are_those_aws_tells(ec2):
    client = boto3.client("ec2", region_name=LARGE)
    for page in client.get_paginator("describe_instance_types").paginate():
        for one in page["InstanceTypes"]:
            cpu, _ = cpu_of(one["InstanceType"])
            assert cpu.partition(" ")[0] in ("", one["ProcessorInfo"]["Manufacturer"])
    assert set(AWS.values()) | set(GCP.values()) == set(YEARS)


# --- the stand-in ---


def test_the_double_pages_as_aws_does(ec2):
    client = boto3.client("ec2", region_name=SMALL)
    first = client.describe_instance_types()
    assert len(first["InstanceTypes"]) == 100
    second = client.describe_instance_types(NextToken=first["NextToken"], MaxResults=5)
    assert len(second["InstanceTypes"]) == 5
    names = [{one["InstanceType"] for one in each["InstanceTypes"]} for each in (first, second)]
    assert not names[0] & names[1]
    with pytest.raises(client.exceptions.ClientError, match="InvalidParameterValue"):
        client.describe_instance_types(MaxResults=101)
    pages = list(client.get_paginator("describe_spot_price_history").paginate(PaginationConfig={"PageSize": 300}))
    assert len({len(page["SpotPriceHistory"]) for page in pages[:-1]}) == 1


def test_the_double_has_a_history_of_spot_prices(ec2):
    ec2.price("c5.xlarge", ZONES[0], 0.05)
    client = boto3.client("ec2", region_name=SMALL)

    def history(**more):
        answer = client.describe_spot_price_history(
            InstanceTypes=["c5.xlarge"], Filters=[{"Name": "availability-zone", "Values": [ZONES[0]]}], **more
        )
        return [(one["ProductDescription"], float(one["SpotPrice"])) for one in answer["SpotPriceHistory"]]

    now = datetime.now(UTC)
    linux = {"ProductDescriptions": ["Linux/UNIX"]}
    assert history(StartTime=now, **linux) == [("Linux/UNIX", 0.05)]
    assert history(StartTime=now - timedelta(hours=1), **linux) == [("Linux/UNIX", 0.05), ("Linux/UNIX", 0.1)]
    assert len(history()) == 4


def test_the_double_keeps_a_price_list_with_much_that_is_not_wanted(ec2):
    client = boto3.client("pricing", region_name=LARGE)

    def products(**wanted):
        filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
        pages = client.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
        return [one for page in pages for one in page["PriceList"]]

    assert len(products(regionCode=SMALL, instanceType="c5.large")) == 5
    assert len(products(regionCode=SMALL, instanceType="c5.large", tenancy="Dedicated")) == 1
    assert products(regionCode="mars-1", instanceType="c5.large") == []
    ec2.price("c5.large", LARGE, None)
    assert products(regionCode=LARGE, instanceType="c5.large") == []


def test_prices_are_made_up_alike_each_time_with_some_holes():
    names = [f"m5.{size}xlarge" for size in range(1, 1001)]
    prices = [double.spot_price(name, "us-east-1a") for name in names]
    assert prices == [double.spot_price(name, "us-east-1a") for name in names]
    assert 5 < prices.count(None) < 50
    assert 5 < sum(price is not None and float(price) == 0 for price in prices) < 50
    for name, price in zip(names, prices, strict=True):
        listed = double.list_price(name, "us-east-1")
        if price is not None and listed is not None and float(listed) > 0:
            assert float(price) < float(listed)
