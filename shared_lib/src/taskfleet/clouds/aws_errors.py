"""Conversion of errors of the AWS SDK to errors of this library: credentials, permissions, regions, throttling, connections."""

import difflib
import re
from functools import cache
from typing import NamedTuple

from botocore import exceptions
from botocore.parsers import ResponseParserError
from botocore.session import Session

from taskfleet.clouds.aws_permissions import AWS
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    UnreachableError,
    WrongSettingError,
)

#: The exceptions of the SDK.
ERRORS = (exceptions.ClientError, exceptions.BotoCoreError, ResponseParserError, ValueError)

KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
_EXPIRED = "Renew them (such as with aws sso login) and run the command again; nothing is lost."
_CHECK_NETWORK = "Check the network, and AWS_ENDPOINT_URL if it is set."

#: Error codes about credentials, with what to do. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
CREDENTIALS = {
    "ExpiredToken": f"The AWS credentials have expired. {_EXPIRED}",
    "ExpiredTokenException": f"The AWS credentials have expired. {_EXPIRED}",
    "RequestExpired": "The request has expired: the clock of this machine is wrong. Correct it.",
    "InvalidClientTokenId": f"AWS does not know these credentials. {KEYS}",
    "UnrecognizedClientException": f"AWS does not know these credentials. {KEYS}",
    "InvalidAccessKeyId": f"AWS does not know these credentials. {KEYS}",
    "SignatureDoesNotMatch": f"The secret key or the clock of this machine is wrong. {KEYS}",
    "InvalidSignatureException": f"The secret key or the clock of this machine is wrong. {KEYS}",
    "InvalidSecurity": f"AWS rejects these credentials. {KEYS}",
}
DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation")
THROTTLED = (
    "ThrottlingException",
    "Throttling",
    "RequestThrottled",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "KmsThrottled",
)
_TITLES = {"ec2": "AWS EC2", "pricing": "The price list of AWS", "ssm": "AWS Systems Manager", "sqs": "AWS SQS"}

#: Errors while credentials are obtained; not every version of the SDK has all of them.
_NO_CREDENTIALS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
_WRONG_PROFILE = (
    exceptions.ProfileNotFound,
    exceptions.ConfigNotFound,
    exceptions.ConfigParseError,
    exceptions.InvalidConfigError,
    exceptions.UnknownCredentialError,
)
_NOT_OBTAINED = tuple(
    getattr(exceptions, name)
    for name in (
        "CredentialRetrievalError",
        "LoginError",
        "MetadataRetrievalError",
        "NoAuthTokenError",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "TokenRetrievalError",
        "UnknownTokenProviderError",
    )
    if hasattr(exceptions, name)
)

#: EC2 appends details that only AWS can decode.
_ENCODED = " Encoded authorization failure message"
#: For example: User: arn:... is not authorized to perform: ec2:CreateTags on resource: arn:... because no identity-based policy allows ...
_DENIAL = re.compile(
    r"(?:User: (?P<user>\S+) is )?not authorized to perform:? (?P<permission>[a-z0-9-]+:[A-Za-z]+)"
    r"(?: on resource: (?P<resource>[^\s,]+))?(?P<reason>.*)"
)


class ErrorReply(NamedTuple):
    """The error response of a service."""

    code: str
    text: str
    status: int


