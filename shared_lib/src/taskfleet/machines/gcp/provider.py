"""Google Cloud as a provider of machines. The SDK is imported at the first call."""

import os
from collections.abc import Callable, Sequence
from typing import ClassVar

from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.clouds.permissions import Permissions
from taskfleet.errors import SettingsError
from taskfleet.invocation import poe
from taskfleet.machines import BatchJobs, LaunchRequest, Machines
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.images import Image
from taskfleet.machines.needs import Need
from taskfleet.machines.notice import Watcher
from taskfleet.machines.provider import check_identity
from taskfleet.settings import Configuration
from taskfleet.settings.provider_fields import GcpSettings


class GcpProvider:
    """See ``Provider``."""

    name: ClassVar[str] = "gcp"
    title: ClassVar[str] = "Google Cloud"
    shares_file_system: ClassVar[bool] = False
    lists_offers: ClassVar[bool] = True
    needs_canary: ClassVar[bool] = True
    can_queue: ClassVar[bool] = False
    machines_per_request: ClassVar[int] = 100
    poll_seconds: ClassVar[float] = 10.0
    ending_poll_seconds: ClassVar[float] = 3.0
    empty_lists_to_confirm: ClassVar[int] = 2
    code_sources: ClassVar[tuple[str, ...]] = ("bundle", "git", "image")
    bucket_scheme: ClassVar[str] = "gs"
    #: 256 KB per metadata value: https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations
    longest_script_bytes: ClassVar[int] = 256 << 10
    permissions: ClassVar[Permissions | None] = GOOGLE
    sdk: ClassVar[str] = "google.cloud.compute_v1"
    example_queue_url: ClassVar[str] = "pubsub://PROJECT/NAME"
    example_region: ClassVar[str] = "us-central1"

    def check(self, configuration: Configuration) -> None:
        """See ``Provider.check``."""
        if not configuration.pool.regions:
            raise SettingsError(
                f"REGIONS is not set. Set one or more in config/pool.env, such as REGIONS={self.example_region}. "
                f"{poe('list_regions')} lists all regions."
            )

    def check_machines(self, configuration: Configuration) -> None:
        """See ``Provider.check_machines``; an empty SERVICE_ACCOUNT stands for the project's default one."""
        value = configuration.of(GcpSettings).service_account
        check_identity(configuration, "SERVICE_ACCOUNT", value, has_default=True, queues=("pubsub:",))

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        return need

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        from taskfleet.machines.gcp import offers

        self.check(configuration)
        return offers.fetch(_project_of(configuration), configuration.pool.regions, now=now)

    def catalogue_name(self, configuration: Configuration) -> str:
        """See ``Provider.catalogue_name``; it contains the project, since some projects have negotiated prices."""
        own = configuration.of(GcpSettings)
        project = [own.project_id] if own.project_id else []
        return "_".join([self.name, *project, *sorted(configuration.pool.regions)])

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
        """See ``Provider.regions``."""
        from taskfleet.machines.gcp import offers

        return offers.regions(_project_of(configuration))

    def images(self, configuration: Configuration, *, now: float) -> Sequence[Image]:  # noqa: ARG002
        """See ``Provider.images``."""
        from taskfleet.machines.gcp import offers

        return offers.images()

    def open(self, configuration: Configuration, *, run: str, script: Callable[[LaunchRequest], str]) -> Machines:
        """See ``Provider.open``."""
        from taskfleet.machines.gcp.bodies import LaunchSettings
        from taskfleet.machines.gcp.machines import GcpMachines

        self.check(configuration)
        pool, own = configuration.pool, configuration.of(GcpSettings)
        settings = LaunchSettings(
            project=_project_of(configuration),
            job_id=configuration.settings.job_id,
            run=run,
            regions=tuple(pool.regions),
            architecture=pool.architecture,
            image=pool.image,
            service_account=own.service_account,
            network=own.network,
            subnetwork=own.subnetwork,
            external_ip=pool.external_ip,
        )
        return GcpMachines(settings, script=script)

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
        from taskfleet.machines.gcp.notice import GcpWatcher

        return GcpWatcher(address)


def _project_of(configuration: Configuration) -> str:
    """Return the Google Cloud project of the settings, or of the variable GOOGLE_CLOUD_PROJECT."""
    project = configuration.of(GcpSettings).project_id or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise SettingsError("PROJECT_ID is not set. Set your Google Cloud project in config/pool.env.")
    return project
