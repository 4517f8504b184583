"""Fleets and instances of the double of EC2: what moto lacks for launching and terminating instances.

Runs in the process of ``shared_lib.tests.services.ec2``. A fleet of type instant takes its machines from the pools (type and zone) that
it is given, the cheapest first, and answers with an error for each pool that had too few. Its client token makes it happen once. What
there is to be had, what an account may have and do, and how slow everything is, is ordered by the test; see the methods of ``Ec2``.
"""

import base64
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib import import_module
from typing import Any, NamedTuple

from taskfleet.machines.aws.disks import LIMITS
from taskfleet.machines.disks import DiskLimits

from shared_lib.tests.services.double import Clock

#: The resource in denials of CreateFleet, RunInstances and CreateLaunchTemplate.
PRINCIPAL = "arn:aws:iam::123456789012:user/test"
_RESOURCE = "arn:aws:ec2:us-east-1:123456789012:instance/*"
#: The page size, regardless of the request: EC2 may always return fewer.
RESERVATIONS_A_PAGE = 5
TEMPLATES_A_PAGE = 5
#: An instance is listed for an hour after its termination.
LISTED_SECONDS = 3600
MOST_USER_DATA_BYTES = 16_384
MOST_TOKEN_CHARACTERS = 64
MOST_FILTER_VALUES = 200
_FLEET = (
    "LaunchTemplateConfigs",
    "TargetCapacitySpecification",
    "SpotOptions",
    "OnDemandOptions",
    "TagSpecifications",
    "Type",
)


_STRATEGIES = {
    "spot": ("price-capacity-optimized", "capacity-optimized", "lowest-price", "diversified"),
    "on-demand": ("lowest-price", "prioritized"),
}


class FleetError(Exception):
    """The reason why a capacity pool launches no machine."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Pool(NamedTuple):
    """A capacity pool: a type in a zone, with its launch parameters."""

    override: dict[str, Any]
    data: dict[str, Any]
    template: dict[str, Any]
    instance_type: str
    zone: str


class Orders:
    """The settings of a test about machines."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.need: Callable[..., None] = lambda *_: None
        """Counts the permissions that a fleet needs on behalf of its caller."""
        self.forget()

    def forget(self) -> None:
        """Reset to unlimited capacity without delays."""
        self.stocks: dict[tuple[str, str], int] = {}
        self.refusals: dict[tuple[str, str], tuple[str, str]] = {}
        self.quotas: dict[str, int] = {}
        self.denied: set[str] = set()
        self.is_terse = self.is_mute = False
        self.visible_seconds = self.boot_seconds = self.ending_seconds = 0.0
        self.answers: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self.runs: dict[tuple[str, str], tuple[str, Any]] = {}
        self.consoles: dict[str, str] = {}

    def hear(self, command: Mapping[str, Any]) -> None:
        """Carry out a command of ``Ec2``."""
        with self.lock:
            if "stock" in command:
                type_name, zone, number = command["stock"]
                self.stocks.pop((type_name, zone), None)
                if number is not None:
                    self.stocks[type_name, zone] = number
            if "refuse" in command:
                type_name, zone, code, message = command["refuse"]
                self.refusals[type_name, zone] = (code, message)
            if "quota" in command:
                market, cpus = command["quota"]
                self.quotas[market] = cpus
            if "deny" in command:
                self.denied |= set(command["deny"])
                self.is_terse = command["is_terse"]
            if "mute" in command:
                self.is_mute = True
            if "delays" in command:
                self.visible_seconds, self.boot_seconds, self.ending_seconds = command["delays"]
            if "console" in command:
                instance_id, text = command["console"]
                self.consoles[instance_id] = text
            if "interrupt" in command:
                _interrupt(self, command["interrupt"])
            if "empty" in command:
                _empty()
                self.forget()

    def denial(self, *permissions: str) -> tuple[str, str] | None:
        """Return code and text of the first denied permission; None if all are granted."""
        missing = next((one for one in permissions if one in self.denied), None)
        if missing is None:
            return None
        encoded = base64.b64encode(
            json.dumps({"allowed": False, "context": {"action": missing, "resource": _RESOURCE}}).encode()
        ).decode()
        text = "You are not authorized to perform this operation."
        if not self.is_terse:
            text += (
                f" User: {PRINCIPAL} is not authorized to perform: {missing} on resource: {_RESOURCE} because "
                f"no identity-based policy allows the {missing} action."
            )
        return "UnauthorizedOperation", f"{text} Encoded authorization failure message: {encoded}"


