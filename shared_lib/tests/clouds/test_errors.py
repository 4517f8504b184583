"""Every exception of the SDKs becomes the right error of this library, with its fields filled."""

import copy
import inspect
import pickle

import google.api_core.exceptions as api_core
import google.auth.exceptions as auth
import grpc
import psycopg
import pytest
import requests
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError
from taskfleet import errors
from taskfleet.clouds import aws_errors, google_errors
from taskfleet.clouds.google import COMPUTE, STORAGE
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    QueueError,
    UnreachableError,
    WrongSettingError,
)
from taskfleet.queues import pubsub_errors, sqs_errors
from taskfleet.queues.postgresql_errors import Explanation


def classes_in(module, base):
    """All exceptions of a module, by name."""
    return {
        name: one
        for name, one in vars(module).items()
        if inspect.isclass(one) and issubclass(one, base) and not issubclass(one, Warning)
    }


def made(kind, text="it failed"):
    """An exception as the SDK would raise it, whatever its constructor wants to know."""
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    return error


def fields(error):
    return {name: value for name, value in vars(error).items() if value}


# --- AWS ---


def client_error(code, message="It is so.", status=400, operation="RunInstances"):
    reply = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.ClientError(reply, operation)


def of_aws(error, *, region="eu-west-1"):
    return aws_errors.explain(error, service="ec2", operation="RunInstances", region=region)


NAMED = (
    "You are not authorized. User: arn:aws:iam::1:user/me is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/r "
    "because no identity-based policy allows the iam:PassRole action. Encoded authorization failure message: abc"
)
AWS_REPLIES = [
    (
        "UnauthorizedOperation",
        NAMED,
        403,
        PermissionDeniedError,
        ("iam:PassRole", "arn:aws:iam::1:role/r", "arn:aws:iam::1:user/me"),
    ),
    ("UnauthorizedOperation", "No.", 403, PermissionDeniedError, ("ec2:RunInstances", "", "")),
    ("AccessDenied", "No.", 403, PermissionDeniedError, ("ec2:RunInstances", "", "")),
    ("AccessDeniedException", "No.", 400, PermissionDeniedError, ("ec2:RunInstances", "", "")),
    ("AuthorizationError", "No.", 403, PermissionDeniedError, ("ec2:RunInstances", "", "")),
    ("com.amazonaws#ExpiredToken", "", 400, CredentialsError, None),
    ("ExpiredTokenException", "", 400, CredentialsError, None),
    ("RequestExpired", "", 400, CredentialsError, None),
    ("InvalidClientTokenId", "", 403, CredentialsError, None),
    ("UnrecognizedClientException", "", 400, CredentialsError, None),
    ("InvalidAccessKeyId", "", 403, CredentialsError, None),
    ("SignatureDoesNotMatch", "", 403, CredentialsError, None),
    ("InvalidSignatureException", "", 400, CredentialsError, None),
    ("InvalidSecurity", "", 403, CredentialsError, None),
    ("AuthFailure", "", 401, CredentialsError, None),
    ("OptInRequired", "", 403, NotEnabledError, "eu-west-1"),
    ("ThrottlingException", "", 400, UnreachableError, None),
    ("Throttling", "", 400, UnreachableError, None),
    ("RequestThrottled", "", 400, UnreachableError, None),
    ("TooManyRequestsException", "", 429, UnreachableError, None),
    ("RequestLimitExceeded", "", 503, UnreachableError, None),
    ("KmsThrottled", "", 400, UnreachableError, None),
    ("InternalError", "", 500, UnreachableError, None),
    ("Unavailable", "", 503, UnreachableError, None),
    ("InvalidParameterValue", "", 400, ProviderError, None),
    ("SomethingNew", "", 400, ProviderError, None),
]


