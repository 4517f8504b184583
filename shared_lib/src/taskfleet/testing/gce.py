"""Google's Compute Engine and Cloud Billing Catalog on this machine, for their real clients: a double over plain HTTP.

As a module (``python -m taskfleet.testing.gce``) it is the server's process; ``Gce`` is how a test holds it. It knows zones, regions,
machine types, the images of a family, and the price list, in pages as the services give them; what is in them stands in ``gce_data``.
Routes, parameters and fields are those of the services' discovery documents (https://compute.googleapis.com/$discovery/rest?version=v1,
https://cloudbilling.googleapis.com/$discovery/rest?version=v1); what those do not know is refused.

A fault's action is a method of theirs, such as ``machineTypes.aggregatedList`` or ``skus.list``. Its kinds: ``error`` with ``code``
(HTTP's), ``status``, ``reason`` and ``message``; ``lost`` (the connection is closed without an answer); ``pages`` with ``size`` (pages
are no longer than that).
"""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from taskfleet.testing import gce_data
from taskfleet.testing.double import Clock, Double, Faults, obey

PROJECT = "test-project"
_PREFIX = "/compute/v1/projects"
_ALWAYS = {"$alt", "alt", "fields", "key", "prettyPrint", "quotaUser"}
_LIST = {"filter", "maxResults", "orderBy", "pageToken"}


class Gce(Double):
    """Compute Engine and Cloud Billing, until ``stop``."""

    module = "taskfleet.testing.gce"

    @property
    def endpoint(self) -> str:
        """Where both are."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``; these are gcloud's."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.endpoint}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING": f"{self.endpoint}/",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }


# --- in the process ---


class _RefusedError(Exception):
    """Turned away, in the services' words."""

    def __init__(self, code: int, status: str, reason: str, text: str) -> None:
        super().__init__(text)
        self.code, self.status, self.reason = code, status, reason

    def body(self) -> dict[str, Any]:
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


@dataclass(frozen=True, slots=True)
class _Request:
    """What a method is asked."""

    base: str
    """The address of the project's things."""
    project: str
    zone: str
    name: str
    query: dict[str, str]
    page_size: int | None
    """Ordered: no page is longer."""

    def page(self, items: list[Any], size: str, most: int) -> tuple[list[Any], str]:
        """Give a page of things, and the token of the next one or nothing.

        Args:
            items: All there are.
            size: The parameter that says how many are wanted.
            most: The service gives no more.
        """
        wanted = min(int(self.query.get(size, most)) or most, most, self.page_size or most)
        token = self.query.get("pageToken", "")
        if token and not re.fullmatch(r"after-\d+", token):
            raise _RefusedError(400, "INVALID_ARGUMENT", "invalid", f"Invalid value for field 'pageToken': '{token}'.")
        start = int(token.partition("-")[2] or 0)
        end = start + wanted
        return items[start:end], f"after-{end}" if end < len(items) else ""


