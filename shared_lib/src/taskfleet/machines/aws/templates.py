"""The launch template of an order: all that its machines have in common, with their start-up script.

There is one template for each order, called by the order's token: so an order that is given again is the same to the letter, which AWS
asks of a request that is made twice. A template costs nothing; an account may have 5,000 in a region
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/launch-template-restrictions.html).
"""

import base64
import gzip
import math
from typing import Any

from taskfleet.errors import StartUpError
from taskfleet.machines import LaunchRequest
from taskfleet.machines.aws.regions import Region, Wishes
from taskfleet.machines.choosing import Offer

#: Of a start-up script, before it is written in base64:
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html.
MOST_USER_DATA_BYTES = 16 * 1024
#: Names and values of tags.
JOB, RUN, ORDER, LIFETIME = "taskfleet:job", "taskfleet:run", "taskfleet:order", "taskfleet:lifetime"
#: Containers on a machine are a hop away from its metadata, and need it for its credentials and the notice of its end.
_HOPS = 2
#: What has to be given with these disks, and the least AWS takes.
_LEAST_IOPS = {"io1": 100, "io2": 100}


def name_of(order: LaunchRequest) -> str:
    """Give the name of an order's template; it may have 128 characters."""
    return f"taskfleet-{order.token}"


def user_data(script: str) -> str:
    """Write a start-up script as EC2 takes it, compressed if it has to be: cloud-init notices.

    Raises:
        StartUpError: It is too long.
    """
    content = script.encode()
    if len(content) > MOST_USER_DATA_BYTES:
        packed = gzip.compress(content, mtime=0)
        if len(packed) > MOST_USER_DATA_BYTES:
            raise StartUpError(
                f"The start-up script has {len(content):,} bytes, compressed {len(packed):,}, and AWS takes "
                f"{MOST_USER_DATA_BYTES:,}. Make BEFORE_START_UP, BEFORE_WORKER or AFTER_WORKER shorter: have them fetch what is long."
            )
        content = packed
    return base64.b64encode(content).decode()


def mine(wishes: Wishes) -> list[dict[str, Any]]:
    """Give the filters by which the job's things are found: of its run, if that is known, so that two jobs of one name do not mix."""
    filters = [{"Name": f"tag:{JOB}", "Values": [wishes.job_id]}]
    return [*filters, {"Name": f"tag:{RUN}", "Values": [wishes.run]}] if wishes.run else filters


def tags_of(wishes: Wishes, order: LaunchRequest | None = None) -> list[dict[str, str]]:
    """Give the tags of what is made for a job, or for one of its orders."""
    tags = {JOB: wishes.job_id, RUN: wishes.run}
    if order is not None:
        tags = {"Name": order.token, **tags, ORDER: order.token, LIFETIME: f"{order.lifetime_seconds:.0f}"}
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def template_of(wishes: Wishes, region: Region, order: LaunchRequest | None, script: str) -> dict[str, Any]:
    """Give what the machines of an order have in common.

    Raises:
        StartUpError: The script is too long.
    """
    interface: dict[str, Any] = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": wishes.external_ip,
        "DeleteOnTermination": True,
    }
    if region.security_groups:
        interface["Groups"] = list(region.security_groups)
    tags = tags_of(wishes, order)
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
    if wishes.instance_profile:
        is_address = wishes.instance_profile.startswith("arn:")
        data["IamInstanceProfile"] = {"Arn" if is_address else "Name": wishes.instance_profile}
    if wishes.key_name:
        data["KeyName"] = wishes.key_name
    return data


def boot_disk_of(wishes: Wishes, region: Region, offer: Offer) -> dict[str, Any]:
    """Give an offer's boot disk, which goes with its machine."""
    kind, gib = offer.boot_disk_type, max(math.ceil(offer.boot_disk_gib), region.image_gib)
    disk: dict[str, Any] = {"VolumeType": kind, "VolumeSize": gib, "DeleteOnTermination": True}
    iops, mibps = math.ceil(wishes.boot_disk_iops), math.ceil(wishes.boot_disk_mibps)
    if kind == "gp3":  # what every such disk does is not to be asked for
        disk |= {"Iops": iops} if iops > 3000 else {}
        disk |= {"Throughput": mibps} if mibps > 125 else {}
    elif kind in _LEAST_IOPS:  # each operation moves 256 KiB
        disk["Iops"] = max(iops, 4 * mibps, _LEAST_IOPS[kind])
    return {"DeviceName": region.root_device, "Ebs": disk}
