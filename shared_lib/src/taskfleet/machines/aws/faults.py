"""What can be wrong with AWS's services for machines, in words."""

import difflib
import re
from functools import cache

from botocore import exceptions
from botocore.parsers import ResponseParserError
from botocore.session import Session

from taskfleet.clouds.aws_faults import (
    CREDENTIALS,
    DENIED,
    KEYS,
    THROTTLED,
    answer_of,
    explain_credentials,
    is_unreachable,
    line,
)
from taskfleet.errors import CommandError, MachinesError, MachinesUnreachableError
from taskfleet.machines import FailureReason

_TITLES = {"ec2": "AWS EC2", "pricing": "The price list of AWS", "ssm": "AWS Systems Manager"}
#: EC2 appends what only its own command can decode.
_ENCODED = " Encoded authorization failure message"


#: What EC2 says of machines that it does not start, by error code:
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. Those that end in LimitExceeded and the like are quotas.
_REFUSALS = {
    **dict.fromkeys(THROTTLED, FailureReason.THROTTLED),
    "RequestThrottledException": FailureReason.THROTTLED,
    "RequestResourceCountExceeded": FailureReason.THROTTLED,
    "ConcurrentTagAccess": FailureReason.THROTTLED,
    "SpotMaxPriceTooLow": FailureReason.PRICE,
    "PendingVerification": FailureReason.QUOTA,
    "InsufficientAddressCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacityOnHost": FailureReason.STOCK_OUT,
    "InsufficientFreeAddressesInSubnet": FailureReason.STOCK_OUT,
    "InsufficientHostCapacity": FailureReason.STOCK_OUT,
    "InsufficientInstanceCapacity": FailureReason.STOCK_OUT,
    "InsufficientVolumeCapacity": FailureReason.STOCK_OUT,
    "UnfulfillableCapacity": FailureReason.STOCK_OUT,
    # a trouble of AWS's own: elsewhere, or later
    "InternalError": FailureReason.STOCK_OUT,
    "InternalFailure": FailureReason.STOCK_OUT,
    "InternalServiceException": FailureReason.STOCK_OUT,
    "ServiceUnavailable": FailureReason.STOCK_OUT,
    "Unavailable": FailureReason.STOCK_OUT,
}
_QUOTA_ENDINGS = ("LimitExceeded", "CountExceeded", "QuotaExceeded")
#: What a whole account or the settings are to blame for, and no single offer: how the code begins, and what to do.
_SETTINGS = {
    "InvalidAMIID": "Set IMAGE to an image that is there, see poe list_images; an image is of one region.",
    "InvalidAMI": "Set IMAGE to an image that is there, see poe list_images; an image is of one region.",
    "InvalidSubnetID": "Check SUBNETS.",
    "InvalidSubnet": "Check SUBNETS.",
    "InvalidGroup": "Check SECURITY_GROUPS; they have to be of the same network as the subnets.",
    "InvalidSecurityGroupID": "Check SECURITY_GROUPS; they have to be of the same network as the subnets.",
    "InvalidSecurity": "Check SECURITY_GROUPS; they have to be of the same network as the subnets.",
    "InvalidKeyPair": "Check KEY_NAME; a key pair is of one region.",
    "InvalidUserData": "Make the start-up script shorter, see START_UP_SCRIPT.",
    "InvalidIamInstanceProfile": "Check INSTANCE_PROFILE.",
    "OptInRequired": "IMAGE has to be subscribed to in the AWS Marketplace first.",
    "Blocked": "AWS has blocked this account: write to aws-verification@amazon.com.",
}
_SERVICE_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
#: As in: User: arn:... is not authorized to perform: ec2:CreateTags on resource: arn:... because no identity-based policy allows ...
_DENIAL = re.compile(
    r"(?:User: (?P<user>\S+) is )?not authorized to perform:? (?P<permission>[a-z0-9-]+:[A-Za-z]+)"
    r"(?: on resource: (?P<resource>[^\s,]+))?(?P<why>.*)"
)

#: What boto3 raises of its own.
ERRORS = (exceptions.ClientError, exceptions.BotoCoreError, ResponseParserError, ValueError)