@pytest.mark.parametrize(("code", "text", "status", "kind", "wanted"), AWS_REPLIES)
def test_what_a_service_of_aws_answers_is_told_apart(code, text, status, kind, wanted):
    found = of_aws(client_error(code, text, status))
    assert type(found) is kind
    assert found.code == code.rpartition("#")[2]
    if kind is PermissionDeniedError:
        assert (found.permission, found.resource, found.principal) == wanted
    if kind is NotEnabledError:
        assert found.service == wanted
    assert "Encoded" not in str(found)


def test_what_the_sdk_of_aws_asks_for_by_itself_has_its_own_permission():
    found = of_aws(client_error("AccessDenied", "No.", 403, operation="AssumeRole"))
    assert (type(found), found.permission) == (PermissionDeniedError, "sts:AssumeRole")


#: What botocore raises of its own. A version that has more makes the test below fail: decide what they are.
AWS_UNREACHABLE = [
    "HTTPClientError",
    "ConnectionError",
    "EndpointConnectionError",
    "SSLError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "ConnectTimeoutError",
    "ProxyConnectionError",
    "ResponseStreamingError",
    "IncompleteReadError",
]
AWS_CREDENTIALS = [
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "TokenRetrievalError",
    "UnknownTokenProviderError",
    "UnknownCredentialError",
    "ProfileNotFound",
    "ConfigParseError",
    "ConfigNotFound",
    "InvalidConfigError",
    "InfiniteLoopConfigError",
    "RefreshWithMFAUnsupportedError",
    "MetadataRetrievalError",
    "SSOError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "LoginError",
    "LoginRefreshRequired",
    "LoginInsufficientPermissions",
    "LoginTokenLoadError",
    "LoginAuthorizationCodeError",
]
AWS_REGION = ["NoRegionError", "InvalidRegionError"]
AWS_OTHERS = [
    "BotoCoreError",
    "DataNotFoundError",
    "UnknownServiceError",
    "UnknownRegionError",
    "ApiVersionNotFoundError",
    "InvalidIMDSEndpointError",
    "InvalidIMDSEndpointModeError",
    "UnknownSignatureVersionError",
    "ServiceNotInRegionError",
    "BaseEndpointResolverError",
    "EndpointVariantError",
    "UnknownEndpointError",
    "UnknownFIPSEndpointError",
    "MissingParametersError",
    "ValidationError",
    "ParamValidationError",
    "UnknownKeyError",
    "RangeError",
    "UnknownParameterError",
    "AliasConflictParameterError",
    "UnknownServiceStyle",
    "PaginationError",
    "OperationNotPageableError",
    "ChecksumError",
    "UnseekableStreamError",
    "WaiterError",
    "InvalidExpressionError",
    "WaiterConfigError",
    "UnknownClientMethodError",
    "UnsupportedSignatureVersionError",
    "InvalidDNSNameError",
    "InvalidS3AddressingStyleError",
    "UnsupportedS3ArnError",
    "UnsupportedS3ControlArnError",
    "InvalidHostLabelError",
    "UnsupportedOutpostResourceError",
    "UnsupportedS3ConfigurationError",
    "UnsupportedS3AccesspointConfigurationError",
    "InvalidEndpointDiscoveryConfigurationError",
    "UnsupportedS3ControlConfigurationError",
    "InvalidRetryConfigurationError",
    "InvalidMaxRetryAttemptsError",
    "InvalidRetryModeError",
    "InvalidS3UsEast1RegionalEndpointConfigError",
    "InvalidSTSRegionalEndpointsConfigError",
    "StubResponseError",
    "StubAssertionError",
    "UnStubbedResponseError",
    "MD5UnavailableError",
    "MissingDependencyException",
    "CapacityNotAvailableError",
    "InvalidProxiesConfigError",
    "InvalidDefaultsMode",
    "AwsChunkedWrapperError",
    "FlexibleChecksumError",
    "InvalidEndpointConfigurationError",
    "EndpointProviderError",
    "EndpointResolutionError",
    "UnknownEndpointResolutionBuiltInName",
    "InvalidChecksumConfigError",
    "UnsupportedServiceProtocolsError",
]
AWS_EXPECTED = {
    **dict.fromkeys(AWS_UNREACHABLE, UnreachableError),
    **dict.fromkeys(AWS_CREDENTIALS, CredentialsError),
    **dict.fromkeys(AWS_REGION, WrongSettingError),
    **dict.fromkeys(AWS_OTHERS, ProviderError),
}


