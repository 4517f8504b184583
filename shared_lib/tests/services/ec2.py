"""AWS EC2 on this machine, for the real boto3, with the price list and Systems Manager: moto's server, with prices, pages and faults.

How machines are started and ended is in ``ec2_fleets``.

As a module (``python -m shared_lib.tests.services.ec2``) it is the server's process; ``Ec2`` is how a test holds it. What moto lacks is
added here: answers come in pages as long as AWS's, a region has the types that are offered in it, one has a local zone, spot prices
differ by zone and change, there is a price list, and there are images of Ubuntu and Debian. The prices are made up, see ``list_price``
and ``spot_price``.
"""

import io
import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from html import escape
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs
from zlib import crc32

from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.permissions import USER_AGENT

from shared_lib.tests.services import ec2_fleets
from shared_lib.tests.services.aws_server import ACCOUNT, make_application, serve
from shared_lib.tests.services.double import Clock, Double, Faults, obey

#: Parts of user agents whose permissions are counted: the library and its readers of tables, not the clients of tests.
CLIENTS = (USER_AGENT, "aws-sdk-cpp", "Python-urllib")
#: The share of prices that are zero, and of prices that are missing.
HOLES = 0.02
#: A local zone, and its types.
LOCAL_ZONE, LOCAL_TYPES = "us-east-1-bos-1a", ("c5.2xlarge", "r5.2xlarge", "t3.medium")
#: The age of the last two changes of spot prices; the former prices are twice as high.
CHANGED_BEFORE = timedelta(minutes=30)
FORMER_CHANGED_BEFORE = timedelta(days=2)
#: Per GiB, operation or GiB/s and month in us-east-1: product family, usage, unit, USD.
DISK_PRICES = (
    ("Storage", "EBS:VolumeUsage", "GB-Mo", 0.05),
    ("Storage", "EBS:VolumeUsage.gp2", "GB-Mo", 0.1),
    ("Storage", "EBS:VolumeUsage.gp3", "GB-Mo", 0.08),
    ("Storage", "EBS:VolumeUsage.piops", "GB-Mo", 0.125),
    ("Storage", "EBS:VolumeUsage.io2", "GB-month", 0.13),
    ("Storage", "EBS:VolumeUsage.st1", "GB-Mo", 0.045),
    ("Storage", "EBS:VolumeUsage.sc1", "GB-Mo", 0.015),
    ("Storage Snapshot", "EBS:SnapshotUsage", "GB-Mo", 0.5),
    ("System Operation", "EBS:VolumeIOUsage", "IOs", 0.00000005),
    ("System Operation", "EBS:VolumeP-IOPS.gp3", "IOPS-Mo", 0.005),
    ("System Operation", "EBS:VolumeP-IOPS.piops", "IOPS-Mo", 0.065),
    ("System Operation", "EBS:VolumeP-IOPS.io2", "IOPS-Mo", 0.066),
    ("System Operation", "EBS:VolumeP-IOPS.io2.tier2", "IOPS-Mo", 0.0455),
    ("Provisioned Throughput", "EBS:VolumeP-Throughput.gp3", "GiBps-mo", 40.96),
)

_CPUS = {"nano": 0.25, "micro": 0.5, "small": 1.0, "medium": 1.0, "large": 2.0, "xlarge": 4.0, "metal": 96.0}
_USD_PER_CPU = {"a": 0.025, "c": 0.042, "i": 0.078, "m": 0.048, "r": 0.063, "t": 0.042}
#: Publisher's account, name, parameter and architecture of images that moto does not have.
_IMAGES = [
    (
        "099720109477",
        f"ubuntu/images/hvm-ssd-gp3/ubuntu-{word}-{release}-{cpu}-server-20261001",
        f"/aws/service/canonical/ubuntu/server/{release}/stable/current/{cpu}/hvm/ebs-gp3/ami-id",
        architecture,
    )
    for word, release in (("noble", "24.04"), ("resolute", "26.04"))
    for cpu, architecture in (("amd64", "x86_64"), ("arm64", "arm64"))
] + [
    (
        "136693071363",
        f"debian-{release}-{cpu}-20261001-2250",
        f"/aws/service/debian/release/{release}/latest/{cpu}",
        architecture,
    )
    for release in (12, 13)
    for cpu, architecture in (("amd64", "x86_64"), ("arm64", "arm64"))
]