class Service:
    """What is behind the methods."""

    def __init__(self) -> None:
        self._machine_types = {zone: gce_data.machine_types(zone) for zone in gce_data.ZONES}
        self._skus = gce_data.skus()

    def zones_list(self, request: _Request) -> dict[str, Any]:
        items = [
            {
                "kind": "compute#zone",
                "id": gce_data.number(zone),
                "creationTimestamp": "1969-12-31T16:00:00.000-08:00",
                "name": zone,
                "description": zone,
                "status": status,
                "region": f"{request.base}/regions/{region}",
                "selfLink": f"{request.base}/zones/{zone}",
                "availableCpuPlatforms": ["Intel Cascade Lake", "AMD Milan", "Ampere Altra"],
                "supportsPzs": False,
            }
            for zone, (region, status) in gce_data.ZONES.items()
        ]
        return self._listing(request, "compute#zoneList", "zones", items)

    def regions_list(self, request: _Request) -> dict[str, Any]:
        items = [
            {
                "kind": "compute#region",
                "id": gce_data.number(region),
                "creationTimestamp": "1969-12-31T16:00:00.000-08:00",
                "name": region,
                "description": region,
                "status": "UP",
                "zones": [f"{request.base}/zones/{region}-{letter}" for letter in zones],
                "quotas": [{"metric": "CPUS", "limit": 24.0, "usage": 0.0}],
                "selfLink": f"{request.base}/regions/{region}",
                "supportsPzs": False,
            }
            for region, (_, _, zones) in gce_data.REGIONS.items()
        ]
        return self._listing(request, "compute#regionList", "regions", items)

    def machine_types_list(self, request: _Request) -> dict[str, Any]:
        if request.zone not in self._machine_types:
            raise _RefusedError(
                400, "INVALID_ARGUMENT", "invalid", f"Invalid value for field 'zone': '{request.zone}'."
            )
        path = f"zones/{request.zone}/machineTypes"
        return self._listing(request, "compute#machineTypeList", path, self._linked(request, request.zone))

    def machine_types_aggregated_list(self, request: _Request) -> dict[str, Any]:
        every = [one for zone in self._machine_types for one in self._linked(request, zone)]
        page, token = request.page(_filtered(every, request.query), "maxResults", 500)
        empty = {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for this scope on this page."}
        items: dict[str, Any] = {}
        for zone in self._machine_types:  # every scope is on every page
            those = [one for one in page if one["zone"] == zone]
            scope = f"zones/{zone}"
            items[scope] = (
                {"machineTypes": those} if those else {"warning": empty | {"data": [{"key": "scope", "value": scope}]}}
            )
        return {
            "kind": "compute#machineTypeAggregatedList",
            "id": f"projects/{request.project}/aggregated/machineTypes",
            "items": items,
            "selfLink": f"{request.base}/aggregated/machineTypes",
            **({"nextPageToken": token} if token else {}),
        }

    def images_get_from_family(self, request: _Request) -> dict[str, Any]:
        found = gce_data.IMAGES.get(request.project, {}).get(request.name)
        if found is None:
            raise _RefusedError(
                404,
                "NOT_FOUND",
                "notFound",
                f"The resource 'projects/{request.project}/global/images/family/{request.name}' was not found",
            )
        name, architecture, created_at = found
        return {
            "kind": "compute#image",
            "id": gce_data.number(name),
            "creationTimestamp": created_at,
            "name": name,
            "description": name,
            "sourceType": "RAW",
            "status": "READY",
            "archiveSizeBytes": "1100000000",
            "diskSizeGb": "10",
            "family": request.name,
            "architecture": architecture,
            "selfLink": f"{request.base}/global/images/{name}",
        }

    def skus_list(self, request: _Request) -> dict[str, Any]:
        if request.name != "6F81-5844-456A":
            raise _RefusedError(404, "NOT_FOUND", "notFound", f"Service 'services/{request.name}' not found.")
        if request.query.get("currencyCode", "USD") != "USD":
            raise _RefusedError(400, "INVALID_ARGUMENT", "badRequest", "The double knows USD only.")
        page, token = request.page(self._skus, "pageSize", 5000)
        return {"skus": page, "nextPageToken": token}

    def _linked(self, request: _Request, zone: str) -> list[dict[str, Any]]:
        return [
            one | {"selfLink": f"{request.base}/zones/{zone}/machineTypes/{one['name']}"}
            for one in self._machine_types[zone]
        ]

    def _listing(self, request: _Request, kind: str, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        page, token = request.page(_filtered(items, request.query), "maxResults", 500)
        return {
            "kind": kind,
            "id": f"projects/{request.project}/{path}",
            "items": page,
            "selfLink": f"{request.base}/{path}",
            **({"nextPageToken": token} if token else {}),
        }


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    """HTTP's."""
    path: re.Pattern[str]
    action: str
    """As the discovery documents call it."""
    handler: Callable[[Service, _Request], dict[str, Any]]
    parameters: frozenset[str] = frozenset()

    @staticmethod
    def compute(
        method: str, path: str, action: str, handler: Callable[[Service, _Request], dict[str, Any]], *parameters: str
    ) -> "_Route":
        """Make a route below a project."""
        return _Route(
            method, re.compile(f"{_PREFIX}/(?P<project>[^/]+)/{path}"), action, handler, frozenset(parameters)
        )


ROUTES = [
    _Route.compute("GET", "zones", "zones.list", Service.zones_list, *_LIST),
    _Route.compute("GET", "regions", "regions.list", Service.regions_list, *_LIST),
    _Route.compute(
        "GET", "zones/(?P<zone>[^/]+)/machineTypes", "machineTypes.list", Service.machine_types_list, *_LIST
    ),
    _Route.compute(
        "GET",
        "aggregated/machineTypes",
        "machineTypes.aggregatedList",
        Service.machine_types_aggregated_list,
        *_LIST,
        "includeAllScopes",
        "serviceProjectNumber",
    ),
    _Route.compute(
        "GET", "global/images/family/(?P<name>[^/]+)", "images.getFromFamily", Service.images_get_from_family
    ),
    _Route(
        "GET",
        re.compile("/v1/services/(?P<name>[^/]+)/skus"),
        "skus.list",
        Service.skus_list,
        frozenset({"currencyCode", "endTime", "pageSize", "pageToken", "startTime"}),
    ),
]


def _filtered(items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    """Apply the one form of filter that the double knows: a field that a regular expression fits as a whole."""
    expression = query.get("filter", "")
    if not expression:
        return items
    parts = re.fullmatch(r'(\w+) eq "(.*)"', expression)
    if parts is None:
        raise _RefusedError(
            400,
            "INVALID_ARGUMENT",
            "invalid",
            f"Invalid value for field 'filter': '{expression}'. Invalid list filter.",
        )
    return [one for one in items if re.fullmatch(parts[2], str(one.get(parts[1], "")))]


def _selected(answer: Any, fields: str) -> Any:
    """Keep what the parameter ``fields`` names: "a,b(c,d)"."""
    if isinstance(answer, list):
        return [_selected(one, fields) for one in answer]
    return {
        name: _selected(answer[name], inner) if inner else answer[name]
        for name, inner in _names(fields)
        if name in answer
    }


def _names(fields: str) -> Iterable[tuple[str, str]]:
    depth, start, name = 0, 0, ""
    for at, sign in enumerate(f"{fields},"):
        if sign == "(":
            depth += 1
            if depth == 1:
                name, start = fields[start:at], at + 1
        elif sign == ")":
            depth -= 1
            if depth == 0:
                yield name, fields[start:at]
                name, start = "", at + 1
        elif sign == "," and depth == 0:
            if at > start:
                yield fields[start:at], ""
            start = at + 1


def _handler_class(service: Service, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing: standard output is for orders."""

        def do_GET(self) -> None:
            """Answer."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                code, answer = 200, self._answer()
            except _RefusedError as refused:
                code, answer = refused.code, refused.body()
            except _LostError:
                self.close_connection = True
                return
            except Exception as error:  # else the client would only see a connection that ends
                code, answer = 501, {"error": {"code": 501, "message": f"the double failed: {error!r}"}}
            body = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def _answer(self) -> dict[str, Any]:
            address = urlsplit(self.path)
            for route in ROUTES:
                found = route.path.fullmatch(address.path)
                if found and route.method == self.command:
                    return self._call(route, found.groupdict(), dict(parse_qsl(address.query)))
            raise _RefusedError(404, "NOT_FOUND", "notFound", f"The double has no {self.command} {address.path}")

        def _call(self, route: _Route, names: dict[str, str], query: dict[str, str]) -> dict[str, Any]:
            fault = faults.draw(route.action)
            if fault.get("kind") == "error":
                raise _RefusedError(
                    fault["code"], fault.get("status", ""), fault.get("reason", ""), fault.get("message", "ordered")
                )
            if fault.get("kind") == "lost":
                raise _LostError
            unknown = query.keys() - route.parameters - _ALWAYS
            if unknown:
                raise _RefusedError(
                    400,
                    "INVALID_ARGUMENT",
                    "badRequest",
                    f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot bind query parameter.',
                )
            project = names.get("project", "")
            if project not in ("", PROJECT, *gce_data.IMAGES):
                raise _RefusedError(404, "NOT_FOUND", "notFound", f"The resource 'projects/{project}' was not found")
            request = _Request(
                base=f"http://{self.headers['Host']}{_PREFIX}/{project}",
                project=project,
                zone=names.get("zone", ""),
                name=names.get("name", ""),
                query=query,
                page_size=fault.get("size") if fault.get("kind") == "pages" else None,
            )
            answer = route.handler(service, request)
            return _selected(answer, query["fields"]) if "fields" in query else answer

    return Handler


class _LostError(Exception):
    """The answer is to be lost."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Be the server, on a free port of the loopback interface."""
    clock, faults = Clock(), Faults()
    server = _Server(("127.0.0.1", 0), _handler_class(Service(), faults))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    obey(server.server_address[1], clock, faults, lambda: None)
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