def permissions_for(action: str, names: list[str]) -> list[str]:
    """Return the permissions that a call of EC2 needs, from the names of its parameters.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
    """
    if action == "DecodeAuthorizationMessage":
        return [f"sts:{action}"]
    found = [f"ec2:{action}"]
    if action in ("RunInstances", "CreateLaunchTemplate") and any(one.startswith("TagSpecification.") for one in names):
        found.append("ec2:CreateTags")
    if action == "RunInstances" and any(one.startswith("IamInstanceProfile.") for one in names):
        found.append("iam:PassRole")
    return found


def decode(encoded: str) -> str:
    """Respond with the content of an encoded denial; see ``Orders.denial``."""
    text = escape(base64.b64decode(encoded).decode())
    result = (
        f"<DecodeAuthorizationMessageResult><DecodedMessage>{text}</DecodedMessage></DecodeAuthorizationMessageResult>"
    )
    return f"<DecodeAuthorizationMessageResponse>{result}</DecodeAuthorizationMessageResponse>"


def _backends() -> Iterator[Any]:
    for by_region in import_module("moto.ec2.models").ec2_backends.values():
        yield from by_region.values()


def _instances() -> Iterator[Any]:
    for backend in _backends():
        for reservation in backend.reservations.values():
            yield from reservation.instances


def _empty() -> None:
    """Remove all machines, templates, disks and network interfaces."""
    for backend in _backends():
        for reservation in [*backend.reservations.values()]:
            for instance in reservation.instances:
                if instance.state != "terminated":
                    instance.terminate()
        backend.reservations.clear()
        backend.launch_templates.clear()
        backend.launch_template_name_to_ids.clear()
        backend.volumes.clear()


def _interrupt(orders: Orders, instance_id: str) -> None:
    """Preempt a machine, as EC2 does with spot instances."""
    models: Any = import_module("moto.ec2.models.instances")
    instance = next(one for one in _instances() if one.id == instance_id)
    instance.terminate()
    code = "Server.SpotInstanceTermination"
    instance._reason = code
    instance.state_reason = models.StateReason(f"{code}: Spot instance termination", code)
    instance._double_gone_at = orders.clock.now() + orders.ending_seconds


def _refresh(orders: Orders, instance: Any) -> None:
    """Update the state of an instance to the current time: moto's instances start and end at once."""
    now = orders.clock.now()
    gone_at = getattr(instance, "_double_gone_at", None)
    if gone_at is not None:
        name, code = ("shutting-down", 32) if now < gone_at else ("terminated", 48)
    elif instance.state in ("pending", "running"):
        name, code = ("pending", 0) if now < getattr(instance, "_double_runs_at", 0.0) else ("running", 16)
    else:
        return
    instance._state.name, instance._state.code = name, code


def _is_listed(orders: Orders, instance: Any) -> bool:
    now = orders.clock.now()
    return bool(
        getattr(instance, "_double_seen_at", 0.0) <= now < getattr(instance, "_double_gone_at", now) + LISTED_SECONDS
    )


