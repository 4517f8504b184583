"""Whether these credentials may do what a pool on AWS takes, found out without doing it.

EC2 answers a dry run with DryRunOperation if the call is permitted. Of calls about one machine, disk or template there is none to name
yet, so a made-up one is: a refusal tells that the permission is missing, anything else tells nothing, since a permission may be for
things with certain tags only. That a fleet may start machines is asked as RunInstances, which fleets do in the caller's name.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.clouds.aws_errors import DENIED, ERRORS, denial, names_permission, reply_of
from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.permissions import Use, Who
from taskfleet.errors import PermissionDeniedError, ProviderError, UnreachableError
from taskfleet.machine_terms import Architecture
from taskfleet.machines.aws.faults import fault_of
from taskfleet.machines.aws.regions import Region, Regions, Wishes
from taskfleet.machines.aws.templates import tags_of, template_of

#: A small type of each architecture that every region has.
_TYPES = {Architecture.X86_64: "t3.micro", Architecture.ARM64: "t4g.micro"}
#: Calls that take no more than what they are about; with ids that are nobody's.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "TerminateInstances": {"InstanceIds": ["i-0123456789abcdef0"]},
    "GetConsoleOutput": {"InstanceId": "i-0123456789abcdef0"},
    "DeleteLaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0"},
    "DeleteVolume": {"VolumeId": "vol-0123456789abcdef0"},
    "DeleteNetworkInterface": {"NetworkInterfaceId": "eni-0123456789abcdef0"},
}


def preflight(client: AwsClient, wishes: Wishes, regions: Regions) -> list[str]:
    """Return a sentence for each thing that would not be done, each permission once.

    Raises:
        UnreachableError: AWS does not answer.
        CredentialsError: It does not accept the credentials, or there are none.
    """

    def faults_in(name: str) -> list[ProviderError]:
        return [*_faults(client, wishes, regions, name)]

    found: dict[str, str] = {}
    for faults in client.run_parallel({name: partial(faults_in, name) for name in wishes.regions}).values():
        for fault in faults:
            known_by = fault.permission if isinstance(fault, PermissionDeniedError) else str(fault)
            found.setdefault(known_by, str(fault))
    return list(found.values())


def _faults(client: AwsClient, wishes: Wishes, regions: Regions, name: str) -> Iterator[ProviderError]:
    """Yield what is wrong in a region."""
    asked = AWS.of(who=Who.POOL, uses=(Use.LOOK, Use.END, Use.CLEAR))
    actions = [row.name.removeprefix("ec2:") for row in asked]
    dry_runs = [(action, f"ec2:{action}", _ARGUMENTS.get(action, {})) for action in actions]
    try:
        dry_runs += _starting(wishes, regions.get(name))
    except UnreachableError:
        raise
    except ProviderError as error:
        yield error
    unclear: set[str] = set()
    for action, permission, arguments in dry_runs:
        if action in unclear:  # with more arguments it is refused for the same reason
            continue
        try:
            client.call_raw(name, action, DryRun=True, **arguments)
        except ERRORS as error:
            trouble = client.explain(error, name, action)
            if not isinstance(error, ClientError):
                raise trouble from error
            reply = reply_of(error)
            if reply.code in DENIED:
                if not names_permission(reply.text):
                    unclear.add(action)
                yield denial(f"AWS EC2 in {name}", reply, permission)
            elif isinstance(trouble, UnreachableError):
                raise trouble from error
            elif action == "RunInstances" and (fault := fault_of(reply, name)) is not None:
                yield fault


def _starting(wishes: Wishes, region: Region) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Give the calls that start machines, from the plainest, and the permission that each takes besides those of the ones before it."""
    subnet = next(iter(region.subnets.values()))
    instance_type = _TYPES[wishes.architecture]
    data = template_of(wishes, region, None, "")
    plain = {name: value for name, value in data.items() if name not in ("UserData", "TagSpecifications")}
    plain["NetworkInterfaces"] = [one | {"SubnetId": subnet} for one in data["NetworkInterfaces"]]
    plain |= {"MinCount": 1, "MaxCount": 1, "InstanceType": instance_type}
    roleless = {name: value for name, value in plain.items() if name != "IamInstanceProfile"}
    override = {"InstanceType": instance_type, "SubnetId": subnet}
    template = {"LaunchTemplateId": "lt-0123456789abcdef0", "Version": "1"}
    fleet = {
        "Type": "instant",
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": [override]}],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
    }
    name = {"LaunchTemplateName": "taskfleet-dry-run", "LaunchTemplateData": data}
    tags = [{"ResourceType": "launch-template", "Tags": tags_of(wishes)}]
    return [
        ("CreateFleet", "ec2:CreateFleet", fleet),
        ("CreateLaunchTemplate", "ec2:CreateLaunchTemplate", name),
        ("CreateLaunchTemplate", "ec2:CreateTags", name | {"TagSpecifications": tags}),
        ("RunInstances", "ec2:RunInstances", roleless),
        ("RunInstances", "ec2:CreateTags", roleless | {"TagSpecifications": data["TagSpecifications"]}),
        *([("RunInstances", "iam:PassRole", plain)] if "IamInstanceProfile" in plain else []),
    ]