def explain(error: Exception, *, service: str, action: str, region: str) -> CommandError:
    """Turn what boto3 raised into what the user can do about it.

    Args:
        error: One of ERRORS.
        service: As IAM names it, such as "ec2".
        action: The call, as IAM names it, such as "DescribeInstanceTypes".
        region: Where.
    """
    label = f"{_TITLES.get(service, service)} in {region}"
    if isinstance(error, exceptions.ClientError):
        return CommandError(f"{label}: {_explain_code(error, service, action, region)}")
    if trouble := explain_credentials(error):
        return CommandError(f"AWS: {trouble}")
    if isinstance(error, exceptions.InvalidRegionError | exceptions.NoRegionError):
        return CommandError(_unknown_region(region))
    if is_unreachable(error):
        if not _is_known(region):
            return CommandError(_unknown_region(region))
        return CommandError(
            f"{label} does not answer ({line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    if isinstance(error, ResponseParserError):
        return CommandError(
            f"{label}: what answers there is not AWS. Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    return CommandError(f"{label}: {line(error)}.")


def trouble_of(error: Exception, *, service: str, action: str, region: str) -> MachinesError:
    """Turn what boto3 raised into what ``Machines`` promises; see ``explain``."""
    text = str(explain(error, service=service, action=action, region=region))
    if isinstance(error, exceptions.ClientError):
        code, _, status = answer_of(error)
        passes = code in THROTTLED or status >= 500
    else:
        passes = isinstance(error, ResponseParserError) or (is_unreachable(error) and _is_known(region))
    return MachinesUnreachableError(text) if passes else MachinesError(text)


def failure_reason_of(code: str) -> FailureReason:
    """Say what an error code of EC2 means for machines that were ordered."""
    if code in _REFUSALS:
        return _REFUSALS[code]
    return FailureReason.QUOTA if code.endswith(_QUOTA_ENDINGS) else FailureReason.INVALID


def explain_setting(code: str, text: str, region: str) -> str | None:
    """Say what is wrong with the account or the settings; None if an error is about a single offer, or passes.

    Args:
        code: EC2's.
        text: EC2's, on one line.
        region: Where.
    """
    label = f"{_TITLES['ec2']} in {region}"
    if code in DENIED:
        return f"{label}: {explain_denial(text, 'ec2:RunInstances')}"
    if code in CREDENTIALS and code != "OptInRequired":  # of an image it means something else
        return f"{label}: {CREDENTIALS[code]} ({code})"
    if code == "AuthFailure":
        return f"{label}: AWS does not accept these credentials there. {KEYS} ({text})"
    if code == _SERVICE_ROLE:
        return (
            f"{label}: spot machines need a role in this account that these credentials may not make. Have it made once, with: "
            "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com."
        )
    if code == "InvalidParameterValue" and "nstanceProfile" in text:
        return f"{label}: {text.rstrip('.')}. Check INSTANCE_PROFILE; one that was made just now is known after some seconds."
    if (advice := _SETTINGS.get(code.partition(".")[0])) is not None:
        return f"{label}: {text.rstrip('.')}. {advice} ({code})"
    return None


def plain_text(text: str) -> str:
    """Give a message of EC2 on one line, without what only EC2 can read."""
    return " ".join(text.partition(_ENCODED)[0].split())


def permission_of(text: str) -> str | None:
    """Give the permission that is missing, such as ``iam:PassRole``, as far as a refusal names it."""
    found = _DENIAL.search(text)
    return found and found["permission"]


def encoded_in(text: str) -> str | None:
    """Give what only AWS can read of a refusal; None if it has none."""
    _, _, encoded = text.partition(f"{_ENCODED}:")
    return encoded.strip() or None


def explain_denial(text: str, permission: str) -> str:
    """Name the permission that is missing, and whose: EC2 mostly says so, also of one that is not the call's own.

    Args:
        text: EC2's.
        permission: What it was probably about.
    """
    plain = plain_text(text).rstrip(".")
    found = _DENIAL.search(plain)
    if found is None:
        also = ", or not with this role (iam:PassRole)" if permission in ("ec2:CreateFleet", "ec2:RunInstances") else ""
        return f"these AWS credentials may not do {permission}{also}. Have that permission granted. ({plain})"
    on = f" on {found['resource']}" if found["resource"] else ""
    why = found["why"].strip(" .")
    return (
        f"these AWS credentials may not do {found['permission']}{on}. Have that permission granted"
        f"{' to ' + found['user'] if found['user'] else ''}.{' (' + why + ')' if why else ''}"
    )


def _explain_code(error: exceptions.ClientError, service: str, action: str, region: str) -> str:
    code, text, status = answer_of(error)
    if error.operation_name != action:  # boto3 asks for a role or a session by itself
        service, action = "sts", error.operation_name
    if code in DENIED:
        return explain_denial(text, f"{service}:{action}")
    if code in CREDENTIALS:
        return f"{CREDENTIALS[code]} ({code})"
    if code == "AuthFailure":
        return (
            f"AWS does not accept these credentials, or region {region} is not enabled for this account. {KEYS} A region is enabled with: "
            f"aws account enable-region --region-name {region}."
        )
    if code in THROTTLED:
        return (
            f"this account asks for {service}:{action} too often, also after several tries. Wait a minute, and find "
            f"out what else asks. ({code})"
        )
    if status >= 500:
        return (
            f"it has a trouble of its own with {service}:{action}. Try again, and see health.aws.amazon.com if it "
            f"lasts. ({code}: {text})"
        )
    return f"it refuses {service}:{action}: {text} ({code})"


def _is_known(region: str) -> bool:
    return region in _regions()


@cache
def _regions() -> list[str]:
    """Give the regions that the SDK knows of; there may be newer ones."""
    session = Session()
    return [one for name in session.get_available_partitions() for one in session.get_available_regions("ec2", name)]


def _unknown_region(region: str) -> str:
    close = difflib.get_close_matches(region, _regions(), n=3)
    meant = f" Did you mean {' or '.join(close)}?" if close else " Write it as in eu-west-1."
    return f"AWS has no region {region!r}, as far as is known here.{meant}"
