"""Instances, disks and operations of the double of Compute Engine, on a clock that can be advanced.

Nothing happens in the background: each request first updates the fleet to the current time.
"""

import datetime
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from taskfleet.machines.disks import DiskLimits
from taskfleet.machines.gcp.disks import LIMITS, boot_disk_types

from shared_lib.tests.services import gce_data
from shared_lib.tests.services.double import Clock
from shared_lib.tests.services.gce_lists import aggregated, listing
from shared_lib.tests.services.gce_requests import RefusedError, Request, invalid, not_found

#: What a disk without a type is.
DEFAULT_DISK_TYPE = "pd-standard"
NETWORKS = ("default", "mine")
#: Regions by name.
SUBNETWORKS = {"default": tuple(gce_data.REGIONS), "inner": ("us-central1",)}
ACCOUNTS = ("default", "worker@test-project.iam.gserviceaccount.com")
USER = "tester@example.com"
ACT_AS = "iam.serviceAccounts.actAs"
#: The maximum duration of a wait for an operation.
WAIT_SECONDS = 120.0
_CONSOLE_BYTES = 1 << 20
_CALIFORNIA = datetime.timezone(datetime.timedelta(hours=-8))


class Fleet:
    """All launched resources."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Remove everything, including delays and limits."""
        with self._lock:
            self._instances: dict[tuple[str, str], _Instance] = {}
            self._disks: dict[tuple[str, str], dict[str, Any]] = {}
            self._operations: dict[str, _Operation] = {}
            self._by_request: dict[str, str] = {}
            self._capacity: dict[tuple[str, str], int] = {}
            self._quota: dict[str, int] = {}
            self._count = 0
            self.forbidden: set[str] = set()
            self._operation_seconds = self._boot_seconds = 0.0
            self._list_delay_seconds = 0.0
            self._page_bytes = _CONSOLE_BYTES

    def hear(self, command: Mapping[str, Any]) -> None:
        """Carry out a command of the test."""
        order = command.get("fleet")
        if order is None:
            return
        with self._lock:
            self._catch_up()
            match order.pop("do"):
                case "reset":
                    self.reset()
                case "set":
                    for name, value in order.items():
                        setattr(self, f"_{name}", value)
                case "capacity":
                    self._capacity[order["zone"], order["instance_type"]] = order["number"]
                case "quota":
                    self._quota[order["region"]] = order["cpus"]
                case "forbid":
                    self.forbidden = set(order["permissions"])
                case "print":
                    self._named(order["name"]).print(order["text"])
                case "preempt":
                    self._preempt(self._named(order["name"]), order["seconds_ago"])
                case "stop":
                    self._named(order["name"]).status = order["status"]

    # --- methods ---

    def insert(self, request: Request) -> dict[str, Any]:
        body = json.loads(request.body)
        _check_types(request.body, "Instance")
        with self._lock:
            self._catch_up()
            _check_request_id(request)
            known = self._by_request.get(request.query.get("requestId", ""))
            if known is not None:
                return self._operations[known].body(request)
            _check_body(request, body)
            key = request.zone, body["name"]
            if key in self._instances:
                path = f"projects/{request.project}/zones/{request.zone}/instances/{body['name']}"
                raise RefusedError(409, "", "alreadyExists", f"The resource '{path}' already exists")
            errors = self._errors(request, body)
            operation = self._operate(request.zone, "insert", body["name"], self._operation_seconds, errors)
            if "requestId" in request.query:
                self._by_request[request.query["requestId"]] = operation.name
            one = _Instance(request, body, self._clock.now(), self._operation_seconds, self._boot_seconds)
            one.fails = bool(errors)
            one.visible_at = self._clock.now() + self._list_delay_seconds
            self._instances[key] = one
            if not errors:
                self._make_disks(request, one)
            self._catch_up()
            return operation.body(request)

    def get(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            return self._there(request).body(request.base)

    def delete(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            one = self._there(request)
            if one.is_being_deleted:
                path = f"projects/{request.project}/zones/{one.zone}/instances/{one.name}"
                raise RefusedError(400, "", "resourceNotReady", f"The resource '{path}' is not ready")
            operation = self._operate(one.zone, "delete", one.name, self._operation_seconds, [])
            one.is_being_deleted = True
            one.status, one.gone_at = "STOPPING", self._clock.now() + self._operation_seconds
            self._catch_up()
            return operation.body(request)

    def aggregated_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            now = self._clock.now()
            every = [one.body(request.base) for one in self._instances.values() if one.visible_at <= now]
            return aggregated(
                request, "compute#instanceAggregatedList", "instances", "instances", every, list(gce_data.ZONES)
            )

    def instances_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            now = self._clock.now()
            items = [
                one.body(request.base)
                for one in self._instances.values()
                if one.visible_at <= now and one.zone == request.zone
            ]
            return listing(request, "compute#instanceList", f"zones/{request.zone}/instances", items)

    def serial_port(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            one = self._there(request)
            if request.query.get("port", "1") != "1":
                raise invalid("port", request.query["port"])
            start = max(int(request.query.get("start", 0)), one.dropped_bytes)
            data = one.console[start - one.dropped_bytes :][: self._page_bytes]
            return {
                "kind": "compute#serialPortOutput",
                "contents": data.decode(errors="replace"),
                "start": str(start),
                "next": str(start + len(data)),
                "selfLink": f"{request.base}/zones/{one.zone}/instances/{one.name}/serialPort",
            }

    def operation_get(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            found = self._operations.get(request.name)
            if found is None or found.zone != request.zone:
                raise not_found(f"projects/{request.project}/zones/{request.zone}/operations/{request.name}")
            return found.body(request)

    def operation_wait(self, request: Request) -> dict[str, Any]:
        deadline = time.monotonic() + (0.0 if request.fault.get("kind") == "overloaded" else WAIT_SECONDS)
        while True:
            found = self.operation_get(request)
            if found["status"] == "DONE" or time.monotonic() >= deadline:
                return found
            time.sleep(0.02)

    def operations_aggregated_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            every = [one.body(request) for one in self._operations.values()]
            return aggregated(
                request, "compute#operationAggregatedList", "operations", "operations", every, list(gce_data.ZONES)
            )

    def disks_aggregated_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            every = list(self._disks.values())
            return aggregated(request, "compute#diskAggregatedList", "disks", "disks", every, list(gce_data.ZONES))

    def disks_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            items = [one for (zone, _), one in self._disks.items() if zone == request.zone]
            return listing(request, "compute#diskList", f"zones/{request.zone}/disks", items)

    def disk_get(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            disk = self._disks.get((request.zone, request.name))
            if disk is None:
                raise not_found(f"projects/{request.project}/zones/{request.zone}/disks/{request.name}")
            return disk

    def operations_list(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            items = [one.body(request) for one in self._operations.values() if one.zone == request.zone]
            return listing(request, "compute#operationList", f"zones/{request.zone}/operations", items)

    def networks_list(self, request: Request) -> dict[str, Any]:
        items = [{"kind": "compute#network", "name": one, "id": gce_data.number(one)} for one in NETWORKS]
        return listing(request, "compute#networkList", "global/networks", items)

    def disk_insert(self, request: Request) -> dict[str, Any]:
        body = json.loads(request.body)
        _check_types(request.body, "Disk")
        with self._lock:
            self._disks[request.zone, body["name"]] = self._disk(request, body["name"], body)
            return self._operate(request.zone, "insert", body["name"], 0.0, [], "disks").body(request)

    def disk_delete(self, request: Request) -> dict[str, Any]:
        with self._lock:
            self._catch_up()
            disk = self._disks.get((request.zone, request.name))
            if disk is None:
                raise not_found(f"projects/{request.project}/zones/{request.zone}/disks/{request.name}")
            if disk.get("users"):
                text = f"The disk resource '{request.name}' is already being used by '{disk['users'][0]}'"
                raise RefusedError(400, "", "resourceInUseByAnotherResource", text)
            del self._disks[request.zone, request.name]
            return self._operate(request.zone, "delete", request.name, 0.0, [], "disks").body(request)

    def network_get(self, request: Request) -> dict[str, Any]:
        if request.name not in NETWORKS:
            raise not_found(f"projects/{request.project}/global/networks/{request.name}")
        return {"kind": "compute#network", "name": request.name, "id": gce_data.number(request.name)}

    def subnetwork_get(self, request: Request) -> dict[str, Any]:
        if request.region not in SUBNETWORKS.get(request.name, ()):
            raise not_found(f"projects/{request.project}/regions/{request.region}/subnetworks/{request.name}")
        return {"kind": "compute#subnetwork", "name": request.name, "id": gce_data.number(request.name)}

    def test_permissions(self, request: Request) -> dict[str, Any]:
        asked = json.loads(request.body)["permissions"]
        if len(asked) > 100 or len(set(asked)) != len(asked):
            raise RefusedError(400, "INVALID_ARGUMENT", "badRequest", "Too many permissions, or one of them twice.")
        granted = [one for one in asked if one not in self.forbidden]
        return {"permissions": granted} if granted else {}

    # --- behind them ---

    def _catch_up(self) -> None:
        now = self._clock.now()
        for key, one in list(self._instances.items()):
            one.catch_up(now)
            if one.gone_at is not None and one.gone_at <= now:
                del self._instances[key]
                self._drop_disks(one)
        for operation in self._operations.values():
            operation.is_done = operation.is_done or operation.done_at <= now

    def _errors(self, request: Request, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the errors of the operation that inserts a machine."""
        fault, zone, name = request.fault, request.zone, body["machineType"].rpartition("/")[2]
        if fault.get("kind") == "operation":
            return [{"code": one["code"], "message": one.get("message", "ordered")} for one in fault["errors"]]
        account = (body.get("serviceAccounts") or [{"email": "default"}])[0]["email"]
        if account not in ACCOUNTS:
            text = f"The resource '{account}' of type 'serviceAccount' was not found."
            return [{"code": "EXTERNAL_RESOURCE_NOT_FOUND", "message": text}]
        if ACT_AS in self.forbidden:
            text = f"The user does not have access to service account '{account}'.  User: '{USER}'.  Ask a project owner to grant you the iam.serviceAccountUser role on the service account"  # noqa: E501
            return [{"code": "SERVICE_ACCOUNT_ACCESS_DENIED", "message": text}]
        there = [one for one in self._instances.values() if not one.fails]
        room = self._capacity.get((zone, name))
        if room is not None and sum(one.zone == zone and one.type_name == name for one in there) >= room:
            text = f"The zone 'projects/{request.project}/zones/{zone}' does not have enough resources available to fulfill the request.  Try a different zone, or try again later."  # noqa: E501
            return [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": text}]
        region = gce_data.ZONES[zone][0]
        limit = self._quota.get(region)
        used = sum(_CPUS[one.type_name] for one in there if gce_data.ZONES[one.zone][0] == region)
        if limit is not None and used + _CPUS[name] > limit:
            text = f"Quota 'CPUS' exceeded.  Limit: {limit}.0 in region {region}."
            quota = {
                "metricName": "compute.googleapis.com/cpus",
                "limitName": "CPUS-per-project-region",
                "limit": limit,
            }
            return [{"code": "QUOTA_EXCEEDED", "message": text, "errorDetails": [{"quotaInfo": quota}]}]
        return []

    def _operate(
        self,
        zone: str,
        kind: str,
        name: str,
        seconds: float,
        errors: list[Any],
        of: str = "instances",
        ago: float = 0.0,
    ) -> "_Operation":
        self._count += 1
        began_at = self._clock.now() - ago
        made = _Operation(f"operation-{self._count}-{uuid.uuid4().hex[:8]}", zone, kind, of, name, began_at, errors)
        made.done_at = began_at + seconds
        made.is_done = made.done_at <= self._clock.now()
        self._operations[made.name] = made
        return made

    def _preempt(self, one: "_Instance", seconds_ago: float) -> None:
        self._operate(one.zone, "compute.instances.preempted", one.name, 0.0, [], ago=seconds_ago)
        if one.content.get("scheduling", {}).get("instanceTerminationAction") == "DELETE":
            one.status, one.gone_at = "STOPPING", self._clock.now() + self._operation_seconds
        else:
            one.status = "TERMINATED"
        self._catch_up()

    def _make_disks(self, request: Request, one: "_Instance") -> None:
        for disk in one.content["disks"]:
            parameters = disk["initializeParams"]
            size = parameters.get("diskSizeGb") or _image_gib(parameters["sourceImage"])
            made = self._disk(request, one.name, {**parameters, "sizeGb": size, "type": parameters.get("diskType")})
            made["users"] = [f"{request.base}/zones/{one.zone}/instances/{one.name}"]
            self._disks[one.zone, one.name] = made

    def _drop_disks(self, one: "_Instance") -> None:
        disk = self._disks.get((one.zone, one.name))
        if disk is not None:
            disk.pop("users", None)
            if one.content["disks"][0].get("autoDelete"):
                del self._disks[one.zone, one.name]

    def _disk(self, request: Request, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "kind": "compute#disk",
            "id": gce_data.number(f"disk {name}"),
            "name": name,
            "sizeGb": str(body.get("sizeGb", 10)),
            "labels": dict(body.get("labels", {})),
            "type": body.get("type") or f"{request.base}/zones/{request.zone}/diskTypes/{DEFAULT_DISK_TYPE}",
            **{one: str(body[one]) for one in ("provisionedIops", "provisionedThroughput") if body.get(one)},
            "status": "READY",
            "zone": f"{request.base}/zones/{request.zone}",
            "selfLink": f"{request.base}/zones/{request.zone}/disks/{name}",
        }

    def _there(self, request: Request) -> "_Instance":
        one = self._instances.get((request.zone, request.name))
        if one is None:
            raise not_found(f"projects/{request.project}/zones/{request.zone}/instances/{request.name}")
        return one

    def _named(self, name: str) -> "_Instance":
        return next(one for (_, other), one in self._instances.items() if other == name)


class _Instance:
    """A machine, with the times of its future events."""

    def __init__(
        self, request: Request, content: dict[str, Any], now: float, operation_seconds: float, boot_seconds: float
    ) -> None:
        self.name, self.zone, self.content = content["name"], request.zone, content
        self.type_name = content["machineType"].rpartition("/")[2]
        self.created_at = self.visible_at = now
        self.made_at, self.running_at = now + operation_seconds, now + operation_seconds + boot_seconds
        self.gone_at: float | None = None
        self.status = "PROVISIONING"
        self.fails = self.is_being_deleted = False
        self.console = b""
        self.dropped_bytes = 0

    def catch_up(self, now: float) -> None:
        """Update the state to the current time."""
        if self.fails and self.made_at <= now:
            self.gone_at = self.made_at
        if self.status in ("PROVISIONING", "STAGING") and not self.fails:
            self.status = "RUNNING" if self.running_at <= now else "STAGING" if self.made_at <= now else "PROVISIONING"
        longest = self.content.get("scheduling", {}).get("maxRunDuration")
        if longest is not None and self.status == "RUNNING" and self.running_at + float(longest["seconds"]) <= now:
            self.gone_at = now

    def print(self, text: str) -> None:
        """Print something on the first serial port."""
        self.console += text.encode()
        surplus = max(0, len(self.console) - _CONSOLE_BYTES)
        self.console = self.console[surplus:]
        self.dropped_bytes += surplus

    def body(self, base: str) -> dict[str, Any]:
        """Return it as the service does."""
        zone = f"{base}/zones/{self.zone}"
        return {
            **self.content,
            "kind": "compute#instance",
            "id": gce_data.number(f"{self.zone} {self.name} {self.created_at}"),
            "creationTimestamp": _timestamp(self.created_at),
            "status": self.status,
            "zone": zone,
            "machineType": f"{zone}/machineTypes/{self.type_name}",
            "selfLink": f"{zone}/instances/{self.name}",
        }


class _Operation:
    """An operation."""

    def __init__(
        self, name: str, zone: str, kind: str, of: str, target: str, began_at: float, errors: list[dict[str, Any]]
    ) -> None:
        self.name, self.zone, self.kind, self.of, self.target = name, zone, kind, of, target
        self.began_at, self.done_at, self.errors = began_at, began_at, errors
        self.is_done = False

    def body(self, request: Request) -> dict[str, Any]:
        """Return it as the service does."""
        zone = f"{request.base}/zones/{self.zone}"
        began = _timestamp(self.began_at)
        return {
            "kind": "compute#operation",
            "id": gce_data.number(self.name),
            "name": self.name,
            "operationType": self.kind,
            "targetLink": f"{zone}/{self.of}/{self.target}",
            "targetId": gce_data.number(self.target),
            "zone": zone,
            "user": "system" if self.kind.startswith("compute.") else USER,
            "status": "DONE" if self.is_done else "RUNNING",
            "progress": 100 if self.is_done else 0,
            "creationTimestamp": began,
            "insertTime": began,
            "startTime": began,
            "selfLink": f"{zone}/operations/{self.name}",
            **({"endTime": _timestamp(self.done_at)} if self.is_done else {}),
            **(
                {
                    "error": {"errors": self.errors},
                    "httpErrorStatusCode": 503,
                    "httpErrorMessage": "SERVICE UNAVAILABLE",
                }
                if self.is_done and self.errors
                else {}
            ),
        }


def _timestamp(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, _CALIFORNIA).isoformat(timespec="milliseconds")


_CPUS = {name: cpus for name, cpus, *_ in gce_data.MACHINE_TYPES}


def _check_types(body: bytes, kind: str) -> None:
    from google.cloud import compute_v1  # takes seconds, and most of the double's tests start no machines

    try:
        getattr(compute_v1, kind).from_json(body.decode(), ignore_unknown_fields=False)
    except Exception as error:
        raise RefusedError(400, "INVALID_ARGUMENT", "badRequest", f"Invalid JSON payload received. {error}") from error


def _check_request_id(request: Request) -> None:
    given = request.query.get("requestId")
    if given is not None and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", given):
        raise invalid("requestId", given, "The request ID must be a valid UUID.")


def permissions_of(body: Mapping[str, Any], project: str) -> list[str]:
    """Return the permissions that a launch needs in addition to ``compute.instances.create``, depending on the request.

    https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert#iam-permissions
    """
    found = []
    for field, permission in (
        ("labels", "compute.instances.setLabels"),
        ("metadata", "compute.instances.setMetadata"),
        ("serviceAccounts", "compute.instances.setServiceAccount"),
        ("serviceAccounts", ACT_AS),
        ("tags", "compute.instances.setTags"),
    ):
        found += [permission] if body.get(field) else []
    for disk in body.get("disks", ()):
        made = disk.get("initializeParams", {})
        found += ["compute.disks.create"] if made else []
        found += ["compute.disks.setLabels"] if made.get("labels") else []
        is_own = made.get("sourceImage", "").startswith(f"projects/{project}/")
        found += ["compute.images.useReadOnly"] if is_own else []
    for interface in body.get("networkInterfaces", ()):
        found.append("compute.subnetworks.use")
        found += ["compute.subnetworks.useExternalIp"] if interface.get("accessConfigs") else []
    return found


def _check_body(request: Request, body: dict[str, Any]) -> None:
    for name in ("name", "machineType", "disks", "networkInterfaces"):
        if not body.get(name):
            raise RefusedError(400, "INVALID_ARGUMENT", "required", f"Required field 'resource.{name}' not specified")
    if not all(disk.get("initializeParams", {}).get("sourceImage") for disk in body["disks"]):
        raise RefusedError(
            400,
            "INVALID_ARGUMENT",
            "required",
            "Required field 'resource.disks[0].initializeParams.sourceImage' not specified",
        )
    checks: list[tuple[str, str, Callable[[], bool]]] = [
        (
            "resource.name",
            body.get("name", ""),
            lambda: bool(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", body["name"])),
        ),
        (
            "resource.metadata",
            "startup-script",
            lambda: all(len(one["value"].encode()) <= 262144 for one in body.get("metadata", {}).get("items", [])),
        ),
    ]
    for name, value, is_good in checks:
        if not is_good():
            raise invalid(name, value, "Must be a match of what the reference says.")
    _check_labels("resource.labels", body.get("labels", {}))
    _check_machine_type(request, body["machineType"])
    for index, disk in enumerate(body["disks"]):
        _check_disk(request, f"resource.disks[{index}]", disk, body["machineType"].rpartition("/")[2])
    for index, interface in enumerate(body["networkInterfaces"]):
        _check_interface(request, f"resource.networkInterfaces[{index}]", interface)
    _check_scheduling(body.get("scheduling", {}))


def _check_labels(field_name: str, labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise invalid(field_name, f"{key}: {value}", "Label keys and values are limited.")


def _check_machine_type(request: Request, path: str) -> None:
    found = re.fullmatch(r"(?:.*/)?zones/([^/]+)/machineTypes/([^/]+)", path)
    names = [one["name"] for one in gce_data.machine_types(request.zone)]
    if found is None or found[1] != request.zone or found[2] not in names:
        name = path.rpartition("/")[2]
        raise invalid(
            "resource.machineType", path, f"Machine type with name '{name}' does not exist in zone '{request.zone}'."
        )


def _check_disk(request: Request, field_name: str, disk: dict[str, Any], type_name: str) -> None:
    parameters = disk["initializeParams"]
    field_name = f"{field_name}.initializeParams"
    _check_labels(f"{field_name}.labels", parameters.get("labels", {}))
    given = parameters.get("diskType") or f"zones/{request.zone}/diskTypes/{DEFAULT_DISK_TYPE}"
    kind = re.fullmatch(r"(?:.*/)?zones/([^/]+)/diskTypes/([^/]+)", given)
    if kind is None or kind[1] != request.zone or kind[2] not in LIMITS:
        raise invalid(f"{field_name}.diskType", given, "No such disk type.")
    supported = boot_disk_types(type_name, _CPUS[type_name])
    if supported and kind[2] not in supported:
        raise RefusedError(
            400, "INVALID_ARGUMENT", "invalid", f"{kind[2]} disk type cannot be used by {type_name} machine type."
        )
    image, size = parameters["sourceImage"], _image_gib(parameters["sourceImage"])
    if size is None:
        project, _, name = image.partition("projects/")[2].partition("/global/images/")
        raise not_found(f"projects/{project}/global/images/{name}")
    gib = int(parameters.get("diskSizeGb") or max(size, LIMITS[kind[2]].min_gib))
    if gib < size:
        text = f"Requested disk size cannot be smaller than the image size ({size} GB)"
        raise invalid(f"{field_name}.diskSizeGb", gib, text)
    _check_speed(field_name, LIMITS[kind[2]], gib, parameters)


def _image_gib(path: str) -> int | None:
    """Return the size of an image that is named directly or by its family; None if there is none."""
    found = re.fullmatch(r"(?:.*/)?projects/([^/]+)/global/images/(family/)?([^/]+)", path)
    if found is None:
        return None
    project, family, name = found.groups()
    if family:
        name = gce_data.IMAGES.get(project, {}).get(name, ("",))[0]
    return gce_data.IMAGE_GIB.get((project, name))


def _check_speed(field_name: str, limits: DiskLimits, gib: int, parameters: Mapping[str, Any]) -> None:
    iops, mibps = (int(parameters.get(name) or 0) for name in ("provisionedIops", "provisionedThroughput"))
    if not limits.min_gib <= gib <= limits.max_gib:
        raise invalid(f"{field_name}.diskSizeGb", gib, f"Must be from {limits.min_gib} to {limits.max_gib}.")
    most = min(limits.max_iops, max(limits.free_iops, limits.max_iops_per_gib * gib))
    if iops and not (limits.orders_iops and limits.min_iops <= iops <= most):
        raise invalid(f"{field_name}.provisionedIops", iops, f"Must be from {limits.min_iops:g} to {most:g}.")
    base = iops or limits.min_iops
    least, most = max(limits.free_mibps, limits.min_mibps_per_iops * base), limits.max_mibps_per_iops * base
    if mibps and not (limits.orders_mibps and least <= mibps <= min(limits.max_mibps, most)):
        raise invalid(f"{field_name}.provisionedThroughput", mibps, f"Must be from {least:g} to {most:g}.")


def _check_interface(request: Request, field_name: str, interface: dict[str, Any]) -> None:
    region = gce_data.ZONES[request.zone][0]
    network, subnetwork = interface.get("network", ""), interface.get("subnetwork", "")
    if network and network.rpartition("/")[2] not in NETWORKS:
        raise not_found(f"projects/{request.project}/{network}")
    if subnetwork:
        found = re.fullmatch(r"(?:.*/)?regions/([^/]+)/subnetworks/([^/]+)", subnetwork)
        if found is None or found[1] != region or region not in SUBNETWORKS.get(found[2], ()):
            path = f"projects/{request.project}/{subnetwork}"
            raise invalid(f"{field_name}.subnetwork", path, "The referenced subnetwork resource cannot be found.")
    for access in interface.get("accessConfigs", []):
        if access.get("type") != "ONE_TO_ONE_NAT":
            raise invalid(f"{field_name}.accessConfigs[0].type", access.get("type"))


def _check_scheduling(scheduling: dict[str, Any]) -> None:
    is_spot = scheduling.get("provisioningModel") == "SPOT"
    longest = scheduling.get("maxRunDuration")
    if is_spot and (
        scheduling.get("automaticRestart") or scheduling.get("onHostMaintenance", "MIGRATE") != "TERMINATE"
    ):
        raise invalid("resource.scheduling", "SPOT", "Scheduling must have preemptible be false when that is set.")
    if longest is not None and not 30 <= int(longest["seconds"]) <= 120 * 86400:
        raise invalid("resource.scheduling.maxRunDuration", longest["seconds"], "Must be from 30 seconds to 120 days.")
    if "instanceTerminationAction" in scheduling and not (is_spot or longest):
        raise invalid("resource.scheduling.instanceTerminationAction", "DELETE")
