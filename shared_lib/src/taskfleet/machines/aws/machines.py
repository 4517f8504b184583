"""Machines of AWS EC2: ``AwsMachines``.

The permissions that are used are in ``clouds.aws_permissions``; ``preflight`` says which are missing.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.clouds.aws_errors import ERRORS, code_of, reply_of
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import Architecture, Market, region_of
from taskfleet.machines import FailureReason, LaunchedMachine, LaunchFailure, LaunchRequest, LaunchResult, Machine
from taskfleet.machines.aws.answers import read_fleet, read_instance, zone_of
from taskfleet.machines.aws.fleets import Next, next_step
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
_GONE = "InvalidInstanceID"

_T = TypeVar("_T")


class AwsMachines:
    """Machines of a job on AWS EC2; see ``Machines``. Credentials, profile and endpoint are those of the SDK's own chain.

    An order is one fleet of type instant: AWS chooses among the order's offers, starts what it has, and says why it has no more. Besides
    what ``Machines`` names, every verb raises a ``ProviderError`` for what only the user can correct: credentials, permissions, a wrong
    image.

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
        self._client = AwsClient()
        self._regions = Regions(self._client, self._wishes)

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """Start machines with one request; see ``Machines.launch``.

        Raises:
            UnreachableError: Nobody knows whether it was done; the same order may be given again.
            ProviderError: Nothing was started, since the account or a setting is wrong, and not the offers.
            StartUpError: Nothing was started, since the start-up script is too long.
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
        answer = read_fleet(fleet, region, somewhere, order.number, lambda text: self._client.decode(region.name, text))
        return LaunchResult(answer.launched, answer.failures + nowhere)

    def list(self) -> Sequence[Machine]:
        """Give the machines of all regions; see ``Machines.list``."""
        found = self._everywhere(lambda region: [*self._instances(region)])
        return [read_instance(one) for instances in found.values() for one in instances]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines, of this job only; see ``Machines.terminate``."""
        wanted = tuple(dict.fromkeys(instance_ids))
        if wanted:
            self._everywhere(lambda region: self._terminate(region, wanted))

    def console(self, instance_id: str) -> str:
        """Give what a machine has printed; see ``Machines.console``."""
        for region in self._wishes.regions:
            for is_latest in (True, False):
                options: dict[str, Any] = {"Latest": True} if is_latest else {}
                try:
                    answer = self._client.call_raw(region, "GetConsoleOutput", InstanceId=instance_id, **options)
                    return str(answer.get("Output") or "")
                except ERRORS as error:
                    code = code_of(error)
                    if code.startswith(_GONE):
                        break
                    if is_latest and code in ("UnsupportedOperation", "InvalidParameterCombination"):
                        continue  # a type of machine that shows only what it printed at first
                    raise self._client.explain(error, region, "GetConsoleOutput") from error
        return ""

    def clear(self) -> Mapping[str, int]:
        """Remove launch templates, and disks and network interfaces that were left; see ``Machines.clear``."""
        return clear(self._client, self._wishes)

    def preflight(self) -> Sequence[str]:
        """Say what would keep machines from being started, looked after and cleared up, in sentences; empty if nothing is known to.

        It costs nothing and makes nothing: AWS is asked whether it would do a thing.

        Raises:
            UnreachableError: AWS does not answer.
        """
        return preflight(self._client, self._wishes, self._regions)

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
        was_lost = False
        for tries in range(LAUNCH_TRIES):
            if tries:
                time.sleep(LAUNCH_PAUSE_SECONDS * 2 ** (tries - 1))
            action = "CreateLaunchTemplate"
            try:
                self._make_template(region.name, template)
                action = "CreateFleet"
                fleet = self._client.call_raw(region.name, action, max_attempts=1, **request)
            except ERRORS as error:
                cause, trouble = error, self._client.explain(error, region.name, action)
            else:
                if was_lost and not fleet.get("Instances") and not fleet.get("Errors"):
                    raise UnreachableError(
                        f"AWS EC2 in {region.name} does not repeat an answer that was lost; its list tells what was started."
                    )
                return fleet
            match next_step(trouble, action, was_lost=was_lost):
                case Next.GIVEN_BEFORE:
                    return None
                case Next.REFUSED:
                    return _without_pools(cause)
                case Next.RAISE:
                    raise trouble from cause
                case Next.UNKNOWN:
                    break
                case Next.AGAIN_AS_LOST:
                    was_lost = True
        if isinstance(trouble, UnreachableError):
            raise trouble from cause
        raise UnreachableError(
            f"{trouble} Nobody knows whether order {order.token} was carried out; the list of machines tells.",
            code=trouble.code,
        ) from cause

    def _make_template(self, region: str, template: Mapping[str, Any]) -> None:
        try:
            self._client.call_raw(region, "CreateLaunchTemplate", **template)
        except ClientError as error:
            if code_of(error) != _TEMPLATE_EXISTS:
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

    def _everywhere(self, action: Callable[[str], _T]) -> dict[str, _T]:
        """Do something in all regions, whatever becomes of the others; return what came of it by region."""
        return self._client.run_parallel({region: partial(action, region) for region in self._wishes.regions})

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
                    self._client.call_raw(region, "TerminateInstances", InstanceIds=mine)
                    break
                except ERRORS as error:
                    text = reply_of(error).text if isinstance(error, ClientError) else ""
                    left = [one for one in mine if one not in text]
                    if not code_of(error).startswith(_GONE) or left == mine:
                        raise self._client.explain(error, region, "TerminateInstances") from error
                    mine = left  # the others were not ended

    def _instances(self, region: str, filters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Give the job's instances as EC2 describes them; filters, unlike lists of ids, may name what is not there."""
        for page in self._client.pages(region, "DescribeInstances", Filters=[*mine(self._wishes), *filters]):
            for reservation in page["Reservations"]:
                yield from reservation["Instances"]


def _without_pools(error: Exception) -> dict[str, Any]:
    """Return a refusal of a whole fleet as one that has errors, and says not of which offers."""
    assert isinstance(error, ClientError)
    code, text, _ = reply_of(error)
    return {"Errors": [{"ErrorCode": code, "ErrorMessage": text}]}
