"""The double of EC2 answers a client that knows nothing of this library: the AWS command line, in this process."""

import base64
import json
from pathlib import Path

import awscli
import pytest
from awscli.clidriver import create_clidriver


@pytest.fixture(scope="module")
def driver(ec2_service):
    """Return the command line, which is configured once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in ec2_service.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_DATA_PATH", str(Path(awscli.__file__).parent / "data"))
        yield create_clidriver()


@pytest.fixture
def aws(driver, ec2, capsys, monkeypatch):
    """Return a function that runs the command line; it returns the response, or the text of the error."""
    monkeypatch.setenv("AWS_DATA_PATH", str(Path(awscli.__file__).parent / "data"))

    def run(*arguments):
        capsys.readouterr()
        code = driver.main([*arguments, "--output", "json"])
        said = capsys.readouterr()
        if code:
            return said.err.strip()
        return json.loads(said.out) if said.out.strip() else None

    yield run
    ec2.empty()


@pytest.fixture
def image(aws):
    found = aws("ec2", "describe-images", "--filters", "Name=name,Values=debian-13-amd64-*")
    return found["Images"][0]["ImageId"]


def ids(answer):
    return [one["InstanceId"] for one in answer["Instances"]]


def test_machines_are_started_listed_and_ended(aws, image):
    options = ["--image-id", image, "--instance-type", "m5.large", "--count", "2"]
    options += ["--tag-specifications", "ResourceType=instance,Tags=[{Key=team,Value=red}]"]
    started = ids(aws("ec2", "run-instances", *options))
    assert len(started) == 2
    aws("ec2", "run-instances", "--image-id", image, "--instance-type", "m5.large")
    red = aws(
        "ec2", "describe-instances", "--filters", "Name=tag:team,Values=red", "Name=instance-type,Values=m5.large"
    )
    assert sorted(one for each in red["Reservations"] for one in ids(each)) == sorted(started)
    ended = aws("ec2", "terminate-instances", "--instance-ids", *started)
    assert {one["CurrentState"]["Name"] for one in ended["TerminatingInstances"]} == {"shutting-down"}


def test_a_client_token_starts_machines_once(aws, image):
    options = ["--image-id", image, "--instance-type", "m5.large", "--client-token", "once"]
    first = ids(aws("ec2", "run-instances", *options))
    assert ids(aws("ec2", "run-instances", *options)) == first
    assert "IdempotentParameterMismatch" in aws("ec2", "run-instances", *options, "--count", "2")
    there = aws("ec2", "describe-instances")
    assert [one for each in there["Reservations"] for one in ids(each)] == first


@pytest.mark.parametrize(
    "command",
    [
        "describe-images",
        "describe-instance-type-offerings",
        "describe-instance-types",
        "describe-instances",
        "describe-launch-templates",
        "describe-network-interfaces",
        "describe-security-groups",
        "describe-spot-price-history",
        "describe-subnets",
        "describe-volumes",
    ],
)
def test_an_unknown_filter_is_refused_as_ec2_does(aws, command):
    said = aws("ec2", command, "--filters", "Name=nonsense,Values=x")
    assert "(InvalidParameterValue)" in said
    assert "The filter 'nonsense' is invalid" in said


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("describe-instances", "Name=hibernation-options.configured,Values=true"),
        ("describe-volumes", "Name=fast-restored,Values=true"),
        ("describe-subnets", "Name=ipv6-native,Values=true"),
    ],
)
def test_what_the_double_does_not_know_is_no_internal_error(aws, command, given):
    said = aws("ec2", command, "--filters", given)
    assert not isinstance(said, str) or "(UnsupportedOperation)" in said


def test_pages_are_joined(aws):
    found = aws(
        "ec2", "describe-instance-types", "--filters", "Name=processor-info.supported-architecture,Values=arm64"
    )
    names = [one["InstanceType"] for one in found["InstanceTypes"]]
    assert len(names) > 100
    assert len(set(names)) == len(names)


def test_a_machine_that_is_not_there_has_no_console(aws):
    assert "(InvalidInstanceID.NotFound)" in aws("ec2", "get-console-output", "--instance-id", "i-0123456789abcdef0")


def test_what_a_machine_printed_is_shown(aws, ec2, image):
    [name] = ids(aws("ec2", "run-instances", "--image-id", image, "--instance-type", "m5.large"))
    ec2.console(name, "ready\n")
    answer = aws("ec2", "get-console-output", "--instance-id", name, "--latest")
    assert answer["Output"] == "ready\n" or base64.b64decode(answer["Output"]) == b"ready\n"


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        ("VolumeSize=20,VolumeType=gp3,Iops=16000", "Iops to volume size ratio of 800 is too high; maximum is 500"),
        ("VolumeSize=20,VolumeType=gp3,Throughput=1000", "iops ratio of 0.333333 is too high; maximum is 0.25"),
        ("VolumeSize=20,VolumeType=io1,Iops=2000", "Iops to volume size ratio of 100 is too high; maximum is 50"),
        ("VolumeSize=200,VolumeType=st1", "st1 volumes cannot be boot volumes"),
    ],
)
def test_a_disk_beyond_the_limits_is_refused(aws, image, disk, said):
    root = aws("ec2", "describe-images", "--image-ids", image)["Images"][0]["RootDeviceName"]
    mapping = f"DeviceName={root},Ebs={{{disk}}}"
    answer = aws(
        "ec2", "run-instances", "--image-id", image, "--instance-type", "m5.large", "--block-device-mappings", mapping
    )
    assert said in answer


def test_a_fleet_starts_machines_and_reports_what_it_cannot(aws, ec2, image):
    data = json.dumps({"ImageId": image, "InstanceType": "m5.large"})
    aws("ec2", "create-launch-template", "--launch-template-name", "mine", "--launch-template-data", data)
    [subnet, *_] = aws("ec2", "describe-subnets", "--filters", "Name=default-for-az,Values=true")["Subnets"]
    ec2.stock("m5.large", subnet["AvailabilityZone"], 1)
    overrides = [{"InstanceType": "m5.large", "SubnetId": subnet["SubnetId"]}]
    configs = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "mine", "Version": "1"}, "Overrides": overrides}]
    capacity = "TotalTargetCapacity=2,DefaultTargetCapacityType=on-demand"
    options = ["--type", "instant", "--launch-template-configs", json.dumps(configs)]
    answer = aws("ec2", "create-fleet", *options, "--target-capacity-specification", capacity)
    assert [len(one["InstanceIds"]) for one in answer["Instances"]] == [1]
    assert [one["ErrorCode"] for one in answer["Errors"]] == ["InsufficientInstanceCapacity"]


def test_prices_are_found(aws):
    filters = ["Type=TERM_MATCH,Field=instanceType,Value=m5.large", "Type=TERM_MATCH,Field=regionCode,Value=us-east-1"]
    answer = aws("pricing", "get-products", "--service-code", "AmazonEC2", "--filters", *filters)
    assert all(json.loads(one)["product"]["attributes"]["instanceType"] == "m5.large" for one in answer["PriceList"])
    assert answer["PriceList"]
