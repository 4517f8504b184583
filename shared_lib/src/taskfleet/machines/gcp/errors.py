"""Compute Engine's errors of launches: which are about an offer, with their ``FailureReason``, and which are general.

A general error would meet every other offer, too: the account, the project or a setting is wrong. It is raised, and ends the pool.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.api_core.exceptions import GoogleAPICallError

from taskfleet.clouds.google import COMPUTE
from taskfleet.clouds.google_errors import THROTTLED, TRANSIENT_CODES, explain, reasons_of, text_of
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.errors import PermissionDeniedError, ProviderError, WrongSettingError
from taskfleet.invocation import poe
from taskfleet.machines import FailureReason

#: Error codes of operations, and error reasons of requests.
#: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability
_STOCK_OUT: Final = {"STOCKOUT", "insufficientCapacity", "resourcePoolExhausted"}
_STOCK_OUT_ENDING: Final = (
    "RESOURCE_POOL_EXHAUSTED",
    "RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "IP_SPACE_EXHAUSTED",  # of the region's subnetwork
    "IP_SPACE_EXHAUSTED_WITH_DETAILS",
)
#: https://cloud.google.com/compute/resource-usage
_QUOTA: Final = {"QUOTA_EXCEEDED", "quotaExceeded", "limitExceeded"}
_BUSY: Final = {*THROTTLED, "RESOURCE_OPERATION_RATE_EXCEEDED", "operationRateExceeded"}
#: Internal errors of the service in operations.
_INTERNAL: Final = {"INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "UNAVAILABLE", "BACKEND_ERROR"}
#: The organization's policies forbid something: the error code of operations, and the reason of requests.
#: https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints
_POLICY: Final = {"CONDITION_NOT_MET", "conditionNotMet"}
#: Something is missing or superfluous in the request, whatever the offer.
_BAD_REQUEST: Final = {"badRequest", "parseError", "required"}
#: Fields of the request that do not depend on the offer. https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert
_FIELD: Final = re.compile(r"Invalid value for field '(?:resource|instance)\.(?P<field>\w+)(?P<rest>[^']*)'")
_GENERAL_FIELDS: Final = {
    "labels": "JOB_ID",
    "metadata": "START_UP_SCRIPT",
    "name": "JOB_ID",
    "networkInterfaces": "NETWORK",
    "serviceAccounts": "SERVICE_ACCOUNT",
    "tags": "",
}
_NAME_EXISTS: Final = {"RESOURCE_ALREADY_EXISTS", "alreadyExists"}

_RESOURCE: Final = re.compile(
    r"(?:projects/(?P<project>[^/']+)/)?(?:global|regions/[^/']+)/(?P<kind>\w+)/(?P<name>[\w./-]+)"
)
#: A zonal resource, such as a disk type: the project exists.
_ZONAL: Final = re.compile(r"projects/[^/']+/zones/[^/']+/\w")
_ACCOUNT: Final = re.compile(r"[\w.+-]+@[\w.-]+\w")
_SETTINGS: Final = {
    "networks": ("network", "NETWORK", "gcloud compute networks list --project {project}"),
    "subnetworks": ("subnetwork", "SUBNETWORK", "gcloud compute networks subnets list --project {project}"),
    "images": ("image", "IMAGE", "{list_images}"),
}


@dataclass(frozen=True, slots=True)
class InsertFailure:
    """The reason why an instance was not inserted."""

    reason: FailureReason
    text: str
    error: ProviderError | None = None
    """The error, if any other offer would fail, too."""
    name_exists: bool = False
    """Whether an instance of this name exists already."""


def read_request_error(error: GoogleAPICallError, project: str) -> InsertFailure | None:
    """Return the failure that the error of a request stands for; None if the request should be retried.

    Raises:
        CredentialsError: The credentials are rejected.
    """
    text, reasons = text_of(error), reasons_of(error)
    known = _known(reasons, text, project)
    if known is not None:
        return known
    if error.code == 429:
        return InsertFailure(FailureReason.THROTTLED, text)
    if error.code in TRANSIENT_CODES:
        return None
    if error.code == 404 and _ZONAL.search(text):
        return InsertFailure(FailureReason.INVALID, text)
    explained = explain(error, api=COMPUTE, project=project)
    if error.code == 401:
        raise explained from error
    is_general = error.code in (403, 404, 412) or bool(reasons & _BAD_REQUEST)
    return InsertFailure(FailureReason.INVALID, str(explained), explained if is_general else None)


def read_operation_errors(errors: Sequence[tuple[str, str]], project: str) -> InsertFailure:
    """Return the failure that the errors of an operation stand for.

    Args:
        errors: The code and the text of each.
        project: The project of the operation.
    """
    for code, text in errors:
        known = _known({code}, _line(text), project)
        if known is not None:
            return known
    code, text = errors[0] if errors else ("", "no reason given")
    return InsertFailure(FailureReason.INVALID, f"{_line(text)} ({code})" if code else text)


def _known(codes: set[str], text: str, project: str) -> InsertFailure | None:
    if codes & _STOCK_OUT or any(code.endswith(_STOCK_OUT_ENDING) for code in codes):
        return InsertFailure(FailureReason.STOCK_OUT, text)
    if codes & _BUSY:
        return InsertFailure(FailureReason.THROTTLED, text)
    if codes & _QUOTA:
        return InsertFailure(FailureReason.QUOTA, text)
    if codes & _INTERNAL or "preempted" in text:  # or it was preempted during its creation
        return InsertFailure(FailureReason.STOCK_OUT, text)
    if codes & _NAME_EXISTS:
        return InsertFailure(FailureReason.INVALID, text, name_exists=True)
    general = (
        _about_policy(codes, text)
        or _about_service_account(codes, text)
        or _about_setting(text, project)
        or _about_field(text)
        or _about_permission(codes, text)
    )
    return None if general is None else InsertFailure(FailureReason.INVALID, str(general), general)


def _about_policy(codes: set[str], text: str) -> ProviderError | None:
    if not codes & _POLICY:
        return None
    if "vmExternalIpAccess" in text:
        return WrongSettingError(
            "Compute Engine: a policy of the organization forbids external IP addresses. Set EXTERNAL_IP=false in config/pool.env; the "
            f"network then needs Cloud NAT. ({text})",
            setting="EXTERNAL_IP",
        )
    return ProviderError(f"Compute Engine: a policy of the organization forbids these machines. ({text})")


def _about_field(text: str) -> ProviderError | None:
    found = _FIELD.search(text)
    if found is None or found["field"] not in _GENERAL_FIELDS:
        return None
    setting = "SUBNETWORK" if found["rest"].endswith("subnetwork") else _GENERAL_FIELDS[found["field"]]
    advice = f" Correct {setting}." if setting else ""
    return WrongSettingError(f"Compute Engine rejects the request.{advice} ({text})", setting=setting)


def _about_permission(codes: set[str], text: str) -> ProviderError | None:
    if "PERMISSIONS_ERROR" in codes:
        return PermissionDeniedError(
            f"Compute Engine: this account, or its service agent, lacks a permission. ({text})"
        )
    return None


def _about_service_account(codes: set[str], text: str) -> ProviderError | None:
    found = _ACCOUNT.search(text)
    account = found[0] if found else "of SERVICE_ACCOUNT"
    if "SERVICE_ACCOUNT_ACCESS_DENIED" in codes:
        permission = "iam.serviceAccounts.actAs"
        return PermissionDeniedError(
            f"Compute Engine: this account lacks the permission {permission} on service account {account}. Ask for the role "
            f"{GOOGLE[permission].role} to be granted on it. ({text})",
            permission=permission,
            resource=account,
        )
    if re.search(r"service ?account", text, re.IGNORECASE) and re.search(r"not found|does not exist", text):
        return WrongSettingError(
            f"Compute Engine: there is no service account {account}. Correct SERVICE_ACCOUNT in config/pool.env, or leave it empty for "
            f"the project's default one. ({text})",
            setting="SERVICE_ACCOUNT",
        )
    return None


def _about_setting(text: str, project: str) -> ProviderError | None:
    found = _RESOURCE.search(text)
    if (
        found is None
        or found["kind"] not in _SETTINGS
        or not re.search(r"not found|does not exist|cannot be found", text)
    ):
        return None
    word, setting, command = _SETTINGS[found["kind"]]
    where = found["project"] or project
    shown = command.format(project=where, list_images=poe("list_images"))
    return WrongSettingError(
        f"Compute Engine: project {where} has no {word} {found['name']}. Correct {setting} in config/pool.env; {shown} lists the "
        f"existing ones. ({text})",
        setting=setting,
    )


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".") or "no reason given"
