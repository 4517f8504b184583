"""The real boto3 launches, lists and terminates machines at the double of EC2, with every kind of error."""

import base64
import gzip
import random
import socket
import string

import boto3
import pytest
from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.permissions import Use, Who
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    StartUpError,
    UnreachableError,
    WrongSettingError,
)
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Architecture, Market, region_of
from taskfleet.machines import EndReason, FailureReason, LaunchRequest, MachineState
from taskfleet.machines.aws import machines as aws
from taskfleet.machines.aws.machines import AwsMachines
from taskfleet.machines.aws.regions import LaunchSettings
from taskfleet.machines.choosing import Offer
from taskfleet.pool import records
from taskfleet.pool.controller import Controller
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import End

from shared_lib.tests.machines.conftest import point_at
from shared_lib.tests.services.ec2 import Ec2

EAST, WEST = "us-east-1", "us-west-2"
A, B = "us-east-1a", "us-east-1b"
SCRIPT = "#!/bin/sh\necho works\n"
#: The uses of permissions for machines.
MACHINE_USES = (Use.START, Use.LOOK, Use.END, Use.CLEAR)
PERMISSIONS = [row.name for row in AWS.of(who=Who.POOL, uses=MACHINE_USES)]


@pytest.fixture(scope="module")
def service():
    with Ec2() as one:
        yield one
        assert one.unlisted() == set()


@pytest.fixture
def ec2(service, monkeypatch, tmp_path):
    point_at(monkeypatch, service, tmp_path)
    monkeypatch.setattr(aws, "LAUNCH_PAUSE_SECONDS", 0.01)
    for name in ("c5.xlarge", "m5.xlarge", "c5.2xlarge", "m4.xlarge"):
        for zone in (A, B, f"{WEST}a"):
            service.price(name, zone, 0.1 if zone != B else 0.2)
    yield service
    service.clear_faults()
    service.empty()


@pytest.fixture
def machines(ec2):
    return make()


def make(**changes):
    script = changes.pop("script", lambda request: SCRIPT + request.token)
    settings = {"job_id": "job1", "run": "run1", "regions": (EAST,), "architecture": Architecture.X86_64} | changes
    return AwsMachines(LaunchSettings(**settings), script=script)


def offer(name="c5.xlarge", zone=A, market=Market.SPOT, *, disk="gp3", gib=20.0, **more):
    return Offer(
        instance_type=name,
        zone=zone,
        market=market,
        usd_per_slot_hour=0.01,
        usd_per_hour=0.04,
        machine_usd_per_hour=0.03,
        slots=4,
        boot_disk_type=disk,
        boot_disk_gib=gib,
        cpus=4,
        memory_gib=8.0,
        cpu_rank=20,
        **more,
    )


def order(*offers, token="job1-1-abcdef", number=1, lifetime_seconds=3600.0):
    return LaunchRequest(token=token, number=number, offers=offers or (offer(),), lifetime_seconds=lifetime_seconds)


def client(region=EAST):
    return boto3.client("ec2", region_name=region)


def instances(region=EAST, **arguments):
    pages = client(region).get_paginator("describe_instances").paginate(**arguments)
    return [one for page in pages for each in page["Reservations"] for one in each["Instances"]]


def alive(region=EAST):
    return {one["InstanceId"] for one in instances(region) if one["State"]["Name"] in ("pending", "running")}


def tags(one):
    return {each["Key"]: each["Value"] for each in one.get("Tags", one.get("TagSet", ()))}


def ids(answer):
    return {one.instance_id for one in answer.launched}


def role(name):
    boto3.client("iam").create_instance_profile(InstanceProfileName=name)


# --- starting ---


def test_an_order_is_one_request_whatever_its_number_and_offers(ec2, machines):
    before = ec2.requests()
    answer = machines.launch(order(offer(), offer("m5.xlarge"), offer("m5.xlarge", B), number=7))
    asked = ec2.requests() - before
    assert (asked["CreateFleet"], asked["RunInstances"], asked["CreateLaunchTemplate"]) == (1, 0, 1)
    assert len(ids(answer)) == 7
    assert ids(answer) == alive()
    assert not answer.failures
    assert {(one.instance_type, one.zone) for one in answer.launched} <= {("c5.xlarge", A), ("m5.xlarge", A)}
    for one in answer.launched:
        [there] = instances(InstanceIds=[one.instance_id])
        assert (one.instance_type, one.zone) == (there["InstanceType"], there["Placement"]["AvailabilityZone"])


def test_a_machine_is_as_it_was_ordered(ec2):
    role("worker-role")
    group = client().create_security_group(GroupName="workers", Description="-")["GroupId"]
    client().create_key_pair(KeyName="me")
    answer = make(instance_profile="worker-role", security_groups=[group], key_name="me").launch(
        order(offer(disk="gp2", gib=33.2), lifetime_seconds=5400.4)
    )
    [found] = instances(InstanceIds=list(ids(answer)))
    assert found["InstanceLifecycle"] == "spot"
    assert found["KeyName"] == "me"
    assert found["IamInstanceProfile"]["Arn"].endswith("/worker-role")
    assert (found["MetadataOptions"]["HttpTokens"], found["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        2,
    )
    [interface] = found["NetworkInterfaces"]
    assert [one["GroupId"] for one in interface["Groups"]] == [group]
    assert found["PublicIpAddress"]
    wanted = {
        "Name": "job1-1-abcdef",
        "taskfleet:job": "job1",
        "taskfleet:run": "run1",
        "taskfleet:order": "job1-1-abcdef",
        "taskfleet:lifetime": "5400",
    }
    [disk] = found["BlockDeviceMappings"]
    [volume] = client().describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
    [card] = client().describe_network_interfaces(NetworkInterfaceIds=[interface["NetworkInterfaceId"]])[
        "NetworkInterfaces"
    ]
    for one in (found, volume, card):
        assert tags(one).items() >= wanted.items()
    assert (disk["DeviceName"], disk["Ebs"]["DeleteOnTermination"]) == ("/dev/sda1", True)
    assert interface["Attachment"]["DeleteOnTermination"]
    assert (volume["VolumeType"], volume["Size"]) == ("gp2", 34)
    assert attribute(found, "instanceInitiatedShutdownBehavior") == "terminate"
    assert base64.b64decode(attribute(found, "userData")).decode() == SCRIPT + "job1-1-abcdef"
    assert "ubuntu-resolute-26.04-amd64" in client().describe_images(ImageIds=[found["ImageId"]])["Images"][0]["Name"]


def attribute(instance, name):
    answer = client().describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute=name)
    return answer[name[0].upper() + name[1:]]["Value"]


