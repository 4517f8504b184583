"""What can be wrong with Google Cloud's Compute Engine and Billing, in words."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import google.auth.exceptions as auth
import requests
from google.api_core.exceptions import GoogleAPICallError

from taskfleet.clouds.google import LOG_IN
from taskfleet.clouds.retrying import TransientError, retry_call
from taskfleet.errors import CommandError, QueueUnreachableError, TaskfleetError

T = TypeVar("T")

#: What services call themselves at ``gcloud services enable``.
_APIS = {
    "Compute Engine": "compute.googleapis.com",
    "Cloud Billing": "cloudbilling.googleapis.com",
    "Cloud Resource Manager": "cloudresourcemanager.googleapis.com",
}
#: Reasons for a 403 that are over soon. https://cloud.google.com/compute/docs/api/best-practices
THROTTLED = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
PASSING_CODES = {408, 429, 500, 502, 503, 504}
#: As Compute Engine says which permission it misses.
_REQUIRED = re.compile(r"Required '([\w.]+)' permission")
#: https://cloud.google.com/compute/docs/access/iam
_ROLES = (
    (r"serviceusage\.", "Service Usage Consumer"),
    (r"iam\.serviceAccounts\.", "Service Account User"),
    (r"compute\.(sub)?networks\.use", "Compute Network User"),
    (r"compute\.images\.useReadOnly", "Compute Image User"),
    (r"compute\.\w+\.(create|delete|set|use|resize|insert)", "Compute Instance Admin (v1)"),
)


def call(
    action: Callable[[], T],
    *,
    service: str,
    project: str,
    permission: str = "",
    patience_seconds: float = 20.0,
    refused: type[TaskfleetError] = CommandError,
    unreachable: type[TaskfleetError] = CommandError,
) -> T:
    """Ask Google for something, again and again while it is busy.

    Args:
        action: What to do.
        service: "Compute Engine" or "Cloud Billing".
        project: Whose.
        permission: That the call needs.
        patience_seconds: For how long to go on.
        refused: What is raised if it refuses.
        unreachable: What is raised if it does not answer within that time.
    """

    def attempt() -> T:
        try:
            return action()
        except (GoogleAPICallError, auth.GoogleAuthError, requests.RequestException) as error:
            raise explain(error, service=service, project=project, permission=permission, refused=refused) from error

    try:
        return retry_call(patience_seconds, attempt)
    except QueueUnreachableError as error:
        raise unreachable(str(error)) from error


def explain(
    error: Exception,
    *,
    service: str,
    project: str,
    permission: str = "",
    refused: type[TaskfleetError] = CommandError,
) -> Exception:
    """Turn what the SDK, the login or the network raised into what this library raises.

    Args:
        error: From the SDK.
        service: "Compute Engine" or "Cloud Billing".
        project: Whose.
        permission: That the call needs.
        refused: The kind of error for what does not pass by itself.

    Returns:
        A ``refused``, or a ``TransientError`` for what may be over in a moment.
    """
    if isinstance(error, auth.DefaultCredentialsError):
        return refused(f"{service}: no Google Cloud credentials were found. {LOG_IN}")
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return refused(f"{service}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")
    if not isinstance(error, GoogleAPICallError):
        return TransientError(
            f"{service} cannot be reached ({type(error).__name__}). Check the network, and the proxy if there is one."
        )
    text, reasons = text_of(error), reasons_of(error)
    if error.code in PASSING_CODES or (error.code == 403 and reasons & THROTTLED):
        return TransientError(
            f"{service} is busy or turns away so many requests ({error.code}: {text}). Try again in a minute."
        )
    return refused(f"{service}{_sentence(error.code, text, reasons, _APIS[service], project, permission)}")


def text_of(error: GoogleAPICallError) -> str:
    """Give what a service says, on one line and without a full stop."""
    # "GET https://…: " stands before it.
    return " ".join(str(error.message or "").split()).partition(": ")[2].rstrip(".") or "no reason given"


def reasons_of(error: GoogleAPICallError) -> set[str]:
    """Give the reasons a service names, such as ``notFound``."""
    return {str(error.reason)} | {str(one.get("reason")) for one in error.errors or () if isinstance(one, dict)}


def _sentence(code: int | None, text: str, reasons: set[str], api: str, project: str, permission: str) -> str:
    if code == 401:
        return f": Google Cloud does not accept these credentials, or they have expired. {LOG_IN} ({text})"
    if code == 404 or "CONSUMER_INVALID" in reasons:
        return f": project {project} does not exist. Correct it: gcloud projects list shows yours. ({text})"
    if code == 403 and ("SERVICE_DISABLED" in reasons or "accessNotConfigured" in reasons):
        return f" is not enabled in project {project}: gcloud services enable {api} --project {project}"
    if code == 403 and "BILLING_DISABLED" in reasons:
        return f": project {project} has no billing account: gcloud billing projects link {project} --billing-account ACCOUNT_ID"
    if code == 403 and "USER_PROJECT_DENIED" in reasons:
        permission = "serviceusage.services.use"
    elif named := _REQUIRED.search(text):
        permission = named[1]
    if code == 403 and permission:
        return (
            f": this account may not do {permission} in project {project}, or there is no such project. Have a role with it "
            f"granted, for example {role_with(permission)}. ({text})"
        )
    return f" refuses what was asked of project {project}: {text} ({code})"


def role_with(permission: str) -> str:
    """Name a role that has a permission and not much else."""
    return next((role for start, role in _ROLES if re.match(start, permission)), "Compute Viewer")


def is_missing(error: Any) -> bool:
    """Whether the service has said that a thing does not exist."""
    return isinstance(error, GoogleAPICallError) and error.code == 404
