"""AWS as a provider of machines. The SDK is imported at the first call."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.permissions import Permissions
from taskfleet.errors import SettingsError
from taskfleet.invocation import poe
from taskfleet.machines import BatchJobs, LaunchRequest, Machines
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.images import Image
from taskfleet.machines.needs import Need
from taskfleet.machines.notice import Watcher
from taskfleet.machines.provider import NO_IDENTITY, check_identity
from taskfleet.settings import Configuration
from taskfleet.settings.provider_fields import AwsSettings


class AwsProvider:
    """See ``Provider``."""

    name: ClassVar[str] = "aws"
    title: ClassVar[str] = "AWS"
    shares_file_system: ClassVar[bool] = False
    lists_offers: ClassVar[bool] = True
    needs_canary: ClassVar[bool] = True
    can_queue: ClassVar[bool] = False
    machines_per_request: ClassVar[int] = 100
    poll_seconds: ClassVar[float] = 10.0
    ending_poll_seconds: ClassVar[float] = 3.0
    empty_lists_to_confirm: ClassVar[int] = 2
    code_sources: ClassVar[tuple[str, ...]] = ("bundle", "git", "image")
    bucket_scheme: ClassVar[str] = "s3"
    #: 16 KiB before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html
    longest_script_bytes: ClassVar[int] = 16 << 10
    permissions: ClassVar[Permissions | None] = AWS
    sdk: ClassVar[str] = "botocore"
    example_queue_url: ClassVar[str] = "sqs://NAME"
    example_region: ClassVar[str] = "us-east-1"

    def check(self, configuration: Configuration) -> None:
        """See ``Provider.check``."""
        if not configuration.pool.regions:
            raise SettingsError(
                f"REGIONS is not set. Set one or more in config/pool.env, such as REGIONS={self.example_region}. "
                f"{poe('list_regions')} lists all regions."
            )

    def check_machines(self, configuration: Configuration) -> None:
        """See ``Provider.check_machines``."""
        value = configuration.of(AwsSettings).instance_profile
        check_identity(configuration, "INSTANCE_PROFILE", value, has_default=False, queues=("sqs:", "http"))

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        return need

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        from taskfleet.machines.aws import offers

        self.check(configuration)
        return offers.fetch(configuration.pool.regions, now=now)

    def catalogue_name(self, configuration: Configuration) -> str:
        """See ``Provider.catalogue_name``."""
        return "_".join([self.name, *sorted(configuration.pool.regions)])

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:  # noqa: ARG002
        """See ``Provider.regions``."""
        from taskfleet.machines.aws import offers

        return offers.regions()

    def images(self, configuration: Configuration, *, now: float) -> Sequence[Image]:
        """See ``Provider.images``; image IDs differ by region."""
        from taskfleet.machines.aws.images import fetch_images

        self.check(configuration)
        return [image for region in configuration.pool.regions for image in fetch_images(region, now=now)]

    def open(self, configuration: Configuration, *, run: str, script: Callable[[LaunchRequest], str]) -> Machines:
        """See ``Provider.open``."""
        from taskfleet.machines.aws.machines import AwsMachines
        from taskfleet.machines.aws.regions import LaunchSettings

        self.check(configuration)
        pool, own = configuration.pool, configuration.of(AwsSettings)
        settings = LaunchSettings(
            job_id=configuration.settings.job_id,
            run=run,
            regions=tuple(dict.fromkeys(pool.regions)),
            architecture=pool.architecture,
            image=pool.image,
            instance_profile=None if own.instance_profile == NO_IDENTITY else own.instance_profile,
            security_groups=own.security_groups,
            subnets=own.subnets,
            key_name=own.key_name,
            external_ip=pool.external_ip,
        )
        return AwsMachines(settings, script=script)

    def preview(self, configuration: Configuration, request: LaunchRequest) -> None:
        """See ``Provider.preview``."""

    def batch_jobs(self, configuration: Configuration) -> BatchJobs | None:  # noqa: ARG002
        """See ``Provider.batch_jobs``."""
        return None

    def worker_hosts(self, configuration: Configuration) -> Sequence[str]:
        """See ``Provider.worker_hosts``."""
        raise NotImplementedError

    def watcher(self, address: str) -> Watcher | None:
        """See ``Provider.watcher``."""
        from taskfleet.machines.aws.notice import AwsWatcher

        return AwsWatcher(address)
