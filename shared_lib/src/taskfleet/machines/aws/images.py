"""Current operating system images of AWS, from the public parameters of their publishers."""

from collections.abc import Sequence
from datetime import UTC, datetime

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.machine_terms import Architecture
from taskfleet.machines.images import Image

PROVIDER = "aws"
#: The limit of names of ssm:GetParameters.
_MAX_PARAMETERS = 10

_UBUNTU = "/aws/service/canonical/ubuntu/server/{release}/stable/current/{architecture}/hvm/ebs-gp3/ami-id"
_DEBIAN = "/aws/service/debian/release/{release}/latest/{architecture}"
_AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"


def fetch_images(region: str, *, now: float) -> list[Image]:
    """Return the newest Ubuntu LTS, Debian and Amazon Linux image for each architecture.

    Args:
        region: Such as "eu-west-1"; the IDs are valid in this region only.
        now: Seconds since the epoch; later releases are not searched for.

    Raises:
        ProviderError: No credentials, no permission, an unknown region, no network.
    """
    client = AwsClient()
    candidates = [
        *(ubuntu_parameters(architecture, now=now) for architecture in Architecture),
        *(_debian_parameters(architecture, now=now) for architecture in ("amd64", "arm64")),
        *([_AMAZON_LINUX.format(architecture=architecture)] for architecture in ("x86_64", "arm64")),
    ]
    ids = read_parameters(client, region, [name for names in candidates for name in names])
    newest = [next((ids[name] for name in names if name in ids), None) for names in candidates]
    chosen = [one for one in newest if one is not None]
    if not chosen:
        return []
    described = {one["ImageId"]: one for one in client.call(region, "DescribeImages", ImageIds=chosen)["Images"]}
    return [
        Image(
            id=one,
            name=described[one]["Name"],
            architecture=Architecture(described[one]["Architecture"]),
            created_at=datetime.fromisoformat(described[one]["CreationDate"]).timestamp(),
            provider=PROVIDER,
        )
        for one in chosen
        if one in described
    ]


def ubuntu_parameters(architecture: Architecture, *, now: float) -> list[str]:
    """Return the names of the parameters with the IDs of Ubuntu LTS images, the newest release first.

    Args:
        architecture: Of the image.
        now: Seconds since the epoch; later releases are omitted.
    """
    year = datetime.fromtimestamp(now, UTC).year
    name = {Architecture.X86_64: "amd64", Architecture.ARM64: "arm64"}[architecture]
    return [_UBUNTU.format(release=f"{even % 100}.04", architecture=name) for even in range(year - year % 2, 2023, -2)]


def read_parameters(client: AwsClient, region: str, names: Sequence[str]) -> dict[str, str]:
    """Return the values of those of some public parameters that exist.

    Raises:
        ProviderError: As ``fetch_images``.
    """
    found: dict[str, str] = {}
    for start in range(0, len(names), _MAX_PARAMETERS):
        batch = [*names[start : start + _MAX_PARAMETERS]]
        response = client.call(region, "GetParameters", service="ssm", Names=batch)
        found |= {one["Name"]: one["Value"] for one in response["Parameters"]}
    return found


def _debian_parameters(architecture: str, *, now: float) -> list[str]:
    """Return the names of the parameters of Debian images, the newest first: there is a release every second year, 12 in 2023."""
    year = datetime.fromtimestamp(now, UTC).year
    newest = 12 + max(0, year - 2023) // 2
    return [_DEBIAN.format(release=release, architecture=architecture) for release in range(newest, 11, -1)]