def test_without_an_external_address_there_is_none(ec2):
    answer = make(external_ip=False).launch(order())
    [found] = instances(InstanceIds=list(ids(answer)))
    assert "PublicIpAddress" not in found


def test_machines_on_demand_are_no_spot_machines(ec2, machines):
    answer = machines.launch(order(offer(market=Market.ON_DEMAND)))
    [found] = instances(InstanceIds=list(ids(answer)))
    assert "InstanceLifecycle" not in found
    assert [one.market for one in machines.list()] == [Market.ON_DEMAND]


def test_the_image_is_of_the_architecture(ec2):
    answer = make(architecture=Architecture.ARM64).launch(order(offer("c7g.xlarge")))
    [found] = instances(InstanceIds=list(ids(answer)))
    assert found["Architecture"] == "arm64"


def test_an_image_that_is_set_is_taken(ec2):
    image = next(one for one in client().describe_images()["Images"] if "debian-13-amd64" in one["Name"])["ImageId"]
    answer = make(image=image).launch(order())
    [found] = instances(InstanceIds=list(ids(answer)))
    assert found["ImageId"] == image


@pytest.mark.parametrize(
    ("disk", "gib", "speed", "wanted"),
    [
        ("gp3", 3.0, (3000, 125), ("gp3", 15, 3000, 125)),  # the image needs 15 GiB
        ("gp3", 20.0, (4001, 200), ("gp3", 20, 4001, 200)),
        ("io2", 20.0, (100, 0), ("io2", 20, 100, None)),
        ("io1", 20.0, (800, 0), ("io1", 20, 800, None)),
        ("gp2", 20.0, (0, 0), ("gp2", 20, None, None)),
    ],
)
def test_a_boot_disk_is_ordered_as_its_offer_says(ec2, machines, disk, gib, speed, wanted):
    iops, mibps = speed
    machines.launch(order(offer(disk=disk, gib=gib, boot_disk_iops=iops, boot_disk_mibps=mibps)))
    [one] = client().describe_volumes()["Volumes"]
    assert (one["VolumeType"], one["Size"], one.get("Iops"), one.get("Throughput")) == wanted


@pytest.mark.parametrize(
    ("disk", "speed", "text"),
    [
        ("gp3", (16_000, 125), "size ratio of 800 is too high; maximum is 500"),
        ("gp3", (3000, 1000), "iops ratio of 0.333333 is too high; maximum is 0.25"),
        ("gp3", (2000, 125), "Volume iops of 2000 is too low; minimum is 3000"),
        ("gp3", (3000, 100), "Volume throughput of 100 is too low; minimum is 125"),
        ("io1", (1001, 0), "size ratio of 50.05 is too high; maximum is 50"),
        ("io1", (0, 0), "The parameter iops must be specified for io1 volumes"),
        ("io1", (500, 200), "The parameter throughput is not supported for io1 volumes"),
        ("gp2", (500, 0), "The parameter iops is not supported for gp2 volumes"),
        ("st1", (0, 0), "st1 volumes cannot be boot volumes"),
    ],
)
def test_a_disk_that_aws_does_not_have_is_refused(ec2, machines, disk, speed, text):
    """What the choice would never order: the double knows the limits, too."""
    iops, mibps = speed
    with pytest.raises(WrongSettingError, match=rf"{text}.*Check BOOT_DISK_GIB"):
        machines.launch(order(offer(disk=disk, gib=20.0, boot_disk_iops=iops, boot_disk_mibps=mibps)))
    assert not alive()


def test_each_offer_of_an_order_has_its_own_disk(ec2, machines):
    ec2.stock("c5.xlarge", A, 1)
    ec2.stock("c5.2xlarge", A, 1)
    machines.launch(order(offer(gib=20), offer("c5.2xlarge", gib=40), number=2))
    by_type = {one["InstanceId"]: one["InstanceType"] for one in instances()}
    found = {
        by_type[one["Attachments"][0]["InstanceId"]]: one["Size"] for one in client().describe_volumes()["Volumes"]
    }
    assert found == {"c5.xlarge": 20, "c5.2xlarge": 40}


def test_aws_is_requested_the_cheapest_that_is_likely_to_stay(ec2, machines):
    """The strategy by price and capacity launches all machines where there is capacity for all; by price alone one would be in A."""
    ec2.stock("c5.xlarge", A, 1)
    answer = machines.launch(order(offer(), offer(zone=B), number=3))
    assert [one.zone for one in answer.launched] == [B] * 3


def test_types_may_be_mixed_and_less_is_better_than_nothing(ec2, machines):
    for name in ("c5.xlarge", "m5.xlarge"):
        ec2.stock(name, "*", 2)
    answer = machines.launch(order(offer(), offer("m5.xlarge"), number=5))
    assert sorted(one.instance_type for one in answer.launched) == ["c5.xlarge"] * 2 + ["m5.xlarge"] * 2
    assert {(one.instance_type, one.zone, one.reason) for one in answer.failures} == {
        ("c5.xlarge", A, FailureReason.STOCK_OUT),
        ("m5.xlarge", A, FailureReason.STOCK_OUT),
    }


@pytest.mark.parametrize("market", Market)
def test_where_there_is_none_it_is_reported_also_if_others_had_all(ec2, machines, market):
    ec2.stock("c5.xlarge", A, 0)
    if market is Market.SPOT:
        ec2.stock("c5.xlarge", B, 2)  # neither has capacity for all, so the cheaper is first
    ec2.price("c5.xlarge", EAST, 0.1)
    answer = machines.launch(order(offer(market=market), offer("c5.xlarge", B, market), number=2))
    assert len(answer.launched) == 2
    assert {one.zone for one in answer.launched} == {B}


