"""What Compute Engine is told of a machine to start, and how it is found again: names and labels."""

import hashlib
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskfleet.errors import StartUpError, WrongSettingError
from taskfleet.machine_terms import Market, region_of
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp.cpus import series_of

JOB_LABEL, RUN_LABEL, ORDER_LABEL = "taskfleet-job", "taskfleet-run", "taskfleet-order"
NETWORK_TAG: Final = "taskfleet"
#: https://cloud.google.com/compute/docs/naming-resources
MOST_IN_NAME = 63
_NAME: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: https://cloud.google.com/compute/docs/labeling-resources#requirements
MOST_IN_LABEL = 63
#: https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
MOST_SCRIPT_BYTES = 256 * 1024
#: https://cloud.google.com/compute/docs/instances/limit-vm-runtime#restrictions
LIFETIME_SECONDS = (30, 120 * 24 * 3600)
#: Series that cannot be moved to another host while they run.
#: https://cloud.google.com/compute/docs/instances/live-migration-process#limitations
_IMMOVABLE: Final = {"h3", "h4d"}
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_REQUESTS: Final = uuid.UUID("6b1f5a3e-6f0c-5c1c-9d51-6d8d2f5a7c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What all machines of a job have in common."""

    image: str
    labels: Mapping[str, str]
    service_account: str | None
    network: str | None
    subnetwork: str | None
    external_ip: bool


def check_name(name: str) -> None:
    """Check that a machine may be called so.

    Raises:
        WrongSettingError: It may not.
    """
    if not _NAME.fullmatch(name):
        raise WrongSettingError(
            f"Google Cloud has no machines called {name!r}: a name is at most {MOST_IN_NAME} lower-case letters, digits and dashes, "
            "begins with a letter and does not end with a dash.",
            setting="JOB_ID",
        )


def check_script(script: str) -> None:
    """Check that a start-up script is not too long.

    Raises:
        StartUpError: It is.
    """
    size = len(script.encode())
    if size > MOST_SCRIPT_BYTES:
        raise StartUpError(
            f"The start-up script has {size:,} bytes, and Google Cloud takes {MOST_SCRIPT_BYTES:,}. Shorten BEFORE_START_UP, "
            "BEFORE_WORKER or AFTER_WORKER, or put them into the project."
        )


def request_id(project: str, zone: str, name: str) -> str:
    """Give the number of the request that starts a machine: always the same one, so that it is carried out once."""
    return str(uuid.uuid5(_REQUESTS, f"{project}/{zone}/{name}"))


def label_value(text: str) -> str:
    """Give a label's value for a text: itself if it may be one, else with what may not be in it written out.

    What is too long then is cut, and ends with its hash.
    """
    is_plain = re.fullmatch(r"[a-z0-9_-]*", text) is not None and "__" not in text
    if is_plain:
        encoded = text
    else:
        allowed = rb"[a-z0-9-]" if "__" in text else rb"[a-z0-9_-]"
        pieces = (text.encode()[at : at + 1] for at in range(len(text.encode())))
        encoded = "".join(one.decode() if re.fullmatch(allowed, one) else f"__{one.hex()}" for one in pieces)
    if len(encoded) <= MOST_IN_LABEL:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{encoded[: MOST_IN_LABEL - 17]}-{digest}"


def label_text(value: str) -> str:
    """Give the text of a label's value, if it was not too long."""
    parts = re.split(r"__([0-9a-f]{2})", value)
    plain = (one.encode() if index % 2 == 0 else bytes.fromhex(one) for index, one in enumerate(parts))
    return b"".join(plain).decode(errors="replace")


def make_body(name: str, offer: Offer, lifetime_seconds: float, script: str, order: str, wiring: Wiring) -> Any:
    """Describe a machine.

    The local disks of the types in the catalogue are bundled with these, so Compute Engine attaches them by itself.
    """
    from google.cloud import compute_v1

    labels = dict(wiring.labels) | {ORDER_LABEL: label_value(order)}
    disk = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            source_image=wiring.image,
            disk_type=f"zones/{offer.zone}/diskTypes/{offer.boot_disk_type}",
            disk_size_gb=disk_gib(offer),
            labels=labels,
        ),
    )
    return compute_v1.Instance(
        name=name,
        machine_type=f"zones/{offer.zone}/machineTypes/{offer.instance_type}",
        disks=[disk],
        network_interfaces=[_interface(offer.zone, wiring)],
        scheduling=_scheduling(offer, lifetime_seconds),
        service_accounts=[compute_v1.ServiceAccount(email=wiring.service_account or "default", scopes=[_SCOPE])],
        labels=labels,
        tags=compute_v1.Tags(items=[NETWORK_TAG]),
        metadata=compute_v1.Metadata(items=[compute_v1.Items(key="startup-script", value=script)]),
    )


def disk_gib(offer: Offer) -> int:
    """Give the boot disk's size; they come in whole GiB, the smallest of 10."""
    return max(10, math.ceil(offer.boot_disk_gib))


def _scheduling(offer: Offer, lifetime_seconds: float) -> Any:
    from google.cloud import compute_v1

    is_spot = offer.market is Market.SPOT
    shortest, longest = LIFETIME_SECONDS
    found = compute_v1.Scheduling(
        provisioning_model="SPOT" if is_spot else "STANDARD",
        instance_termination_action="DELETE",
        max_run_duration=compute_v1.Duration(seconds=int(min(max(lifetime_seconds, shortest), longest))),
        automatic_restart=False,
    )
    if is_spot or series_of(offer.instance_type) in _IMMOVABLE:
        found.on_host_maintenance = "TERMINATE"
    return found


def _interface(zone: str, wiring: Wiring) -> Any:
    from google.cloud import compute_v1

    found = compute_v1.NetworkInterface()
    if wiring.network is not None:
        found.network = network_path(wiring.network)
    if wiring.subnetwork is not None:
        found.subnetwork = subnetwork_path(wiring.subnetwork, region_of(zone))
    if wiring.network is None and wiring.subnetwork is None:
        found.network = network_path("default")
    if wiring.external_ip:
        found.access_configs = [compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    return found


def network_path(given: str) -> str:
    """Give a network's path; it may be given as one, for that of another project."""
    return given if "/" in given else f"global/networks/{given}"


def subnetwork_path(given: str, region: str) -> str:
    """Give a subnetwork's path; it may be given as one, for that of another project."""
    return given if "/" in given else f"regions/{region}/subnetworks/{given}"
