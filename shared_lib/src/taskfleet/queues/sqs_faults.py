"""What can be wrong with SQS: what is special about it, besides what all of AWS's services have in common."""

from botocore import exceptions

from taskfleet.clouds import aws_errors
from taskfleet.clouds.aws_errors import THROTTLED, is_unreachable, line, reply_of
from taskfleet.errors import ProviderError, QueueError, UnreachableError, WrongSettingError

_THROTTLED = "this account calls SQS too often; the worker slows down by itself, but fewer of them may be as fast."
_INTERNAL = "SQS reports an internal error; see health.aws.amazon.com if it lasts."
#: Of codes that pass, what to do.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
_PASSING = {
    **dict.fromkeys(THROTTLED, _THROTTLED),
    **dict.fromkeys(("InternalError", "InternalFailure", "ServiceUnavailable"), _INTERNAL),
    "RequestTimeout": "Check the network.",
    "QueueDeletedRecently": "A queue of this name was deleted less than a minute ago; wait, or choose another name.",
    "PurgeQueueInProgress": "The queue was purged less than a minute ago; wait.",
}
MISSING = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue")
OVER_LIMIT = ("OverLimit", "AWS.SimpleQueueService.OverLimit")


def label_of(address: str) -> str:
    """Return what messages to people call a queue."""
    return f"Queue {address}"


class MissingError(QueueError):
    """The queue is not there."""


class OverLimitError(QueueError):
    """Too many messages are in flight."""


def explain(error: Exception, *, address: str, operation: str, region: str | None) -> ProviderError:
    """Turn what boto3 raised into what this library raises.

    Args:
        error: From boto3.
        address: The queue's, as the user writes it.
        operation: The call, as SQS names it.
        region: Where; None if that is not known.
    """
    label = label_of(address)
    if isinstance(error, exceptions.ClientError):
        code, text, status = reply_of(error)
        if code in MISSING:
            return MissingError(
                f"{label} does not exist in region {region}. Insert tasks first (poe insert_tasks), or make it again (poe release); "
                "if it is elsewhere, set AWS_REGION or write ?region=… behind its address.",
                code=code,
            )
        if code in OVER_LIMIT:
            return OverLimitError(f"{label}: too many messages are in flight: {text} ({code})", code=code)
        if code in _PASSING:
            return UnreachableError(f"{label}: {_PASSING[code]} ({code})", code=code)
        if status == 429:
            return UnreachableError(f"{label}: {_THROTTLED} ({code})", code=code)
    if isinstance(error, exceptions.NoRegionError):
        return WrongSettingError(
            f"{label}: no AWS region is known. Set AWS_REGION, or write {address}?region=eu-west-1.",
            setting="AWS_REGION",
        )
    if is_unreachable(error):  # also in a region that this version of the SDK does not know
        return UnreachableError(
            f"{label}: SQS in {region} does not answer ({line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    return aws_errors.explain(error, service="sqs", operation=operation, region=region, label=label)