def list_price(type_name: str, region: str) -> str | None:
    """Return the fictitious hourly price in USD, which depends on size, family and region; some are zero, and some missing."""
    return _with_holes(_plain_price(type_name, region), "list", type_name, region)


def spot_price(type_name: str, zone: str) -> str | None:
    """Return the fictitious hourly spot price in USD: 25 to 75 % of the list price; some are zero, and some missing."""
    share = 0.25 + 0.5 * _chance("share", type_name, zone)
    return _with_holes(share * _plain_price(type_name, zone[:-1]), "spot", type_name, zone)


class Ec2(Double):
    """EC2, the price list and Systems Manager, until ``stop``. Faults are injected by action, such as ``DescribeInstanceTypes``."""

    module = "shared_lib.tests.services.ec2"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", **ACCOUNT}

    def price(self, type_name: str, place: str, usd: float | str | None) -> None:
        """Set a price.

        Args:
            type_name: Of machine.
            place: A region for the list price, a zone for the spot price.
            usd: Of an hour; None for none.
        """
        self._ask(price=[type_name, place, None if usd is None else str(usd)])

    def stock(self, type_name: str, zone: str, number: int | None) -> None:
        """Set the capacity for a type in a zone, "*" for any of either; None for no limit, which is the default."""
        self._ask(stock=[type_name, zone, number])

    def refuse(self, type_name: str, zone: str, code: str, message: str = "ordered") -> None:
        """Make fleets launch no machine of a type in a zone, "*" for any of either, with this error."""
        self._ask(refuse=[type_name, zone, code, message])

    def quota(self, market: str, cpus: int) -> None:
        """Set the quota of virtual CPUs in each region for a market: "spot" or "on-demand"."""
        self._ask(quota=[market, cpus])

    def deny(self, *permissions: str, is_terse: bool = False) -> None:
        """Deny permissions, such as ``ec2:CreateTags``; with ``is_terse`` denials do not name the permission, as in some regions."""
        assert all(one in AWS for one in permissions), permissions
        self._ask(deny=permissions, is_terse=is_terse)

    def delays(self, *, visible_seconds: float = 0.0, boot_seconds: float = 0.0, ending_seconds: float = 0.0) -> None:
        """Set the delays until machines are listed, until they run, and until they have ended; see ``advance``."""
        self._ask(delays=[visible_seconds, boot_seconds, ending_seconds])

    def mute_repeats(self) -> None:
        """Make responses to repeated fleets contain no machines: AWS does not guarantee that they do."""
        self._ask(mute=True)

    def interrupt(self, instance_id: str) -> None:
        """Preempt a spot instance."""
        self._ask(interrupt=instance_id)

    def console(self, instance_id: str, text: str) -> None:
        """Set the console output of a machine."""
        self._ask(console=[instance_id, text])

    def empty(self) -> None:
        """Remove all machines, launch templates and disks, and all settings about them."""
        self._ask(empty=True)


def _plain_price(type_name: str, region: str) -> float:
    family, _, size = type_name.partition(".")
    word = size.partition("-")[0].lstrip("0123456789")
    count = size.partition(word)[0] or "1"
    cpus = int(count) * _CPUS.get(word, 96.0)
    return cpus * _USD_PER_CPU.get(family[0], 0.1) * _level(region)


def _level(region: str) -> float:
    return 1.0 if region == "us-east-1" else 1.0 + 0.3 * _chance(region)


def _with_holes(usd: float, *words: str) -> str | None:
    chance = _chance("hole", *words)
    if chance < HOLES:
        return "0.0000000000"
    return None if chance < 2 * HOLES else f"{usd:.10f}"


def _chance(*words: str) -> float:
    """Return a number from 0 to 1 that depends only on some words."""
    return crc32("/".join(words).encode()) / 2**32


