"""What can be wrong with SQS, in words."""

from botocore import exceptions

from taskfleet.errors import QueueError
from taskfleet.queues.patience import PassingError

_THROTTLED = (
    "SQS is asked too often by this account; the worker slows down by itself, but fewer of them may be as fast."
)
_KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
_EXPIRED = "Get new ones (aws sso login, or what gave you these), and start again; nothing is lost."

#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html; what to do, and whether it may pass.
_CODES = {
    "ThrottlingException": (_THROTTLED, True),
    "Throttling": (_THROTTLED, True),
    "RequestThrottled": (_THROTTLED, True),
    "TooManyRequestsException": (_THROTTLED, True),
    "RequestLimitExceeded": (_THROTTLED, True),
    "KmsThrottled": (_THROTTLED, True),
    "InternalError": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "InternalFailure": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "ServiceUnavailable": ("SQS has a trouble of its own; see health.aws.amazon.com if it lasts.", True),
    "RequestTimeout": ("Check the network.", True),
    "QueueDeletedRecently": (
        "A queue of this name was deleted less than a minute ago; wait, or choose another name.",
        True,
    ),
    "PurgeQueueInProgress": ("The queue was purged less than a minute ago; wait.", True),
    "ExpiredToken": (f"The AWS credentials have expired. {_EXPIRED}", False),
    "ExpiredTokenException": (f"The AWS credentials have expired. {_EXPIRED}", False),
    "RequestExpired": ("Set this machine's clock right.", False),
    "InvalidClientTokenId": (f"AWS does not know these credentials. {_KEYS}", False),
    "UnrecognizedClientException": (f"AWS does not know these credentials. {_KEYS}", False),
    "InvalidAccessKeyId": (f"AWS does not know these credentials. {_KEYS}", False),
    "SignatureDoesNotMatch": (f"The secret key is wrong, or this machine's clock. {_KEYS}", False),
    "InvalidSecurity": (f"AWS refuses these credentials. {_KEYS}", False),
    "OptInRequired": ("Enable the region for this account, or choose another one.", False),
}
_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation")
MISSING = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue")


def explain(error: Exception, *, label: str, action: str, region: str) -> Exception:
    """Turn what boto3 raised into what this library raises.

    Args:
        error: From boto3.
        label: The queue, for people.
        action: The call, as IAM names it.
        region: Where.
    """
    if isinstance(error, exceptions.ClientError):
        return _explain_code(error, label, action, region)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return QueueError(
            f"{label}: no AWS credentials were found. Log in (aws configure, aws sso login), name a profile in AWS_PROFILE, or give the "
            "machine a role."
        )
    if isinstance(
        error,
        exceptions.CredentialRetrievalError
        | exceptions.TokenRetrievalError
        | exceptions.SSOError
        | exceptions.UnauthorizedSSOTokenError,
    ):
        return QueueError(f"{label}: the AWS credentials could not be had: {_line(error)}. {_EXPIRED}")
    if isinstance(error, exceptions.ProfileNotFound):
        return QueueError(f"{label}: {_line(error)}. Check AWS_PROFILE and ~/.aws/config.")
    if isinstance(error, exceptions.NoRegionError):
        return QueueError(
            f"{label}: no AWS region is known. Set AWS_REGION, or write {label.split()[-1]}?region=eu-west-1."
        )
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError):
        return PassingError(
            f"{label}: SQS in {region} does not answer ({_line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
        )
    if isinstance(error, exceptions.BotoCoreError | ValueError):
        return QueueError(f"{label}: {_line(error)}")
    return error


def _explain_code(error: exceptions.ClientError, label: str, action: str, region: str) -> Exception:
    answer = error.response
    code = str(answer.get("Error", {}).get("Code", "")).rpartition("#")[2]
    text = str(answer.get("Error", {}).get("Message", "")) or code
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in MISSING:
        return QueueError(
            f"{label} does not exist in region {region}. Insert tasks first (poe insert_tasks), or make it again (poe release); "
            "if it is elsewhere, set AWS_REGION or write ?region=… behind its address."
        )
    if code in _DENIED:
        return QueueError(
            f"{label}: these AWS credentials may not do sqs:{action}. Have that permission granted on the queue. ({text})"
        )
    if code in _CODES:
        remedy, passes = _CODES[code]
        return (PassingError if passes else QueueError)(f"{label}: {remedy} ({code})")
    if status >= 500 or status == 429:
        return PassingError(f"{label}: SQS in {region} failed with status {status}: {text}")
    return QueueError(f"{label}: SQS refuses sqs:{action}: {text} ({code})")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
