"""What can be wrong with AWS's services for machines, in words."""

import difflib
from functools import cache

from botocore import exceptions
from botocore.parsers import ResponseParserError
from botocore.session import Session

from taskfleet.aws_faults import (
    CREDENTIALS,
    DENIED,
    KEYS,
    THROTTLED,
    answer_of,
    explain_credentials,
    is_unreachable,
    line,
)
from taskfleet.errors import CommandError

_TITLES = {"ec2": "AWS EC2", "pricing": "The price list of AWS", "ssm": "AWS Systems Manager"}
#: EC2 appends what only its own command can decode.
_ENCODED = " Encoded authorization failure message"


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


def _explain_code(error: exceptions.ClientError, service: str, action: str, region: str) -> str:
    code, text, status = answer_of(error)
    if error.operation_name != action:  # boto3 asks for a role or a session by itself
        service, action = "sts", error.operation_name
    if code in DENIED:
        return (
            f"these AWS credentials may not do {service}:{action}. Have that permission granted. "
            f"({text.partition(_ENCODED)[0].rstrip('.')})"
        )
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
