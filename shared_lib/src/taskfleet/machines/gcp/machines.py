"""Machines of Google Cloud: Compute Engine instances, named after their launch request and labelled with the job.

Each machine is one insert request whose request ID is always the same, so that sending it again launches no second machine. The requests
are sent in parallel, and then their operations are awaited. docs/decisions.md has the reason for not inserting in bulk.
"""

import datetime
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from taskfleet.clouds.google import COMPUTE, RESOURCE_MANAGER
from taskfleet.clouds.google_session import PATIENCE_SECONDS, GoogleSession
from taskfleet.clouds.parallel import run_parallel
from taskfleet.errors import SettingsError, WrongSettingError
from taskfleet.machines import (
    EndReason,
    LaunchedMachine,
    LaunchRequest,
    LaunchResult,
    Machine,
)
from taskfleet.machines.gcp.bodies import LaunchSettings, check_name, check_script, is_name, make_body
from taskfleet.machines.gcp.calls import PARALLEL, delete, get_or_none, last, scopes
from taskfleet.machines.gcp.images import PROVIDER, find, path_of
from taskfleet.machines.gcp.responses import ENDED_SECONDS, PREEMPTION, read_ended, read_instance

logger = logging.getLogger(__name__)

#: How long ``launch`` waits for the operations of a request, at most.
OPERATION_SECONDS = 90.0
#: The service's timestamps have the UTC offset of California, and it is undocumented whether filters compare them as times or as text.
_SLACK_SECONDS = 8 * 3600.0
MAX_PER_PAGE = 500
#: The service keeps 1 MiB of a console; no more is read, however many pages it sends.
MAX_CONSOLE_PAGES, MAX_CONSOLE_CHARACTERS = 64, 1 << 20


