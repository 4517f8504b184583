"""The image, subnets and security groups of a job in each region of AWS."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.errors import WrongSettingError
from taskfleet.invocation import poe
from taskfleet.machine_terms import Architecture
from taskfleet.machines.aws.images import read_parameters, ubuntu_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """The settings with which a job's machines are launched on AWS."""

    job_id: str
    """All resources are tagged with it."""
    run: str
    """Distinguishes this job from others of the same name; empty for all jobs of that name."""
    regions: tuple[str, ...]
    architecture: Architecture
    """Of the image and the machines."""
    image: str | None = None
    """The ID of an image; None for the newest Ubuntu LTS."""
    instance_profile: str | None = None
    """Name or ARN of the instance profile whose role the machines assume."""
    security_groups: tuple[str, ...] = ()
    """IDs; empty for the VPC's default security group."""
    subnets: tuple[str, ...] = ()
    """IDs; empty for the default subnet of each zone. Of several in a zone the first is used."""
    key_name: str | None = None
    """The key pair for SSH."""
    external_ip: bool = True
    """Whether machines get a public IP address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The resources of a region that a job's machines use."""

    name: str
    image: str
    root_device: str
    """The device name of the image's boot disk, such as ``/dev/sda1``."""
    image_gib: int
    """The minimum size of a boot disk."""
    subnets: Mapping[str, str]
    """By zone."""
    security_groups: tuple[str, ...]


class Regions:
    """Looks up the resources of a region at the first use, and caches them. Thread-safe."""

    def __init__(self, client: AwsClient, settings: LaunchSettings, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._known: dict[str, Region] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Region:
        """Return the resources of a region.

        Raises:
            UnreachableError: AWS does not answer.
            WrongSettingError: An image, subnet or security group does not exist.
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
        settings = self._settings
        image_id = settings.image or self._newest_ubuntu(region)
        wanted = [{"Name": "image-id", "Values": [image_id]}]
        found = self._client.call(region, "DescribeImages", Filters=wanted)["Images"]
        if not found:
            raise WrongSettingError(
                f"AWS EC2 in {region} has no image {image_id}: an image exists in one region. Set IMAGE to an image of that region "
                f"({poe('list_images')} lists the current ones), or leave it empty.",
                setting="IMAGE",
            )
        image: dict[str, Any] = found[0]
        if image["Architecture"] != settings.architecture:
            raise WrongSettingError(
                f"Image {image_id} in {region} is for {image['Architecture']}, but ARCHITECTURE is {settings.architecture}. Change "
                "IMAGE or ARCHITECTURE.",
                setting="ARCHITECTURE",
            )
        return image

    def _newest_ubuntu(self, region: str) -> str:
        names = ubuntu_parameters(self._settings.architecture, now=self._clock())
        found = read_parameters(self._client, region, names)
        newest = next((found[name] for name in names if name in found), None)
        if newest is None:
            raise WrongSettingError(
                f"AWS has no Ubuntu LTS image in {region}. Set IMAGE; {poe('list_images')} lists the current images.",
                setting="IMAGE",
            )
        return newest

    def _subnets(self, region: str) -> dict[str, str]:
        """Return one subnet by zone: a fleet rejects two overrides of the same type in the same zone."""
        wanted = self._settings.subnets
        name, values = ("subnet-id", [*wanted]) if wanted else ("default-for-az", ["true"])
        filters = [{"Name": name, "Values": values}]
        found = [
            one for page in self._client.pages(region, "DescribeSubnets", Filters=filters) for one in page["Subnets"]
        ]
        if not wanted and not found:
            raise WrongSettingError(
                f"This AWS account has no default subnets in {region}. Set SUBNETS, or create a default VPC: "
                f"aws ec2 create-default-vpc --region {region}.",
                setting="SUBNETS",
            )
        self._check("SUBNETS", region, wanted, [one["SubnetId"] for one in found])
        networks = {one["VpcId"] for one in found}
        if len(networks) > 1:
            raise WrongSettingError(
                f"SUBNETS are in several VPCs in {region} ({', '.join(sorted(networks))}). Set subnets of one VPC: security "
                "groups belong to one VPC, too.",
                setting="SUBNETS",
            )
        # the first of the setting, whatever the order of the response: a request that is sent again has to be identical
        position = {name: index for index, name in enumerate(wanted)}
        found.sort(key=lambda one: (position.get(one["SubnetId"], 0), one["SubnetId"]), reverse=True)
        return {one["AvailabilityZone"]: one["SubnetId"] for one in found}

    def _security_groups(self, region: str) -> tuple[str, ...]:
        wanted = self._settings.security_groups
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
        """Check that the IDs of a setting exist: all if there is one region, else at least one, since each ID exists in one region."""
        missing = [one for one in wanted if one not in found]
        if missing and (len(self._settings.regions) == 1 or len(missing) == len(wanted)):
            raise WrongSettingError(
                f"AWS EC2 in {region} has no {', '.join(missing)}. Set {setting} to IDs of that region, or leave it empty.",
                setting=setting,
            )


def _size_gib(image: Mapping[str, Any]) -> int:
    sizes = [
        one["Ebs"].get("VolumeSize", 0)
        for one in image.get("BlockDeviceMappings", ())
        if one.get("DeviceName") == image["RootDeviceName"] and "Ebs" in one
    ]
    return max(sizes, default=0)