def add(orders: Orders, price_of: Callable[[str, str, str], float]) -> None:
    """Patch moto.

    Args:
        orders: What the test orders.
        price_of: Gives the price of a type in a zone and market, for the strategies by which pools are chosen.
    """
    from moto.core.responses import ActionResult

    exceptions: Any = import_module("moto.ec2.exceptions")
    instance_response: Any = import_module("moto.ec2.responses.instances").InstanceResponse
    general_response: Any = import_module("moto.ec2.responses.general").General
    fleet_response: Any = import_module("moto.ec2.responses.fleets").Fleets
    template_response: Any = import_module("moto.ec2.responses.launch_templates").LaunchTemplates
    other_parameters = exceptions.EC2ClientError(
        "IdempotentParameterMismatch",
        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
    )
    plain_run = instance_response.run_instances
    plain_fleet = fleet_response.create_fleet
    plain_template = template_response.create_launch_template

    def create_fleet(self: Any) -> Any:
        if self._get_param("Type") != "instant":
            return plain_fleet(self)
        if len(self._get_param("ClientToken") or "") > MOST_TOKEN_CHARACTERS:
            raise exceptions.EC2ClientError("InvalidParameterValue", "The client token is too long")
        with orders.lock:
            request = {name: self._get_param(name) for name in _FLEET}
            token, text = self._get_param("ClientToken"), json.dumps(request, sort_keys=True, default=str)
            known = orders.answers.get((self.region, token))
            is_repeated = known is not None
            if known is None:
                answer = _create(orders, self.ec2_backend, self.region, request, price_of)
                known = orders.answers[self.region, token] = (text, answer)
            if known[0] != text:
                raise other_parameters
            return ActionResult({"FleetId": known[1]["FleetId"]} if is_repeated and orders.is_mute else known[1])

    def run_instances(self: Any) -> Any:
        if not self._get_param("DryRun", False):
            check_disks(self.ec2_backend, self._get_param("ImageId"), self._get_param("BlockDeviceMappings") or [])
            token = self._get_param("ClientToken")
            if not token:
                return plain_run(self)
            text = json.dumps(self.querystring, sort_keys=True, default=str)
            with orders.lock:
                known = orders.runs.get((self.region, token))
                if known is None:
                    known = orders.runs[self.region, token] = (text, plain_run(self))
            if known[0] != text:
                raise other_parameters
            return known[1]
        data = {
            name: self._get_param(name)
            for name in ("ImageId", "KeyName", "IamInstanceProfile", "NetworkInterfaces")
            if self._get_param(name)
        }
        try:
            _check(self.ec2_backend, self._get_param("InstanceType"), data, {})
        except FleetError as error:
            raise exceptions.EC2ClientError(error.code, str(error)) from error
        raise exceptions.DryRunClientError

    def check_disks(backend: Any, image_id: str, mappings: list[dict[str, Any]]) -> None:
        root = next((one.root_device_name for one in backend.describe_images(filters={"image-id": image_id})), "")
        for one in mappings:
            try:
                if "VolumeSize" in one.get("Ebs", {}):
                    check_disk(one["Ebs"], is_root=one["DeviceName"] == root)
            except FleetError as error:
                raise exceptions.EC2ClientError(error.code, str(error)) from error

    def create_launch_template(self: Any) -> Any:
        user_data = self._get_param("LaunchTemplateData.UserData") or ""
        if len(base64.b64decode(user_data)) > MOST_USER_DATA_BYTES:  # moto takes any
            raise exceptions.EC2ClientError("InvalidUserData.Malformed", "User data is limited to 16384 bytes")
        return plain_template(self)

    def describe_launch_templates(self: Any) -> Any:
        found = self.ec2_backend.describe_launch_templates(
            template_names=self._get_param("LaunchTemplateNames", []),
            template_ids=self._get_param("LaunchTemplateIds", []),
            filters=self._filters_from_querystring(),
        )
        start = int(self._get_param("NextToken") or 0)  # moto gives 15 and no token
        end = start + TEMPLATES_A_PAGE
        templates = [
            {
                "LaunchTemplateId": one.id,
                "LaunchTemplateName": one.name,
                "Tags": one.get_tags(),
                "CreateTime": one.create_time,
            }
            for one in found[start:end]
        ]
        return ActionResult({"LaunchTemplates": templates, "NextToken": str(end) if end < len(found) else None})

    def describe_instances(self: Any) -> Any:
        backend = self.ec2_backend
        with orders.lock:
            for instance in _instances():
                _refresh(orders, instance)
            named = self._get_param("InstanceIds", [])
            if any(len(one) > MOST_FILTER_VALUES for one in self._filters_from_querystring().values()):
                raise exceptions.EC2ClientError("FilterLimitExceeded", "The maximum number of filter values is 200")
            listed = {one.id for one in backend.all_instances() if _is_listed(orders, one)}
            if missing := [one for one in named if one not in listed]:
                raise exceptions.InvalidInstanceIdError(missing)
            reservations = []
            for one in backend.describe_instances(filters=self._filters_from_querystring()):
                one.instances = [
                    each for each in one.instances if each.id in listed and (not named or each.id in named)
                ]
                if one.instances:
                    reservations.append(one)
        start = int(self._get_param("NextToken") or 0)
        end = start + RESERVATIONS_A_PAGE
        token = str(end) if end < len(reservations) else None
        return ActionResult({"Reservations": reservations[start:end], "NextToken": token})

    def terminate_instances(self: Any) -> Any:
        wanted = self._get_param("InstanceIds", [])
        with orders.lock:
            found = {one.id: one for one in self.ec2_backend.all_instances() if _is_listed(orders, one)}
            if missing := [one for one in wanted if one not in found]:
                raise exceptions.InvalidInstanceIdError(missing)
            changes = []
            for instance_id in wanted:
                instance = found[instance_id]
                _refresh(orders, instance)
                before = {"Code": instance.state_code, "Name": instance.state}
                if getattr(instance, "_double_gone_at", None) is None:  # moto ends it once more
                    instance.terminate()
                    instance._double_gone_at = orders.clock.now() + orders.ending_seconds
                now = {"Code": 32, "Name": "shutting-down"}
                changes.append({"InstanceId": instance_id, "CurrentState": now, "PreviousState": before})
        return ActionResult({"TerminatingInstances": changes})

    def get_console_output(self: Any) -> Any:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        types: Any = import_module("moto.ec2.models.instance_types").INSTANCE_TYPES
        if self._get_param("Latest", False) and types[instance.instance_type].get("Hypervisor") != "nitro":
            raise exceptions.EC2ClientError(
                "UnsupportedOperation", "This instance type does not support retrieving the latest console logs."
            )
        text = orders.consoles.get(instance.id)
        answer = {"InstanceId": instance.id}
        if text is not None:
            answer["Output"] = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
        return ActionResult(answer)

    for response, function in (
        (fleet_response, create_fleet),
        (instance_response, run_instances),
        (instance_response, describe_instances),
        (instance_response, terminate_instances),
        (template_response, create_launch_template),
        (template_response, describe_launch_templates),
        (general_response, get_console_output),
    ):
        setattr(response, function.__name__, function)