class GcpMachines:
    """The machines of one job at Google Cloud; see ``Machines``.

    Args:
        settings: With which the job's machines are launched.
        script: Returns the start-up script for the machines of a launch request.
        compute_endpoint: Of Compute Engine; None for the one that gcloud uses.
        resource_manager_endpoint: Of Resource Manager; None for the one that gcloud uses.
        patience_seconds: How long a call is retried if the service does not answer.
        operation_seconds: How long ``launch`` waits for operations, at most.
    """

    name: ClassVar[str] = PROVIDER

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        script: Callable[[LaunchRequest], str],
        compute_endpoint: str | None = None,
        resource_manager_endpoint: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        operation_seconds: float = OPERATION_SECONDS,
    ) -> None:
        self._settings = settings
        self._script = script
        self._endpoints = {COMPUTE: compute_endpoint, RESOURCE_MANAGER: resource_manager_endpoint}
        self._patience_seconds = patience_seconds
        self._operation_seconds = operation_seconds
        self._opened: GoogleSession | None = None
        self._image: Any = None

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch machines, all of the first offer; see ``Machines.launch``.

        Raises:
            UnreachableError: See ``Machines.launch``.
            ProviderError: No machine was launched: the account, the project or a setting is wrong, not the offers; also if the image does
                not fit on the boot disk of the first offer.
            StartUpError: The start-up script is too long.
        """
        from taskfleet.machines.gcp.launch import Launch, launch_failures

        for token in request.tokens:
            check_name(token)
        script = self._script(request)
        check_script(script)
        offer, session = request.offers[0], self._session()
        image = self._checked_image(math.ceil(offer.boot_disk_gib))
        bodies = {token: make_body(token, request, script, image, self._settings) for token in request.tokens}
        found = Launch(session, offer.zone, self._operation_seconds).run(bodies)
        failures = [failure for failure in found.values() if failure is not None]
        general = next((one.error for one in failures if one.error is not None), None)
        if general is not None and len(failures) == len(found):
            raise general
        return LaunchResult(
            tuple(
                LaunchedMachine(token, offer.instance_type, offer.zone)
                for token, failure in found.items()
                if failure is None
            ),
            launch_failures(request, failures),
        )

    def list(self) -> Sequence[Machine]:
        """Return the machines that exist, and those that were deleted or preempted recently; see ``Machines.list``.

        Raises:
            UnreachableError: See ``Machines.list``; also if a zone does not answer, whose machines would be missing.
            ProviderError: The credentials or permissions are insufficient.
        """
        existing = [read_instance(one) for one in self._instances()]
        names = {one.instance_id for one in existing}
        return [*existing, *(one for one in self._ended() if one.instance_id not in names)]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Delete machines, without waiting for the deletion; see ``Machines.terminate``.

        Raises:
            UnreachableError: See ``Machines.terminate``.
            ProviderError: The credentials or permissions are insufficient.
        """
        from google.cloud import compute_v1

        wanted = set(instance_ids)
        if not wanted:
            return
        found = [(last(one.zone), one.name) for one in self._instances() if one.name in wanted]
        session = self._session()
        with session.client(compute_v1.InstancesClient) as client:

            def delete_instance(zone: str, name: str) -> None:
                request = compute_v1.DeleteInstanceRequest(project=self._settings.project, zone=zone, instance=name)
                delete(session, client.delete_unary, request, "compute.instances.delete")
                logger.info("Deleted instance %s in %s.", name, zone)

            run_parallel({one: partial(delete_instance, *one) for one in found}, max_threads=PARALLEL)

    def console(self, instance_id: str) -> str | None:
        """Return the output of a machine's first serial port; see ``Machines.console``.

        Raises:
            UnreachableError: See ``Machines.console``.
            ProviderError: The credentials or permissions are insufficient.
        """
        from google.cloud import compute_v1

        session = self._session()
        if not is_name(instance_id):  # it would be part of a filter
            return None
        found = [one for one in self._instances(f'(name = "{instance_id}")') if one.name == instance_id]
        if not found:
            return None
        text, start = "", 0
        with session.client(compute_v1.InstancesClient) as client:
            request = compute_v1.GetSerialPortOutputInstanceRequest(
                project=self._settings.project, zone=last(found[0].zone), instance=instance_id, port=1
            )
            for _ in range(MAX_CONSOLE_PAGES):
                request.start = start
                page = session.call(
                    lambda: get_or_none(client.get_serial_port_output, request),
                    "compute.instances.getSerialPortOutput",
                )
                if page is None:  # it was deleted meanwhile
                    return text or None
                if not page.contents:
                    break
                text = (text + page.contents)[-MAX_CONSOLE_CHARACTERS:]
                start = page.next_
        return text

    def clear(self) -> Mapping[str, int]:
        """Delete orphaned disks; see ``Machines.clear``.

        Raises:
            UnreachableError: See ``Machines.clear``.
            ProviderError: The credentials or permissions are insufficient.
        """
        from google.cloud import compute_v1

        session = self._session()
        with session.client(compute_v1.DisksClient) as client:
            request = compute_v1.AggregatedListDisksRequest(
                project=self._settings.project, filter=self._filter(), max_results=MAX_PER_PAGE
            )
            regions = self._settings.regions
            found = [
                one
                for scope in scopes(session, client.aggregated_list, request, "compute.disks.list", regions)
                for one in scope.disks
                if self._is_ours(one.labels)
            ]

            def delete_disk(zone: str, name: str) -> None:
                request = compute_v1.DeleteDiskRequest(project=self._settings.project, zone=zone, disk=name)
                delete(session, client.delete_unary, request, "compute.disks.delete")
                logger.info("Deleted disk %s in %s.", name, zone)

            unused = [(last(one.zone), one.name) for one in found if not one.users]
            run_parallel({one: partial(delete_disk, *one) for one in unused}, max_threads=PARALLEL)
        return {"disks": len(found)}

    def preflight(self) -> Sequence[str]:
        """Return a sentence for each known obstacle to launching, listing or terminating machines; see ``Machines.preflight``.

        Raises:
            UnreachableError: Google Cloud does not answer.
            CredentialsError: There are no credentials, or they are rejected.
        """
        from taskfleet.machines.gcp.preflight import preflight

        return preflight(self._session(), self._settings, self._find_image)

    def _session(self) -> GoogleSession:
        if self._opened is None:
            project = self._settings.project
            if not project:
                raise SettingsError("PROJECT_ID is not set. Set your Google Cloud project in config/pool.env.")
            session = GoogleSession(project, endpoints=self._endpoints, patience_seconds=self._patience_seconds)
            session.credentials(COMPUTE)  # missing credentials are not a failure of an offer
            self._opened = session
        return self._opened

    def _find_image(self) -> Any:
        """Return the image, which is looked up once, so that all machines have the same."""
        if self._image is None:
            self._image = find(self._session(), self._settings.image, self._settings.architecture)
        return self._image

    def _checked_image(self, boot_disk_gib: int) -> str:
        """Return the path of the image.

        Raises:
            WrongSettingError: The image does not exist, or does not fit on the boot disk.
        """
        image = self._find_image()
        if image.disk_size_gb > boot_disk_gib:
            raise WrongSettingError(
                f"Image {image.name} needs a boot disk of {image.disk_size_gb} GiB, but the boot disk has {boot_disk_gib} GiB. Set "
                f"BOOT_DISK_GIB to {image.disk_size_gb} or more in config/pool.env.",
                setting="BOOT_DISK_GIB",
            )
        return path_of(image)

    def _filter(self, more: str = "") -> str:
        return " ".join(f'(labels.{name} = "{value}")' for name, value in self._settings.labels.items()) + more

    def _is_ours(self, labels: Mapping[str, str]) -> bool:
        return self._settings.labels.items() <= labels.items()

    def _instances(self, more: str = "") -> Sequence[Any]:
        from google.cloud import compute_v1

        session, regions = self._session(), self._settings.regions
        request = compute_v1.AggregatedListInstancesRequest(
            project=self._settings.project, filter=self._filter(more), max_results=MAX_PER_PAGE
        )
        with session.client(compute_v1.InstancesClient) as client:
            return [
                one
                for scope in scopes(session, client.aggregated_list, request, "compute.instances.list", regions)
                for one in scope.instances
                if self._is_ours(one.labels)
            ]

    def _ended(self) -> Iterable[Machine]:
        """Return the machines that were preempted or deleted recently, from the operations that did it."""
        from google.cloud import compute_v1

        now = time.time()
        since = datetime.datetime.fromtimestamp(now - ENDED_SECONDS - _SLACK_SECONDS, datetime.UTC)
        request = compute_v1.AggregatedListGlobalOperationsRequest(
            project=self._settings.project,
            filter=f'(operationType = "{PREEMPTION}") OR (operationType = "delete") '
            f'AND (creationTimestamp > "{since:%Y-%m-%dT%H:%M:%S}.000Z")',
            max_results=MAX_PER_PAGE,
        )
        session, regions = self._session(), self._settings.regions
        found: dict[str, Machine] = {}
        with session.client(compute_v1.GlobalOperationsClient) as client:
            for scope in scopes(session, client.aggregated_list, request, "compute.globalOperations.list", regions):
                for one in scope.operations:
                    machine = read_ended(one, self._settings.run, now)
                    if machine is None:
                        continue
                    known = found.get(machine.instance_id)
                    if known is None or known.end_reason is not EndReason.PREEMPTED:
                        found[machine.instance_id] = machine
        return found.values()
