"""The settings of single providers; ``pool_fields`` has those that providers share."""

from dataclasses import dataclass

from taskfleet.settings.declaring import setting
from taskfleet.settings.parsers import optional, text, words


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """The settings of AWS."""

    instance_profile: str | None = setting(
        "aws",
        "Instance profile of the machines; its role grants their permissions. 'none': machines have no instance profile.",
        optional(text),
        metavar="NAME",
    )
    security_groups: tuple[str, ...] = setting(
        "aws", "Security group IDs; empty: the default security group.", words, metavar="LIST"
    )
    subnets: tuple[str, ...] = setting(
        "aws", "Subnet IDs; empty: the default subnet of each zone.", words, metavar="LIST"
    )
    key_name: str | None = setting("aws", "EC2 key pair for SSH access to machines.", optional(text), metavar="NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpSettings:
    """The settings of Google Cloud."""

    project_id: str | None = setting(
        "gcp",
        "Google Cloud project ID.",
        optional(text),
        metavar="ID",
        aliases={"RMS_CLOUD_TASKS_PROJECT_ID": text},
    )
    service_account: str | None = setting(
        "gcp",
        "Service account of the machines; empty: the default one of the project; 'none': machines have no service account.",
        optional(text),
        metavar="EMAIL",
    )
    network: str | None = setting("gcp", "VPC network; empty: 'default'.", optional(text), metavar="NAME")
    subnetwork: str | None = setting(
        "gcp",
        "Subnetwork, of this name in each region; required if the network creates none automatically (custom mode).",
        optional(text),
        metavar="NAME",
    )


#: The settings classes of all providers that have some.
PROVIDER_SETTINGS: tuple[type, ...] = (AwsSettings, GcpSettings)
