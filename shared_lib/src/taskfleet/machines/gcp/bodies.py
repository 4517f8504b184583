"""Request bodies for new instances of Compute Engine, with the names and labels by which they are found again."""

import hashlib
import math
import re
import uuid
from dataclasses import dataclass
from typing import Any, Final

from taskfleet.errors import StartUpError, WrongSettingError
from taskfleet.machine_terms import Architecture, Market, region_of
from taskfleet.machines import LaunchRequest
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp.cpus import is_metal, series_of
from taskfleet.machines.provider import NO_IDENTITY

JOB_LABEL, RUN_LABEL, ORDER_LABEL = "taskfleet-job", "taskfleet-run", "taskfleet-order"
NETWORK_TAG: Final = "taskfleet"
#: https://cloud.google.com/compute/docs/naming-resources
MAX_NAME_LENGTH = 63
_NAME: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: https://cloud.google.com/compute/docs/labeling-resources#requirements
MAX_LABEL_LENGTH = 63
#: https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
MAX_SCRIPT_BYTES = 256 * 1024
#: https://cloud.google.com/compute/docs/instances/limit-vm-runtime#restrictions
LIFETIME_SECONDS = (30, 120 * 24 * 3600)
#: Series without live migration.
#: https://cloud.google.com/compute/docs/instances/live-migration-process#limitations
_WITHOUT_LIVE_MIGRATION: Final = {"h3", "h4d"}
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_REQUEST_NAMESPACE: Final = uuid.UUID("6b1f5a3e-6f0c-5c1c-9d51-6d8d2f5a7c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """The settings with which a job's machines are launched on Google Cloud."""

    project: str
    """The project's ID."""
    job_id: str
    run: str
    """The prefix of the tokens of launch requests, and so of the names of machines; empty for the machines of all jobs of this name."""
    regions: tuple[str, ...]
    """Regions in which machines may be launched. ``list`` fails if one of them does not answer."""
    architecture: Architecture = Architecture.X86_64
    image: str | None = None
    """An image or an image family; None for the newest Ubuntu LTS."""
    service_account: str | None = None
    """The machines' service account; None for the project's default one, ``none`` for no service account."""
    network: str | None = None
    """A name, or a path in another project; None for "default", or the subnetwork's network."""
    subnetwork: str | None = None
    """Its name in each region, or a path; None for networks that create subnetworks automatically."""
    external_ip: bool = True
    """Whether machines get an external IP address."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels of all the job's resources."""
        run = {RUN_LABEL: label_value(self.run)} if self.run else {}
        return {JOB_LABEL: label_value(self.job_id)} | run


def is_name(name: str) -> bool:
    """Return whether a name is valid for an instance."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Check that a name is valid for an instance.

    Raises:
        WrongSettingError: It is not.
    """
    if not is_name(name):
        raise WrongSettingError(
            f"{name!r} is not a valid name for an instance of Compute Engine: a name has at most {MAX_NAME_LENGTH} lower-case letters, "
            "digits and hyphens, begins with a letter and does not end with a hyphen. Change JOB_ID.",
            setting="JOB_ID",
        )


def check_script(script: str) -> None:
    """Check that a start-up script is not too long.

    Raises:
        StartUpError: It is.
    """
    size = len(script.encode())
    if size > MAX_SCRIPT_BYTES:
        raise StartUpError(
            f"The start-up script has {size:,} bytes; the limit of Google Cloud is {MAX_SCRIPT_BYTES:,}. Shorten BEFORE_START_UP, "
            "BEFORE_WORKER or AFTER_WORKER, or move long parts into files of the project."
        )


def request_id(project: str, zone: str, name: str) -> str:
    """Return the ID of the request that launches a machine: always the same, so that the request is idempotent."""
    return str(uuid.uuid5(_REQUEST_NAMESPACE, f"{project}/{zone}/{name}"))


def label_value(text: str) -> str:
    """Return a text as the value of a label: unchanged if it is valid, else with other bytes escaped as ``__`` and two hex digits.

    A value that is too long is truncated and ends with a hash of the text.
    """
    is_plain = re.fullmatch(r"[a-z0-9_-]*", text) is not None and "__" not in text
    if is_plain:
        encoded = text
    else:
        allowed = rb"[a-z0-9-]" if "__" in text else rb"[a-z0-9_-]"
        pieces = (text.encode()[at : at + 1] for at in range(len(text.encode())))
        encoded = "".join(one.decode() if re.fullmatch(allowed, one) else f"__{one.hex()}" for one in pieces)
    if len(encoded) <= MAX_LABEL_LENGTH:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{encoded[: MAX_LABEL_LENGTH - 17]}-{digest}"


def label_text(value: str) -> str:
    """Return the text of a label's value, unless it was truncated."""
    parts = re.split(r"__([0-9a-f]{2})", value)
    plain = (one.encode() if index % 2 == 0 else bytes.fromhex(one) for index, one in enumerate(parts))
    return b"".join(plain).decode(errors="replace")


def make_body(name: str, request: LaunchRequest, script: str, image: str, settings: LaunchSettings) -> Any:
    """Return the request body of an instance, which is of the request's first offer.

    The catalogue has only local disks that are bundled with their machine type; Compute Engine attaches these automatically.
    """
    from google.cloud import compute_v1

    offer = request.offers[0]
    labels = settings.labels | {ORDER_LABEL: label_value(request.token)}
    disk = compute_v1.AttachedDisk(
        boot=True,
        auto_delete=True,
        initialize_params=compute_v1.AttachedDiskInitializeParams(
            source_image=image,
            disk_type=f"zones/{offer.zone}/diskTypes/{offer.boot_disk_type}",
            disk_size_gb=math.ceil(offer.boot_disk_gib),
            labels=labels,
        ),
    )
    if offer.boot_disk_iops:
        disk.initialize_params.provisioned_iops = offer.boot_disk_iops
    if offer.boot_disk_mibps:
        disk.initialize_params.provisioned_throughput = offer.boot_disk_mibps
    return compute_v1.Instance(
        name=name,
        machine_type=f"zones/{offer.zone}/machineTypes/{offer.instance_type}",
        disks=[disk],
        network_interfaces=[_interface(offer.zone, settings)],
        scheduling=_scheduling(offer, request.lifetime_seconds),
        service_accounts=[
            compute_v1.ServiceAccount(email=one, scopes=[_SCOPE])
            for one in (settings.service_account or "default",)
            if one != NO_IDENTITY
        ],
        labels=labels,
        tags=compute_v1.Tags(items=[NETWORK_TAG]),
        metadata=compute_v1.Metadata(items=[compute_v1.Items(key="startup-script", value=script)]),
    )


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
    name = offer.instance_type
    if is_spot or is_metal(name) or series_of(name) in _WITHOUT_LIVE_MIGRATION:
        found.on_host_maintenance = "TERMINATE"
    return found


def _interface(zone: str, settings: LaunchSettings) -> Any:
    from google.cloud import compute_v1

    found = compute_v1.NetworkInterface()
    if settings.network is not None:
        found.network = network_path(settings.network)
    if settings.subnetwork is not None:
        found.subnetwork = subnetwork_path(settings.subnetwork, region_of(zone))
    if settings.network is None and settings.subnetwork is None:
        found.network = network_path("default")
    if settings.external_ip:
        found.access_configs = [compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
    return found


def network_path(given: str) -> str:
    """Return a network's path; a path, such as that of another project's network, is returned unchanged."""
    return given if "/" in given else f"global/networks/{given}"


def subnetwork_path(given: str, region: str) -> str:
    """Return a subnetwork's path; a path, such as that of another project's subnetwork, is returned unchanged."""
    return given if "/" in given else f"regions/{region}/subnetworks/{given}"