def reply_of(error: exceptions.ClientError) -> ErrorReply:
    """Return the code without its namespace, the text on one line and the HTTP status of a ClientError."""
    parts = error.response.get("Error", {})
    code = str(parts.get("Code", "")).rpartition("#")[2]
    text = " ".join(str(parts.get("Message", "")).split()) or code
    return ErrorReply(code, text, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """Return the service's error code; empty if the error is not a response of the service."""
    return reply_of(error).code if isinstance(error, exceptions.ClientError) else ""


def explain(error: Exception, *, service: str, operation: str, region: str | None, label: str = "") -> ProviderError:
    """Convert an error of the SDK to an error of this library.

    Args:
        error: One of ERRORS.
        service: As IAM names it, such as "ec2".
        operation: The call, such as "DescribeInstanceTypes".
        region: None if it is not known.
        label: What was used, in the user's terms; empty for the service and its region.
    """
    title = label or f"{_TITLES.get(service, service)} in {region}"
    permission = permission_for(service, operation)
    if isinstance(error, exceptions.ClientError):
        if error.operation_name != operation:  # the SDK's own request for a role or a session
            permission = f"sts:{error.operation_name}"
        return _explain_reply(reply_of(error), title, permission, region)
    found = explain_credentials(error, label or "AWS")
    if found is not None:
        return found
    if isinstance(error, exceptions.NoRegionError) and region is None:
        return WrongSettingError(f"{title}: no AWS region is known. Set AWS_REGION.", setting="AWS_REGION")
    if isinstance(error, exceptions.InvalidRegionError | exceptions.NoRegionError):
        return _unknown_region(str(region))
    if is_unreachable(error):
        if region is not None and region not in _regions():
            return _unknown_region(region)
        return UnreachableError(f"{title} does not answer ({line(error)}). {_CHECK_NETWORK}")
    if isinstance(error, ResponseParserError):
        return UnreachableError(f"{title}: the response is not from AWS. {_CHECK_NETWORK}")
    return ProviderError(f"{title}: {line(error)}.")


def permission_for(service: str, operation: str) -> str:
    """Return the permission that a call needs; mostly it has the name of the call."""
    call = f"{service}:{operation}"
    return AWS.of_call(call).name if call in AWS else call


def explain_credentials(error: Exception, label: str) -> CredentialsError | None:
    """Return the error for credentials that cannot be obtained; None if the error is about something else."""
    if isinstance(error, _NO_CREDENTIALS):
        return CredentialsError(
            f"{label}: no AWS credentials were found. Log in (aws configure, aws sso login), name a profile in AWS_PROFILE, or give the "
            "machine a role."
        )
    if isinstance(error, _NOT_OBTAINED):
        return CredentialsError(f"{label}: the AWS credentials could not be obtained: {line(error)}. {_EXPIRED}")
    if isinstance(error, _WRONG_PROFILE):
        return CredentialsError(f"{label}: {line(error)}. Check AWS_PROFILE and ~/.aws/config.")
    return None


def denial(
    label: str, reply: ErrorReply, permission: str, *, resource: str = "", or_else: str = ""
) -> PermissionDeniedError:
    """Return the error for a missing permission, with the permission, resource and user that the response names.

    Args:
        label: What was used.
        reply: The response.
        permission: Of the call, if the response names none. The response can name another permission than that of the call.
        resource: If the response names none.
        or_else: An alternative for the user, such as "name another bucket".
    """
    plain = plain_text(reply.text).rstrip(".")
    found = _DENIAL.search(plain)
    named, user, on, note = permission, "", "", plain
    if found is not None:
        named, user = found["permission"], found["user"] or ""
        resource, on = found["resource"] or resource, f" on {found['resource']}" if found["resource"] else ""
        note = found["reason"].strip(" .")
    elif permission in _PASS_ROLE_CALLS:
        on = ", or iam:PassRole for the configured role"
    text = (
        f"{label}: these AWS credentials lack the permission {named}{on}. Ask for it to be granted"
        f"{f' to {user}' if user else ''}{f', or {or_else}' if or_else else ''}.{f' ({note})' if note else ''}"
    )
    return PermissionDeniedError(text, permission=named, resource=resource, principal=user, code=reply.code)


#: Calls that are also denied when the credentials cannot pass the configured role to machines.
_PASS_ROLE_CALLS = ("ec2:CreateFleet", "ec2:RunInstances")


def plain_text(text: str) -> str:
    """Return a message of EC2 on one line, without its encoded part."""
    return " ".join(text.partition(_ENCODED)[0].split())


def names_permission(text: str) -> bool:
    """Return whether a denial names the missing permission."""
    return _DENIAL.search(text) is not None


def encoded_in(text: str) -> str | None:
    """Return the encoded part of a denial; None if it has none."""
    _, _, encoded = text.partition(f"{_ENCODED}:")
    return encoded.strip() or None


def is_unreachable(error: Exception) -> bool:
    """Return whether the service did not answer."""
    return isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError)


def line(error: Exception) -> str:
    """Return an error's text on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".")


def _explain_reply(reply: ErrorReply, label: str, permission: str, region: str | None) -> ProviderError:
    code, text, status = reply
    if code in DENIED:
        return denial(label, reply, permission)
    if code in CREDENTIALS:
        return CredentialsError(f"{label}: {CREDENTIALS[code]} ({code})", code=code)
    if code == "OptInRequired":
        return NotEnabledError(
            f"{label}: the region is not enabled for this account. Enable it, or choose another one. ({code})",
            service=region or "",
            code=code,
        )
    if code == "AuthFailure":
        return CredentialsError(
            f"{label}: AWS does not accept these credentials, or region {region} is not enabled for this account. {KEYS} A region is "
            f"enabled with: aws account enable-region --region-name {region}.",
            code=code,
        )
    if code in THROTTLED:
        return UnreachableError(
            f"{label}: AWS throttles {permission}, also after several attempts. Wait a minute; check what else in this account calls "
            f"it. ({code})",
            code=code,
        )
    if status >= 500:
        return UnreachableError(
            f"{label}: AWS reports an internal error for {permission}. Try again; if it persists, see health.aws.amazon.com. "
            f"({code}: {text})",
            code=code,
        )
    return ProviderError(f"{label}: {permission} was rejected: {text} ({code})", code=code)


@cache
def _regions() -> frozenset[str]:
    """Return the regions that the SDK knows; there can be newer ones."""
    session = Session()
    return frozenset(
        one for name in session.get_available_partitions() for one in session.get_available_regions("ec2", name)
    )


def _unknown_region(region: str) -> WrongSettingError:
    close = difflib.get_close_matches(region, sorted(_regions()), n=3)
    meant = f" Did you mean {' or '.join(close)}?" if close else " Regions look like eu-west-1."
    return WrongSettingError(f"AWS region {region!r} is not known to the installed SDK.{meant}", setting="REGIONS")
