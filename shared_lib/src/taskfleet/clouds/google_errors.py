"""Conversion of errors of Google's SDK, its authentication and the network to errors of this library."""

import re
from collections.abc import Callable
from typing import TypeVar

import google.auth.exceptions as auth
import requests
from google.api_core.exceptions import GoogleAPICallError

from taskfleet.clouds.google import Api
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.clouds.retrying import retry_call
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    UnreachableError,
    WrongSettingError,
)

T = TypeVar("T")

#: The exceptions of the SDK, its authentication and the network.
ERRORS = (GoogleAPICallError, auth.GoogleAuthError, requests.RequestException)
#: What to do if there are no credentials, or they are no longer valid.
LOG_IN = (
    "Log in (gcloud auth application-default login), name a key file in GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account."
)
#: Transient reasons for a 403. https://cloud.google.com/compute/docs/api/best-practices
THROTTLED = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
TRANSIENT_CODES = {408, 429, 500, 502, 503, 504}
#: Texts in which services name the missing permission, the resource and the principal.
_DENIALS = (
    re.compile(r"Required '(?P<permission>[\w.]+)' permission for '(?P<resource>[^']*)'"),
    re.compile(r"Permission '?(?P<permission>[\w.]+)'? denied on resource '?(?P<resource>[^' ]*)"),
    re.compile(r"(?P<principal>\S+) does not have (?P<permission>[\w.]+) access"),
)


def call(
    action: Callable[[], T],
    *,
    api: Api,
    project: str,
    permission: str = "",
    label: str = "",
    patience_seconds: float = 20.0,
) -> T:
    """Make a call, with retries while the service is busy.

    Args:
        action: The call.
        api: The service.
        project: The Google Cloud project; empty if the service needs none.
        permission: That the call needs.
        label: What is used, in the user's terms; empty for the title of the service.
        patience_seconds: The time after which the last error is raised.

    Raises:
        UnreachableError: The service does not answer within that time.
        ProviderError: The service rejects the call.
    """

    def attempt() -> T:
        try:
            return action()
        except ERRORS as error:
            raise explain(error, api=api, project=project, permission=permission, label=label) from error

    return retry_call(patience_seconds, attempt)


def explain(error: Exception, *, api: Api, project: str, permission: str = "", label: str = "") -> ProviderError:
    """Convert one of ERRORS to an error of this library; see ``call`` for the arguments."""
    label = label or api.title
    if isinstance(error, auth.GoogleAuthError):
        return explain_login(error, label, api)
    if not isinstance(error, GoogleAPICallError):
        return _out_of_reach(error, label, api)
    text, reasons = text_of(error), reasons_of(error)
    reason = next((one for one in sorted(reasons) if one), str(error.code or ""))
    if error.code in TRANSIENT_CODES or (error.code == 403 and reasons & THROTTLED):
        return UnreachableError(
            f"{label} is busy or throttles requests ({error.code}: {text}). Try again in a minute.",
            code=reason,
        )
    if error.code == 401:
        return not_accepted(label, text)
    if project and (error.code == 404 or "CONSUMER_INVALID" in reasons):
        return WrongSettingError(
            f"{label}: project {project} does not exist. Correct PROJECT_ID: gcloud projects list shows your projects. ({text})",
            setting="PROJECT_ID",
            code=reason,
        )
    if error.code == 403:
        return _explain_denial(label, text, reasons, api, project, permission)
    of = f" of project {project}" if project else ""
    return ProviderError(f"{label} rejects the request{of}: {text} ({error.code})", code=reason)


def explain_login(error: auth.GoogleAuthError, label: str, api: Api) -> ProviderError:
    """Return the error for credentials that cannot be obtained."""
    if isinstance(error, auth.DefaultCredentialsError):
        return CredentialsError(f"{label}: no Google Cloud credentials were found. {LOG_IN}")
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return logged_out(label)
    if isinstance(error, auth.TransportError | auth.TimeoutError | auth.ResponseError) or error.retryable:
        return _out_of_reach(error, label, api)
    text = " ".join(str(error).split()).rstrip(".")
    return CredentialsError(f"{label}: the Google Cloud credentials cannot be used: {text}. {LOG_IN}")


def logged_out(label: str) -> CredentialsError:
    """Return the error for credentials that are no longer valid."""
    return CredentialsError(f"{label}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")


def not_accepted(label: str, text: str) -> CredentialsError:
    """Return the error for credentials that a service does not accept."""
    return CredentialsError(
        f"{label}: Google Cloud does not accept these credentials, or they have expired. {LOG_IN} ({text})"
    )


def not_enabled(label: str, api: Api, project: str) -> NotEnabledError:
    """Return the error for a service that is not enabled."""
    where = f" --project {project}" if project else ""
    return NotEnabledError(
        f"{label} is not enabled in project {project or '(unknown)'}: gcloud services enable {api.name}{where}",
        service=api.name,
    )


def denial(label: str, text: str, permission: str, project: str, *, place: str = "") -> PermissionDeniedError:
    """Return the error for a missing permission, with the resource and a role that has the permission.

    Args:
        label: What was used.
        text: The message of the service.
        permission: That the call needs; the text can name another one.
        project: The Google Cloud project.
        place: The resource, if it is not the project.
    """
    found = next((match.groupdict() for pattern in _DENIALS if (match := pattern.search(text))), {})
    permission = found.get("permission") or permission
    where = place or f"in project {project}"
    return PermissionDeniedError(
        f"{label}: this account lacks the permission {permission} {where}. {advice(permission)}{f' ({text})' if text else ''}",
        permission=permission,
        resource=found.get("resource") or (f"projects/{project}" if project else label),
        principal=found.get("principal") or "",
    )


def text_of(error: GoogleAPICallError) -> str:
    """Return the message of a service on one line, without a full stop."""
    # It begins with "GET https://…: ".
    return " ".join(str(error.message or "").split()).partition(": ")[2].rstrip(".") or "no reason given"


def reasons_of(error: GoogleAPICallError) -> set[str]:
    """Return the reasons in an error response, such as ``notFound``."""
    found = {error.reason} | {one.get("reason") for one in error.errors or () if isinstance(one, dict)}
    return {str(one) for one in found if one}


def advice(permission: str) -> str:
    """Return what to do about a missing permission, with a predefined role that has it if one is known."""
    role = GOOGLE[permission].role if permission in GOOGLE else ""
    return f"Ask for a role that has it{f', for example {role}' if role else ''}."


def _out_of_reach(error: Exception, label: str, api: Api) -> UnreachableError:
    return UnreachableError(
        f"{label} cannot be reached ({type(error).__name__}). Check the network, the proxy if there is one, and {api.variable} if it is "
        "set."
    )


def _explain_denial(label: str, text: str, reasons: set[str], api: Api, project: str, permission: str) -> ProviderError:
    if reasons & {"SERVICE_DISABLED", "accessNotConfigured"}:
        return not_enabled(label, api, project)
    if "BILLING_DISABLED" in reasons:
        return NotEnabledError(
            f"{label}: project {project} has no billing account: gcloud billing projects link {project} --billing-account ACCOUNT_ID",
            service=api.name,
        )
    if "USER_PROJECT_DENIED" in reasons:
        permission = "serviceusage.services.use"
    if not permission and not any(one.search(text) for one in _DENIALS):
        return PermissionDeniedError(f"{label} denies the request in project {project}: {text} (403)", resource=project)
    place = f"in project {project}, or the project does not exist" if project else f"on {label}"
    return denial(label, text, permission, project, place=place)
