"""What the providers have in common whose machines share this computer's files: they need no account, no image and no copy of the code."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from taskfleet.clouds.permissions import Permissions
from taskfleet.errors import UnreachableError
from taskfleet.machine_terms import Architecture, Market, Range
from taskfleet.machines import BatchJobs, LaunchRequest, Preview
from taskfleet.machines.images import Image
from taskfleet.machines.needs import Need
from taskfleet.processes.identity import MANAGER_VARIABLE
from taskfleet.settings import Configuration
from taskfleet.settings.environment import environment_here, from_files
from taskfleet.settings.manager_files import DEFAULT_MANAGER

#: How much of the end of a console is returned.
CONSOLE_BYTES = 64 << 10


class SharedFilesProvider:
    """The part of ``Provider`` that is the same for all of them."""

    shares_file_system: ClassVar[bool] = True
    lists_offers: ClassVar[bool] = False
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

    def catalogue_name(self, configuration: Configuration) -> str:  # noqa: ARG002
        """See ``Provider.catalogue_name``."""
        return ""

    def preview(self, configuration: Configuration, request: LaunchRequest) -> Preview | None:
        """See ``Provider.preview``."""

    def batch_jobs(self, configuration: Configuration) -> BatchJobs | None:  # noqa: ARG002
        """See ``Provider.batch_jobs``."""
        return None

    def regions(self, configuration: Configuration) -> Sequence[tuple[str, Sequence[str]]]:
        """See ``Provider.regions``."""
        raise NotImplementedError

    def images(self, configuration: Configuration, *, now: float) -> Sequence[Image]:
        """See ``Provider.images``."""
        raise NotImplementedError

    def worker_hosts(self, configuration: Configuration) -> Sequence[str]:  # noqa: ARG002
        """See ``Provider.worker_hosts``."""
        return ()


def machine_environment(configuration: Configuration) -> dict[str, str]:
    """Return the environment of a machine's worker, except SLOTS, which the files of managers override."""
    manager = {MANAGER_VARIABLE: configuration.manager or DEFAULT_MANAGER}
    return environment_here(configuration) | from_files(configuration, "SLOTS") | manager


def architecture_here() -> Architecture:
    """Return the architecture of this computer."""
    return Architecture.ARM64 if platform.machine().lower() in ("arm64", "aarch64") else Architecture.X86_64


def need_of_known_computers(need: Need) -> Need:
    """Return a need without the requirements that choose among types of machines: the user has chosen the computers, which are free."""
    return replace(need_without_types(need), cpus=Range(), memory_gib=Range(), price_usd_per_hour=Range())


def need_without_types(need: Need) -> Need:
    """Return a need without the requirements that only choose among types of cloud machines and of disks."""
    return replace(
        need,
        architecture=architecture_here(),
        markets=(Market.ON_DEMAND,),
        zones=(),
        instance_types=(),
        exclude_instance_types=(),
        cpu_families=(),
        cpu_rank=Range(),
        local_ssd_gib=Range(),
        local_ssd_gib_per_cpu=Range(),
        local_ssd_gib_per_task=Range(),
        boot_disk_types=(),
        boot_disk_iops=0.0,
        boot_disk_mibps=0.0,
    )


def read_console(path: Path, instance_id: str) -> str:
    """Return the end of the file with a machine's output; empty if there is none yet.

    Raises:
        UnreachableError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - CONSOLE_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UnreachableError(f"The console of machine {instance_id} cannot be read: {error}.") from error
