"""Calls of Compute Engine that several modules use: aggregated lists, deletions, lookups."""

import datetime
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import region_of

#: The number of requests in flight; the clients keep as many connections.
PARALLEL = 10
#: Warning codes of an incomplete list.
_INCOMPLETE: Final = {"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"}


def scopes(
    session: GoogleSession, method: Callable[..., Any], request: Any, permission: str, regions: Collection[str]
) -> Iterator[Any]:
    """Yield the scope of each zone of an aggregated list.

    Args:
        session: Makes the calls.
        method: A method of one of the clients.
        request: For the first page.
        permission: The permission that the call needs.
        regions: Regions whose zones must be complete; empty for all. Zones of other regions are included if they answer.

    Raises:
        UnreachableError: A zone of these regions is missing.
    """
    for page in session.pages(method, request, permission):
        missing = {last(one) for one in page.unreachables}
        missing |= {last(name) for name, scope in page.items.items() if scope.warning.code in _INCOMPLETE}
        required = sorted(zone for zone in missing if not regions or region_of(zone) in regions)
        if page.warning.code in _INCOMPLETE and not missing:
            required = ["some zones"]
        if required:
            raise UnreachableError(
                f"Compute Engine returned an incomplete list, without {', '.join(required)}. Try again in a minute."
            )
        yield from page.items.values()


def delete(session: GoogleSession, method: Callable[..., Any], request: Any, permission: str) -> None:
    """Delete a resource; do nothing if it does not exist or is being deleted."""
    from google.api_core.exceptions import GoogleAPICallError

    from taskfleet.clouds.google_errors import reasons_of

    def call() -> None:
        try:
            get_or_none(method, request)
        except GoogleAPICallError as error:
            if "resourceNotReady" not in reasons_of(error):
                raise

    session.call(call, permission)


def get_or_none(method: Callable[..., Any], request: Any) -> Any:
    """Make one call about a resource and return the response; None if the resource does not exist."""
    from google.api_core.exceptions import NotFound

    try:
        return method(request, retry=None, timeout=REQUEST_SECONDS)
    except NotFound:
        return None


def seconds(timestamp: str) -> float:
    """Return a timestamp of the service in seconds since the epoch; 0 if it is empty."""
    return datetime.datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0


def last(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]