def test_every_exception_of_botocore_is_mapped():
    known = classes_in(botocore, botocore.BotoCoreError)
    assert known.keys() <= AWS_EXPECTED.keys()
    for name, kind in known.items():
        assert (name, type(of_aws(made(kind)))) == (name, AWS_EXPECTED[name])
        assert issubclass(kind, aws_errors.ERRORS)
    assert type(of_aws(ResponseParserError("not XML"))) is UnreachableError
    assert type(of_aws(ValueError("Invalid endpoint"))) is ProviderError


def test_a_region_is_named_where_one_is_wrong_or_missing():
    missing = of_aws(made(botocore.NoRegionError), region=None)
    assert (type(missing), missing.setting) == (WrongSettingError, "AWS_REGION")
    unknown = of_aws(made(botocore.EndpointConnectionError), region="eu-wset-1")
    assert (type(unknown), unknown.setting) == (WrongSettingError, "REGIONS")
    assert "Did you mean eu-west-1" in str(unknown)


SQS_REPLIES = [
    ("QueueDoesNotExist", 400, sqs_errors.MissingError),
    ("AWS.SimpleQueueService.NonExistentQueue", 400, sqs_errors.MissingError),
    ("OverLimit", 403, sqs_errors.OverLimitError),
    ("RequestTimeout", 400, UnreachableError),
    ("QueueDeletedRecently", 400, UnreachableError),
    ("PurgeQueueInProgress", 403, UnreachableError),
    ("RequestThrottled", 403, UnreachableError),
    ("SomethingNew", 429, UnreachableError),
    ("SomethingNew", 503, UnreachableError),
    ("InvalidAddress", 404, ProviderError),
    ("AccessDenied", 403, PermissionDeniedError),
    ("ExpiredToken", 403, CredentialsError),
]


@pytest.mark.parametrize(("code", "status", "kind"), SQS_REPLIES)
def test_what_sqs_answers_is_told_apart(code, status, kind):
    error = client_error(code, "It is so.", status, operation="SendMessageBatch")
    found = sqs_errors.explain(error, address="sqs://q", operation="SendMessageBatch", region="eu-west-1")
    assert type(found) is kind
    assert found.code == code.removeprefix("AWS.SimpleQueueService.")
    assert str(found).startswith("Queue sqs://q")
    if kind is PermissionDeniedError:
        assert found.permission == "sqs:SendMessage"


def test_a_queue_in_a_region_that_the_sdk_does_not_know_is_tried_again():
    """It may be a newer one; a worker must not give up for that."""
    error = made(botocore.EndpointConnectionError)
    found = sqs_errors.explain(error, address="sqs://q", operation="", region="eu-new-1")
    assert type(found) is UnreachableError


# --- Google Cloud ---


def of_google(error, **more):
    return google_errors.explain(
        error, **{"api": COMPUTE, "project": "mine", "permission": "compute.zones.list", **more}
    )


def google_error(code, text="It is so.", *reasons):
    return api_core.from_http_status(
        code, f"GET https://compute.googleapis.com/x: {text}", errors=[{"reason": one} for one in reasons]
    )


