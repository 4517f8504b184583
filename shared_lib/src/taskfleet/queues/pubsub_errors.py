"""Explain errors of Pub/Sub."""

import re

import grpc
from google.auth.exceptions import GoogleAuthError

from taskfleet.clouds.google import PUBSUB
from taskfleet.clouds.google_errors import denial, explain_login, logged_out, not_accepted, not_enabled
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.errors import ProviderError, QueueError, UnreachableError
from taskfleet.invocation import poe

#: gRPC reports expired credentials as UNAVAILABLE with one of these texts.
_LOGGED_OUT = re.compile("invalid_grant|Reauthentication is needed|invalid_rapt")


class MissingError(QueueError):
    """The topic or the subscription does not exist."""


class AlreadyExistsError(QueueError):
    """The topic or the subscription already exists."""


def explain(error: Exception, *, label: str, method: str, project: str) -> ProviderError:
    """Convert an error of gRPC or the login to an error of this library.

    Args:
        error: The SDK's error.
        label: The queue, for messages.
        method: The called method, ``Service/Method``.
        project: The project of the queue.
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
                f"{label} does not exist in project {project}. Insert tasks first ({poe('insert_tasks')}), create it again "
                f"({poe('release')}), or correct the project in QUEUE_URL. ({text})",
                code=code,
            )
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyExistsError(f"{label} already exists. ({text})", code=code)
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
                f"{label}: a quota of Pub/Sub in project {project} is exhausted: {text}. Request an increase in the console.",
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
    return ProviderError(f"{label}: Pub/Sub rejects {method}: {text} ({code})", code=code)
