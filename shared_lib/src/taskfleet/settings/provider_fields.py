"""The settings that only one provider of machines has; those of all are in ``pool_fields``."""

from dataclasses import dataclass

from taskfleet.settings.declaring import setting
from taskfleet.settings.parsers import optional, text, words


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """What only machines of AWS have."""

    instance_profile: str | None = setting(
        "aws", "The instance profile whose role the machines have.", optional(text), metavar="NAME"
    )
    security_groups: tuple[str, ...] = setting(
        "aws", "Security groups, by id; empty for the default one.", words, metavar="LIST"
    )
    subnets: tuple[str, ...] = setting(
        "aws", "Subnets, by id; empty for the default ones of each zone.", words, metavar="LIST"
    )
    key_name: str | None = setting(
        "aws", "A key pair to log in with, for looking into a machine.", optional(text), metavar="NAME"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpSettings:
    """What only machines of Google Cloud have."""

    project_id: str | None = setting("gcp", "The Google Cloud project.", optional(text), metavar="ID")
    service_account: str | None = setting(
        "gcp",
        "The service account the machines have; empty for the project's default one.",
        optional(text),
        metavar="EMAIL",
    )
    network: str | None = setting("gcp", "The network; empty for 'default'.", optional(text), metavar="NAME")
    subnetwork: str | None = setting(
        "gcp",
        "The subnetwork of each region; needed where the network makes none by itself.",
        optional(text),
        metavar="NAME",
    )


#: One class for each provider that has settings of its own.
PROVIDER_SETTINGS: tuple[type, ...] = (AwsSettings, GcpSettings)