# --- in the process ---


class _Prices:
    """Fictitious prices, or those that a test has set."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str | None] = {}
        self.changes = 0

    def hear(self, command: Mapping[str, Any]) -> None:
        if "price" in command:
            type_name, place, usd = command["price"]
            self._given[type_name, place] = usd
            self.changes += 1

    def listed(self, type_name: str, region: str) -> str | None:
        return self._given[type_name, region] if (type_name, region) in self._given else list_price(type_name, region)

    def spot(self, type_name: str, zone: str) -> str | None:
        return self._given[type_name, zone] if (type_name, zone) in self._given else spot_price(type_name, zone)

    def of(self, type_name: str, zone: str, market: str) -> float:
        usd = self.spot(type_name, zone) if market == "spot" else self.listed(type_name, zone[:-1])
        return float(usd or "inf")


def _add(clock: Clock, prices: _Prices) -> None:
    """Patch what moto lacks."""
    from moto.core.responses import ActionResult

    offerings: Any = import_module("moto.ec2.models.instance_types").INSTANCE_TYPE_OFFERINGS
    instances: Any = import_module("moto.ec2.responses.instances").InstanceResponse
    spot: Any = import_module("moto.ec2.responses.spot_instances").SpotInstances

    offerings["availability-zone"][LOCAL_ZONE[:9]] += [
        {"InstanceType": name, "Location": LOCAL_ZONE, "LocationType": "availability-zone"} for name in LOCAL_TYPES
    ]

    @lru_cache
    def types_in(region: str) -> frozenset[str]:
        return frozenset(one["InstanceType"] for one in offerings["region"].get(region, ()))

    def describe_instance_types(self: Any) -> Any:
        named = self._get_param("InstanceTypes", [])
        found = self.ec2_backend.describe_instance_types(named, self._filters_from_querystring())
        found = [one for one in found if one["InstanceType"] in types_in(self.region)]
        return ActionResult(_page(self, "InstanceTypes", found, least=5, most=100))

    def describe_instance_type_offerings(self: Any) -> Any:
        found = self.ec2_backend.describe_instance_type_offerings(
            self._get_param("LocationType"), self._filters_from_querystring()
        )
        return ActionResult(_page(self, "InstanceTypeOfferings", found, least=5, most=1000))

    def describe_spot_price_history(self: Any) -> Any:
        found = self.ec2_backend.describe_spot_price_history(
            self._get_param("InstanceTypes", []), self._filters_from_querystring()
        )
        products = self._get_param("ProductDescriptions", []) or ["Windows", "Linux/UNIX"]
        now = datetime.fromtimestamp(clock.now(), UTC)
        start = self._get_param("StartTime")  # moto gives it in UTC, but without saying so
        start = start.replace(tzinfo=UTC) if start else now - timedelta(days=90)
        history = [
            {
                "InstanceType": one["InstanceType"],
                "AvailabilityZone": one["Location"],
                "ProductDescription": product,
                "SpotPrice": usd,
                "Timestamp": changed_at,
            }
            for one in found
            for product in products
            for changed_at, usd in _history(prices.spot(one["InstanceType"], one["Location"]), product, start, now)
        ]
        return ActionResult(_page(self, "SpotPriceHistory", history, least=1, most=1000))

    for function in (describe_instance_types, describe_instance_type_offerings):
        setattr(instances, function.__name__, function)
    spot.describe_spot_price_history = describe_spot_price_history
    _add_images()


def _history(usd: str | None, product: str, start: datetime, now: datetime) -> Iterator[tuple[datetime, str]]:
    """Return the changes since the start, then the prices that were valid at the start, the newest first."""
    if usd is None:
        return
    factor = 2 if product == "Windows" else 1
    changes = [(now - CHANGED_BEFORE, factor), (now - FORMER_CHANGED_BEFORE, 2 * factor)]
    for changed_at, multiple in changes:
        yield changed_at, f"{float(usd) * multiple:.6f}"
        if changed_at <= start:
            return


def _page(response: Any, name: str, items: list[Any], *, least: int, most: int) -> dict[str, Any]:
    from moto.ec2.exceptions import InvalidParameterValueError

    size = int(response._get_param("MaxResults") or most)
    token = response._get_param("NextToken") or "0"
    if not least <= size <= most:
        raise InvalidParameterValueError(str(size))
    if not token.isdigit():
        raise InvalidParameterValueError(token)
    start = int(token)
    end = start + size
    return {name: items[start:end], "NextToken": str(end) if end < len(items) else None}


def _add_images() -> None:
    amis: Any = import_module("moto.ec2.models.amis").AMIS
    ssm: Any = import_module("moto.ssm.models")
    ids = {parameter: f"ami-{crc32(parameter.encode()):08x}" for _, _, parameter, _ in _IMAGES}
    for owner, name, parameter, architecture in _IMAGES:
        amis.append(
            {
                "ami_id": ids[parameter],
                "state": "available",
                "public": True,
                "owner_id": owner,
                "image_location": f"{owner}/{name}",
                "sriov": "simple",
                "root_device_type": "ebs",
                "root_device_name": "/dev/sda1",
                "description": name,
                "image_type": "machine",
                "platform": None,
                "architecture": architecture,
                "name": name,
                "virtualization_type": "hvm",
                "hypervisor": "xen",
                "creation_date": "2026-10-01T12:00:00.000Z",
            }
        )
    plain_check = ssm.ParameterDict._check_loading_status

    def check(self: Any, key: str) -> None:
        plain_check(self, key)
        key = str(key or "")
        if key in ids and not dict.__contains__(self, key):
            dict.__setitem__(
                self,
                key,
                [
                    ssm.Parameter(
                        account_id=self.account_id,
                        name=key,
                        value=ids[key],
                        parameter_type="String",
                        description=None,
                        allowed_pattern=None,
                        keyid=None,
                        last_modified_date=0,
                        version=1,
                        data_type="aws:ec2:image",
                    )
                ],
            )

    ssm.ParameterDict._check_loading_status = check


class _Products:
    """The price list: the products of AmazonEC2 in a region, including many that do not matter."""

    def __init__(self, prices: _Prices) -> None:
        models: Any = import_module("moto.ec2.models.instance_types")
        self._types: Any = models.INSTANCE_TYPES
        self._offerings: Any = models.INSTANCE_TYPE_OFFERINGS["region"]
        self._prices = prices
        self._found: dict[tuple[Any, ...], list[str]] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {one["Field"]: one["Value"] for one in request.get("Filters", ())}
        key = (self._prices.changes, *sorted(wanted.items()))
        if key not in self._found:
            self._found[key] = [
                json.dumps(_product(family, attributes, unit, usd))
                for family, attributes, unit, usd in self._all(wanted.get("regionCode", "us-east-1"))
                if all({"productFamily": family, **attributes}.get(name) == value for name, value in wanted.items())
            ]
        found = self._found[key]
        start, size = int(request.get("NextToken") or 0), min(100, request.get("MaxResults", 100))
        answer: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": found[start : start + size]}
        return answer | ({"NextToken": str(start + size)} if start + size < len(found) else {})

    def _all(self, region: str) -> Iterator[tuple[str, dict[str, str], str, str]]:
        place = {"servicecode": "AmazonEC2", "regionCode": region, "locationType": "AWS Region"}
        prefix = "" if region == "us-east-1" else region.replace("-", "").upper() + "-"
        for family, usage, unit, usd in DISK_PRICES:
            yield family, {**place, "usagetype": prefix + usage}, unit, f"{usd * _level(region):.10f}"
        for one in self._offerings.get(region, ()):
            name = one["InstanceType"]
            usd_text = self._prices.listed(name, region)
            if usd_text is None:
                continue
            family = "Compute Instance (bare metal)" if ".metal" in name else "Compute Instance"
            plain = {
                **place,
                "instanceType": name,
                "operatingSystem": "Linux",
                "tenancy": "Shared",
                "preInstalledSw": "NA",
                "capacitystatus": "Used",
                "marketoption": "OnDemand",
                "operation": "RunInstances",
                "usagetype": f"{prefix}BoxUsage:{name}",
                "vcpu": str(self._types[name]["VCpuInfo"]["DefaultVCpus"]),
            }
            yield family, plain, "Hrs", usd_text
            for factor, other in (
                (1.9, {"operatingSystem": "Windows", "operation": "RunInstances:0002"}),
                (1.1, {"tenancy": "Dedicated", "usagetype": f"{prefix}DedicatedUsage:{name}"}),
                (4.0, {"preInstalledSw": "SQL Ent", "operation": "RunInstances:0100"}),
                (1.2, {"capacitystatus": "UnusedCapacityReservation", "usagetype": f"{prefix}UnusedBox:{name}"}),
                (3.0, {"marketoption": "CapacityBlock"}),
            ):
                if "marketoption" in other and "capacity-block" not in self._types[name]["SupportedUsageClasses"]:
                    continue
                yield family, plain | other, "Hrs", f"{float(usd_text) * factor:.10f}"


def _product(family: str, attributes: Mapping[str, str], unit: str, usd: str) -> dict[str, Any]:
    sku = f"{crc32(json.dumps([family, attributes], sort_keys=True).encode()):08X}"

    def term(code: str, unit: str, usd: str) -> dict[str, Any]:
        key = f"{sku}.{code}"
        dimension = {"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": usd}}
        return {key: {"sku": sku, "offerTermCode": code, "priceDimensions": {f"{key}.6YS6EN2CT7": dimension}}}

    terms = {"OnDemand": term("JRTCKXETXF", unit, usd)}
    if unit == "Hrs":
        terms["Reserved"] = term("4NA7Y494T4", "Hrs", f"{float(usd) * 5:.10f}")
    return {
        "product": {"productFamily": family, "attributes": dict(attributes), "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": terms,
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


class _Front:
    """WSGI middleware before moto that counts requests, injects faults and serves the price list."""

    def __init__(
        self,
        inner: Callable[..., Iterable[bytes]],
        faults: Faults,
        products: _Products,
        orders: ec2_fleets.Orders,
    ) -> None:
        self._inner = inner
        self._faults = faults
        self._products = products
        self._orders = orders

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        is_chunked = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
        body = environ["wsgi.input"].read(-1 if is_chunked else int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        is_s3 = "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
        query = {} if target or is_s3 else parse_qs(body.decode("utf-8", "replace"))
        action = target.rpartition(".")[2] or query.get("Action", [""])[0]
        if is_s3:
            action = s3_action(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        fault = self._faults.draw(action) if action else {}
        if action:
            permissions = _permissions_for(target, action, [*query], is_s3=is_s3)
            if any(name in environ.get("HTTP_USER_AGENT", "") for name in CLIENTS):
                self._faults.need(*permissions)
            fault = fault or self._refusal(action, query, permissions)
        if fault.get("kind") == "error":
            return _refuse(fault, start_response, is_json=bool(target))
        if target == "AWSPriceListService.GetProducts":
            answer = [json.dumps(self._products.answer(json.loads(body))).encode()]
            start_response("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
        elif action == "DecodeAuthorizationMessage":  # moto has it not
            answer = [ec2_fleets.decode(query["EncodedMessage"][0]).encode()]
            start_response("200 OK", [("Content-Type", "text/xml")])
        else:
            answer = self._ask_moto(environ, start_response, is_json=bool(target))
        if fault.get("kind") == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    def _ask_moto(self, environ: dict[str, Any], start_response: Any, *, is_json: bool) -> list[bytes]:
        """Return moto's response; what moto cannot do, and answers with an internal error, is refused."""
        begun: list[tuple[Any, ...]] = []
        answer = b"".join(self._inner(environ, lambda *arguments: begun.append(arguments)))
        if begun and str(begun[0][0]).startswith("500"):
            message = "The double does not support this request."
            fault = {"status": 400, "code": "UnsupportedOperation", "message": message}
            return [*_refuse(fault, start_response, is_json=is_json)]
        start_response(*begun[0])
        return [answer]

    def _refusal(self, action: str, query: Mapping[str, list[str]], permissions: list[str]) -> dict[str, Any]:
        """Return the fault for a denied call or a dry run; moto supports dry runs of some calls only."""
        if denial := self._orders.denial(*permissions):
            code, message = denial if query else ("AccessDeniedException", denial[1])
            return {"kind": "error", "status": 403, "code": code, "message": message}
        wrong = [one for name in query if re.fullmatch(r"Filter\.\d+\.Name", name) for one in query[name]]
        if unknown := [one for one in wrong if not is_filter(action, one)]:
            return {
                "kind": "error",
                "code": "InvalidParameterValue",
                "message": f"The filter '{unknown[0]}' is invalid",
            }
        if query.get("DryRun") == ["true"] and action != "RunInstances":
            message = "Request would have succeeded, but DryRun flag is set."
            return {"kind": "error", "status": 412, "code": "DryRunOperation", "message": message}
        return {}


