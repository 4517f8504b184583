"""The user's computer as a provider of machines."""

import sys
from collections.abc import Callable
from typing import ClassVar

from taskfleet.errors import SettingsError
from taskfleet.invocation import poe
from taskfleet.machines import LaunchRequest, Machines
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.local.offers import local_catalogue, local_need
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.notice import Watcher
from taskfleet.machines.shared_files import SharedFilesProvider, machine_environment
from taskfleet.processes.identity import hostname
from taskfleet.settings import Configuration
from taskfleet.settings.environment import worker_command


class LocalProvider(SharedFilesProvider):
    """See ``Provider``."""

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "This computer"
    needs_canary: ClassVar[bool] = True
    can_queue: ClassVar[bool] = False
    machines_per_request: ClassVar[int] = 100
    poll_seconds: ClassVar[float] = 1.0
    ending_poll_seconds: ClassVar[float] = 0.2

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        return local_need(need)

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        return local_catalogue(self.fit(need_of(configuration.pool, None)), now)

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
            environment=machine_environment(configuration),
        )

    def watcher(self, address: str) -> Watcher | None:  # noqa: ARG002
        """See ``Provider.watcher``."""
        return None