def test_an_answer_without_a_reason_gets_one(ec2, machines):
    """AWS may launch fewer without an error; the contract requires a failure."""
    from taskfleet.machines.aws.regions import Region
    from taskfleet.machines.aws.responses import read_fleet

    region = Region(name=EAST, image="i", root_device="d", image_gib=1, subnets={A: "s"}, security_groups=())
    where = {"Overrides": {"InstanceType": "c5.xlarge", "SubnetId": "s"}}
    fleet = {"Instances": [{"InstanceIds": ["i-1"], "LaunchTemplateAndOverrides": where}], "Errors": []}
    answer = read_fleet(fleet, region, [offer()], 2, str)
    assert [one.instance_id for one in answer.launched] == ["i-1"]
    assert [(one.reason, one.text) for one in answer.failures] == [
        (FailureReason.STOCK_OUT, "AWS launched 1 of 2 machines and reported no error")
    ]


REFUSALS = {
    "InsufficientInstanceCapacity": FailureReason.STOCK_OUT,
    "UnfulfillableCapacity": FailureReason.STOCK_OUT,
    "InsufficientFreeAddressesInSubnet": FailureReason.STOCK_OUT,
    "InternalError": FailureReason.STOCK_OUT,
    "VcpuLimitExceeded": FailureReason.QUOTA,
    "MaxSpotInstanceCountExceeded": FailureReason.QUOTA,
    "InstanceLimitExceeded": FailureReason.QUOTA,
    "VolumeLimitExceeded": FailureReason.QUOTA,
    "MaxFleetCountExceeded": FailureReason.QUOTA,
    "RequestLimitExceeded": FailureReason.THROTTLED,
    "SpotMaxPriceTooLow": FailureReason.PRICE,
    "Unsupported": FailureReason.INVALID,
    "InvalidFleetConfiguration": FailureReason.INVALID,
    "SomethingNew": FailureReason.INVALID,
}


@pytest.mark.parametrize("code", REFUSALS)
def test_why_a_pool_has_none_is_told_apart(ec2, machines, code):
    ec2.refuse("c5.xlarge", A, code, "Not\n now.")
    answer = machines.launch(order(offer(), offer("m5.xlarge", B), number=2))
    assert len(answer.launched) == 2
    account = (FailureReason.QUOTA, FailureReason.THROTTLED)
    told = [] if REFUSALS[code] in account else [("c5.xlarge", A, REFUSALS[code], f"Not now ({code})")]
    assert [(one.instance_type, one.zone, one.reason, one.text) for one in answer.failures] == told
    ec2.refuse("m5.xlarge", "*", "InsufficientInstanceCapacity", "None.")
    answer = machines.launch(order(offer(), offer("m5.xlarge", B), token="t2", number=2))
    assert not answer.launched
    assert {(one.instance_type, one.zone, one.reason, one.text) for one in answer.failures} == {
        ("c5.xlarge", A, REFUSALS[code], f"Not now ({code})"),
        ("m5.xlarge", B, FailureReason.STOCK_OUT, "None (InsufficientInstanceCapacity)"),
    }


@pytest.mark.parametrize("code", ["MaxFleetCountExceeded", "UnfulfillableCapacity", "InvalidFleetConfig"])
def test_a_refusal_of_the_whole_order_is_one_of_all_its_offers(ec2, machines, code):
    ec2.fault("CreateFleet", code=code, message="No.")
    answer = machines.launch(order(offer(), offer("m5.xlarge", B), number=2))
    wanted = REFUSALS.get(code, FailureReason.INVALID)
    assert [(one.instance_type, one.zone, one.reason) for one in answer.failures] == [
        ("c5.xlarge", A, wanted),
        ("m5.xlarge", B, wanted),
    ]
    assert not alive()


def test_a_quota_stops_at_what_is_left_of_it(ec2, machines):
    ec2.quota("spot", 10)
    answer = machines.launch(order(number=4))
    assert len(answer.launched) == 2
    assert [one.reason for one in answer.failures] == [FailureReason.QUOTA]
    ec2.quota("on-demand", 0)
    answer = machines.launch(order(offer(market=Market.ON_DEMAND), token="t2"))
    assert [(one.reason, "VcpuLimitExceeded" in one.text) for one in answer.failures] == [(FailureReason.QUOTA, True)]


def test_a_type_that_a_zone_has_not_is_rejected_for_good_and_others_are_had(ec2, machines):
    answer = machines.launch(order(offer("m5.xlarge", "us-east-1e"), offer(), number=1))
    assert [one.instance_type for one in answer.launched] == ["c5.xlarge"]
    answer = machines.launch(order(offer("m5.xlarge", "us-east-1e"), token="t2"))
    [one] = answer.failures
    assert (one.zone, one.reason) == ("us-east-1e", FailureReason.INVALID)
    assert "not supported in your requested Availability Zone" in one.text


# --- once, whatever happens ---


def test_an_order_that_is_given_twice_starts_its_machines_once(ec2, machines):
    ec2.stock("c5.xlarge", A, 2)
    first = machines.launch(order(number=3))
    ec2.stock("c5.xlarge", A, None)
    assert machines.launch(order(number=3)) == first
    assert make().launch(order(number=3)) == first  # by a controller after the first one's death
    assert ids(first) == alive()
    assert len(alive()) == 2


def test_an_order_that_comes_again_with_other_settings_starts_nothing_new(ec2, machines):
    first = machines.launch(order(number=2))
    again = machines.launch(order(offer("m5.xlarge", B), number=3))
    assert ids(again) == ids(first) == alive()
    assert [(one.instance_type, one.zone) for one in again.launched] == [("c5.xlarge", A)] * 2
    assert [one.reason for one in again.failures] == [FailureReason.STOCK_OUT]


def test_a_script_that_differs_the_second_time_changes_nothing(ec2):
    first = make(script=lambda _: "one").launch(order())
    assert make(script=lambda _: "two").launch(order()) == first
    [found] = instances()
    assert base64.b64decode(attribute(found, "userData")).decode() == "one"