@cache
def _model() -> Any:
    from botocore.session import Session

    return Session().get_service_model("ec2")


@cache
def _filters(action: str) -> frozenset[str]:
    """Return the names of the filters of a call, from the documentation in the SDK's model of EC2."""
    model = _model()
    if action not in model.operation_names:
        return frozenset()
    members = model.operation_model(action).input_shape.members
    text = members["Filters"].documentation if "Filters" in members else ""
    return frozenset(re.findall(r"<li>\s*<p>\s*<code>([^<]+)</code>", text))


def is_filter(action: str, name: str) -> bool:
    """Return whether a call has a filter of this name."""
    known = _filters(action)
    return not known or name in known or (name.startswith("tag:") and any(one.startswith("tag") for one in known))


def s3_action(method: str, path: str) -> str:
    """Return the name of a call of S3 with the bucket in the path; empty for an unknown call."""
    has_key = len([part for part in path.split("/") if part]) > 1
    names = {
        ("GET", True): "GetObject",
        ("HEAD", True): "HeadObject",
        ("PUT", True): "PutObject",
        ("POST", True): "CreateMultipartUpload",  # or its completion
        ("DELETE", True): "DeleteObject",
        ("GET", False): "ListObjectsV2",
        ("HEAD", False): "HeadBucket",
    }
    return names.get((method, has_key), "")


