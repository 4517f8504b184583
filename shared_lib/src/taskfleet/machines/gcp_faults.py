"""What can be wrong with Google Cloud's Compute Engine and Billing, in words."""

from collections.abc import Callable
from typing import Any, TypeVar

import google.auth.exceptions as auth
import requests
from google.api_core.exceptions import GoogleAPICallError

from taskfleet.errors import CommandError, QueueUnreachableError
from taskfleet.queues.patience import PassingError, persist
from taskfleet.queues.pubsub_faults import LOG_IN

T = TypeVar("T")

#: What services call themselves at ``gcloud services enable``.
_APIS = {"Compute Engine": "compute.googleapis.com", "Cloud Billing": "cloudbilling.googleapis.com"}
#: Reasons for a 403 that are over soon. https://cloud.google.com/compute/docs/api/best-practices
_THROTTLED = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
_PASSING_CODES = {408, 429, 500, 502, 503, 504}


def call(
    action: Callable[[], T], *, service: str, project: str, permission: str = "", patience_seconds: float = 20.0
) -> T:
    """Ask Google for something, again and again while it is busy.

    Args:
        action: What to do.
        service: "Compute Engine" or "Cloud Billing".
        project: Whose.
        permission: That the call needs.
        patience_seconds: For how long to go on.

    Raises:
        CommandError: It refuses, or does not answer within that time.
    """

    def attempt() -> T:
        try:
            return action()
        except (GoogleAPICallError, auth.GoogleAuthError, requests.RequestException) as error:
            raise explain(error, service=service, project=project, permission=permission) from error

    try:
        return persist(patience_seconds, attempt)
    except QueueUnreachableError as error:
        raise CommandError(str(error)) from error


def explain(error: Exception, *, service: str, project: str, permission: str = "") -> Exception:
    """Turn what the SDK, the login or the network raised into what this library raises.

    Args:
        error: From the SDK.
        service: "Compute Engine" or "Cloud Billing".
        project: Whose.
        permission: That the call needs.

    Returns:
        A ``CommandError``, or a ``PassingError`` for what may be over in a moment.
    """
    if isinstance(error, auth.DefaultCredentialsError):
        return CommandError(f"{service}: no Google Cloud credentials were found. {LOG_IN}")
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return CommandError(f"{service}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")
    if isinstance(error, GoogleAPICallError):
        return _explain_refusal(error, service, project, permission)
    return PassingError(
        f"{service} cannot be reached ({type(error).__name__}). Check the network, and the proxy if there is one."
    )


def _explain_refusal(error: GoogleAPICallError, service: str, project: str, permission: str) -> Exception:
    code = error.code
    # "GET https://…: " stands before what the service says.
    text = " ".join(str(error.message or "").split()).partition(": ")[2].rstrip(".") or "no reason given"
    reasons = {str(error.reason)} | {str(one.get("reason")) for one in error.errors or () if isinstance(one, dict)}
    api = _APIS[service]
    if code in _PASSING_CODES or (code == 403 and reasons & _THROTTLED):
        return PassingError(
            f"{service} is busy or turns away so many requests ({code}: {text}). Try again in a minute."
        )
    if code == 401:
        return CommandError(
            f"{service}: Google Cloud does not accept these credentials, or they have expired. {LOG_IN} ({text})"
        )
    if code == 404 or "CONSUMER_INVALID" in reasons:
        return CommandError(
            f"{service}: project {project} does not exist. Correct it: gcloud projects list shows yours. ({text})"
        )
    if code == 403 and ("SERVICE_DISABLED" in reasons or "accessNotConfigured" in reasons):
        return CommandError(
            f"{service} is not enabled in project {project}: gcloud services enable {api} --project {project}"
        )
    if code == 403 and "BILLING_DISABLED" in reasons:
        return CommandError(
            f"{service}: project {project} has no billing account: gcloud billing projects link {project} --billing-account ACCOUNT_ID"
        )
    if code == 403 and "USER_PROJECT_DENIED" in reasons:
        permission = "serviceusage.services.use"
    if code == 403 and permission:
        return CommandError(
            f"{service}: this account may not do {permission} in project {project}, or there is no such project. Have a role with it "
            f"granted, for example {_role(permission)}. ({text})"
        )
    return CommandError(f"{service} refuses what was asked of project {project}: {text} ({code})")


def _role(permission: str) -> str:
    return "Service Usage Consumer" if permission.startswith("serviceusage") else "Compute Viewer"


def is_missing(error: Any) -> bool:
    """Whether the service has said that a thing does not exist."""
    return isinstance(error, GoogleAPICallError) and error.code == 404
