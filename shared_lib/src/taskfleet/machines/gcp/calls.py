"""Requests to Compute Engine that machines are started, listed and ended with."""

import datetime
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import region_of

#: So many requests at a time; what the clients keep connections for.
PARALLEL = 10
#: What a listing that is not complete says.
_INCOMPLETE: Final = {"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"}


def scopes(
    session: GoogleSession, method: Callable[..., Any], request: Any, permission: str, regions: Collection[str]
) -> Iterator[Any]:
    """Give what is in each zone of an aggregated listing.

    Args:
        session: Asks.
        method: Of one of the clients.
        request: For the first page.
        permission: That it needs.
        regions: Of these no zone may be missing; of none at all if there are none. What is elsewhere is given, if it can be had.

    Raises:
        UnreachableError: One is missing.
    """
    for page in session.pages(method, request, permission):
        missing = {last(one) for one in page.unreachables}
        missing |= {last(name) for name, scope in page.items.items() if scope.warning.code in _INCOMPLETE}
        mine = sorted(zone for zone in missing if not regions or region_of(zone) in regions)
        if page.warning.code in _INCOMPLETE and not missing:
            mine = ["some of its zones"]
        if mine:
            raise UnreachableError(
                f"Compute Engine cannot say now what is in {', '.join(mine)}. Try again in a minute."
            )
        yield from page.items.values()


def delete(session: GoogleSession, method: Callable[..., Any], request: Any, permission: str) -> None:
    """Delete a thing, unless it is gone or about to go."""
    from google.api_core.exceptions import GoogleAPICallError

    from taskfleet.clouds.google_errors import reasons_of

    def ask() -> None:
        try:
            or_missing(method, request)
        except GoogleAPICallError as error:
            if "resourceNotReady" not in reasons_of(error):
                raise

    session.call(ask, permission)


def or_missing(method: Callable[..., Any], request: Any) -> Any:
    """Ask about a thing; None if it is not there."""
    from google.api_core.exceptions import NotFound

    try:
        return method(request, retry=None, timeout=REQUEST_SECONDS)
    except NotFound:
        return None


def seconds(timestamp: str) -> float:
    """Return a time of the service's in seconds since the epoch; 0 if there is none."""
    return datetime.datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0


def last(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]