def _create(
    orders: Orders, backend: Any, region: str, request: Mapping[str, Any], price_of: Callable[[str, str, str], float]
) -> dict[str, Any]:
    """Create a fleet of type instant."""
    exceptions: Any = import_module("moto.ec2.exceptions")
    capacity = request["TargetCapacitySpecification"]
    market = capacity.get("DefaultTargetCapacityType") or "on-demand"
    missing = int(capacity["TotalTargetCapacity"])
    pools, errors = _pools(backend, request["LaunchTemplateConfigs"], market)
    places = [(one.instance_type, one.zone) for one in pools]
    if len(set(places)) < len(places):
        raise exceptions.EC2ClientError(
            "InvalidFleetConfig", "The fleet configuration contains duplicate instance pools."
        )
    options = request["SpotOptions" if market == "spot" else "OnDemandOptions"] or {}
    strategy = options.get("AllocationStrategy") or "lowest-price"
    if strategy not in _STRATEGIES[market]:
        raise exceptions.EC2ClientError("InvalidParameterValue", f"Invalid AllocationStrategy {strategy}")

    def rank(pool: _Pool) -> tuple[bool, float]:
        """Sort key, the best first: the cheapest, or the cheapest with capacity for all."""
        is_short = strategy == "price-capacity-optimized" and _stock(orders, pool) < missing
        return is_short, price_of(pool.instance_type, pool.zone, market)

    pools.sort(key=rank)
    if options.get("SingleInstanceType"):
        pools = [one for one in pools if one.instance_type == pools[0].instance_type]
    if sum(_stock(orders, one) for one in pools) < int(options.get("MinTargetCapacity") or 0):
        errors += [_error(_where(one), market, _shortage(one, market)) for one in pools]
        pools = []
    fleet_id = f"fleet-{len(orders.answers):08x}"
    instances = []
    for pool in pools:
        if not missing:
            break
        try:
            _check(backend, pool.instance_type, pool.data, pool.override)
            number, shortage = _available(orders, backend, pool, market, missing)
        except FleetError as error:
            number, shortage = 0, error
        if number:
            ids = _launch(orders, backend, region, pool, market, number, fleet_id)
            missing -= number
            instances.append(
                {**_where(pool), "Lifecycle": market, "InstanceIds": ids, "InstanceType": pool.instance_type}
            )
        if shortage is not None:
            errors.append(_error(_where(pool), market, shortage))
    return {"FleetId": fleet_id, "Instances": instances, "Errors": errors}