def test_a_token_of_any_length_is_carried(ec2, machines):
    token = "j" * 40 + "-123456789-" + "f" * 30
    first = machines.launch(order(token=token))
    assert machines.launch(order(token=token)) == first
    assert machines.launch(order(token=token + "x")) != first
    assert len(alive()) == 2


@pytest.mark.parametrize("fault", [{"kind": "lost"}, {"code": "InternalError", "status": 500}])
def test_a_lost_answer_is_requested_again(ec2, machines, fault):
    ec2.fault("CreateFleet", times=2, **fault)
    answer = machines.launch(order(number=2))
    assert ids(answer) == alive()
    assert len(answer.launched) == 2


def test_when_all_answers_are_lost_nobody_knows_and_the_same_order_finds_out(ec2, machines):
    ec2.fault("CreateFleet", "lost", times=None)
    with pytest.raises(UnreachableError, match=r"AWS EC2 in us-east-1 does not answer .*Check the network"):
        machines.launch(order(number=2))
    assert len(alive()) == 2
    ec2.clear_faults()
    assert ids(machines.launch(order(number=2))) == alive()
    assert len(alive()) == 2


def test_an_answer_that_is_repeated_without_its_machines_is_not_believed(ec2, machines):
    ec2.mute_repeats()
    ec2.fault("CreateFleet", "lost")
    with pytest.raises(UnreachableError, match="list of machines will show"):
        machines.launch(order(number=2))
    assert {one.instance_id for one in machines.list()} == alive()
    assert len(alive()) == 2


@pytest.mark.parametrize("later", [{"code": "RequestLimitExceeded", "status": 503}, {"code": "VcpuLimitExceeded"}])
def test_a_refusal_after_a_lost_answer_is_not_believed(ec2, machines, later):
    ec2.fault("CreateFleet", "lost")
    ec2.fault("CreateFleet", times=None, **later)
    with pytest.raises(UnreachableError):
        machines.launch(order(number=2))
    assert len(alive()) == 2


@pytest.mark.parametrize("action", ["CreateFleet", "CreateLaunchTemplate"])
def test_being_turned_away_is_a_refusal_for_now(ec2, machines, action):
    ec2.fault(action, code="RequestLimitExceeded", status=503, message="Request limit exceeded.", times=None)
    before = ec2.requests()
    answer = machines.launch(order(offer(), offer(zone=B)))
    assert [(one.zone, one.reason) for one in answer.failures] == [
        (A, FailureReason.THROTTLED),
        (B, FailureReason.THROTTLED),
    ]
    assert (ec2.requests() - before)["CreateFleet"] == (action == "CreateFleet")
    assert not alive()


def test_a_template_that_is_not_known_everywhere_yet_is_waited_for(ec2, machines):
    ec2.fault("CreateFleet", code="InvalidLaunchTemplateName.NotFoundException", times=3)
    assert len(machines.launch(order()).launched) == 1
    ec2.fault("CreateFleet", code="InvalidLaunchTemplateName.NotFoundException", times=4)
    with pytest.raises(UnreachableError):
        machines.launch(order(token="t2"))


