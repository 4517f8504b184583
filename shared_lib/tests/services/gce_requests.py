"""Requests to the double of Google Cloud, and its errors."""

import re
from dataclasses import dataclass, field
from typing import Any


class RefusedError(Exception):
    """The request is rejected, with the text of the services."""

    def __init__(self, code: int, status: str, reason: str, text: str) -> None:
        super().__init__(text)
        self.code, self.status, self.reason = code, status, reason

    def body(self) -> dict[str, Any]:
        """Return the response."""
        text = str(self)
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.reason,
            "domain": "googleapis.com",
        }
        return {
            "error": {
                "code": self.code,
                "message": text,
                "errors": [{"message": text, "domain": "global", "reason": self.reason}],
                "status": self.status,
                # Reasons in capitals are those of Google's common front, which has them in details.
                **({"details": [detail]} if self.reason.isupper() else {}),
            }
        }


def invalid(field_name: str, value: Any, why: str = "") -> RefusedError:
    """Return the error for an invalid value of a field."""
    return RefusedError(
        400, "INVALID_ARGUMENT", "invalid", f"Invalid value for field '{field_name}': '{value}'. {why}".rstrip()
    )


def not_found(path: str) -> RefusedError:
    """Return the error for a resource that does not exist."""
    return RefusedError(404, "NOT_FOUND", "notFound", f"The resource '{path}' was not found")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a method."""

    base: str
    """The URL of the project's resources."""
    project: str
    zone: str
    region: str
    name: str
    query: dict[str, str]
    body: bytes = b""
    fault: dict[str, Any] = field(default_factory=dict)
    """The injected fault that the method handles itself."""

    def page(self, items: list[Any], size: str, most: int) -> tuple[list[Any], str]:
        """Return a page of resources, and the token of the next one if there is one.

        Args:
            items: All there are.
            size: The parameter that says how many are wanted.
            most: The service gives no more.
        """
        ordered = self.fault["size"] if self.fault.get("kind") == "pages" else most
        wanted = min(int(self.query.get(size, most)) or most, most, ordered)
        token = self.query.get("pageToken", "")
        if token and not re.fullmatch(r"after-\d+", token):
            raise invalid("pageToken", token)
        start = int(token.partition("-")[2] or 0)
        end = start + wanted
        return items[start:end], f"after-{end}" if end < len(items) else ""


def aggregated(request: Request, kind: str, path: str, key: str, every: list[Any], zones: list[str]) -> dict[str, Any]:
    """Return a page of an aggregated list; a fault ``unreachable`` omits some zones, and reports so in one of three ways."""
    missing = request.fault.get("zones", []) if request.fault.get("kind") == "unreachable" else []
    said = request.fault.get("said", "unreachables")
    fitting = every if request.fault.get("kind") == "unfiltered" else filtered(every, request.query)
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


def filtered(items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """Apply one of the filters that the double supports.

    A field that a regular expression fits as a whole (``name eq "a.*"``), or comparisons in parentheses, side by side or with AND and OR,
    where OR binds tighter as AIP-160 has it.
    """
    expression = query.get("filter", "")
    if not expression:
        return items
    parts = re.fullmatch(r'(\w+) eq "(.*)"', expression)
    if parts is not None:
        return [one for one in items if re.fullmatch(parts[2], str(one.get(parts[1], "")))]
    tokens = re.findall(r'\(\s*([\w.-]+) (=|!=|>|<) "([^"]*)"\s*\)|(AND|OR)', expression)
    rest = re.sub(r'\(\s*[\w.-]+ (=|!=|>|<) "[^"]*"\s*\)|AND|OR|\s', "", expression)
    if rest or not tokens:
        raise invalid("filter", expression, "Invalid list filter.")
    groups: list[list[tuple[str, str, str]]] = []
    joins = False
    for name, sign, value, word in tokens:
        if word:
            joins = word == "OR"
        elif joins:
            groups[-1].append((name, sign, value))
            joins = False
        else:
            groups.append([(name, sign, value)])
    return [one for one in items if all(any(_fits(one, *test) for test in group) for group in groups)]


def _fits(item: dict[str, Any], name: str, sign: str, value: str) -> bool:
    found: Any = item
    first, _, label = name.partition(".")
    found = found.get(first, {} if label else "")
    if label:
        found = found.get(label)
    if found is None:
        return sign == "!="
    return {"=": str(found) == value, "!=": str(found) != value, ">": str(found) > value, "<": str(found) < value}[sign]


def _zone(item: dict[str, Any]) -> str:
    return str(item["zone"]).rpartition("/")[2]
