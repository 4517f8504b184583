"""What can be wrong with Pub/Sub, as gRPC says it."""

import re

import grpc
from google.auth.exceptions import GoogleAuthError

from taskfleet.clouds.google import PUBSUB
from taskfleet.clouds.google_errors import denial, explain_login, logged_out, not_accepted, not_enabled
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.errors import ProviderError, QueueError, UnreachableError

#: What gRPC passes on, as UNAVAILABLE, of a login that cannot be renewed.
_LOGGED_OUT = re.compile("invalid_grant|Reauthentication is needed|invalid_rapt")


class MissingError(QueueError):
    """The topic or the subscription is not there."""


class ThereError(QueueError):
    """It is there already."""


def explain(error: Exception, *, label: str, method: str, project: str) -> ProviderError:
    """Turn what gRPC or the login raised into what this library raises.

    Args:
        error: From the SDK.
        label: The queue, for people.
        method: The call, ``Service/Method``.
        project: Whose queue it is.
    """
    if isinstance(error, GoogleAuthError):
        return explain_login(error, label, PUBSUB)
    if not isinstance(error, grpc.RpcError):
        return ProviderError(f"{label}: {' '.join(str(error).split())}")
    status, text = error.code(), " ".join((error.details() or "").split()).rstrip(".")
    code = status.name
    match status:
        case grpc.StatusCode.NOT_FOUND:
            return MissingError(
                f"{label} does not exist in project {project}. Insert tasks first (poe insert_tasks), or make it again "
                f"(poe release), or correct the project in QUEUE_URL. ({text})",
                code=code,
            )
        case grpc.StatusCode.ALREADY_EXISTS:
            return ThereError(f"{label} is there already. ({text})", code=code)
        case grpc.StatusCode.PERMISSION_DENIED if "SERVICE_DISABLED" in text or "has not been used" in text:
            return not_enabled(f"{label}: Pub/Sub", PUBSUB, project)
        case grpc.StatusCode.PERMISSION_DENIED:
            return denial(label, text, GOOGLE.of_call(method).name, project)
        case grpc.StatusCode.UNAUTHENTICATED:
            return not_accepted(label, text)
        case grpc.StatusCode.UNAVAILABLE if _LOGGED_OUT.search(text):
            return logged_out(label)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return UnreachableError(
                f"{label}: a quota of Pub/Sub in project {project} is used up: {text}. It may be raised in the console.",
                code=code,
            )
        case (
            grpc.StatusCode.UNAVAILABLE
            | grpc.StatusCode.DEADLINE_EXCEEDED
            | grpc.StatusCode.INTERNAL
            | grpc.StatusCode.ABORTED
            | grpc.StatusCode.CANCELLED
            | grpc.StatusCode.UNKNOWN
        ):
            return UnreachableError(
                f"{label}: Pub/Sub does not answer ({code}: {text}). Check the network, and PUBSUB_EMULATOR_HOST if it is set.",
                code=code,
            )
    return ProviderError(f"{label}: Pub/Sub refuses {method}: {text} ({code})", code=code)
