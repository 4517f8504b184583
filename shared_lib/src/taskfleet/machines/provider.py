"""The interface of providers of machines, and their registry.

The setting PROVIDER names a provider, which is imported when it is used. Code outside a provider's package never compares its name:
differences between providers are class attributes or methods of ``Provider``.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Protocol

from taskfleet.errors import SettingsError
from taskfleet.extras import require
from taskfleet.settings import Configuration

if TYPE_CHECKING:  # a worker needs only its watcher, and imports none of these
    from taskfleet.clouds.permissions import Permissions
    from taskfleet.machines import BatchJobs, LaunchRequest, Machines, Preview
    from taskfleet.machines.catalogue import Catalogue
    from taskfleet.machines.images import Image
    from taskfleet.machines.needs import Need
    from taskfleet.machines.notice import Watcher

#: The module and the class of each provider, by name.
PROVIDERS: Mapping[str, str] = {
    "local": "taskfleet.machines.local.provider:LocalProvider",
    "aws": "taskfleet.machines.aws.provider:AwsProvider",
    "gcp": "taskfleet.machines.gcp.provider:GcpProvider",
    "slurm": "taskfleet.machines.slurm.provider:SlurmProvider",
    "ssh": "taskfleet.machines.ssh.provider:SshProvider",
}
#: The value of settings with the identity of machines that stands for none.
NO_IDENTITY = "none"


class Provider(Protocol):
    """A source of machines. It is stateless: the methods get all they need from the configuration."""

    name: ClassVar[str]
    """As in the setting PROVIDER."""
    title: ClassVar[str]
    """The name for people."""
    shares_file_system: ClassVar[bool]
    """Whether its machines can open the ledger and the project's folder; if not, tasks need a queue service."""
    lists_offers: ClassVar[bool]
    """Whether it can list regions, images and prices."""
    needs_canary: ClassVar[bool]
    """Whether the first machine has to be ready before more are launched, since a problem of the first affects all."""
    can_queue: ClassVar[bool]
    """Whether accepted machines may wait in its queue at no cost, see ``Machines``; if not, costs count from the launch request."""
    machines_per_request: ClassVar[int]
    """The maximum number of machines per launch request."""
    poll_seconds: ClassVar[float]
    """The interval at which the controller lists the machines."""
    ending_poll_seconds: ClassVar[float]
    """The interval while machines are being terminated."""
    empty_lists_to_confirm: ClassVar[int]
    """The number of consecutive empty lists after which no machine counts as left, since lists may lag behind."""
    code_sources: ClassVar[tuple[str, ...]]
    """The values of CODE_FROM that its machines support; empty if they share the project's folder."""
    bucket_scheme: ClassVar[str]
    """The URL scheme of the buckets that its machines can read; empty if no bucket is used: the provider itself then sends the bundle."""
    longest_script_bytes: ClassVar[int]
    """The size limit of start-up scripts; 0 if there are none."""
    permissions: ClassVar["Permissions | None"]
    """The permissions that its accounts and machines need; None if it has no permissions."""
    sdk: ClassVar[str]
    """The module of its SDK, one of ``extras.OPTIONAL_PACKAGES``; empty for none. ``watcher`` works without it."""
    example_queue_url: ClassVar[str]
    """The URL of a queue that its machines can reach, for messages."""
    example_region: ClassVar[str]
    """A region, for messages; empty if there are none."""

    def check(self, configuration: Configuration) -> None:
        """Check that the settings that are needed to find machines are set.

        Raises:
            SettingsError: One is missing.
        """

    def check_machines(self, configuration: Configuration) -> None:
        """Check that the settings give machines an identity with which they can read the code and use the queue.

        Raises:
            SettingsError: They do not.
        """

    def fit(self, need: "Need") -> "Need":
        """Return a need without the requirements that do not apply to this provider."""

    def catalogue(self, configuration: Configuration, *, now: float) -> "Catalogue":
        """Return the offered machines with their prices; fetching them takes some seconds.

        Raises:
            SettingsError: A setting is missing.
            ProviderError: The provider does not answer, or denies the request.
        """

    def catalogue_name(self, configuration: Configuration) -> str:
        """Return the name under which the catalogue is cached; empty if it is not cached."""

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
        """Return all regions, each with its zones. Requires ``lists_offers``; raises as ``catalogue``."""

    def images(self, configuration: Configuration, *, now: float) -> "Sequence[Image]":
        """Return the current images of common operating systems. Requires ``lists_offers``; raises as ``catalogue``."""

    def open(self, configuration: Configuration, *, run: str, script: "Callable[[LaunchRequest], str]") -> "Machines":
        """Return the machines of one job, without calling the provider.

        Args:
            configuration: The settings.
            run: The prefix of the names of the job's machines; empty for the machines of all jobs of this name.
            script: Returns the start-up script for the machines of a launch request; for a provider that sends the bundle itself, the
                path of the bundle.

        Raises:
            SettingsError: A setting is missing.
        """

    def preview(self, configuration: Configuration, request: "LaunchRequest") -> "Preview | None":
        """Return what the provider knows of a launch request before it is sent; None if it knows nothing, and makes no script itself."""

    def batch_jobs(self, configuration: Configuration) -> "BatchJobs | None":
        """Return what only batch systems can do; None if this is not one."""

    def worker_hosts(self, configuration: Configuration) -> Sequence[str]:
        """Return names or addresses of the computers that its machines may run on; empty for this computer alone.

        Requires ``shares_file_system``.

        Raises:
            ProviderError: They cannot be found.
        """

    def watcher(self, address: str) -> "Watcher | None":
        """Return a watcher for the termination notice of the machine that this process runs on; None if there are no notices.

        Args:
            address: The URL of the machine's metadata service.
        """