def _pools(backend: Any, configs: list[dict[str, Any]], market: str) -> tuple[list[_Pool], list[dict[str, Any]]]:
    exceptions: Any = import_module("moto.ec2.exceptions")
    pools, errors = [], []
    for config in configs:
        named = config["LaunchTemplateSpecification"]
        if named.get("LaunchTemplateId"):
            template = backend.get_launch_template(named["LaunchTemplateId"])
        else:
            template = backend.get_launch_template_by_name(named["LaunchTemplateName"])
        specification = {"LaunchTemplateId": template.id, "Version": str(named["Version"])}
        for override in config.get("Overrides") or [{}]:
            data = template.get_version(named["Version"]).data
            where = {
                "LaunchTemplateAndOverrides": {"LaunchTemplateSpecification": specification, "Overrides": override}
            }
            try:
                subnet = backend.get_subnet(override["SubnetId"])
            except exceptions.InvalidSubnetIdError:
                text = f"The subnet ID '{override['SubnetId']}' does not exist"
                errors.append(_error(where, market, FleetError("InvalidSubnetID.NotFound", text)))
                continue
            pools.append(_Pool(override, data, specification, override["InstanceType"], subnet.availability_zone))
    return pools, errors


def _where(pool: _Pool) -> dict[str, Any]:
    override = {name: pool.override[name] for name in ("InstanceType", "SubnetId")}
    return {"LaunchTemplateAndOverrides": {"LaunchTemplateSpecification": pool.template, "Overrides": override}}


def _error(where: Mapping[str, Any], market: str, error: FleetError) -> dict[str, Any]:
    return {**where, "Lifecycle": market, "ErrorCode": error.code, "ErrorMessage": str(error)}


def _check(backend: Any, instance_type: str, data: Mapping[str, Any], override: Mapping[str, Any]) -> None:
    """Check that the requested resources exist.

    Raises:
        FleetError: It is not.
    """
    models: Any = import_module("moto.ec2.models.instance_types")
    images = backend.describe_images(filters={"image-id": data["ImageId"]})
    if not images:
        raise FleetError("InvalidAMIID.NotFound", f"The image id '[{data['ImageId']}]' does not exist")
    architectures = models.INSTANCE_TYPES[instance_type]["ProcessorInfo"]["SupportedArchitectures"]
    if images[0].architecture not in architectures:
        text = f"The architecture '{architectures[0]}' of the specified instance type does not match the architecture "
        raise FleetError("InvalidParameterValue", f"{text}'{images[0].architecture}' of the specified AMI.")
    for interface in data.get("NetworkInterfaces", ()):
        for group in interface.get("Groups", ()):
            if backend.get_security_group_from_id(group) is None:
                raise FleetError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
    if data.get("KeyName") and data["KeyName"] not in backend.key_pairs:
        raise FleetError("InvalidKeyPair.NotFound", f"The key pair '{data['KeyName']}' does not exist")
    if profile := data.get("IamInstanceProfile"):
        iam: Any = import_module("moto.iam.models").iam_backends[backend.account_id]["aws"]
        key, value = next(iter(profile.items()))
        known = {each for one in iam.get_instance_profiles() for each in (one.name, one.arn)}
        if value not in known:
            text = f"Value ({value}) for parameter iamInstanceProfile.{key.lower()} is invalid. Invalid IAM Instance Profile {key.lower()}"
            raise FleetError("InvalidParameterValue", text)
    for disk in override.get("BlockDeviceMappings", ()):
        check_disk(disk["Ebs"], is_root=disk["DeviceName"] == images[0].root_device_name)
        if disk["DeviceName"] == images[0].root_device_name:
            least, size = int(images[0].ebs_snapshot.volume.size), int(disk["Ebs"]["VolumeSize"])
            if size < least:
                text = f"Volume of size {size}GB is smaller than snapshot '{images[0].ebs_snapshot.id}', expect size>= {least}GB"
                raise FleetError("InvalidBlockDeviceMapping", text)


