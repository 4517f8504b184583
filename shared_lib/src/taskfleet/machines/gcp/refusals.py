"""Why Compute Engine does not start a machine: from its errors to a ``FailureReason`` and a sentence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.api_core.exceptions import GoogleAPICallError

from taskfleet.clouds.google import COMPUTE
from taskfleet.clouds.google_errors import THROTTLED, TRANSIENT_CODES, explain, reasons_of, text_of
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.machines import FailureReason

#: Codes of operations and reasons of requests that were turned away.
#: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability
_STOCK_OUT: Final = {"STOCKOUT", "insufficientCapacity", "resourcePoolExhausted"}
_STOCK_OUT_ENDING: Final = ("RESOURCE_POOL_EXHAUSTED", "RESOURCE_POOL_EXHAUSTED_WITH_DETAILS")
#: https://cloud.google.com/compute/resource-usage
_QUOTA: Final = {"QUOTA_EXCEEDED", "quotaExceeded", "limitExceeded"}
_BUSY: Final = {*THROTTLED, "RESOURCE_OPERATION_RATE_EXCEEDED", "operationRateExceeded"}
#: Internal errors of the service, as operations tell them.
_INTERNAL: Final = {"INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "UNAVAILABLE", "BACKEND_ERROR"}
_TAKEN: Final = {"RESOURCE_ALREADY_EXISTS", "alreadyExists"}

_THING: Final = re.compile(
    r"(?:projects/(?P<project>[^/']+)/)?(?:global|regions/[^/']+)/(?P<kind>\w+)/(?P<name>[\w./-]+)"
)
#: Something in a zone, such as a type of disks: the project is there.
_PART: Final = re.compile(r"projects/[^/']+/zones/[^/']+/\w")
_ACCOUNT: Final = re.compile(r"[\w.+-]+@[\w.-]+\w")
_SETTINGS: Final = {
    "networks": ("network", "NETWORK", "gcloud compute networks list --project {project}"),
    "subnetworks": ("subnetwork", "SUBNETWORK", "gcloud compute networks subnets list --project {project}"),
    "images": ("image", "IMAGE", "poe list_images"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a machine was not started."""

    reason: FailureReason
    text: str
    is_general: bool = False
    """Whether any other machine would be refused too."""
    is_taken: bool = False
    """Whether there is a machine of that name already."""


def of_request(error: GoogleAPICallError, project: str) -> Fault | None:
    """Explain why a request was turned away; None if it may work in a moment.

    Raises:
        CredentialsError: The login is not accepted.
    """
    text, reasons = text_of(error), reasons_of(error)
    known = _known(reasons, text, project)
    if known is not None:
        return known
    if error.code == 429:
        return Fault(FailureReason.THROTTLED, text)
    if error.code in TRANSIENT_CODES:
        return None
    if error.code == 404 and _PART.search(text):
        return Fault(FailureReason.INVALID, text)
    said = explain(error, api=COMPUTE, project=project)
    if error.code == 401:
        raise said from error
    return Fault(FailureReason.INVALID, str(said), is_general=error.code in (403, 404))


def of_operation(errors: Sequence[tuple[str, str]], project: str) -> Fault:
    """Explain why an operation failed.

    Args:
        errors: The code and the text of each.
        project: Whose.
    """
    for code, text in errors:
        known = _known({code}, _line(text), project)
        if known is not None:
            return known
    code, text = errors[0] if errors else ("", "no reason given")
    return Fault(FailureReason.INVALID, f"{_line(text)} ({code})" if code else text)


def _known(codes: set[str], text: str, project: str) -> Fault | None:
    if codes & _STOCK_OUT or any(code.endswith(_STOCK_OUT_ENDING) for code in codes):
        return Fault(FailureReason.STOCK_OUT, text)
    if codes & _BUSY:
        return Fault(FailureReason.THROTTLED, text)
    if codes & _QUOTA:
        return Fault(FailureReason.QUOTA, text)
    if codes & _INTERNAL or "preempted" in text:  # or it was taken away before it was there
        return Fault(FailureReason.STOCK_OUT, text)
    if codes & _TAKEN:
        return Fault(FailureReason.INVALID, text, is_taken=True)
    said = _of_account(codes, text) or _of_thing(text, project)
    return None if said is None else Fault(FailureReason.INVALID, said, is_general=True)


def _of_account(codes: set[str], text: str) -> str | None:
    found = _ACCOUNT.search(text)
    account = found[0] if found else "that is set"
    if "SERVICE_ACCOUNT_ACCESS_DENIED" in codes:
        permission = "iam.serviceAccounts.actAs"
        return (
            f"Compute Engine: this account lacks the permission {permission} on service account {account}. Ask for the role "
            f"{GOOGLE[permission].role} to be granted on it. ({text})"
        )
    if re.search(r"service ?account", text, re.IGNORECASE) and re.search(r"not found|does not exist", text):
        return (
            f"Compute Engine: there is no service account {account}. Correct SERVICE_ACCOUNT in config/pool.env, or leave it empty for "
            f"the project's default one. ({text})"
        )
    return None


def _of_thing(text: str, project: str) -> str | None:
    thing = _THING.search(text)
    if (
        thing is None
        or thing["kind"] not in _SETTINGS
        or not re.search(r"not found|does not exist|cannot be found", text)
    ):
        return None
    word, setting, command = _SETTINGS[thing["kind"]]
    where = thing["project"] or project
    shown = command.format(project=where)
    return (
        f"Compute Engine: project {where} has no {word} {thing['name']}. Correct {setting} in config/pool.env; {shown} shows those there "
        f"are. ({text})"
    )


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".") or "no reason given"
