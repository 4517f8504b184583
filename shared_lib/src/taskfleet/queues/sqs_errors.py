"""Explain errors specific to SQS; ``clouds.aws_errors`` explains those common to all services."""

from botocore import exceptions

from taskfleet.clouds import aws_errors
from taskfleet.clouds.aws_errors import THROTTLED, is_unreachable, line, reply_of
from taskfleet.errors import ProviderError, QueueError, UnreachableError, WrongSettingError
from taskfleet.invocation import poe

_THROTTLED = "SQS throttles this account; workers slow down automatically, and fewer workers may be as fast."
_INTERNAL = "SQS reports an internal error; see health.aws.amazon.com if it lasts."
#: Transient codes, with their remedy.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
_PASSING = {
    **dict.fromkeys(THROTTLED, _THROTTLED),
    **dict.fromkeys(("InternalError", "InternalFailure", "ServiceUnavailable"), _INTERNAL),
    "RequestTimeout": "Check the network.",
    "QueueDeletedRecently": "A queue of this name was deleted less than a minute ago; wait, or choose another name.",
    "PurgeQueueInProgress": "The queue was purged less than a minute ago; wait.",
}
MISSING = ("QueueDoesNotExist", "NonExistentQueue")


def label_of(address: str) -> str:
    """Return the name of a queue in messages."""
    return f"Queue {address}"


class MissingError(QueueError):
    """The queue does not exist."""


class OverLimitError(QueueError):
    """Too many messages are in flight."""


def _is_role_late(error: Exception) -> bool:
    """Return whether the machine's own metadata service did not give new credentials, which it does a little later."""
    is_late = isinstance(error, exceptions.CredentialRetrievalError | exceptions.MetadataRetrievalError)
    return is_late and getattr(error, "kwargs", {}).get("provider") in ("iam-role", "container-role", None)


def explain(error: Exception, *, address: str, operation: str, region: str | None) -> ProviderError:
    """Convert an error of botocore to an error of this library.

    Args:
        error: The SDK's error.
        address: The queue's address, as in QUEUE_URL.
        operation: The name of the call in the SQS API.
        region: The region; None if unknown.
    """
    label = label_of(address)
    if isinstance(error, exceptions.ClientError):
        code, text, status = reply_of(error)
        code = code.removeprefix(
            "AWS.SimpleQueueService."
        )  # with this prefix, or without it, depending on the SDK's version
        if code in MISSING:
            return MissingError(
                f"{label} does not exist in region {region}. Insert tasks first ({poe('insert_tasks')}), or create it again "
                f"({poe('release')}); if it is in another region, set AWS_REGION or add ?region=… to its address.",
                code=code,
            )
        if code == "OverLimit":
            return OverLimitError(f"{label}: too many messages are in flight: {text} ({code})", code=code)
        if code in _PASSING:
            return UnreachableError(f"{label}: {_PASSING[code]} ({code})", code=code)
        if status == 429:
            return UnreachableError(f"{label}: {_THROTTLED} ({code})", code=code)
    if isinstance(error, exceptions.NoRegionError):
        return WrongSettingError(
            f"{label}: the AWS region is unknown. Set AWS_REGION, or write {address}?region=eu-west-1.",
            setting="AWS_REGION",
        )
    if _is_role_late(error):
        return UnreachableError(f"{label}: the credentials of this machine's role are not available ({line(error)}).")
    if is_unreachable(error):  # also for regions that this version of the SDK does not know
        return UnreachableError(
            f"{label}: SQS in {region} does not answer ({line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    return aws_errors.explain(error, service="sqs", operation=operation, region=region, label=label)
