"""Check whether these credentials have the permissions that a pool on AWS needs, by dry runs.

EC2 answers a dry run with DryRunOperation if the call is permitted. Calls about one machine, disk or template name one that does not
exist: a denial shows that the permission is missing; any other answer shows nothing, since a permission may be restricted to resources
with certain tags. Whether a fleet may launch machines is checked as RunInstances, which fleets call on behalf of the caller.
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
from taskfleet.machines.aws.errors import account_error
from taskfleet.machines.aws.regions import LaunchSettings, Region, Regions
from taskfleet.machines.aws.templates import tags_of, template_of

#: A small instance type of each architecture that is available in every region.
_TYPES = {Architecture.X86_64: "t3.micro", Architecture.ARM64: "t4g.micro"}
#: Calls whose only arguments are resource IDs; these do not exist.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "TerminateInstances": {"InstanceIds": ["i-0123456789abcdef0"]},
    "GetConsoleOutput": {"InstanceId": "i-0123456789abcdef0"},
    "DeleteLaunchTemplate": {"LaunchTemplateId": "lt-0123456789abcdef0"},
    "DeleteVolume": {"VolumeId": "vol-0123456789abcdef0"},
    "DeleteNetworkInterface": {"NetworkInterfaceId": "eni-0123456789abcdef0"},
}


def preflight(client: AwsClient, settings: LaunchSettings, regions: Regions) -> list[str]:
    """Return a sentence for each known obstacle, each permission once.

    Raises:
        UnreachableError: AWS does not answer.
        CredentialsError: There are no credentials, or AWS rejects them.
    """

    def errors_in(name: str) -> list[ProviderError]:
        return [*_errors(client, settings, regions, name)]

    found: dict[str, str] = {}
    for errors in client.run_parallel({name: partial(errors_in, name) for name in settings.regions}).values():
        for error in errors:
            key = error.permission if isinstance(error, PermissionDeniedError) else str(error)
            found.setdefault(key, str(error))
    return list(found.values())


def _errors(client: AwsClient, settings: LaunchSettings, regions: Regions, name: str) -> Iterator[ProviderError]:
    """Yield the errors of a region."""
    rows = AWS.of(who=Who.POOL, uses=(Use.LOOK, Use.END, Use.CLEAR))
    actions = [row.name.removeprefix("ec2:") for row in rows]
    dry_runs = [(action, f"ec2:{action}", _ARGUMENTS.get(action, {})) for action in actions]
    try:
        dry_runs += _launch_calls(settings, regions.get(name))
    except UnreachableError:
        raise
    except ProviderError as error:
        yield error
    unclear: set[str] = set()
    for action, permission, arguments in dry_runs:
        if action in unclear:  # with more arguments it would be denied for the same reason
            continue
        try:
            client.call_raw(name, action, DryRun=True, **arguments)
        except ERRORS as cause:
            explained = client.explain(cause, name, action)
            if not isinstance(cause, ClientError):
                raise explained from cause
            reply = reply_of(cause)
            if reply.code in DENIED:
                if not names_permission(reply.text):
                    unclear.add(action)
                yield denial(f"AWS EC2 in {name}", reply, permission)
            elif isinstance(explained, UnreachableError):
                raise explained from cause
            elif action == "RunInstances" and (found := account_error(reply, name)) is not None:
                yield found


def _launch_calls(settings: LaunchSettings, region: Region) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return the calls that launch machines, the simplest first, and the permission that each needs in addition to the ones before."""
    subnet = next(iter(region.subnets.values()))
    instance_type = _TYPES[settings.architecture]
    data = template_of(settings, region, None, "")
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
    tags = [{"ResourceType": "launch-template", "Tags": tags_of(settings)}]
    return [
        ("CreateFleet", "ec2:CreateFleet", fleet),
        ("CreateLaunchTemplate", "ec2:CreateLaunchTemplate", name),
        ("CreateLaunchTemplate", "ec2:CreateTags", name | {"TagSpecifications": tags}),
        ("RunInstances", "ec2:RunInstances", roleless),
        ("RunInstances", "ec2:CreateTags", roleless | {"TagSpecifications": data["TagSpecifications"]}),
        *([("RunInstances", "iam:PassRole", plain)] if "IamInstanceProfile" in plain else []),
    ]
