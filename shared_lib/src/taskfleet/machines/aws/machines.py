"""Machines of AWS EC2: ``AwsMachines``.

Permissions that are used: ec2:CreateFleet, RunInstances, CreateTags, CreateLaunchTemplate, DescribeImages and DescribeSubnets to start
machines, with ssm:GetParameters if no image is set, ec2:DescribeSecurityGroups if some are, and iam:PassRole if machines have a role;
ec2:DescribeInstances, TerminateInstances and GetConsoleOutput to look after them; ec2:DescribeLaunchTemplates, DeleteLaunchTemplate,
DescribeVolumes, DeleteVolume, DescribeNetworkInterfaces and DeleteNetworkInterface to clear up. ``preflight`` says which are missing.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_faults import DENIED, THROTTLED, answer_of
from taskfleet.errors import MachinesUnreachableError
from taskfleet.machine_terms import Architecture, Market, region_of
from taskfleet.machines import FailureReason, LaunchedMachine, LaunchFailure, LaunchRequest, LaunchResult, Machine
from taskfleet.machines.aws.answers import read_fleet, read_instance, zone_of
from taskfleet.machines.aws.calls import AwsCalls
from taskfleet.machines.aws.faults import ERRORS
from taskfleet.machines.aws.leftovers import clear
from taskfleet.machines.aws.preflight import preflight
from taskfleet.machines.aws.regions import Region, Regions, Wishes
from taskfleet.machines.aws.templates import ORDER, boot_disk_of, mine, name_of, tags_of, template_of
from taskfleet.machines.choosing import Offer

#: For how often an order is given whose answer was lost or whose template is not known yet, and what is waited at first in between.
LAUNCH_TRIES = 4
LAUNCH_PAUSE_SECONDS = 1.0
#: A filter takes so many values: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html.
FILTER_VALUES = 200
#: A client token may have so many characters: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html.
_TOKEN_CHARACTERS = 64

_TEMPLATE_EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"
_NO_TEMPLATE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")
_GIVEN_OTHERWISE = "IdempotentParameterMismatch"
_GONE = "InvalidInstanceID"


class AwsMachines:
    """Machines of a job on AWS EC2; see ``Machines``. Credentials, profile and endpoint are those of the SDK's own chain.

    An order is one fleet of type instant: AWS chooses among the order's offers, starts what it has, and says why it has no more. Besides
    what ``Machines`` names, every verb raises ``MachinesError`` for what only the user can mend: credentials, permissions, a wrong image.

    Args:
        job_id: The job's name, by which everything is tagged.
        run: What tells this job from others of its name; empty for all of that name.
        regions: Where machines may be.
        architecture: What the image and the machines run.
        script: Gives the start-up script (user data) of an order's machines; the same for the same order.
        image: An image's id; None for the newest Ubuntu LTS.
        instance_profile: Name or address of the instance profile whose role the machines have.
        security_groups: By id; empty for the network's default one.
        subnets: By id; empty for the default one of each zone. Of several in a zone the first is taken.
        key_name: The key pair to log in with.
        external_ip: Whether machines get a public address.
        boot_disk_iops: Operations per second that boot disks have to do.
        boot_disk_mibps: MiB per second that boot disks have to do.
    """

    name: ClassVar[str] = "aws"

    def __init__(
        self,
        *,
        job_id: str,
        run: str,
        regions: Sequence[str],
        architecture: Architecture,
        script: Callable[[LaunchRequest], str],
        image: str | None = None,
        instance_profile: str | None = None,
        security_groups: Sequence[str] = (),
        subnets: Sequence[str] = (),
        key_name: str | None = None,
        external_ip: bool = True,
        boot_disk_iops: float = 0.0,
        boot_disk_mibps: float = 0.0,
    ) -> None:
        self._wishes = Wishes(
            job_id=job_id,
            run=run,
            regions=tuple(dict.fromkeys(regions)),
            architecture=architecture,
            image=image,
            instance_profile=instance_profile,
            security_groups=tuple(security_groups),
            subnets=tuple(subnets),
            key_name=key_name,
            external_ip=external_ip,
            boot_disk_iops=boot_disk_iops,
            boot_disk_mibps=boot_disk_mibps,
        )
        self._script = script
        self._calls = AwsCalls()
        self._regions = Regions(self._calls, self._wishes)

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """Start machines with one request; see ``Machines.launch``.

        Raises:
            MachinesUnreachableError: Nobody knows whether it was done; the same order may be given again.
            MachinesError: Nothing was started, since the account or a setting is wrong, and not the offers.
        """
        region = self._regions.get(region_of(order.offers[0].zone))
        offers: dict[tuple[str, str], Offer] = {}
        for offer in order.offers:
            offers.setdefault((offer.instance_type, offer.zone), offer)
        nowhere = tuple(
            LaunchFailure(offer.instance_type, offer.zone, FailureReason.INVALID, self._why_nowhere(offer.zone))
            for offer in offers.values()
            if offer.zone not in region.subnets
        )
        somewhere = [offer for offer in offers.values() if offer.zone in region.subnets]
        if not somewhere:
            return LaunchResult((), nowhere)
        fleet = self._create_fleet(order, region, self._request(order, region, somewhere))
        if fleet is None:
            return self._given_before(order, region)
        answer = read_fleet(fleet, region, somewhere, order.number, lambda text: self._calls.decode(region.name, text))
        return LaunchResult(answer.launched, answer.failures + nowhere)

    def list(self) -> Sequence[Machine]:
        """Give the machines of all regions; see ``Machines.list``."""
        found = self._calls.side_by_side(lambda region: [*self._instances(region)], self._wishes.regions)
        return [read_instance(one) for instances in found for one in instances]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines, of this job only; see ``Machines.terminate``."""
        wanted = tuple(dict.fromkeys(instance_ids))
        if wanted:
            self._calls.side_by_side(lambda region: self._terminate(region, wanted), self._wishes.regions)

    def console(self, instance_id: str) -> str:
        """Give what a machine has printed; see ``Machines.console``."""
        for region in self._wishes.regions:
            for is_latest in (True, False):
                options: dict[str, Any] = {"Latest": True} if is_latest else {}
                try:
                    answer = self._calls.ask_plainly(region, "GetConsoleOutput", InstanceId=instance_id, **options)
                    return str(answer.get("Output") or "")
                except ERRORS as error:
                    code = _code_of(error)
                    if code.startswith(_GONE):
                        break
                    if is_latest and code in ("UnsupportedOperation", "InvalidParameterCombination"):
                        continue  # a type of machine that shows only what it printed at first
                    raise self._calls.trouble(error, region, "GetConsoleOutput") from error
        return ""

    def clear(self) -> Mapping[str, int]:
        """Remove launch templates, and disks and network interfaces that were left; see ``Machines.clear``."""
        return clear(self._calls, self._wishes)

    def preflight(self) -> Sequence[str]:
        """Say what would keep machines from being started, looked after and cleared up, in sentences; empty if nothing is known to.

        It costs nothing and makes nothing: AWS is asked whether it would do a thing.

        Raises:
            MachinesUnreachableError: AWS does not answer.
        """
        return preflight(self._calls, self._wishes, self._regions)

    def _request(self, order: LaunchRequest, region: Region, offers: Sequence[Offer]) -> dict[str, Any]:
        token = order.token
        if len(token) > _TOKEN_CHARACTERS:
            token = hashlib.sha256(token.encode()).hexdigest()[:_TOKEN_CHARACTERS]
        template = {"LaunchTemplateName": name_of(order), "Version": "1"}
        overrides = [
            {
                "InstanceType": offer.instance_type,
                "SubnetId": region.subnets[offer.zone],
                "BlockDeviceMappings": [boot_disk_of(self._wishes, region, offer)],
            }
            for offer in offers
        ]
        market = offers[0].market
        if market is Market.SPOT:  # without a highest price, see docs/decisions.md
            options = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized", "SingleInstanceType": False}}
        else:
            options = {"OnDemandOptions": {"AllocationStrategy": "lowest-price", "SingleInstanceType": False}}
        return {
            "Type": "instant",
            "ClientToken": token,
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": overrides}],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": order.number,
                "DefaultTargetCapacityType": market.value,
            },
            **options,
        }

    def _create_fleet(self, order: LaunchRequest, region: Region, request: Mapping[str, Any]) -> Any:
        """Ask for a fleet until AWS says what became of it; None if the order was given before, and otherwise."""
        template = {
            "LaunchTemplateName": name_of(order),
            "LaunchTemplateData": template_of(self._wishes, region, order, self._script(order)),
            "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags_of(self._wishes)}],
        }
        is_lost = False
        for tries in range(LAUNCH_TRIES):
            if tries:
                time.sleep(LAUNCH_PAUSE_SECONDS * 2 ** (tries - 1))
            action = "CreateLaunchTemplate"
            try:
                self._make_template(region.name, template)
                action = "CreateFleet"
                fleet = self._calls.ask_plainly(region.name, action, tries=1, **request)
            except ERRORS as error:
                code, cause = _code_of(error), error
                trouble = self._calls.trouble(error, region.name, action)
            else:
                if is_lost and not fleet.get("Instances") and not fleet.get("Errors"):
                    raise MachinesUnreachableError(
                        f"AWS EC2 in {region.name} does not repeat an answer that was lost; its list tells what was started."
                    )
                return fleet
            if code == _GIVEN_OTHERWISE:
                return None
            if code in _NO_TEMPLATE:  # not known everywhere yet, or somebody has cleared up meanwhile
                trouble = MachinesUnreachableError(str(trouble))
            elif code in THROTTLED and not is_lost:
                return _without_pools(cause)
            elif isinstance(trouble, MachinesUnreachableError):
                is_lost = True
            elif is_lost:  # an earlier try may have been carried out
                raise MachinesUnreachableError(str(trouble)) from cause
            elif action == "CreateFleet" and code and code not in DENIED:
                return _without_pools(cause)
            else:
                break
        raise trouble from cause

    def _make_template(self, region: str, template: Mapping[str, Any]) -> None:
        try:
            self._calls.ask_plainly(region, "CreateLaunchTemplate", **template)
        except ClientError as error:
            if _code_of(error) != _TEMPLATE_EXISTS:
                raise

    def _given_before(self, order: LaunchRequest, region: Region) -> LaunchResult:
        """Give what is there of an order that was given before with other settings: nothing new is started."""
        filters = [{"Name": f"tag:{ORDER}", "Values": [order.token]}]
        found = list(self._instances(region.name, filters))
        started = tuple(LaunchedMachine(one["InstanceId"], one["InstanceType"], zone_of(one)) for one in found)
        best, text = order.offers[0], "this order was given before, with other settings; it is not carried out again"
        is_whole = len(started) >= order.number
        return LaunchResult(
            started, () if is_whole else (LaunchFailure(best.instance_type, best.zone, FailureReason.STOCK_OUT, text),)
        )

    def _why_nowhere(self, zone: str) -> str:
        return f"none of SUBNETS is in {zone}" if self._wishes.subnets else f"{zone} has no default subnet"

    def _terminate(self, region: str, instance_ids: Sequence[str]) -> None:
        for start in range(0, len(instance_ids), FILTER_VALUES):
            batch = instance_ids[start : start + FILTER_VALUES]
            mine = [
                one["InstanceId"]
                for one in self._instances(region, [{"Name": "instance-id", "Values": [*batch]}])
                if one["State"]["Name"] not in ("shutting-down", "terminated")
            ]
            while mine:
                try:
                    self._calls.ask_plainly(region, "TerminateInstances", InstanceIds=mine)
                    break
                except ERRORS as error:
                    text = answer_of(error).text if isinstance(error, ClientError) else ""
                    left = [one for one in mine if one not in text]
                    if not _code_of(error).startswith(_GONE) or left == mine:
                        raise self._calls.trouble(error, region, "TerminateInstances") from error
                    mine = left  # the others were not ended

    def _instances(self, region: str, filters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Give the job's instances as EC2 describes them; filters, unlike lists of ids, may name what is not there."""
        for page in self._calls.pages(region, "DescribeInstances", Filters=[*mine(self._wishes), *filters]):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]


def _code_of(error: Exception) -> str:
    return answer_of(error).code if isinstance(error, ClientError) else ""


def _without_pools(error: Exception) -> dict[str, Any]:
    """Give a refusal of a whole fleet as one that has errors, and says not of which offers."""
    assert isinstance(error, ClientError)
    code, text, _ = answer_of(error)
    return {"Errors": [{"ErrorCode": code, "ErrorMessage": text}]}