REQUIRED = "Required 'compute.subnetworks.use' permission for 'projects/host/regions/r/subnetworks/s'"
DENIED = "Permission 'storage.objects.create' denied on resource 'projects/_/buckets/b' (or it may not exist)."
ACCESS = "me@example.com does not have storage.objects.create access to the Google Cloud Storage object."
GOOGLE_REPLIES = [
    (google_error(400, "No.", "invalid"), ProviderError, {"code": "invalid"}),
    (google_error(401), CredentialsError, {}),
    (
        google_error(403, REQUIRED, "forbidden"),
        PermissionDeniedError,
        {"permission": "compute.subnetworks.use", "resource": "projects/host/regions/r/subnetworks/s"},
    ),
    (
        google_error(403, DENIED, "forbidden"),
        PermissionDeniedError,
        {"permission": "storage.objects.create", "resource": "projects/_/buckets/b"},
    ),
    (
        google_error(403, ACCESS, "forbidden"),
        PermissionDeniedError,
        {"permission": "storage.objects.create", "resource": "projects/mine", "principal": "me@example.com"},
    ),
    (
        google_error(403, "No.", "forbidden"),
        PermissionDeniedError,
        {"permission": "compute.zones.list", "resource": "projects/mine"},
    ),
    (
        google_error(403, "No.", "USER_PROJECT_DENIED"),
        PermissionDeniedError,
        {"permission": "serviceusage.services.use", "resource": "projects/mine"},
    ),
    (google_error(403, "Off.", "SERVICE_DISABLED"), NotEnabledError, {"service": "compute.googleapis.com"}),
    (google_error(403, "Off.", "accessNotConfigured"), NotEnabledError, {"service": "compute.googleapis.com"}),
    (google_error(403, "Pay.", "BILLING_DISABLED"), NotEnabledError, {"service": "compute.googleapis.com"}),
    (
        google_error(403, "Gone.", "CONSUMER_INVALID"),
        WrongSettingError,
        {"setting": "PROJECT_ID", "code": "CONSUMER_INVALID"},
    ),
    (google_error(403, "Slowly.", "rateLimitExceeded"), UnreachableError, {"code": "rateLimitExceeded"}),
    (google_error(403, "Slowly.", "userRateLimitExceeded"), UnreachableError, {"code": "userRateLimitExceeded"}),
    (google_error(403, "Slowly.", "RATE_LIMIT_EXCEEDED"), UnreachableError, {"code": "RATE_LIMIT_EXCEEDED"}),
    (google_error(404, "No.", "notFound"), WrongSettingError, {"setting": "PROJECT_ID", "code": "notFound"}),
    (google_error(412, "No.", "conditionNotMet"), ProviderError, {"code": "conditionNotMet"}),
    *((google_error(code), UnreachableError, {"code": str(code)}) for code in (408, 429, 500, 502, 503, 504)),
]


@pytest.mark.parametrize(("error", "kind", "wanted"), GOOGLE_REPLIES)
def test_what_a_service_of_google_answers_is_told_apart(error, kind, wanted):
    found = of_google(error)
    assert type(found) is kind
    assert fields(found) == wanted


def test_what_is_denied_without_a_project_is_denied_on_what_was_used():
    error = google_error(403, "No.", "forbidden")
    found = of_google(error, api=STORAGE, project="", permission="storage.objects.get", label="gs://b")
    assert fields(found) == {"permission": "storage.objects.get", "resource": "gs://b"}


def test_every_exception_of_googles_services_is_mapped():
    by_code = {
        401: CredentialsError,
        403: PermissionDeniedError,
        404: WrongSettingError,
        **dict.fromkeys((408, 429, 500, 502, 503, 504), UnreachableError),
    }
    for kind in classes_in(api_core, api_core.GoogleAPICallError).values():
        if kind.__init__ is api_core.GoogleAPICallError.__init__:
            assert type(of_google(kind("GET x: It is so."))) is by_code.get(kind.code, ProviderError), kind


#: Of a login, what may be over in a moment; the rest is not.
LOGIN_UNREACHABLE = {"TransportError", "TimeoutError", "ResponseError"}


def test_every_exception_of_googles_login_is_mapped():
    for name, kind in classes_in(auth, auth.GoogleAuthError).items():
        wanted = UnreachableError if name in LOGIN_UNREACHABLE else CredentialsError
        assert (name, type(of_google(kind("it failed")))) == (name, wanted)
        again = kind("it failed", retryable=True)
        passes = again.retryable and not issubclass(kind, auth.DefaultCredentialsError)
        assert (name, type(of_google(again))) == (name, UnreachableError if passes else CredentialsError)