def test_an_address_where_nobody_answers_is_reported(ec2, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        unreachable = make()
        calls = [
            lambda: unreachable.launch(order()),
            unreachable.list,
            lambda: unreachable.terminate(["i-1"]),
            lambda: unreachable.console("i-1"),
            unreachable.clear,
            unreachable.preflight,
        ]
        monkeypatch.setattr("taskfleet.clouds.aws_client.MAX_ATTEMPTS", 1)
        for call in calls:
            with pytest.raises(UnreachableError, match="does not answer"):
                call()


# --- what is wrong with the account or the settings ---

WRONG = [
    (
        {"image": "ami-0123"},
        "IMAGE",
        r"^AWS EC2 in us-east-1 has no image ami-0123: .* Set IMAGE to an image of that region",
    ),
    (
        {"architecture": Architecture.ARM64, "image": "amd64"},
        "ARCHITECTURE",
        r"is for x86_64, but ARCHITECTURE is arm64",
    ),
    ({"subnets": ["subnet-0123"]}, "SUBNETS", r"^AWS EC2 in us-east-1 has no subnet-0123\. Set SUBNETS"),
    (
        {"security_groups": ["sg-0123"]},
        "SECURITY_GROUPS",
        r"^AWS EC2 in us-east-1 has no sg-0123\. Set SECURITY_GROUPS",
    ),
    (
        {"instance_profile": "nobody"},
        "INSTANCE_PROFILE",
        r"\(nobody\) for parameter iamInstanceProfile.*\. Check INSTANCE_PROFILE",
    ),
    (
        {"instance_profile": "arn:aws:iam::123456789012:instance-profile/no"},
        "INSTANCE_PROFILE",
        r"Profile.*\. Check INSTANCE_PROFILE",
    ),
    ({"key_name": "nobody"}, "KEY_NAME", r"The key pair 'nobody' does not exist\. Check KEY_NAME"),
]


@pytest.mark.parametrize(("changes", "setting", "sentence"), WRONG, ids=["-".join(one) for one, _, _ in WRONG])
def test_a_wrong_name_is_one_clear_sentence_and_starts_nothing(ec2, changes, setting, sentence):
    if changes.get("image") == "amd64":
        images = client().describe_images()["Images"]
        changes = changes | {"image": next(one["ImageId"] for one in images if one["Architecture"] == "x86_64")}
    with pytest.raises(WrongSettingError, match=sentence) as caught:
        make(**changes).launch(order(offer(), offer(zone=B)))
    assert caught.value.setting == setting
    assert "\n" not in str(caught.value)
    assert not alive()


LAUNCHING = [row.name for row in AWS.of(uses=[Use.START])]
#: EC2 itself checks these permissions, other services check the others.
BY_EC2 = ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"]


@pytest.mark.parametrize(
    ("permission", "is_terse"), [(one, False) for one in LAUNCHING] + [(one, True) for one in BY_EC2]
)
def test_a_missing_permission_is_named(ec2, permission, is_terse):
    role(f"role-{is_terse}-{permission.replace(':', '-')}")
    ec2.deny(permission, is_terse=is_terse)
    group = client().create_security_group(GroupName=f"{is_terse}-{permission}", Description="-")["GroupId"]
    machines = make(instance_profile=f"role-{is_terse}-{permission.replace(':', '-')}", security_groups=[group])
    with pytest.raises(
        PermissionDeniedError,
        match=rf"these AWS credentials lack the permission {permission}\b.*\. Ask for it to be granted",
    ) as caught:
        machines.launch(order(offer(), offer(zone=B)))
    assert caught.value.permission == permission
    assert caught.value.resource.startswith("arn:aws:ec2:")
    assert bool(caught.value.principal) is not is_terse
    assert "Encoded" not in str(caught.value)
    assert len(str(caught.value)) < 420
    assert not alive()


@pytest.mark.parametrize("permission", ["ec2:RunInstances", "ec2:CreateFleet"])
def test_who_may_not_have_refusals_read_is_told_what_it_may_be(ec2, machines, permission):
    ec2.deny(permission, "sts:DecodeAuthorizationMessage", is_terse=True)
    with pytest.raises(
        PermissionDeniedError,
        match=rf"lack the permission {permission}, or iam:PassRole for the configured role\. Ask for it to be",
    ):
        machines.launch(order())


def test_what_was_started_is_told_although_others_are_not_permitted(ec2, machines):
    ec2.refuse("c5.xlarge", A, "UnauthorizedOperation", "You are not authorized to perform this operation.")
    answer = machines.launch(order(offer(), offer("m5.xlarge"), number=2))
    assert len(answer.launched) == 2
    assert [(one.instance_type, one.reason) for one in answer.failures] == [("c5.xlarge", FailureReason.INVALID)]


def test_settings_are_not_blamed_while_another_offer_is_out_of_stock(ec2, machines):
    ec2.refuse("c5.xlarge", A, "UnauthorizedOperation", "You are not authorized to perform this operation.")
    ec2.stock("m5.xlarge", "*", 0)
    answer = machines.launch(order(offer(), offer("m5.xlarge"), number=2))
    assert {one.reason for one in answer.failures} == {FailureReason.INVALID, FailureReason.STOCK_OUT}


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("ExpiredToken", CredentialsError, r"The AWS credentials have expired\. Renew them"),
        ("AuthFailure", CredentialsError, r"rejects these credentials"),
        (
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            PermissionDeniedError,
            r"create-service-linked-role --aws-service-name spot\.",
        ),
        ("OptInRequired", WrongSettingError, r"Subscribe to the IMAGE in the AWS Marketplace"),
        ("InvalidGroup.NotFound", WrongSettingError, r"Check SECURITY_GROUPS"),
        ("InvalidSubnetID.NotFound", WrongSettingError, r"Check SUBNETS"),
        ("InvalidAMIID.Unavailable", WrongSettingError, r"Set IMAGE"),
        ("InvalidSnapshot.NotFound", WrongSettingError, r"Set IMAGE"),
        ("VPCIdNotSpecified", WrongSettingError, r"Check SUBNETS"),
        ("SecurityGroupsPerInterfaceLimitExceeded", WrongSettingError, r"Set fewer SECURITY_GROUPS"),
        ("InvalidKMSKey.InvalidState", WrongSettingError, r"Check the key that encrypts"),
        ("PendingVerification", NotEnabledError, r"still verifying this account"),
        ("Blocked", NotEnabledError, r"has blocked this account"),
        ("UnknownParameter", ProviderError, r"rejects the request"),
        ("TagLimitExceeded", ProviderError, r"rejects the request"),
    ],
)
@pytest.mark.parametrize("is_whole", [False, True])
def test_what_asking_again_does_not_help_against_comes_with_its_remedy(ec2, machines, code, kind, sentence, is_whole):
    if is_whole:
        ec2.fault("CreateFleet", code=code)
    else:
        ec2.refuse("*", "*", code)
    with pytest.raises(kind, match=sentence):
        machines.launch(order(offer(), offer(zone=B)))


