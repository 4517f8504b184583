"""The launch template of a launch request: what its machines have in common, including the start-up script.

There is one template for each launch request, named by its token, so that a request that is sent again is identical, as AWS requires
for idempotency. A template costs nothing; the limit is 5,000 per account and region
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/launch-template-restrictions.html).
"""

import base64
import gzip
import math
from typing import Any

from taskfleet.errors import StartUpError
from taskfleet.machines import LaunchRequest
from taskfleet.machines.aws.regions import LaunchSettings, Region
from taskfleet.machines.choosing import Offer

#: The limit of a start-up script before base64:
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html.
MAX_USER_DATA_BYTES = 16 * 1024
#: Names of tags; they never change.
JOB, RUN, ORDER, LIFETIME = "taskfleet:job", "taskfleet:run", "taskfleet:order", "taskfleet:lifetime"
#: Containers on a machine are one network hop further from its metadata service, and need it for credentials and termination notices.
_HOPS = 2


def template_name(request: LaunchRequest) -> str:
    """Return the name of a request's template; the limit is 128 characters."""
    return f"taskfleet-{request.token}"


def user_data(script: str) -> str:
    """Return a start-up script as user data, compressed if it is long: cloud-init detects gzip.

    Raises:
        StartUpError: The script is too long.
    """
    content = script.encode()
    if len(content) > MAX_USER_DATA_BYTES:
        packed = gzip.compress(content, mtime=0)
        if len(packed) > MAX_USER_DATA_BYTES:
            raise StartUpError(
                f"The start-up script has {len(content):,} bytes, compressed {len(packed):,}; the limit of AWS is "
                f"{MAX_USER_DATA_BYTES:,}. Shorten BEFORE_START_UP, BEFORE_WORKER or AFTER_WORKER, or let them download long parts."
            )
        content = packed
    return base64.b64encode(content).decode()


def job_filters(settings: LaunchSettings) -> list[dict[str, Any]]:
    """Return the filters that match the job's resources; the run, if it is known, separates jobs of the same name."""
    filters = [{"Name": f"tag:{JOB}", "Values": [settings.job_id]}]
    return [*filters, {"Name": f"tag:{RUN}", "Values": [settings.run]}] if settings.run else filters


def tags_of(settings: LaunchSettings, request: LaunchRequest | None = None) -> list[dict[str, str]]:
    """Return the tags of a job's resources, or of the machines of a launch request."""
    tags = {JOB: settings.job_id, RUN: settings.run}
    if request is not None:
        tags = {"Name": request.token, **tags, ORDER: request.token, LIFETIME: f"{request.lifetime_seconds:.0f}"}
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def template_of(settings: LaunchSettings, region: Region, request: LaunchRequest | None, script: str) -> dict[str, Any]:
    """Return the launch template data that the machines of a request have in common.

    Raises:
        StartUpError: The script is too long.
    """
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": settings.external_ip,
        "DeleteOnTermination": True,
    }
    if region.security_groups:
        interface["Groups"] = list(region.security_groups)
    tags = tags_of(settings, request)
    data: dict[str, Any] = {
        "ImageId": region.image,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": _HOPS},
        "NetworkInterfaces": [interface],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
        "UserData": user_data(script),
    }
    if settings.instance_profile:
        is_arn = settings.instance_profile.startswith("arn:")
        data["IamInstanceProfile"] = {"Arn" if is_arn else "Name": settings.instance_profile}
    if settings.key_name:
        data["KeyName"] = settings.key_name
    return data


def boot_disk_of(region: Region, offer: Offer) -> dict[str, Any]:
    """Return the block device of an offer's boot disk, with the speed that its price is for; it is deleted with its machine."""
    disk: dict[str, Any] = {
        "VolumeType": offer.boot_disk_type,
        "VolumeSize": max(math.ceil(offer.boot_disk_gib), region.image_gib),
        "DeleteOnTermination": True,
    }
    disk |= {"Iops": offer.boot_disk_iops} if offer.boot_disk_iops else {}
    disk |= {"Throughput": offer.boot_disk_mibps} if offer.boot_disk_mibps else {}
    return {"DeviceName": region.root_device, "Ebs": disk}
