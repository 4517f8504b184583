"""What Google's SDK, its login and the network raise, as errors of this library."""

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

#: What the SDK, the login and the network raise.
ERRORS = (GoogleAPICallError, auth.GoogleAuthError, requests.RequestException)
#: What to do where no credentials were found, or they are no longer good.
LOG_IN = (
    "Log in (gcloud auth application-default login), name a key file in GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service "
    "account."
)
#: Reasons for a 403 that are over soon. https://cloud.google.com/compute/docs/api/best-practices
THROTTLED = {"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
PASSING_CODES = {408, 429, 500, 502, 503, 504}
#: How services say which permission is missing, on what and to whom.
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
    """Ask Google for something, again and again while it is busy.

    Args:
        action: What to do.
        api: The service.
        project: Whose; empty if the service needs none.
        permission: That the call needs.
        label: What is being used, as the user knows it; the service's title if it is not given.
        patience_seconds: For how long to go on.

    Raises:
        UnreachableError: It does not answer within that time.
        ProviderError: It refuses.
    """

    def attempt() -> T:
        try:
            return action()
        except ERRORS as error:
            raise explain(error, api=api, project=project, permission=permission, label=label) from error

    return retry_call(patience_seconds, attempt)


def explain(error: Exception, *, api: Api, project: str, permission: str = "", label: str = "") -> ProviderError:
    """Turn one of ERRORS into what this library raises; see ``call`` for the arguments."""
    label = label or api.title
    if isinstance(error, auth.GoogleAuthError):
        return explain_login(error, label, api)
    if not isinstance(error, GoogleAPICallError):
        return _out_of_reach(error, label, api)
    text, reasons = text_of(error), reasons_of(error)
    reason = next((one for one in sorted(reasons) if one), str(error.code or ""))
    if error.code in PASSING_CODES or (error.code == 403 and reasons & THROTTLED):
        return UnreachableError(
            f"{label} is busy or turns away so many requests ({error.code}: {text}). Try again in a minute.",
            code=reason,
        )
    if error.code == 401:
        return not_accepted(label, text)
    if project and (error.code == 404 or "CONSUMER_INVALID" in reasons):
        return WrongSettingError(
            f"{label}: project {project} does not exist. Correct it: gcloud projects list shows yours. ({text})",
            setting="PROJECT_ID",
            code=reason,
        )
    if error.code == 403:
        return _explain_denial(label, text, reasons, api, project, permission)
    of = f" of project {project}" if project else ""
    return ProviderError(f"{label} refuses what was asked{of}: {text} ({error.code})", code=reason)


def explain_login(error: auth.GoogleAuthError, label: str, api: Api) -> ProviderError:
    """Say what is wrong with the login on this side, before the service was asked."""
    if isinstance(error, auth.DefaultCredentialsError):
        return CredentialsError(f"{label}: no Google Cloud credentials were found. {LOG_IN}")
    if isinstance(error, auth.RefreshError) and not error.retryable:
        return logged_out(label)
    if isinstance(error, auth.TransportError | auth.TimeoutError | auth.ResponseError) or error.retryable:
        return _out_of_reach(error, label, api)
    text = " ".join(str(error).split()).rstrip(".")
    return CredentialsError(f"{label}: the Google Cloud credentials cannot be used: {text}. {LOG_IN}")


def logged_out(label: str) -> CredentialsError:
    """Say that a login is no longer good."""
    return CredentialsError(f"{label}: the Google Cloud credentials have expired or were revoked. {LOG_IN}")


def not_accepted(label: str, text: str) -> CredentialsError:
    """Say that a service does not accept a login."""
    return CredentialsError(
        f"{label}: Google Cloud does not accept these credentials, or they have expired. {LOG_IN} ({text})"
    )


def not_enabled(label: str, api: Api, project: str) -> NotEnabledError:
    """Say that a service has to be enabled."""
    where = f" --project {project}" if project else ""
    return NotEnabledError(
        f"{label} is not enabled in project {project or '(unknown)'}: gcloud services enable {api.name}{where}",
        service=api.name,
    )


def denial(label: str, text: str, permission: str, project: str, *, place: str = "") -> PermissionDeniedError:
    """Name the permission that is missing, on what, and a role that has it.

    Args:
        label: What was being used.
        text: What the service says.
        permission: That the call needs; the text may name another one.
        project: Whose.
        place: On what it is needed, if that is not the project.
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
    """Return what a service says, on one line and without a full stop."""
    # "GET https://…: " stands before it.
    return " ".join(str(error.message or "").split()).partition(": ")[2].rstrip(".") or "no reason given"


def reasons_of(error: GoogleAPICallError) -> set[str]:
    """Return the reasons a service names, such as ``notFound``."""
    found = {error.reason} | {one.get("reason") for one in error.errors or () if isinstance(one, dict)}
    return {str(one) for one in found if one}


def advice(permission: str) -> str:
    """Say what to ask for, with a role that has a permission and not much else, where one is known."""
    role = GOOGLE[permission].role if permission in GOOGLE else ""
    return f"Ask for a role with it to be granted{f', for example {role}' if role else ''}."


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
        return PermissionDeniedError(
            f"{label} refuses what was asked of project {project}: {text} (403)", resource=project
        )
    place = f"in project {project}, or there is no such project" if project else f"on {label}"
    return denial(label, text, permission, project, place=place)