def test_missing_credentials_are_reported(ec2, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for call in (lambda: make().launch(order()), make().list, make().preflight):
        with pytest.raises(CredentialsError, match="no AWS credentials were found"):
            call()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(CredentialsError, match="Check AWS_PROFILE"):
        make().list()


# --- subnets ---


def default_subnets(region):
    found = client(region).describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    return {one["AvailabilityZone"]: one["SubnetId"] for one in found}


def test_subnets_that_are_set_are_taken_the_first_of_a_zone(ec2):
    """A fleet rejects two subnets of one zone."""
    network = client().create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    first, second, other = (
        client().create_subnet(VpcId=network, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for n, zone in enumerate((A, A, B))
    )
    for token, wanted in (("t1", (first, second, other)), ("t2", (other, second, first))):
        answer = make(subnets=wanted).launch(order(offer(), token=token))
        [found] = instances(InstanceIds=list(ids(answer)))
        assert found["SubnetId"] == next(one for one in wanted if one in (first, second))
    answer = make(subnets=[other]).launch(order(offer(), offer(zone=B), token="t3"))
    assert [one.zone for one in answer.launched] == [B]
    assert [(one.zone, one.reason, one.text) for one in answer.failures] == [
        (A, FailureReason.INVALID, f"none of SUBNETS is in {A}")
    ]
    before = ec2.requests()
    answer = make(subnets=[other]).launch(order(offer(), token="t4"))
    assert (answer.launched, len(answer.failures)) == ((), 1)
    assert not (ec2.requests() - before)["CreateFleet"]
    with pytest.raises(WrongSettingError, match=r"SUBNETS are in several VPCs in us-east-1 \(vpc-\w+, vpc-\w+\)"):
        make(subnets=[first, default_subnets(EAST)[B]]).launch(order())


def test_a_region_without_default_subnets_is_reported(ec2):
    for one in default_subnets("eu-west-3").values():
        client("eu-west-3").delete_subnet(SubnetId=one)
    with pytest.raises(
        WrongSettingError, match=r"no default subnets in eu-west-3\. Set SUBNETS.*create-default-vpc --region eu-west-3"
    ):
        make(regions=["eu-west-3"]).launch(order(offer(zone="eu-west-3a")))


def test_settings_of_several_regions_are_told_apart(ec2):
    groups = [client(one).create_security_group(GroupName="g2", Description="-")["GroupId"] for one in (EAST, WEST)]
    subnets = [default_subnets(EAST)[A], default_subnets(WEST)[f"{WEST}a"]]
    machines = make(regions=[EAST, WEST], security_groups=groups, subnets=subnets)
    for number, zone in enumerate((A, f"{WEST}a")):
        machines.launch(order(offer(zone=zone), token=f"t{number}"))
    for region, group, subnet in zip((EAST, WEST), groups, subnets, strict=True):
        [found] = instances(region)
        assert found["SubnetId"] == subnet
        assert [one["GroupId"] for one in found["NetworkInterfaces"][0]["Groups"]] == [group]
    assert {region_of(one.zone) for one in machines.list()} == {EAST, WEST}
    with pytest.raises(WrongSettingError, match=rf"AWS EC2 in {EAST} has no sg-1\. Set SECURITY_GROUPS"):
        make(regions=[EAST], security_groups=[groups[0], "sg-1"]).launch(order(token="t9"))


# --- start-up scripts ---


def noise(characters):
    return "".join(random.Random(0).choices(string.printable, k=characters))


@pytest.mark.parametrize("script", ["x" * 16_384, "é" * 8_192, "é" * 10_000, "x" * 16_385, "é" * 30_000, noise(17_000)])
def test_a_script_arrives_whole_compressed_if_it_is_long(ec2, script):
    make(script=lambda _: script).launch(order())
    content = base64.b64decode(attribute(instances()[0], "userData"))
    assert len(content) <= 16_384
    is_packed = content.startswith(b"\x1f\x8b")
    assert is_packed is (len(script.encode()) > 16_384)
    assert (gzip.decompress(content) if is_packed else content).decode() == script


def test_a_script_that_is_too_long_is_reported_with_its_length(ec2):
    with pytest.raises(
        StartUpError,
        match=r"^The start-up script has 60,000 bytes, compressed \d\d,\d\d\d; the limit of AWS is 16,384\.",
    ):
        make(script=lambda _: noise(60_000)).launch(order())
    assert not alive()


# --- looking after ---


def test_a_machine_is_listed_in_all_its_states(ec2, machines):
    ec2.delays(visible_seconds=10, boot_seconds=30, ending_seconds=20)
    before = machines.launch(order(number=2))
    assert machines.list() == []  # the launched machines are not listed yet
    ec2.advance(11)
    assert {(one.state, one.detail) for one in machines.list()} == {(MachineState.STARTING, "")}
    ec2.advance(20)
    listed = {one.instance_id: one for one in machines.list()}
    assert listed.keys() == ids(before)
    for one in listed.values():
        assert (one.state, one.end_reason, one.detail, one.market) == (MachineState.RUNNING, None, "", Market.SPOT)
        assert (one.request_token, one.zone, one.instance_type) == ("job1-1-abcdef", A, "c5.xlarge")
        [there] = instances(InstanceIds=[one.instance_id])
        assert one.created_at == there["LaunchTime"].timestamp()
    first, second = sorted(listed)
    machines.terminate([first])
    assert {one.instance_id: one.state for one in machines.list()} == {
        first: MachineState.ENDING,
        second: MachineState.RUNNING,
    }
    ec2.advance(21)
    ended = next(one for one in machines.list() if one.instance_id == first)
    assert (ended.state, ended.end_reason) == (MachineState.ENDED, None)
    assert ended.detail == "Client.UserInitiatedShutdown: User initiated shutdown"
    ec2.advance(3601)
    assert [one.instance_id for one in machines.list()] == [second]


def test_a_machine_that_was_taken_away_says_so(ec2, machines):
    ec2.delays(ending_seconds=20)
    [one] = machines.launch(order()).launched
    ec2.interrupt(one.instance_id)
    for state in (MachineState.ENDING, MachineState.ENDED):
        [found] = machines.list()
        assert found.state is state
        assert found.end_reason is EndReason.PREEMPTED
        assert found.detail.startswith("Server.SpotInstanceTermination")
        ec2.advance(21)


def test_a_machine_that_was_stopped_by_hand_counts_as_there(ec2, machines):
    [one] = machines.launch(order(offer(market=Market.ON_DEMAND))).launched
    client().stop_instances(InstanceIds=[one.instance_id])
    [found] = machines.list()
    assert found.state is MachineState.RUNNING
    assert "UserInitiatedShutdown" in found.detail
    machines.terminate([one.instance_id])
    assert [one.state for one in machines.list()] == [MachineState.ENDED]


def test_all_pages_of_all_regions_are_read_and_nothing_of_others(ec2):
    machines = make(regions=[EAST, WEST])
    started = set()
    for number in range(7):
        started |= ids(
            machines.launch(order(offer(zone=f"{WEST if number % 2 else EAST}a"), token=f"t{number}", number=2))
        )
        make(job_id="job10").launch(order(token=f"u{number}"))
    before = ec2.requests()
    assert {one.instance_id for one in machines.list()} == started
    assert (ec2.requests() - before)["DescribeInstances"] == 2
    for number in range(7, 16):
        started |= ids(machines.launch(order(token=f"t{number}")))
    before = ec2.requests()
    assert {one.instance_id for one in machines.list()} == started
    assert (ec2.requests() - before)["DescribeInstances"] == 4


def test_only_machines_of_the_job_are_ended(ec2):
    machines, others = make(regions=[EAST, WEST]), make(job_id="job2")
    mine = [
        *machines.launch(order(number=2)).launched,
        *machines.launch(order(offer(zone=f"{WEST}a"), token="t2")).launched,
    ]
    foreign = ids(others.launch(order(token="t3", number=2)))
    kept, *ended = (one.instance_id for one in mine)
    machines.terminate([*ended, *foreign, "i-0123456789abcdef0", ended[0]])
    assert alive(EAST) | alive(WEST) == {kept, *foreign}
    machines.terminate([*ended, kept])
    assert alive(EAST) | alive(WEST) == foreign
    before = ec2.requests()
    machines.terminate([])
    machines.terminate(ended)
    assert (ec2.requests() - before)["TerminateInstances"] == 0


def test_many_machines_are_ended_in_batches(ec2, machines):
    started = ids(machines.launch(order(number=3)))
    unknown = [f"i-{number:017x}" for number in range(397)]
    before = ec2.requests()
    machines.terminate([*unknown[:200], *started, *unknown[200:]])
    asked = ec2.requests() - before
    assert (asked["DescribeInstances"], asked["TerminateInstances"]) == (2, 1)
    assert not alive()


def test_what_is_gone_between_two_calls_does_not_keep_the_others(ec2, machines):
    gone, other, third = sorted(ids(machines.launch(order(number=3))))
    message = f"The instance IDs '{gone}, {third}' do not exist"
    ec2.fault("TerminateInstances", code="InvalidInstanceID.NotFound", message=message)
    machines.terminate([gone, other, third])
    assert alive() == {gone, third}  # EC2 reported them as missing
    ec2.fault("TerminateInstances", code="InvalidInstanceID.NotFound", message="None of them exists")
    with pytest.raises(ProviderError, match="None of them exists"):
        machines.terminate([gone])


def test_what_may_not_be_ended_is_reported(ec2, machines):
    started = ids(machines.launch(order()))
    ec2.deny("ec2:TerminateInstances")
    with pytest.raises(PermissionDeniedError, match=r"lack the permission ec2:TerminateInstances on .*user/test\."):
        machines.terminate(list(started))
    ec2.fault("TerminateInstances", code="OperationNotPermitted", message="It is protected.")
    with pytest.raises(
        ProviderError, match=r"ec2:TerminateInstances was rejected: It is protected\. \(OperationNotPermitted\)"
    ):
        machines.terminate(list(started))


def test_an_overloaded_service_may_be_asked_again(ec2, machines):
    ec2.fault("DescribeInstances", code="RequestLimitExceeded", status=503, times=2)
    assert machines.list() == []
    ec2.fault("DescribeInstances", code="ThrottlingException", status=400, times=5)
    with pytest.raises(UnreachableError, match="AWS throttles"):
        machines.list()
    assert machines.list() == []


@pytest.mark.parametrize("name", ["c5.xlarge", "m4.xlarge"])
def test_a_console_is_read_also_of_types_that_keep_only_what_came_first(ec2, name):
    machines = make(regions=[WEST, EAST])
    [one] = machines.launch(order(offer(name))).launched
    assert machines.console(one.instance_id) == ""
    ec2.console(one.instance_id, "boot: ä\r\nready\n")
    before = ec2.requests()
    assert machines.console(one.instance_id) == "boot: ä\r\nready\n"
    assert (ec2.requests() - before)["GetConsoleOutput"] == (2 if name == "c5.xlarge" else 3)
    assert machines.console("i-0123456789abcdef0") is None
    ec2.deny("ec2:GetConsoleOutput")
    with pytest.raises(PermissionDeniedError, match=r"lack the permission ec2:GetConsoleOutput"):
        machines.console(one.instance_id)


# --- clearing up ---


def test_everything_is_removed_and_what_is_still_used_is_counted(ec2):
    machines = make(regions=[EAST, WEST])
    for number in range(7):
        machines.launch(order(token=f"t{number}"))
    machines.launch(order(offer(zone=f"{WEST}a"), token="w1"))
    make(job_id="job2").launch(order(token="other"))
    templates = client().get_paginator("describe_launch_templates").paginate
    assert sum(len(page["LaunchTemplates"]) for page in templates()) == 8
    assert machines.clear() == {"launch templates": 0, "disks": 8, "network interfaces": 8}
    assert [one["LaunchTemplateName"] for page in templates() for one in page["LaunchTemplates"]] == ["taskfleet-other"]
    machines.terminate([one.instance_id for one in machines.list()])
    mine = [{"Key": "taskfleet:job", "Value": "job1"}, {"Key": "taskfleet:run", "Value": "run1"}]
    disk = client().create_volume(Size=1, AvailabilityZone=A)["VolumeId"]
    card = client().create_network_interface(SubnetId=default_subnets(EAST)[A])["NetworkInterface"][
        "NetworkInterfaceId"
    ]
    client().create_tags(Resources=[disk, card], Tags=mine)
    assert machines.clear() == {"launch templates": 0, "disks": 0, "network interfaces": 0}
    assert disk not in {one["VolumeId"] for one in client().describe_volumes()["Volumes"]}
    assert len(alive()) == 1
    assert sum(1 for one in client().describe_volumes()["Volumes"]) == 1  # the other job's
    assert machines.launch(order(token="t20")).launched  # its template is created again


def test_what_somebody_else_removes_meanwhile_is_no_trouble(ec2, machines):
    machines.launch(order())
    ec2.fault("DeleteLaunchTemplate", code="InvalidLaunchTemplateId.NotFound")
    assert machines.clear()["launch templates"] == 1
    assert machines.clear()["launch templates"] == 0
    machines.launch(order(token="t2"))
    ec2.deny("ec2:DeleteLaunchTemplate")
    with pytest.raises(PermissionDeniedError, match="lack the permission ec2:DeleteLaunchTemplate"):
        machines.clear()


# --- before anything is started ---


def test_preflight_finds_nothing_where_all_is_well_and_makes_nothing(ec2):
    role("ready")
    machines = make(instance_profile="ready", regions=[EAST, WEST])
    assert machines.preflight() == []
    assert not alive()
    assert not client().describe_launch_templates()["LaunchTemplates"]


@pytest.mark.parametrize(
    ("permission", "is_terse"),
    [(one, False) for one in PERMISSIONS]
    + [(one, True) for one in ("ec2:RunInstances", "ec2:CreateTags", "iam:PassRole", "ec2:CreateLaunchTemplate")],
)
def test_preflight_names_a_permission_that_is_missing_once(ec2, permission, is_terse):
    name = f"pre-{is_terse}-{permission.replace(':', '-')}"
    role(name)
    groups = [client(one).create_security_group(GroupName=name, Description="-")["GroupId"] for one in (EAST, WEST)]
    ec2.deny(permission, "sts:DecodeAuthorizationMessage", is_terse=is_terse)
    found = make(instance_profile=name, regions=[EAST, WEST], security_groups=groups).preflight()
    assert len(found) == 1
    where = "Systems Manager" if permission.startswith("ssm") else "EC2"
    assert found[0].startswith(f"AWS {where} in us-east-1: these AWS credentials lack the permission {permission}")
    assert "Ask for it to be granted" in found[0]


def test_preflight_names_all_that_is_missing(ec2):
    role("many")
    missing = ("ec2:RunInstances", "ec2:CreateTags", "ec2:CreateFleet", "ec2:TerminateInstances")
    ec2.deny(*missing)
    found = make(instance_profile="many").preflight()
    assert len(found) == len(missing)
    assert all(any(f"lack the permission {one} " in text for text in found) for one in missing)


def test_preflight_finds_wrong_names(ec2):
    assert [
        text
        for text in make(instance_profile="nobody", key_name="none").preflight()
        if "INSTANCE_PROFILE" in text or "KEY_NAME" in text
    ]
    [text] = make(subnets=["subnet-1"]).preflight()
    assert "Set SUBNETS" in text


# --- the stand-in ---


def fleet(token, number=1, **more):
    where = {"InstanceType": "c5.xlarge", "SubnetId": default_subnets(EAST)[A]}
    configs = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "plain", "Version": "1"}, "Overrides": [where]}]
    target = {"TotalTargetCapacity": number, "DefaultTargetCapacityType": "spot"}
    return {
        "Type": "instant",
        "ClientToken": token,
        "LaunchTemplateConfigs": configs,
        "TargetCapacitySpecification": target,
        **more,
    }


