"""The user's computer as a provider of machines."""

import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

from taskfleet.clouds.permissions import Permissions
from taskfleet.errors import SettingsError
from taskfleet.invocation import poe
from taskfleet.machines import LaunchRequest, Machines
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.images import Image
from taskfleet.machines.local.offers import local_catalogue, local_need
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.notice import Watcher
from taskfleet.processes.identity import MANAGER_VARIABLE, hostname
from taskfleet.settings import Configuration
from taskfleet.settings.environment import environment_here, from_files, worker_command
from taskfleet.settings.manager_files import DEFAULT_MANAGER


class LocalProvider:
    """See ``Provider``."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "This computer"
    shares_file_system: ClassVar[bool] = True
    lists_offers: ClassVar[bool] = False
    needs_canary: ClassVar[bool] = True
    can_queue: ClassVar[bool] = False
    machines_per_request: ClassVar[int] = 100
    poll_seconds: ClassVar[float] = 1.0
    ending_poll_seconds: ClassVar[float] = 0.2
    empty_lists_to_confirm: ClassVar[int] = 1
    code_sources: ClassVar[tuple[str, ...]] = ()
    bucket_scheme: ClassVar[str] = ""
    longest_script_bytes: ClassVar[int] = 0
    permissions: ClassVar[Permissions | None] = None
    sdk: ClassVar[str] = ""
    example_queue_url: ClassVar[str] = "ledger"
    example_region: ClassVar[str] = ""

    def check(self, configuration: Configuration) -> None:
        """See ``Provider.check``."""

    def check_machines(self, configuration: Configuration) -> None:
        """See ``Provider.check_machines``; machines have the user's permissions."""

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        return local_need(need)

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        return local_catalogue(self.fit(need_of(configuration.pool, None)), now)

    def catalogue_name(self, configuration: Configuration) -> str:  # noqa: ARG002
        """See ``Provider.catalogue_name``."""
        return ""

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
        """See ``Provider.regions``."""
        raise NotImplementedError

    def images(self, configuration: Configuration, *, now: float) -> Sequence[Image]:
        """See ``Provider.images``."""
        raise NotImplementedError

    def open(self, configuration: Configuration, *, run: str, script: Callable[[LaunchRequest], str]) -> Machines:  # noqa: ARG002
        """See ``Provider.open``; a machine is a worker process without a start-up script, and its folder is beside the ledger."""
        if sys.platform == "win32":
            raise SettingsError(f"PROVIDER=local needs Linux or macOS. On Windows, use {poe('launch_worker')}.")
        from taskfleet.machines.local.machines import LocalMachines  # needs POSIX

        ledger = configuration.ledger_path
        return LocalMachines(
            ledger.with_name(f"{ledger.stem}.machines") / hostname(),
            zone=hostname(),
            command=worker_command(configuration.project),
            project=configuration.project,
            environment=environment_here(configuration)
            | from_files(configuration, "SLOTS")
            | {MANAGER_VARIABLE: configuration.manager or DEFAULT_MANAGER},
        )

    def watcher(self, address: str) -> Watcher | None:  # noqa: ARG002
        """See ``Provider.watcher``."""
        return None