def test_every_exception_of_the_network_is_mapped():
    for kind in classes_in(requests.exceptions, requests.RequestException).values():
        assert type(of_google(made(kind))) is UnreachableError


class RpcError(grpc.RpcError):
    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


GRPC = {
    "CANCELLED": UnreachableError,
    "UNKNOWN": UnreachableError,
    "INVALID_ARGUMENT": ProviderError,
    "DEADLINE_EXCEEDED": UnreachableError,
    "NOT_FOUND": pubsub_errors.MissingError,
    "ALREADY_EXISTS": pubsub_errors.AlreadyExistsError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": UnreachableError,
    "FAILED_PRECONDITION": ProviderError,
    "ABORTED": UnreachableError,
    "OUT_OF_RANGE": ProviderError,
    "UNIMPLEMENTED": ProviderError,
    "INTERNAL": UnreachableError,
    "UNAVAILABLE": UnreachableError,
    "DATA_LOSS": ProviderError,
    "UNAUTHENTICATED": CredentialsError,
}


def of_pubsub(code, text="It is so."):
    error = RpcError(grpc.StatusCode[code], text)
    return pubsub_errors.explain(error, label="Queue pubsub://p/q", method="Publisher/Publish", project="p")


def test_every_status_of_grpc_is_mapped():
    assert GRPC.keys() == {one.name for one in grpc.StatusCode} - {"OK"}
    for code, kind in GRPC.items():
        assert (code, type(of_pubsub(code))) == (code, kind)
    denied = of_pubsub("PERMISSION_DENIED", "User not authorized to perform this action.")
    assert fields(denied) == {"permission": "pubsub.topics.publish", "resource": "projects/p"}
    disabled = of_pubsub("PERMISSION_DENIED", "Cloud Pub/Sub API has not been used in project 1 before")
    assert (type(disabled), disabled.service) == (NotEnabledError, "pubsub.googleapis.com")
    assert type(of_pubsub("UNAVAILABLE", "invalid_grant: Bad Request")) is CredentialsError


# --- PostgreSQL ---

#: Beginnings of SQLSTATE codes; of several that fit the longest counts.
SQLSTATES = {
    "": ProviderError,
    "08": UnreachableError,
    "25006": UnreachableError,
    "25P03": UnreachableError,
    "25P04": UnreachableError,
    "28": CredentialsError,
    "3D000": WrongSettingError,
    "40": UnreachableError,
    "42": QueueError,
    "42501": PermissionDeniedError,
    "53": UnreachableError,
    "55P03": UnreachableError,
    "57": UnreachableError,
    "58": UnreachableError,
}


def test_every_state_of_postgresql_is_mapped():
    states = {one.sqlstate for one in classes_in(psycopg.errors, psycopg.Error).values() if one.sqlstate}
    assert len(states) > 200
    for state in states:
        wanted = SQLSTATES[max((one for one in SQLSTATES if state.startswith(one)), key=len)]
        found = Explanation.of_statement(state, "permission denied for schema public").error("Queue 'q'")
        assert (state, type(found), found.code) == (state, wanted, state)
    denied = Explanation.of_statement("42501", "permission denied for schema public").error("Queue 'q'")
    assert denied.resource == "schema public"


# --- the tree ---


def test_the_tree_in_the_docstring_is_the_tree():
    drawn, path = {}, []
    for line in errors.__doc__.splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if name.endswith("Error") and line.startswith("    "):
            depth = (line.index(name) - 4) // 4
            path[depth:] = [name]
            drawn[name] = path[depth - 1] if depth else "Exception"
    there = {name: one.__bases__[0].__name__ for name, one in classes_in(errors, errors.TaskfleetError).items()}
    assert drawn == there


@pytest.mark.parametrize("kind", classes_in(errors, ProviderError).values())
def test_an_error_can_be_copied_and_sent_to_another_process(kind):
    wanted = {name: "x" for name in inspect.signature(kind).parameters if name != "text"}
    error = kind("Sentence.", **wanted)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(twin), str(twin), vars(twin)) == (kind, "Sentence.", wanted)
