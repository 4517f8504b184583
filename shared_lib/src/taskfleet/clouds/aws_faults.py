"""What all of AWS's services can refuse alike, in words: credentials, permissions, too many requests."""

from typing import NamedTuple

from botocore import exceptions

KEYS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
EXPIRED = "Get new ones (aws sso login, or what gave you these), and start again; nothing is lost."

#: By error code, what to do. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
CREDENTIALS = {
    "ExpiredToken": f"The AWS credentials have expired. {EXPIRED}",
    "ExpiredTokenException": f"The AWS credentials have expired. {EXPIRED}",
    "RequestExpired": "Set this machine's clock right.",
    "InvalidClientTokenId": f"AWS does not know these credentials. {KEYS}",
    "UnrecognizedClientException": f"AWS does not know these credentials. {KEYS}",
    "InvalidAccessKeyId": f"AWS does not know these credentials. {KEYS}",
    "SignatureDoesNotMatch": f"The secret key is wrong, or this machine's clock. {KEYS}",
    "InvalidSignatureException": f"The secret key is wrong, or this machine's clock. {KEYS}",
    "InvalidSecurity": f"AWS refuses these credentials. {KEYS}",
    "OptInRequired": "Enable the region for this account, or choose another one.",
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


class Answer(NamedTuple):
    """What a service answered instead of doing what was asked."""

    code: str
    text: str
    status: int


def answer_of(error: exceptions.ClientError) -> Answer:
    """Give the code without its namespace, the text on one line and the HTTP status of what boto3 raised."""
    parts = error.response.get("Error", {})
    code = str(parts.get("Code", "")).rpartition("#")[2]
    text = " ".join(str(parts.get("Message", "")).split()) or code
    return Answer(code, text, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def explain_credentials(error: Exception) -> str | None:
    """Say what is wrong with the credentials on this side, before a service was asked; None if it is something else."""
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return (
            "no AWS credentials were found. Log in (aws configure, aws sso login), name a profile in AWS_PROFILE, or give the "
            "machine a role."
        )
    if isinstance(
        error,
        exceptions.CredentialRetrievalError
        | exceptions.TokenRetrievalError
        | exceptions.SSOError
        | exceptions.UnauthorizedSSOTokenError,
    ):
        return f"the AWS credentials could not be had: {line(error)}. {EXPIRED}"
    if isinstance(error, exceptions.ProfileNotFound):
        return f"{line(error)}. Check AWS_PROFILE and ~/.aws/config."
    return None


def is_unreachable(error: Exception) -> bool:
    """Say whether a service did not answer at all."""
    return isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError)


def line(error: Exception) -> str:
    """Give an error's text on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".")