#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
_S3_PERMISSIONS = {
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
}


def _permissions_for(target: str, action: str, names: list[str], *, is_s3: bool) -> list[str]:
    """Return the permissions that a call needs."""
    if is_s3:
        return [f"s3:{_S3_PERMISSIONS.get(action, action)}"]
    service = {"AmazonSSM": "ssm", "AWSPriceListService": "pricing"}.get(target.partition(".")[0])
    return [f"{service}:{action}"] if service else ec2_fleets.permissions_for(action, names)


def _refuse(fault: Mapping[str, Any], start_response: Any, *, is_json: bool) -> Iterable[bytes]:
    code, message = fault["code"], fault.get("message", "ordered")
    kind = "application/x-amz-json-1.1" if is_json else "text/xml"
    start_response(f"{int(fault.get('status', 400))} ordered", [("Content-Type", kind)])
    if is_json:
        return [json.dumps({"__type": f"com.amazonaws#{code}", "message": message}).encode()]
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    return [f"<Response><Errors>{error}</Errors><RequestID>ordered</RequestID></Response>".encode()]


def main() -> None:
    """Run the server on a free port of the loopback interface."""
    os.environ |= {"MOTO_ENABLE_AMI_VALIDATION": "true", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"}
    application = make_application()
    if application is None:
        return
    clock, faults, prices = Clock(), Faults(), _Prices()
    orders = ec2_fleets.Orders(clock)
    orders.need = faults.need
    _add(clock, prices)
    ec2_fleets.add(orders, prices.of)
    port = serve(_Front(application, faults, _Products(prices), orders))

    def hear(command: Mapping[str, Any]) -> None:
        prices.hear(command)
        orders.hear(command)

    obey(port, clock, faults, lambda: None, hear)


if __name__ == "__main__":
    main()