def check_identity(
    configuration: Configuration, setting: str, value: str | None, *, has_default: bool, queues: tuple[str, ...]
) -> None:
    """Check that the machines of a provider have the identity that their work needs.

    Args:
        configuration: The settings.
        setting: The name of the setting with their identity.
        value: Its value; ``NO_IDENTITY`` for none on purpose.
        has_default: Whether machines get an identity if the setting is empty.
        queues: The beginnings of the URLs of the provider's own queues.

    Raises:
        SettingsError: They have none, and need one.
    """
    pool, queue_url = configuration.pool, configuration.settings.queue_url
    reads_bucket = pool.code_from == "bundle" and pool.start_up_script is None
    if value == NO_IDENTITY and reads_bucket:
        raise SettingsError(
            f"{setting}={NO_IDENTITY}, but with CODE_FROM=bundle machines read the code from {pool.bucket or 'BUCKET'} with their own "
            f"permissions. Set {setting} in config/pool.env, or CODE_FROM=git or CODE_FROM=image."
        )
    if value or has_default:
        return
    needs = [f"read the code in {pool.bucket or 'BUCKET'}"] if reads_bucket else []
    needs += [f"use the queue {queue_url}"] if queue_url.startswith(queues) else []
    if needs:
        raise SettingsError(
            f"{setting} is not set: machines would have no permission to {' and to '.join(needs)}. Set {setting} in config/pool.env to one "
            f"that may. If machines get credentials in another way, such as from BEFORE_WORKER or IMAGE: {setting}={NO_IDENTITY}."
        )


def watcher_here(environ: Mapping[str, str]) -> "Watcher | None":
    """Return a watcher for termination notices; None if the start-up script has not set TASKFLEET_PROVIDER.

    TASKFLEET_METADATA_URL overrides the address of the metadata service.
    """
    name = environ.get("TASKFLEET_PROVIDER", "")
    if name not in PROVIDERS:
        return None
    return load_provider(name).watcher(environ.get("TASKFLEET_METADATA_URL") or "http://169.254.169.254")


def provider_of(configuration: Configuration) -> Provider:
    """Return the provider of the settings.

    Raises:
        MissingPackageError: Its SDK is not installed.
    """
    provider = load_provider(configuration.pool.provider)
    if provider.sdk:
        require(provider.sdk, f"PROVIDER={provider.name}")
    return provider


def load_provider(name: str) -> Provider:
    """Import a provider by its name, one of ``PROVIDERS``."""
    module, _, kind = PROVIDERS[name].partition(":")
    provider: Provider = getattr(import_module(module), kind)()
    return provider
