"""Whether these credentials may do what a pool on AWS takes, found out without doing it.

EC2 answers a dry run with DryRunOperation if the call is permitted. Of calls about one machine, disk or template there is none to name
yet, so a made-up one is: a refusal tells that the permission is missing, anything else tells nothing, since a permission may be for
things with certain tags only. That a fleet may start machines is asked as RunInstances, which fleets do in the caller's name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_faults import DENIED, answer_of
from taskfleet.errors import MachinesError, MachinesUnreachableError
from taskfleet.machine_terms import Architecture
from taskfleet.machines.aws.calls import AwsCalls
from taskfleet.machines.aws.faults import ERRORS, explain_denial, explain_setting, permission_of
from taskfleet.machines.aws.regions import Region, Regions, Wishes
from taskfleet.machines.aws.templates import tags_of, template_of

#: A small type of each architecture that every region has.
_TYPES = {Architecture.X86_64: "t3.micro", Architecture.ARM64: "t4g.micro"}
_DENIED_IN = re.compile(r"may not do ([a-z0-9-]+:[A-Za-z]+)")
#: Calls that take no more than what they are about; with ids that are nobody's.
_PLAIN: Mapping[str, Mapping[str, Any]] = {
    "DescribeInstances": {},
    "DescribeLaunchTemplates": {},
    "DescribeVolumes": {},
    "DescribeNetworkInterfaces": {},
    "TerminateInstances": {"InstanceIds": ["i-0123456789abcdef0"]},
    "GetConsoleOutput": {"InstanceId": "i-0123456789abcdef0"},
    "DeleteLaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0"},
    "DeleteVolume": {"VolumeId": "vol-0123456789abcdef0"},
    "DeleteNetworkInterface": {"NetworkInterfaceId": "eni-0123456789abcdef0"},
}


def preflight(calls: AwsCalls, wishes: Wishes, regions: Regions) -> list[str]:
    """Give a sentence for each thing that would not be done, each permission once.

    Raises:
        MachinesUnreachableError: AWS does not answer.
    """
    found: dict[str, str] = {}
    for faults in calls.side_by_side(lambda name: [*_faults(calls, wishes, regions, name)], wishes.regions):
        for key, text in faults:
            found.setdefault(key, text)
    return list(found.values())


def _faults(calls: AwsCalls, wishes: Wishes, regions: Regions, name: str) -> Iterator[tuple[str, str]]:
    """Give what is wrong in a region: what it is known by, and a sentence."""
    dry_runs = [(action, f"ec2:{action}", arguments) for action, arguments in _PLAIN.items()]
    try:
        dry_runs += _starting(wishes, regions.get(name))
    except MachinesUnreachableError:
        raise
    except MachinesError as error:
        denied = _DENIED_IN.search(str(error))
        yield denied[1] if denied else str(error), str(error)
    unclear: set[str] = set()
    for action, permission, arguments in dry_runs:
        if action in unclear:  # with more arguments it is refused for the same reason
            continue
        try:
            calls.ask_plainly(name, action, DryRun=True, **arguments)
        except ERRORS as error:
            trouble = calls.trouble(error, name, action)
            if not isinstance(error, ClientError):
                raise trouble from error
            code, text, _ = answer_of(error)
            if code in DENIED:
                if permission_of(text) is None:
                    unclear.add(action)
                yield permission_of(text) or permission, f"AWS EC2 in {name}: {explain_denial(text, permission)}"
            elif isinstance(trouble, MachinesUnreachableError):
                raise trouble from error
            elif action == "RunInstances" and (fault := explain_setting(code, text, name)) is not None:
                yield fault, fault


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
