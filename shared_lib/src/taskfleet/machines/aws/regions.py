"""What a job's machines need in each region of AWS: an image, subnets, security groups."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.errors import WrongSettingError
from taskfleet.machine_terms import Architecture

#: How many names ssm:GetParameters takes at once.
_PARAMETERS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is set about how a job's machines start on AWS."""

    job_id: str
    run: str
    regions: tuple[str, ...]
    architecture: Architecture
    image: str | None
    """None for the newest Ubuntu LTS."""
    instance_profile: str | None
    """A name, or an address that begins with ``arn:``."""
    security_groups: tuple[str, ...]
    """By id; empty for the default one of the network."""
    subnets: tuple[str, ...]
    """By id; empty for the default one of each zone."""
    key_name: str | None
    external_ip: bool
    boot_disk_iops: float
    boot_disk_mibps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What there is in a region of what a job needs."""

    name: str
    image: str
    root_device: str
    """What the image calls its boot disk, such as ``/dev/sda1``."""
    image_gib: int
    """A boot disk has to be as large as that."""
    subnets: Mapping[str, str]
    """Zone to subnet."""
    security_groups: tuple[str, ...]


class Regions:
    """Looks what there is in a region when it is first wanted. For several threads."""

    def __init__(self, client: AwsClient, wishes: Wishes, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._wishes = wishes
        self._clock = clock
        self._known: dict[str, Region] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Region:
        """Give what there is in a region.

        Raises:
            UnreachableError: AWS does not answer.
            WrongSettingError: An image, subnet or security group is not there.
            ProviderError: These credentials are wrong or lack a permission.
        """
        with self._lock:
            if name not in self._known:
                image = self._image(name)
                self._known[name] = Region(
                    name=name,
                    image=image["ImageId"],
                    root_device=image["RootDeviceName"],
                    image_gib=_size_gib(image),
                    subnets=self._subnets(name),
                    security_groups=self._security_groups(name),
                )
            return self._known[name]

    def _image(self, region: str) -> dict[str, Any]:
        wishes = self._wishes
        image_id = wishes.image or self._newest_ubuntu(region)
        wanted = [{"Name": "image-id", "Values": [image_id]}]
        found = self._client.call(region, "DescribeImages", Filters=wanted)["Images"]
        if not found:
            raise WrongSettingError(
                f"AWS EC2 in {region} has no image {image_id}. Set IMAGE to one of its own, see poe list_images, or leave it "
                "empty: an image is of one region.",
                setting="IMAGE",
            )
        image: dict[str, Any] = found[0]
        if image["Architecture"] != wishes.architecture:
            raise WrongSettingError(
                f"Image {image_id} in {region} is for {image['Architecture']}, and ARCHITECTURE is {wishes.architecture}. Set "
                "one of the two to the other.",
                setting="ARCHITECTURE",
            )
        return image

    def _newest_ubuntu(self, region: str) -> str:
        from taskfleet.machines.aws.offers import ubuntu_parameters

        names = ubuntu_parameters(self._wishes.architecture, now=self._clock())
        found: dict[str, str] = {}
        for start in range(0, len(names), _PARAMETERS):
            answer = self._client.call(region, "GetParameters", service="ssm", Names=names[start : start + _PARAMETERS])
            found |= {one["Name"]: one["Value"] for one in answer["Parameters"]}
        newest = next((found[name] for name in names if name in found), None)
        if newest is None:
            raise WrongSettingError(
                f"AWS names no image of Ubuntu LTS in {region}. Set IMAGE, see poe list_images.", setting="IMAGE"
            )
        return newest

    def _subnets(self, region: str) -> dict[str, str]:
        """Give one subnet of each zone: a fleet takes no two pools of the same type in the same zone."""
        wanted = self._wishes.subnets
        name, values = ("subnet-id", [*wanted]) if wanted else ("default-for-az", ["true"])
        filters = [{"Name": name, "Values": values}]
        found = [
            one for page in self._client.pages(region, "DescribeSubnets", Filters=filters) for one in page["Subnets"]
        ]
        if not wanted and not found:
            raise WrongSettingError(
                f"This AWS account has no default subnets in {region}. Set SUBNETS, or make a default network with: "
                f"aws ec2 create-default-vpc --region {region}.",
                setting="SUBNETS",
            )
        self._check("SUBNETS", region, wanted, [one["SubnetId"] for one in found])
        networks = {one["VpcId"] for one in found}
        if len(networks) > 1:
            raise WrongSettingError(
                f"SUBNETS are of several networks in {region} ({', '.join(sorted(networks))}). Give those of one: security "
                "groups are of one network too.",
                setting="SUBNETS",
            )
        # the first that is named, whatever the order of the answer: an order that is given again has to be the same
        place = {name: index for index, name in enumerate(wanted)}
        found.sort(key=lambda one: (place.get(one["SubnetId"], 0), one["SubnetId"]), reverse=True)
        return {one["AvailabilityZone"]: one["SubnetId"] for one in found}

    def _security_groups(self, region: str) -> tuple[str, ...]:
        wanted = self._wishes.security_groups
        if not wanted:
            return ()
        filters = [{"Name": "group-id", "Values": list(wanted)}]
        found = {
            one["GroupId"]
            for page in self._client.pages(region, "DescribeSecurityGroups", Filters=filters)
            for one in page["SecurityGroups"]
        }
        self._check("SECURITY_GROUPS", region, wanted, found)
        return tuple(one for one in wanted if one in found)

    def _check(self, setting: str, region: str, wanted: tuple[str, ...], found: Any) -> None:
        """See that what is set is there: all of it if there is one region, else some, as each thing is of one region."""
        missing = [one for one in wanted if one not in found]
        if missing and (len(self._wishes.regions) == 1 or len(missing) == len(wanted)):
            raise WrongSettingError(
                f"AWS EC2 in {region} has no {', '.join(missing)}, of {setting}. Give those of that region, or leave it empty.",
                setting=setting,
            )


def _size_gib(image: Mapping[str, Any]) -> int:
    sizes = [
        one["Ebs"].get("VolumeSize", 0)
        for one in image.get("BlockDeviceMappings", ())
        if one.get("DeviceName") == image["RootDeviceName"] and "Ebs" in one
    ]
    return max(sizes, default=0)
