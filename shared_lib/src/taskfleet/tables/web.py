"""HTTP requests that no server can redirect to another protocol, to a metadata service, or from the internet into a private network.

The metadata service of a cloud machine returns credentials; a redirect to it would read them as a table. The address is checked when the
connection is open, so neither DNS nor another notation of the address can hide it.
"""

import ipaddress
import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib import request
from urllib.parse import urlsplit

_METADATA_NAMES = ("metadata.google.internal", "metadata", "instance-data", "instance-data.ec2.internal")
_METADATA_ADDRESSES = frozenset(
    map(ipaddress.ip_address, ["fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"])
)
_EMBEDDED = ipaddress.ip_network("64:ff9b::/96")
"""NAT64: how hosts that have only IPv6 see IPv4 addresses."""

_LINK_LOCAL, _LOOPBACK, _PRIVATE, _PUBLIC = range(4)


class RefusedError(Exception):
    """The request is not allowed; the message has the reason and what to do."""


def open_url(url: str, *, timeout_seconds: float) -> Any:
    """Send a GET request and return the response; redirects are followed, except into a network closer to this machine than the first.

    Args:
        url: An address of the scheme ``http`` or ``https``.
        timeout_seconds: The time limit for the response to begin, including all redirects, and for each read after that.

    Raises:
        RefusedError: The address, or one that the server redirected to, is not allowed.
        OSError: The host cannot be reached, or responds with an error.
        http.client.HTTPException: The response is not HTTP.
    """
    route = Route()
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        _Handler(route),
        _Redirects(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    timer = threading.Timer(timeout_seconds, route.abort)
    timer.daemon = True
    timer.start()
    try:
        return opener.open(url, timeout=timeout_seconds)
    except Exception as error:
        if route.aborted:
            raise TimeoutError(f"no response within {timeout_seconds:g} seconds") from error
        raise
    finally:
        timer.cancel()


class Route:
    """Checks the addresses of a request and its redirects: none may be in a network closer to this machine than the first."""

    def __init__(self) -> None:
        self.aborted = False
        self._first: int | None = None
        self._socket: socket.socket | None = None

    def connected(self, connection: socket.socket, *, by_proxy: bool) -> None:
        """Check the address at the other end of a connection."""
        self._socket = connection
        if by_proxy:
            self.check(_PUBLIC, "the proxy")
        else:
            address = connection.getpeername()[0].partition("%")[0]
            self.check(reach(address), address)

    def check(self, distance: int, shown: str) -> None:
        """Check an address, given its distance from this machine (see ``reach``) and its text for messages.

        Raises:
            RefusedError: It is not allowed.
        """
        if distance == _LINK_LOCAL:
            raise RefusedError(f"{shown} is a metadata service or a link-local address; tables are not read from there")
        if self._first is None:
            self._first = distance
        if distance < self._first:
            raise RefusedError(
                f"the server redirected to {shown}, which is not a public address. If the table is there, give that address itself."
            )

    def abort(self) -> None:
        """Close the connection, because the response takes too long."""
        self.aborted = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def reach(address: str) -> int:
    """Return how far an address is from this machine: link-local and metadata services, loopback, private or public.

    Raises:
        ValueError: It is a host name.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif ip in _EMBEDDED:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _METADATA_ADDRESSES or ip.is_link_local:
        return _LINK_LOCAL
    if ip.is_loopback or ip.is_unspecified:
        return _LOOPBACK
    return _PUBLIC if ip.is_global else _PRIVATE


class _Handler(request.AbstractHTTPHandler):
    """Opens connections and checks the addresses that they lead to."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self._route = route

    def http_open(self, wanted: Any) -> HTTPResponse:
        return self._open(HTTPConnection, wanted)

    def https_open(self, wanted: Any) -> HTTPResponse:
        return self._open(HTTPSConnection, wanted)

    http_request = https_request = request.AbstractHTTPHandler.do_request_

    def _open(self, base: Any, wanted: Any) -> HTTPResponse:
        route = self._route
        by_proxy = wanted.has_proxy() or bool(getattr(wanted, "_tunnel_host", None))
        host = (urlsplit(wanted.full_url).hostname or "").rstrip(".").lower()
        # Before connecting, because a proxy resolves the name itself.
        if host in _METADATA_NAMES:
            route.check(_LINK_LOCAL, host)
        with suppress(ValueError):
            route.check(reach(host), host)

        class Connection(base):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                route.connected(self.sock, by_proxy=by_proxy)

        return self.do_open(Connection, wanted)


class _Redirects(request.HTTPRedirectHandler):
    """Follows redirects to ``http`` and ``https`` only, and not from ``https`` to ``http``."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        target = urlsplit(headers.get("location") or headers.get("uri") or "")
        allowed = ("https", "") if req.type == "https" else ("http", "https", "")
        if target.scheme.lower() not in allowed:
            fp.close()
            raise RefusedError(
                f"the server redirected from {req.type}:// to {target.scheme}://, which is not followed. If the table is there, give "
                "that address itself."
            )
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
