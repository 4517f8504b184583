"""Machines of AWS EC2: ``AwsMachines``.

``clouds.aws_permissions`` lists the permissions that are used; ``preflight`` reports which are missing.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.clouds.aws_errors import ERRORS, code_of, reply_of
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import Market, region_of
from taskfleet.machines import FailureReason, LaunchedMachine, LaunchFailure, LaunchRequest, LaunchResult, Machine
from taskfleet.machines.aws.cleanup import clear
from taskfleet.machines.aws.fleets import NextStep, next_step
from taskfleet.machines.aws.preflight import preflight
from taskfleet.machines.aws.regions import LaunchSettings, Region, Regions
from taskfleet.machines.aws.responses import read_fleet, read_instance, zone_of
from taskfleet.machines.aws.templates import ORDER, boot_disk_of, job_filters, tags_of, template_name, template_of
from taskfleet.machines.choosing import Offer

logger = logging.getLogger(__name__)

#: How often a launch request is sent at most if its response was lost or its template is not visible yet, and the first pause between
#: two of them, which doubles.
MAX_LAUNCH_CALLS = 4
LAUNCH_PAUSE_SECONDS = 1.0
#: The limit of values of a filter: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html.
FILTER_VALUES = 200
#: The limit of characters of a client token: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html.
_TOKEN_CHARACTERS = 64

_TEMPLATE_EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"
_NO_INSTANCE = "InvalidInstanceID"

_T = TypeVar("_T")


class AwsMachines:
    """Machines of a job on AWS EC2; see ``Machines``. The SDK finds credentials, profile and endpoint in its default order.

    A launch request is one fleet of type instant: AWS chooses among the request's offers, launches what it has capacity for, and reports
    errors for the rest. In addition to the exceptions that ``Machines`` names, every method raises a ``ProviderError`` for what only the
    user can correct: credentials, permissions, a wrong image.

    Args:
        settings: With which the job's machines are launched.
        script: Returns the start-up script (user data) for a launch request; always the same for the same request.
    """

    name: ClassVar[str] = "aws"

    def __init__(self, settings: LaunchSettings, *, script: Callable[[LaunchRequest], str]) -> None:
        self._settings = settings
        self._script = script
        self._client = AwsClient()
        self._regions = Regions(self._client, settings)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch machines with one fleet; see ``Machines.launch``.

        Raises:
            UnreachableError: It is unknown whether machines were launched; the same request can be sent again.
            ProviderError: No machine was launched: the account or a setting is wrong, not the offers.
            StartUpError: No machine was launched: the start-up script is too long.
        """
        region = self._regions.get(region_of(request.offers[0].zone))
        offers: dict[tuple[str, str], Offer] = {}
        for offer in request.offers:
            offers.setdefault((offer.instance_type, offer.zone), offer)
        without_subnet = tuple(
            LaunchFailure(offer.instance_type, offer.zone, FailureReason.INVALID, self._no_subnet_text(offer.zone))
            for offer in offers.values()
            if offer.zone not in region.subnets
        )
        usable = [offer for offer in offers.values() if offer.zone in region.subnets]
        if not usable:
            return LaunchResult((), without_subnet)
        fleet = self._create_fleet(request, region, self._fleet_parameters(request, region, usable))
        if fleet is None:
            return self._launched_before(request, region)
        result = read_fleet(fleet, region, usable, request.number, lambda text: self._client.decode(region.name, text))
        return LaunchResult(result.launched, result.failures + without_subnet)

    def list(self) -> Sequence[Machine]:
        """Return the machines of all regions; see ``Machines.list``."""
        found = self._in_all_regions(lambda region: [*self._instances(region)])
        return [read_instance(one) for instances in found.values() for one in instances]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Terminate machines of this job; see ``Machines.terminate``."""
        wanted = tuple(dict.fromkeys(instance_ids))
        if wanted:
            self._in_all_regions(lambda region: self._terminate(region, wanted))

    def console(self, instance_id: str) -> str | None:
        """Return the console output of a machine; see ``Machines.console``."""
        for region in self._settings.regions:
            for is_latest in (True, False):
                options: dict[str, Any] = {"Latest": True} if is_latest else {}
                try:
                    response = self._client.call_raw(region, "GetConsoleOutput", InstanceId=instance_id, **options)
                    return str(response.get("Output") or "")
                except ERRORS as error:
                    code = code_of(error)
                    if code.startswith(_NO_INSTANCE):
                        break
                    if is_latest and code in ("UnsupportedOperation", "InvalidParameterCombination"):
                        continue  # an instance type whose console output is available only as of the boot
                    raise self._client.explain(error, region, "GetConsoleOutput") from error
        return None

    def clear(self) -> Mapping[str, int]:
        """Delete launch templates, and orphaned disks and network interfaces; see ``Machines.clear``."""
        return clear(self._client, self._settings)

    def preflight(self) -> Sequence[str]:
        """Return a sentence for each known obstacle to launching, listing, terminating or cleaning up; see ``Machines.preflight``.

        It costs nothing and creates nothing: all calls are dry runs.

        Raises:
            UnreachableError: AWS does not answer.
        """
        return preflight(self._client, self._settings, self._regions)

    def _fleet_parameters(self, request: LaunchRequest, region: Region, offers: Sequence[Offer]) -> dict[str, Any]:
        token = request.token
        if len(token) > _TOKEN_CHARACTERS:
            token = hashlib.sha256(token.encode()).hexdigest()[:_TOKEN_CHARACTERS]
        template = {"LaunchTemplateName": template_name(request), "Version": "1"}
        overrides = [
            {
                "InstanceType": offer.instance_type,
                "SubnetId": region.subnets[offer.zone],
                "BlockDeviceMappings": [boot_disk_of(region, offer)],
            }
            for offer in offers
        ]
        market = offers[0].market
        if market is Market.SPOT:  # without a maximum price, see docs/decisions.md
            options = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized", "SingleInstanceType": False}}
        else:
            options = {"OnDemandOptions": {"AllocationStrategy": "lowest-price", "SingleInstanceType": False}}
        return {
            "Type": "instant",
            "ClientToken": token,
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": overrides}],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": request.number,
                "DefaultTargetCapacityType": market.value,
            },
            **options,
        }

    def _create_fleet(self, request: LaunchRequest, region: Region, parameters: Mapping[str, Any]) -> Any:
        """Return the response of CreateFleet; None if the request was carried out before, with other parameters."""
        template = {
            "LaunchTemplateName": template_name(request),
            "LaunchTemplateData": template_of(self._settings, region, request, self._script(request)),
            "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags_of(self._settings)}],
        }
        was_lost = False
        for calls in range(MAX_LAUNCH_CALLS):
            if calls:
                time.sleep(LAUNCH_PAUSE_SECONDS * 2 ** (calls - 1))
            action = "CreateLaunchTemplate"
            try:
                self._create_template(region.name, template)
                action = "CreateFleet"
                fleet = self._client.call_raw(region.name, action, max_attempts=1, **parameters)
            except ERRORS as raised:
                cause, error = raised, self._client.explain(raised, region.name, action)
            else:
                if was_lost and not fleet.get("Instances") and not fleet.get("Errors"):
                    raise UnreachableError(
                        f"AWS EC2 in {region.name}: the response to launch request {request.token} was lost and AWS does not repeat it. "
                        "The list of machines will show what was launched."
                    )
                return fleet
            step = next_step(error, action, was_lost=was_lost)
            logger.info(
                "%s for %s in %s failed: %s Next step: %s.", action, request.token, region.name, error, step.name
            )
            match step:
                case NextStep.FIND_LAUNCHED:
                    return None
                case NextStep.FAIL_OFFERS:
                    return _failed_fleet(cause)
                case NextStep.RAISE:
                    raise error from cause
                case NextStep.UNKNOWN:
                    break
                case NextStep.RETRY_AS_LOST:
                    was_lost = True
        if isinstance(error, UnreachableError):
            raise error from cause
        raise UnreachableError(
            f"{error} It is unknown whether launch request {request.token} was carried out; the list of machines will show it.",
            code=error.code,
        ) from cause

    def _create_template(self, region: str, template: Mapping[str, Any]) -> None:
        try:
            self._client.call_raw(region, "CreateLaunchTemplate", **template)
        except ClientError as error:
            if code_of(error) != _TEMPLATE_EXISTS:
                raise

    def _launched_before(self, request: LaunchRequest, region: Region) -> LaunchResult:
        """Return the machines of a request that was carried out before with other parameters; launch none."""
        filters = [{"Name": f"tag:{ORDER}", "Values": [request.token]}]
        found = list(self._instances(region.name, filters))
        launched = tuple(LaunchedMachine(one["InstanceId"], one["InstanceType"], zone_of(one)) for one in found)
        if len(launched) >= request.number:
            return LaunchResult(launched)
        best, text = request.offers[0], "this request was carried out before with other parameters and is not repeated"
        return LaunchResult(launched, (LaunchFailure(best.instance_type, best.zone, FailureReason.STOCK_OUT, text),))

    def _in_all_regions(self, action: Callable[[str], _T]) -> dict[str, _T]:
        """Call a function for every region, even if it fails for some; return the results by region."""
        return self._client.run_parallel({region: partial(action, region) for region in self._settings.regions})

    def _no_subnet_text(self, zone: str) -> str:
        return f"none of SUBNETS is in {zone}" if self._settings.subnets else f"{zone} has no default subnet"

    def _terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        for start in range(0, len(instance_ids), FILTER_VALUES):
            batch = instance_ids[start : start + FILTER_VALUES]
            ids = [
                one["InstanceId"]
                for one in self._instances(region, [{"Name": "instance-id", "Values": [*batch]}])
                if one["State"]["Name"] not in ("shutting-down", "terminated")
            ]
            while ids:
                try:
                    self._client.call_raw(region, "TerminateInstances", InstanceIds=ids)
                    logger.info("Terminated in %s: %s.", region, ", ".join(ids))
                    break
                except ERRORS as error:
                    text = reply_of(error).text if isinstance(error, ClientError) else ""
                    existing = [one for one in ids if one not in text]
                    if not code_of(error).startswith(_NO_INSTANCE) or existing == ids:
                        raise self._client.explain(error, region, "TerminateInstances") from error
                    ids = existing  # EC2 has terminated none of the batch

    def _instances(self, region: str, filters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield the job's instances as EC2 describes them; unlike ``InstanceIds``, filters may name instances that do not exist."""
        for page in self._client.pages(region, "DescribeInstances", Filters=[*job_filters(self._settings), *filters]):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]


def _failed_fleet(error: Exception) -> dict[str, Any]:
    """Return the rejection of a whole fleet as a response whose error names no offer."""
    assert isinstance(error, ClientError)
    code, text, _ = reply_of(error)
    return {"Errors": [{"ErrorCode": code, "ErrorMessage": text}]}
