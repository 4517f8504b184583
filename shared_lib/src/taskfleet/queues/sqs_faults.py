"""What can be wrong with SQS, in words."""

from botocore import exceptions

from taskfleet.clouds.aws_faults import (
    CREDENTIALS,
    DENIED,
    THROTTLED,
    answer_of,
    explain_credentials,
    is_unreachable,
    line,
)
from taskfleet.clouds.retrying import TransientError
from taskfleet.errors import QueueError

_THROTTLED = (
    "SQS is asked too often by this account; the worker slows down by itself, but fewer of them may be as fast."
)

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html; what to do, and whether it may pass.
_CODES = {
    **dict.fromkeys(THROTTLED, (_THROTTLED, True)),
    "InternalError": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "InternalFailure": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "ServiceUnavailable": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "RequestTimeout": ("Check the network.", True),
    "QueueDeletedRecently": (
        "A queue of this name was deleted less than a minute ago; wait, or choose another name.",
        True,
    ),
    "PurgeQueueInProgress": ("The queue was purged less than a minute ago; wait.", True),
    **{code: (remedy, False) for code, remedy in CREDENTIALS.items()},
}
MISSING = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue")


def label_of(address: str) -> str:
    """Return what messages to people call a queue."""
    return f"Queue {address}"


def explain(error: Exception, *, address: str, action: str, region: str) -> Exception:
    """Turn what boto3 raised into what this library raises.

    Args:
        error: From boto3.
        address: The queue's, as the user writes it.
        action: The call, as IAM names it.
        region: Where.
    """
    label = label_of(address)
    if isinstance(error, exceptions.ClientError):
        return _explain_code(error, label, action, region)
    if trouble := explain_credentials(error):
        return QueueError(f"{label}: {trouble}")
    if isinstance(error, exceptions.NoRegionError):
        return QueueError(f"{label}: no AWS region is known. Set AWS_REGION, or write {address}?region=eu-west-1.")
    if is_unreachable(error):
        return TransientError(
            f"{label}: SQS in {region} does not answer ({line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    if isinstance(error, exceptions.BotoCoreError | ValueError):
        return QueueError(f"{label}: {line(error)}")
    return error


def _explain_code(error: exceptions.ClientError, label: str, action: str, region: str) -> Exception:
    code, text, status = answer_of(error)
    if code in MISSING:
        return QueueError(
            f"{label} does not exist in region {region}. Insert tasks first (poe insert_tasks), or make it again (poe release); "
            "if it is elsewhere, set AWS_REGION or write ?region=… behind its address."
        )
    if code in DENIED:
        return QueueError(
            f"{label}: these AWS credentials may not do sqs:{action}. Have that permission granted on the queue. ({text})"
        )
    if code in _CODES:
        remedy, passes = _CODES[code]
        return (TransientError if passes else QueueError)(f"{label}: {remedy} ({code})")
    if status >= 500 or status == 429:
        return TransientError(f"{label}: SQS in {region} failed with status {status}: {text}")
    return QueueError(f"{label}: SQS refuses sqs:{action}: {text} ({code})")
