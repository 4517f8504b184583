"""Lists of the double of Google Cloud, in pages: of one place, or aggregated over all zones."""

from typing import Any

from shared_lib.tests.services.gce_filters import filtered
from shared_lib.tests.services.gce_requests import Request


def listing(request: Request, kind: str, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a page of a list."""
    page, token = request.page(filtered(items, request.query, kind), "maxResults", 500)
    return {
        "kind": kind,
        "id": f"projects/{request.project}/{path}",
        "items": page,
        "selfLink": f"{request.base}/{path}",
        **({"nextPageToken": token} if token else {}),
    }


def aggregated(request: Request, kind: str, path: str, key: str, every: list[Any], zones: list[str]) -> dict[str, Any]:
    """Return a page of an aggregated list; a fault ``unreachable`` omits some zones, and reports so in one of three ways."""
    missing = request.fault.get("zones", []) if request.fault.get("kind") == "unreachable" else []
    said = request.fault.get("said", "unreachables")
    fitting = every if request.fault.get("kind") == "unfiltered" else filtered(every, request.query, kind)
    every = [one for one in fitting if _zone(one) not in missing]
    page, token = request.page(every, "maxResults", 500)
    items: dict[str, Any] = {}
    for zone in zones:  # every scope is on every page
        those = [one for one in page if _zone(one) == zone]
        scope = f"zones/{zone}"
        is_said = zone in missing and said == "scope"
        code = "UNREACHABLE" if is_said else "NO_RESULTS_ON_PAGE"
        text = "Zone is not reachable." if is_said else "There are no results for this scope on this page."
        warning = {"code": code, "message": text, "data": [{"key": "scope", "value": scope}]}
        items[scope] = {key: those} if those else {"warning": warning}
    return {
        "kind": kind,
        "id": f"projects/{request.project}/aggregated/{path}",
        "items": items,
        "selfLink": f"{request.base}/aggregated/{path}",
        **({"unreachables": [f"zones/{zone}" for zone in missing]} if missing and said == "unreachables" else {}),
        **({"warning": {"code": "PARTIAL_SUCCESS", "message": "Some."}} if missing and said == "page" else {}),
        **({"nextPageToken": token} if token else {}),
    }


def _zone(item: dict[str, Any]) -> str:
    return str(item["zone"]).rpartition("/")[2]
