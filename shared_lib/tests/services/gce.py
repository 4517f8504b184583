"""Google's Compute Engine and Cloud Billing Catalog on this machine, for their real clients: a double over plain HTTP.

As a module (``python -m shared_lib.tests.services.gce``) it is the server's process; ``Gce`` is how a test holds it. It knows zones,
regions, machine types, images and the price list, in pages as the services give them; what is in them stands in ``gce_data``. It starts,
lists and deletes instances (``gce_machines``), and says which permissions one has, as Cloud Resource Manager does. Routes, parameters and
fields are those of the services' discovery documents (https://compute.googleapis.com/$discovery/rest?version=v1,
https://cloudbilling.googleapis.com/$discovery/rest?version=v1); what those do not know is refused.

A fault's action is a method of theirs, such as ``machineTypes.aggregatedList`` or ``skus.list``. Its kinds: ``error`` with ``code``
(HTTP's), ``status``, ``reason`` and ``message``; ``closed`` (the connection is closed, and nothing done); ``lost`` (it is done, but
the answer is lost); ``pages`` with ``size`` (pages are no longer than that); ``operation`` with ``errors`` (of ``instances.insert``:
what the operation ends with); ``overloaded`` (of ``zoneOperations.wait``: it does not wait); ``unreachable`` with ``zones`` (of
aggregated listings) and ``said``: in ``unreachables``, in the warning of the ``scope`` or of the ``page``;
``unfiltered`` (of these: the filter is not heeded).
"""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.clouds.permissions import USER_AGENT
from taskfleet.machines.gcp.disks import LIMITS

from shared_lib.tests.services import gce_data
from shared_lib.tests.services.double import Clock, Double, Faults, obey
from shared_lib.tests.services.gce_lists import aggregated, listing
from shared_lib.tests.services.gce_machines import ACT_AS, Fleet, permissions_of
from shared_lib.tests.services.gce_requests import RefusedError, Request, invalid, not_found

PROJECT = "test-project"
_PREFIX = "/compute/v1/projects"
_ALWAYS = {"$alt", "alt", "fields", "key", "prettyPrint", "quotaUser"}
_LIST = {"filter", "maxResults", "orderBy", "pageToken", "returnPartialSuccess"}
_AGGREGATED = (*_LIST, "includeAllScopes", "serviceProjectNumber")
_ZONE, _NAME = "zones/(?P<zone>[^/]+)", "(?P<name>[^/]+)"
FleetHandler = Callable[[Fleet, Request], dict[str, Any]]


class Gce(Double):
    """Compute Engine and Cloud Billing, until ``stop``."""

    module = "shared_lib.tests.services.gce"

    @property
    def endpoint(self) -> str:
        """The URL of both."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``; these are gcloud's."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.endpoint}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING": f"{self.endpoint}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": f"{self.endpoint}/",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def reset(self) -> None:
        """Remove all machines and limits."""
        self._ask(fleet={"do": "reset"})

    def set(
        self,
        *,
        operation_seconds: float = 0.0,
        boot_seconds: float = 0.0,
        list_delay_seconds: float = 0.0,
        page_bytes: int = 1 << 20,
    ) -> None:
        """Set the delays, and the page size of consoles.

        Args:
            operation_seconds: How long starting or deleting a machine takes.
            boot_seconds: From then until it runs.
            list_delay_seconds: For so long after its start it is not listed.
            page_bytes: No page of a console is longer.
        """
        self._ask(
            fleet={
                "do": "set",
                "operation_seconds": operation_seconds,
                "boot_seconds": boot_seconds,
                "list_delay_seconds": list_delay_seconds,
                "page_bytes": page_bytes,
            }
        )

    def capacity(self, zone: str, instance_type: str, number: int) -> None:
        """Set the capacity for a type in a zone; more machines are a stock-out."""
        self._ask(fleet={"do": "capacity", "zone": zone, "instance_type": instance_type, "number": number})

    def quota(self, region: str, cpus: int) -> None:
        """Set the CPU quota of a region."""
        self._ask(fleet={"do": "quota", "region": region, "cpus": cpus})

    def forbid(self, *permissions: str) -> None:
        """Deny permissions."""
        assert all(one in GOOGLE for one in permissions), permissions
        self._ask(fleet={"do": "forbid", "permissions": permissions})

    def print(self, name: str, text: str) -> None:
        """Print something on a machine's console."""
        self._ask(fleet={"do": "print", "name": name, "text": text})

    def preempt(self, name: str, seconds_ago: float = 0.0) -> None:
        """Preempt a spot instance some time ago."""
        self._ask(fleet={"do": "preempt", "name": name, "seconds_ago": seconds_ago})

    def stop_machine(self, name: str, status: str = "TERMINATED") -> None:
        """Stop a machine, or set another state."""
        self._ask(fleet={"do": "stop", "name": name, "status": status})


