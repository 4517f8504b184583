"""Providers of machines: what each can do, and the registry of them.

A provider is found by the name in PROVIDER and imported when it is chosen. Nothing outside its package compares its name: what differs
between providers is a class attribute here, or a method.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Protocol

from taskfleet.extras import require
from taskfleet.settings import Configuration

if TYPE_CHECKING:  # a worker asks the registry for its watcher, and needs nothing of these
    from taskfleet.clouds.permissions import Permissions
    from taskfleet.machines import LaunchRequest, Machines
    from taskfleet.machines.catalogue import Catalogue
    from taskfleet.machines.images import Image
    from taskfleet.machines.needs import Need
    from taskfleet.machines.notice import Watcher

#: By name: the module and the class of each provider.
PROVIDERS: Mapping[str, str] = {
    "local": "taskfleet.machines.local.provider:LocalProvider",
    "aws": "taskfleet.machines.aws.provider:AwsProvider",
    "gcp": "taskfleet.machines.gcp.provider:GcpProvider",
}


class Provider(Protocol):
    """Where machines come from. It has no state: everything it needs is in the settings that each method is given."""

    name: ClassVar[str]
    """As in PROVIDER."""
    title: ClassVar[str]
    """For people."""
    shares_file_system: ClassVar[bool]
    """Whether its machines can open the ledger and the project's folder where they are; else tasks need a queue service."""
    lists_offers: ClassVar[bool]
    """Whether it has regions, images and prices to list."""
    needs_canary: ClassVar[bool]
    """Whether the first machine has to be ready before more are started: what is wrong with the first is wrong with all."""
    can_queue: ClassVar[bool]
    """Whether accepted machines may wait in its queue, unpaid; see ``Machines``. If not, costs count from the moment of the request."""
    machines_per_request: ClassVar[int]
    """How many machines are launched with one request at most."""
    poll_seconds: ClassVar[float]
    """How often the controller lists the machines."""
    ending_poll_seconds: ClassVar[float]
    """How often they are listed while they are being ended."""
    empty_lists_to_confirm: ClassVar[int]
    """How many lists in a row have to be empty before nothing counts as left: a list may lag behind."""
    code_sources: ClassVar[tuple[str, ...]]
    """The values of CODE_FROM that its machines can use; none where they share the project's folder."""
    bucket_scheme: ClassVar[str]
    """Of the addresses in BUCKET that its machines can read; empty where no bucket is used."""
    longest_script_bytes: ClassVar[int]
    """The longest start-up script it takes; 0 where there is none."""
    permissions: ClassVar["Permissions | None"]
    """Everything that its accounts and machines have to be permitted, and who needs it; None where nobody asks."""
    sdk: ClassVar[str]
    """The module of its SDK, one of ``extras.OPTIONAL_PACKAGES``; empty for none. ``watcher`` works without it."""
    example_queue_url: ClassVar[str]
    """A queue that its machines reach, for messages."""
    example_region: ClassVar[str]
    """For messages; empty where there are no regions."""

    def check(self, configuration: Configuration) -> None:
        """Check that the settings which are needed to find its machines are there.

        Raises:
            SettingsError: One is missing.
        """

    def fit(self, need: "Need") -> "Need":
        """Return a need without what makes no sense here."""

    def catalogue(self, configuration: Configuration, *, now: float) -> "Catalogue":
        """Return what is offered, with prices; takes some seconds where it is fetched.

        Raises:
            SettingsError: A setting is missing.
            ProviderError: The provider does not answer or refuses.
        """

    def catalogue_name(self, configuration: Configuration) -> str:
        """Return the name under which a fetched catalogue is kept; empty if it is not worth keeping."""

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
        """Return all regions, each with its zones. Only where ``lists_offers``; raises as ``catalogue``."""

    def images(self, configuration: Configuration, *, now: float) -> "Sequence[Image]":
        """Return the current images of well-known systems. Only where ``lists_offers``; raises as ``catalogue``."""

    def open(self, configuration: Configuration, *, run: str, script: "Callable[[LaunchRequest], str]") -> "Machines":
        """Open the machines of one job; nothing is asked of the provider yet.

        Args:
            configuration: The settings.
            run: What the names of the job's machines begin with; empty for the machines of all jobs of this name.
            script: Makes the start-up script of an order's machines.

        Raises:
            SettingsError: A setting is missing.
        """

    def watcher(self, address: str) -> "Watcher | None":
        """Return what watches, on a machine, for its termination notice; None where none is given.

        Args:
            address: The machine's metadata service.
        """


def watcher_here(environ: Mapping[str, str]) -> "Watcher | None":
    """Return what watches for termination notices, if the start-up script of a machine has said whose it is (TASKFLEET_PROVIDER).

    TASKFLEET_METADATA_URL stands in for the metadata service's own address.
    """
    name = environ.get("TASKFLEET_PROVIDER", "")
    if name not in PROVIDERS:
        return None
    return load_provider(name).watcher(environ.get("TASKFLEET_METADATA_URL") or "http://169.254.169.254")


def provider_of(configuration: Configuration) -> Provider:
    """Return the provider that the settings name.

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
