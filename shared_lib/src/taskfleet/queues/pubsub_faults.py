"""What can be wrong with Pub/Sub, in words."""

import re

import grpc
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from taskfleet.clouds.google import LOG_IN
from taskfleet.clouds.retrying import TransientError
from taskfleet.errors import QueueError

#: What the permission for a call is called.
_PERMISSIONS = {
    "Publisher/CreateTopic": "pubsub.topics.create",
    "Publisher/GetTopic": "pubsub.topics.get",
    "Publisher/DeleteTopic": "pubsub.topics.delete",
    "Publisher/Publish": "pubsub.topics.publish",
    "Subscriber/CreateSubscription": "pubsub.subscriptions.create and pubsub.topics.attachSubscription",
    "Subscriber/GetSubscription": "pubsub.subscriptions.get",
    "Subscriber/DeleteSubscription": "pubsub.subscriptions.delete",
}
#: What gRPC passes on, as UNAVAILABLE, of a login that cannot be renewed.
_LOGGED_OUT = re.compile("invalid_grant|Reauthentication is needed|invalid_rapt")


class MissingError(QueueError):
    """The topic or the subscription is not there."""


class ThereError(QueueError):
    """The topic or the subscription is there already."""


def explain(error: Exception, *, label: str, method: str, project: str) -> Exception:
    """Turn what gRPC or the login raised into what this library raises.

    Args:
        error: From the SDK.
        label: The queue, for people.
        method: The call, ``Service/Method``.
        project: Whose queue it is.
    """
    if isinstance(error, DefaultCredentialsError):
        return QueueError(f"{label}: no Google Cloud credentials were found. {LOG_IN}")
    if isinstance(error, RefreshError):
        return QueueError(f"{label}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")
    if not isinstance(error, grpc.RpcError):
        return QueueError(f"{label}: {' '.join(str(error).split())}")
    code, text = error.code(), " ".join((error.details() or "").split()).rstrip(".")
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return MissingError(
                f"{label} does not exist in project {project}. Insert tasks first (poe insert_tasks), or make it again "
                f"(poe release), or correct the project in QUEUE_URL. ({text})"
            )
        case grpc.StatusCode.ALREADY_EXISTS:
            return ThereError(f"{label} exists already in project {project}. ({text})")
        case grpc.StatusCode.PERMISSION_DENIED if "SERVICE_DISABLED" in text or "has not been used" in text:
            return QueueError(
                f"{label}: Pub/Sub is not enabled in project {project}: gcloud services enable pubsub.googleapis.com"
            )
        case grpc.StatusCode.PERMISSION_DENIED:
            permission = _PERMISSIONS.get(method, "pubsub.subscriptions.consume")
            return QueueError(
                f"{label}: this account may not do {permission} in project {project}. Have a role with it granted, for example Pub/Sub "
                f"Editor. ({text})"
            )
        case grpc.StatusCode.UNAUTHENTICATED:
            return QueueError(
                f"{label}: Google Cloud does not accept these credentials, or they have expired. {LOG_IN} ({text})"
            )
        case grpc.StatusCode.UNAVAILABLE if _LOGGED_OUT.search(text):
            return QueueError(f"{label}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TransientError(
                f"{label}: a quota of Pub/Sub in project {project} is used up: {text}. It may be raised in the console."
            )
        case (
            grpc.StatusCode.UNAVAILABLE
            | grpc.StatusCode.DEADLINE_EXCEEDED
            | grpc.StatusCode.INTERNAL
            | grpc.StatusCode.ABORTED
            | grpc.StatusCode.CANCELLED
            | grpc.StatusCode.UNKNOWN
        ):
            return TransientError(
                f"{label}: Pub/Sub does not answer ({code.name}: {text}). Check the network, and PUBSUB_EMULATOR_HOST if it is set."
            )
    return QueueError(f"{label}: Pub/Sub refuses {method}: {text} ({code.name})")