# --- in the process ---


class Service:
    """The state behind the methods."""

    def __init__(self, clock: Clock) -> None:
        self.fleet = Fleet(clock)
        self._machine_types = {zone: gce_data.machine_types(zone) for zone in gce_data.ZONES}
        self._skus = gce_data.skus()

    def zones_list(self, request: Request) -> dict[str, Any]:
        return listing(request, "compute#zoneList", "zones", self._zones(request))

    def zones_get(self, request: Request) -> dict[str, Any]:
        return _named(self._zones(request), request, "zones")

    def _zones(self, request: Request) -> list[dict[str, Any]]:
        return [
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

    def regions_list(self, request: Request) -> dict[str, Any]:
        return listing(request, "compute#regionList", "regions", self._regions(request))

    def regions_get(self, request: Request) -> dict[str, Any]:
        return _named(self._regions(request), request, "regions")

    def _regions(self, request: Request) -> list[dict[str, Any]]:
        return [
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

    def machine_types_list(self, request: Request) -> dict[str, Any]:
        path = f"zones/{request.zone}/machineTypes"
        return listing(request, "compute#machineTypeList", path, self._linked(request, request.zone))

    def machine_types_aggregated_list(self, request: Request) -> dict[str, Any]:
        every = [one for zone in self._machine_types for one in self._linked(request, zone)]
        path = "machineTypes"
        return aggregated(request, "compute#machineTypeAggregatedList", path, path, every, list(self._machine_types))

    def machine_types_get(self, request: Request) -> dict[str, Any]:
        return _named(self._linked(request, request.zone), request, f"zones/{request.zone}/machineTypes")

    def disk_types_list(self, request: Request) -> dict[str, Any]:
        path = f"zones/{request.zone}/diskTypes"
        return listing(request, "compute#diskTypeList", path, self._disk_types(request, request.zone))

    def disk_types_get(self, request: Request) -> dict[str, Any]:
        return _named(self._disk_types(request, request.zone), request, f"zones/{request.zone}/diskTypes")

    def disk_types_aggregated_list(self, request: Request) -> dict[str, Any]:
        every = [one for zone in gce_data.ZONES for one in self._disk_types(request, zone)]
        return aggregated(
            request, "compute#diskTypeAggregatedList", "diskTypes", "diskTypes", every, list(gce_data.ZONES)
        )

    def _disk_types(self, request: Request, zone: str) -> list[dict[str, Any]]:
        return [
            {
                "kind": "compute#diskType",
                "name": name,
                "validDiskSize": f"{limits.min_gib}GB-{limits.max_gib}GB",
                "zone": f"{request.base}/zones/{zone}",
                "selfLink": f"{request.base}/zones/{zone}/diskTypes/{name}",
            }
            for name, limits in LIMITS.items()
        ]

    def images_list(self, request: Request) -> dict[str, Any]:
        items = [self._image(request, family) for family in gce_data.IMAGES.get(request.project, {})]
        return listing(request, "compute#imageList", "global/images", items)

    def project_get(self, request: Request) -> dict[str, Any]:
        return {
            "kind": "compute#project",
            "name": request.project,
            "defaultServiceAccount": "1-compute@developer.gserviceaccount.com",
            "selfLink": request.base,
        }

    def images_get_from_family(self, request: Request) -> dict[str, Any]:
        if request.name not in gce_data.IMAGES.get(request.project, {}):
            raise not_found(f"projects/{request.project}/global/images/family/{request.name}")
        return self._image(request, request.name)

    def images_get(self, request: Request) -> dict[str, Any]:
        families = gce_data.IMAGES.get(request.project, {})
        family = next((family for family, (name, _, _) in families.items() if name == request.name), None)
        if family is None:
            raise not_found(f"projects/{request.project}/global/images/{request.name}")
        return self._image(request, family)

    def _image(self, request: Request, family: str) -> dict[str, Any]:
        name, architecture, created_at = gce_data.IMAGES[request.project][family]
        return {
            "kind": "compute#image",
            "id": gce_data.number(name),
            "creationTimestamp": created_at,
            "name": name,
            "description": name,
            "sourceType": "RAW",
            "status": "READY",
            "archiveSizeBytes": "1100000000",
            "diskSizeGb": str(gce_data.IMAGE_GIB[request.project, name]),
            "family": family,
            "architecture": architecture,
            "selfLink": f"{request.base}/global/images/{name}",
        }

    def skus_list(self, request: Request) -> dict[str, Any]:
        if request.name != "6F81-5844-456A":
            raise RefusedError(404, "NOT_FOUND", "notFound", f"Service 'services/{request.name}' not found.")
        if request.query.get("currencyCode", "USD") != "USD":
            raise RefusedError(400, "INVALID_ARGUMENT", "badRequest", "The double knows USD only.")
        page, token = request.page(self._skus, "pageSize", 5000)
        return {"skus": page, "nextPageToken": token}

    def _linked(self, request: Request, zone: str) -> list[dict[str, Any]]:
        return [
            one | {"selfLink": f"{request.base}/zones/{zone}/machineTypes/{one['name']}"}
            for one in self._machine_types[zone]
        ]


def _named(items: list[dict[str, Any]], request: Request, path: str) -> dict[str, Any]:
    """Return the resource that a request names."""
    name = request.name or request.zone or request.region
    found = next((one for one in items if one["name"] == name), None)
    if found is None:
        raise not_found(f"projects/{request.project}/{path}/{name}")
    return found


Handler = Callable[[Service, Request], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    """The HTTP method."""
    path: re.Pattern[str]
    action: str
    """The name in the discovery documents."""
    handler: Handler
    parameters: frozenset[str] = frozenset()
    permission: str = ""
    """The permission that it needs, in addition to those for its body; a test may deny it."""

    @staticmethod
    def compute(
        method: str, path: str, action: str, handler: Handler, *parameters: str, permission: str = ""
    ) -> "_Route":
        """Return a route below a project."""
        return _Route(
            method,
            re.compile(f"{_PREFIX}/(?P<project>[^/]+)" + (f"/{path}" if path else "")),
            action,
            handler,
            frozenset(parameters),
            permission,
        )

    @staticmethod
    def fleet(
        method: str, path: str, action: str, handler: FleetHandler, *parameters: str, permission: str
    ) -> "_Route":
        """Return a route to launched or possible resources."""
        return _Route.compute(
            method,
            path,
            action,
            lambda service, request: handler(service.fleet, request),
            *parameters,
            permission=permission,
        )


ROUTES = [
    _Route.compute("GET", "", "projects.get", Service.project_get, permission="compute.projects.get"),
    _Route.compute("GET", _ZONE, "zones.get", Service.zones_get, permission="compute.zones.get"),
    _Route.compute(
        "GET", "regions/(?P<region>[^/]+)", "regions.get", Service.regions_get, permission="compute.regions.get"
    ),
    _Route.compute(
        "GET",
        f"{_ZONE}/machineTypes/{_NAME}",
        "machineTypes.get",
        Service.machine_types_get,
        permission="compute.machineTypes.get",
    ),
    _Route.compute(
        "GET",
        f"{_ZONE}/diskTypes",
        "diskTypes.list",
        Service.disk_types_list,
        *_LIST,
        permission="compute.diskTypes.list",
    ),
    _Route.compute(
        "GET", f"{_ZONE}/diskTypes/{_NAME}", "diskTypes.get", Service.disk_types_get, permission="compute.diskTypes.get"
    ),
    _Route.compute(
        "GET",
        "aggregated/diskTypes",
        "diskTypes.aggregatedList",
        Service.disk_types_aggregated_list,
        *_AGGREGATED,
        permission="compute.diskTypes.list",
    ),
    _Route.compute(
        "GET", "global/images", "images.list", Service.images_list, *_LIST, permission="compute.images.list"
    ),
    _Route.fleet(
        "GET", f"{_ZONE}/instances", "instances.list", Fleet.instances_list, *_LIST, permission="compute.instances.list"
    ),
    _Route.fleet("GET", f"{_ZONE}/disks", "disks.list", Fleet.disks_list, *_LIST, permission="compute.disks.list"),
    _Route.fleet("GET", f"{_ZONE}/disks/{_NAME}", "disks.get", Fleet.disk_get, permission="compute.disks.get"),
    _Route.fleet(
        "GET",
        f"{_ZONE}/operations",
        "zoneOperations.list",
        Fleet.operations_list,
        *_LIST,
        permission="compute.zoneOperations.list",
    ),
    _Route.fleet(
        "GET", "global/networks", "networks.list", Fleet.networks_list, *_LIST, permission="compute.networks.list"
    ),
    _Route.compute("GET", "zones", "zones.list", Service.zones_list, *_LIST, permission="compute.zones.list"),
    _Route.compute("GET", "regions", "regions.list", Service.regions_list, *_LIST, permission="compute.regions.list"),
    _Route.compute(
        "GET",
        "zones/(?P<zone>[^/]+)/machineTypes",
        "machineTypes.list",
        Service.machine_types_list,
        *_LIST,
        permission="compute.machineTypes.list",
    ),
    _Route.compute(
        "GET",
        "aggregated/machineTypes",
        "machineTypes.aggregatedList",
        Service.machine_types_aggregated_list,
        *_AGGREGATED,
        permission="compute.machineTypes.list",
    ),
    _Route.compute(
        "GET",
        "global/images/family/(?P<name>[^/]+)",
        "images.getFromFamily",
        Service.images_get_from_family,
        permission="compute.images.getFromFamily",
    ),
    _Route.compute(
        "GET", "global/images/(?P<name>[^/]+)", "images.get", Service.images_get, permission="compute.images.get"
    ),
    _Route.fleet(
        "POST",
        f"{_ZONE}/instances",
        "instances.insert",
        Fleet.insert,
        "requestId",
        "sourceInstanceTemplate",
        "sourceMachineImage",
        permission="compute.instances.create",
    ),
    _Route.fleet("GET", f"{_ZONE}/instances/{_NAME}", "instances.get", Fleet.get, permission="compute.instances.get"),
    _Route.fleet(
        "DELETE",
        f"{_ZONE}/instances/{_NAME}",
        "instances.delete",
        Fleet.delete,
        "requestId",
        "noGracefulShutdown",
        permission="compute.instances.delete",
    ),
    _Route.fleet(
        "GET",
        "aggregated/instances",
        "instances.aggregatedList",
        Fleet.aggregated_list,
        *_AGGREGATED,
        permission="compute.instances.list",
    ),
    _Route.fleet(
        "GET",
        f"{_ZONE}/instances/{_NAME}/serialPort",
        "instances.getSerialPortOutput",
        Fleet.serial_port,
        "port",
        "start",
        permission="compute.instances.getSerialPortOutput",
    ),
    _Route.fleet(
        "GET",
        f"{_ZONE}/operations/{_NAME}",
        "zoneOperations.get",
        Fleet.operation_get,
        permission="compute.zoneOperations.get",
    ),
    _Route.fleet(
        "POST",
        f"{_ZONE}/operations/{_NAME}/wait",
        "zoneOperations.wait",
        Fleet.operation_wait,
        permission="compute.zoneOperations.get",
    ),
    _Route.fleet(
        "GET",
        "aggregated/operations",
        "globalOperations.aggregatedList",
        Fleet.operations_aggregated_list,
        *_AGGREGATED,
        permission="compute.globalOperations.list",
    ),
    _Route.fleet(
        "GET",
        "aggregated/disks",
        "disks.aggregatedList",
        Fleet.disks_aggregated_list,
        *_AGGREGATED,
        permission="compute.disks.list",
    ),
    _Route.fleet(
        "POST",
        f"{_ZONE}/disks",
        "disks.insert",
        Fleet.disk_insert,
        "requestId",
        "sourceImage",
        permission="compute.disks.create",
    ),
    _Route.fleet(
        "DELETE",
        f"{_ZONE}/disks/{_NAME}",
        "disks.delete",
        Fleet.disk_delete,
        "requestId",
        permission="compute.disks.delete",
    ),
    _Route.fleet(
        "GET", f"global/networks/{_NAME}", "networks.get", Fleet.network_get, permission="compute.networks.get"
    ),
    _Route.fleet(
        "GET",
        f"regions/(?P<region>[^/]+)/subnetworks/{_NAME}",
        "subnetworks.get",
        Fleet.subnetwork_get,
        permission="compute.subnetworks.get",
    ),
    _Route(
        "POST",
        re.compile("/v1/projects/(?P<project>[^/:]+):testIamPermissions"),
        "projects.testIamPermissions",
        lambda service, request: service.fleet.test_permissions(request),
    ),
    _Route(
        "GET",
        re.compile("/v1/services/(?P<name>[^/]+)/skus"),
        "skus.list",
        Service.skus_list,
        frozenset({"currencyCode", "endTime", "pageSize", "pageToken", "startTime"}),
    ),
]


def _selected(answer: Any, fields: str) -> Any:
    """Return the fields that the parameter ``fields`` names, such as "a,b(c,d)"."""
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
            """Log nothing: standard output is for commands."""

        def do_GET(self) -> None:
            """Handle a request."""
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                code, answer = 200, self._answer(sent)
            except RefusedError as refused:
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

        def _is_counted(self) -> bool:
            """Return whether the library or a machine makes the request, and not a test."""
            names = (self.headers.get("User-Agent", ""), self.headers.get("x-goog-api-client", ""))
            return any(USER_AGENT in name for name in names) or (
                "Python-urllib" in names[0] and "Authorization" in self.headers
            )

        def _answer(self, sent: bytes) -> dict[str, Any]:
            address = urlsplit(self.path)
            for route in ROUTES:
                found = route.path.fullmatch(address.path)
                if found and route.method == self.command:
                    return self._call(route, found.groupdict(), dict(parse_qsl(address.query)), sent)
            raise RefusedError(404, "NOT_FOUND", "notFound", f"The double has no {self.command} {address.path}")

        def _call(self, route: _Route, names: dict[str, str], query: dict[str, str], sent: bytes) -> dict[str, Any]:
            fault = faults.draw(route.action)
            if fault.get("kind") == "error":
                raise RefusedError(
                    fault["code"], fault.get("status", ""), fault.get("reason", ""), fault.get("message", "ordered")
                )
            if fault.get("kind") == "closed":
                raise _LostError
            unknown = query.keys() - route.parameters - _ALWAYS
            if unknown:
                raise RefusedError(
                    400,
                    "INVALID_ARGUMENT",
                    "badRequest",
                    f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot bind query parameter.',
                )
            project = names.get("project", "")
            if project not in ("", PROJECT, *gce_data.IMAGES):
                raise RefusedError(404, "NOT_FOUND", "notFound", f"The resource 'projects/{project}' was not found")
            if "zone" in names and names["zone"] not in gce_data.ZONES:
                raise invalid("zone", names["zone"], "Unknown zone.")
            request = Request(
                base=f"http://{self.headers['Host']}{_PREFIX}/{project}",
                project=project,
                zone=names.get("zone", ""),
                region=names.get("region", ""),
                name=names.get("name", ""),
                query=query,
                body=sent,
                fault=fault,
            )
            needed = [route.permission] if route.permission else []
            if route.action == "instances.insert":
                needed += permissions_of(json.loads(sent), project)
            if self._is_counted():
                faults.need(*needed)
            for permission in needed:
                # who may not act as a service account hears of it when the machine is being made
                if permission in service.fleet.forbidden and permission != ACT_AS:
                    what = f"projects/{project}/zones/{request.zone}/instances/{request.name}"
                    raise RefusedError(403, "", "forbidden", f"Required '{permission}' permission for '{what}'")
            answer = route.handler(service, request)
            if fault.get("kind") == "lost":
                raise _LostError
            return _selected(answer, query["fields"]) if "fields" in query else answer

    return Handler


class _LostError(Exception):
    """The response is to be lost."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Run the server on a free port of the loopback interface."""
    clock, faults = Clock(), Faults()
    service = Service(clock)
    server = _Server(("127.0.0.1", 0), _handler_class(service, faults))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    obey(server.server_address[1], clock, faults, lambda: None, service.fleet.hear)
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