def test_the_stand_in_is_strict_where_aws_is(ec2):
    one = client()
    with pytest.raises(one.exceptions.ClientError, match=r"InvalidLaunchTemplateName\.NotFoundException"):
        one.create_fleet(**fleet("t0"))
    image = one.describe_images()["Images"][0]["ImageId"]
    one.create_launch_template(LaunchTemplateName="plain", LaunchTemplateData={"ImageId": image})
    first = one.create_fleet(**fleet("t1"))
    assert one.create_fleet(**fleet("t1"))["Instances"] == first["Instances"]
    with pytest.raises(one.exceptions.ClientError, match="IdempotentParameterMismatch"):
        one.create_fleet(**fleet("t1", 2))
    twice = fleet("t2")
    twice["LaunchTemplateConfigs"][0]["Overrides"] *= 2
    with pytest.raises(one.exceptions.ClientError, match=r"InvalidFleetConfig.*duplicate instance pools"):
        one.create_fleet(**twice)
    ec2.stock("c5.xlarge", A, 1)
    least = {"SpotOptions": {"SingleInstanceType": True, "MinTargetCapacity": 2}}
    assert one.create_fleet(**fleet("t3", 2, **least))["Instances"] == []
    for action, arguments in (("create_fleet", fleet("t4")), ("delete_volume", {"VolumeId": "vol-1"})):
        with pytest.raises(one.exceptions.ClientError, match="DryRunOperation"):
            getattr(one, action)(DryRun=True, **arguments)


