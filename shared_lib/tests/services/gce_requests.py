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