def check_disk(ebs: Mapping[str, Any], *, is_root: bool) -> None:
    """Check the speed of a disk.

    Raises:
        FleetError: EC2 has no such disk.
    """
    kind, gib = ebs.get("VolumeType") or "gp2", int(ebs["VolumeSize"])
    iops, mibps = ebs.get("Iops"), ebs.get("Throughput")
    if kind not in LIMITS and not (kind in ("st1", "sc1", "standard") and not is_root):
        raise FleetError("InvalidParameterValue", f"{kind} volumes cannot be boot volumes")
    limits = LIMITS.get(kind, DiskLimits())
    for name, value, is_ordered in (("iops", iops, limits.orders_iops), ("throughput", mibps, limits.orders_mibps)):
        if value is not None and not is_ordered:
            raise FleetError(
                "InvalidParameterCombination", f"The parameter {name} is not supported for {kind} volumes."
            )
    if limits.orders_iops and not limits.free_iops and iops is None:
        raise FleetError("MissingParameter", f"The parameter iops must be specified for {kind} volumes.")
    ranges = [
        ("Volume size", gib, limits.min_gib, limits.max_gib),
        ("Volume iops", iops, limits.min_iops, limits.max_iops),
        ("Volume throughput", mibps, limits.free_mibps, limits.max_mibps),
        ("Iops to volume size ratio", iops and iops > limits.free_iops and iops / gib, 0, limits.max_iops_per_gib),
        (
            "Throughput (MiBps) to iops ratio",
            mibps and mibps > limits.free_mibps and mibps / (iops or limits.free_iops),
            0,
            limits.max_mibps_per_iops,
        ),
    ]
    for what, value, least, most in ranges:
        if value and not least <= value <= most:
            side, limit = ("low; minimum", least) if value < least else ("high; maximum", most)
            raise FleetError("InvalidParameterValue", f"{what} of {value:g} is too {side} is {limit:g}.")