# --- under the controller ---


class Job:
    """A job whose tasks never end, with the heartbeats that the test sets."""

    def __init__(self):
        self.heard = {}

    def tasks_left(self):
        return 40

    def tasks_runnable(self):
        return 40

    def last_heartbeats(self):
        return self.heard

    def productive_machines(self):
        return self.heard


def test_the_controller_keeps_a_pool_with_it(ec2, machines, tmp_path):
    database = create(tmp_path / "job.db", job_id="job1", project=tmp_path, now=1_000_000.0)
    job, now, said = Job(), 1_000_000.0, []
    controller = Controller(
        database,
        machines,
        job,
        name="job1",
        offers=[offer(), offer(zone=B)],
        limits=Limits(max_machines=3),
        say=said.append,
    )
    controller.step(now)
    assert len(alive()) == 1  # the canary
    [first] = records.open_machines(database)
    job.heard = {first.token: now + 30}
    controller.step(now + 30)
    assert len(alive()) == 3
    assert {one.instance_id for one in records.open_machines(database)} == alive()
    ec2.interrupt(first.instance_id)
    ec2.stock("c5.xlarge", A, 0)
    controller.step(now + 40)
    assert any(f"{first.token} (c5.xlarge in {A}) ended: preempted" in text for text in said)
    assert len(alive()) == 3
    assert sum(one.zone == B for one in records.open_machines(database)) == 1
    for _ in range(3):
        left = controller.terminate_all(now + 50, End(EndReason.STOPPED))
    assert left == 0
    assert not alive()
    assert set(machines.clear().values()) == {0}


def test_of_a_machine_that_is_not_ready_in_time_the_controller_says_how_far_it_came(ec2, machines, tmp_path):
    database = create(tmp_path / "job.db", job_id="job1", project=tmp_path, now=1_000_000.0)
    now, said = 1_000_000.0, []
    limits = Limits(max_machines=1)
    controller = Controller(database, machines, Job(), name="job1", offers=[offer()], limits=limits, say=said.append)
    controller.step(now)
    [late] = alive()
    ec2.console(
        late,
        "Linux version 6.8.0\n"
        "taskfleet-boot: 0.0 s  stage=packages  begun\n"
        "taskfleet-boot: 37.3 s  stage=packages  failed  code=2\n"
        "taskfleet-said: error: no such package\n" + "[  OK  ] Stopped target Network.\n" * 30,
    )
    while late in alive():  # in steps that leave no gap between lists
        assert now < 1_000_000.0 + limits.boot_seconds + 100
        now += 30
        controller.step(now)
    last = "\n".join(["    [  OK  ] Stopped target Network."] * 15)
    words = f"The start-up script failed in stage packages after 37.3 s (code=2): error: no such package. Its last console lines:\n{last}"
    assert f"{late}: {words}" in said
    assert controller.last_console == words