def _available(orders: Orders, backend: Any, pool: _Pool, market: str, wanted: int) -> tuple[int, FleetError | None]:
    """Return how many machines a capacity pool launches, and the reason why no more."""
    models: Any = import_module("moto.ec2.models.instance_types")
    needed = ["ec2:RunInstances"]
    needed += ["ec2:CreateTags"] if pool.data.get("TagSpecifications") else []
    needed += ["iam:PassRole"] if pool.data.get("IamInstanceProfile") else []
    orders.need(*needed)
    if denial := orders.denial(*needed):
        return 0, FleetError(*denial)
    offered = {
        (one["InstanceType"], one["Location"])
        for one in models.INSTANCE_TYPE_OFFERINGS["availability-zone"][backend.region_name]
    }
    if (pool.instance_type, pool.zone) not in offered:
        text = f"Your requested instance type ({pool.instance_type}) is not supported in your requested Availability Zone ({pool.zone})."
        return 0, FleetError("InvalidFleetConfiguration", text)
    keys = _keys(pool)
    if refused := next((orders.refusals[one] for one in keys if one in orders.refusals), None):
        return 0, FleetError(*refused)
    number, error = wanted, None
    if market in orders.quotas:
        cpus = _cpus(pool.instance_type)
        used = sum(
            _cpus(one.instance_type)
            for one in backend.all_instances()
            if (one.lifecycle == "spot") is (market == "spot") and getattr(one, "_double_gone_at", None) is None
        )
        if (free := max(0, orders.quotas[market] - used) // cpus) < number:
            number, error = free, _quota_error(market)
    stock_key = next((one for one in keys if one in orders.stocks), None)
    if stock_key is not None:
        if orders.stocks[stock_key] < number:
            number, error = orders.stocks[stock_key], _shortage(pool, market)
        orders.stocks[stock_key] -= number
    return number, error


def _keys(pool: _Pool) -> list[tuple[str, str]]:
    """Return the keys under which a test may have set something about a capacity pool."""
    return [(name, zone) for name in (pool.instance_type, "*") for zone in (pool.zone, "*")]


def _stock(orders: Orders, pool: _Pool) -> float:
    return next((orders.stocks[one] for one in _keys(pool) if one in orders.stocks), math.inf)


def _cpus(instance_type: str) -> int:
    types: Any = import_module("moto.ec2.models.instance_types").INSTANCE_TYPES
    return int(types[instance_type]["VCpuInfo"]["DefaultVCpus"])


def _quota_error(market: str) -> FleetError:
    if market == "spot":
        return FleetError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    text = "You have requested more vCPU capacity than your current vCPU limit allows for the instance bucket that the specified"
    return FleetError("VcpuLimitExceeded", f"{text} instance type belongs to.")


def _shortage(pool: _Pool, market: str) -> FleetError:
    code = "InsufficientInstanceCapacity"
    if market == "spot":
        return FleetError(code, "There is no Spot capacity available that matches your request.")
    text = f"We currently do not have sufficient {pool.instance_type} capacity in the Availability Zone you requested ({pool.zone})."
    return FleetError(code, text)


def _launch(
    orders: Orders, backend: Any, region: str, pool: _Pool, market: str, number: int, fleet_id: str
) -> list[str]:
    data = pool.data
    tags = {
        one["ResourceType"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        for one in data.get("TagSpecifications", ())
    }
    disks = pool.override.get("BlockDeviceMappings", [])
    # moto takes no speed here, and no io1 and io2 without one
    plain_disks = [one | {"Ebs": one["Ebs"] | {"VolumeType": "gp2"}} for one in disks]
    reservation = backend.run_instances(
        data["ImageId"],
        number,
        data.get("UserData"),
        [],
        instance_type=pool.instance_type,
        is_instance_type_default=False,
        region_name=region,
        subnet_id=pool.override["SubnetId"],
        nics=data.get("NetworkInterfaces", []),
        key_name=data.get("KeyName"),
        tags=tags,
        lifecycle="spot" if market == "spot" else None,
        instance_initiated_shutdown_behavior=data.get("InstanceInitiatedShutdownBehavior"),
        metadata_options=data.get("MetadataOptions", {}),
        **({"block_device_mappings": plain_disks} if disks else {}),
    )
    now = orders.clock.now()
    for instance in reservation.instances:
        instance.add_tags({"aws:ec2:fleet-id": fleet_id})
        instance._double_seen_at = now + orders.visible_seconds
        instance._double_runs_at = now + orders.boot_seconds
        for interface in instance.nics.values():
            interface.add_tags(tags.get("network-interface", {}))
        for disk in disks:
            volume = backend.volumes[instance.block_device_mapping[disk["DeviceName"]].volume_id]
            volume.volume_type = disk["Ebs"]["VolumeType"]
            volume.iops, volume.throughput = disk["Ebs"].get("Iops"), disk["Ebs"].get("Throughput")
        if profile := data.get("IamInstanceProfile"):
            key, value = next(iter(profile.items()))
            backend.associate_iam_instance_profile(instance.id, **{f"iam_instance_profile_{key.lower()}": value})
    return [one.id for one in reservation.instances]
