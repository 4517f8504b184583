"""Machines of Google Cloud: Compute Engine instances, named by us and labelled with the job.

Each machine of an order is one request with a number of its own that is always the same, so that asking twice starts it once. All are
asked for side by side, and then their operations are waited for. Why not in bulk: see docs/decisions.md.
"""

import datetime
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from taskfleet.clouds.google import COMPUTE, RESOURCE_MANAGER
from taskfleet.clouds.google_session import PATIENCE_SECONDS, GoogleSession
from taskfleet.clouds.parallel import run_parallel
from taskfleet.errors import ProviderError, SettingsError, UnreachableError, WrongSettingError
from taskfleet.machine_terms import Architecture, Market
from taskfleet.machines import (
    EndReason,
    FailureReason,
    LaunchedMachine,
    LaunchRequest,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp.bodies import (
    JOB_LABEL,
    ORDER_LABEL,
    RUN_LABEL,
    Wiring,
    check_name,
    check_script,
    disk_gib,
    label_text,
    label_value,
    make_body,
)
from taskfleet.machines.gcp.calls import PARALLEL, delete, last, or_missing, scopes, seconds
from taskfleet.machines.gcp.images import PROVIDER, find, path_of

#: For how long the operations of an order are waited for.
OPERATION_SECONDS = 90.0
#: Machines that ended so long ago are still told of.
ENDED_SECONDS = 2 * 3600.0
#: The service's times are written in those of California, and nobody says whether they are compared as times or as text.
_SLACK_SECONDS = 8 * 3600.0
MOST_PER_PAGE = 500
#: What is kept of a console is 1 MiB.
MOST_CONSOLE_PAGES = 64

#: https://cloud.google.com/compute/docs/instances/instance-lifecycle
#: A machine that is stopped or suspended still costs its disk and is not deleted by itself: it is there, until it is told to end.
_STATES: Final = {
    "PENDING": MachineState.STARTING,
    "PROVISIONING": MachineState.STARTING,
    "STAGING": MachineState.STARTING,
    "RUNNING": MachineState.RUNNING,
    "REPAIRING": MachineState.RUNNING,
    "SUSPENDING": MachineState.RUNNING,
    "SUSPENDED": MachineState.RUNNING,
    "STOPPED": MachineState.RUNNING,
    "TERMINATED": MachineState.RUNNING,
    "PENDING_STOP": MachineState.ENDING,
    "STOPPING": MachineState.ENDING,
    "DEPROVISIONING": MachineState.ENDING,
}
_STOPPED: Final = {"STOPPED", "TERMINATED", "SUSPENDING", "SUSPENDED"}
#: https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption
_PREEMPTION: Final = "compute.instances.preempted"
_TARGET: Final = re.compile(r".*/zones/([^/]+)/instances/([^/]+)")


class GcpMachines:
    """The machines of one job at Google Cloud; see ``Machines``."""

    name: ClassVar[str] = PROVIDER

    def __init__(
        self,
        *,
        project: str,
        job_id: str,
        run_name: str,
        regions: Sequence[str],
        script: Callable[[LaunchRequest], str],
        architecture: Architecture = Architecture.X86_64,
        image: str | None = None,
        service_account: str | None = None,
        network: str | None = None,
        subnetwork: str | None = None,
        external_ip: bool = True,
        compute_endpoint: str | None = None,
        resource_manager_endpoint: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        operation_seconds: float = OPERATION_SECONDS,
    ) -> None:
        """Say whose machines, and what they have in common; nothing is asked yet.

        Args:
            project: In which they are.
            job_id: Whose they are.
            run_name: What the names of orders, and so of machines, begin with; empty for all machines of jobs of that name.
            regions: Where machines may be ordered; what is there is always known, or nothing is.
            script: Gives the start-up script for the machines of an order.
            architecture: What they run.
            image: An image or a family; None for the newest Ubuntu LTS.
            service_account: Whose rights they have; None for the project's default one.
            network: Its name, or path in another project; None for "default", or that of the subnetwork.
            subnetwork: Its name in each region, or a path; None where the network makes them by itself.
            external_ip: Whether they get an address of their own.
            compute_endpoint: Where Compute Engine is, if not where gcloud finds it.
            resource_manager_endpoint: Where Resource Manager is, if not where gcloud finds it.
            patience_seconds: For how long to go on asking a service that does not answer.
            operation_seconds: For how long to wait until it is known whether the machines of an order start.
        """
        self._project = project
        self._run_name = run_name
        self._regions = tuple(regions)
        self._script = script
        self._architecture = architecture
        self._image = image
        self._service_account = service_account
        self._network = network
        self._subnetwork = subnetwork
        self._external_ip = external_ip
        self._endpoints = {COMPUTE: compute_endpoint, RESOURCE_MANAGER: resource_manager_endpoint}
        self._patience_seconds = patience_seconds
        self._operation_seconds = operation_seconds
        self._labels = {JOB_LABEL: label_value(job_id)} | ({RUN_LABEL: label_value(run_name)} if run_name else {})
        self._logged_in: GoogleSession | None = None
        self._found_image: Any = None

    # --- the verbs ---

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """Start machines, all as the first offer says; see ``Machines.launch``.

        Raises:
            UnreachableError: See ``Machines.launch``.
            CredentialsError: There is no login, or it is not accepted.
            WrongSettingError: Machines cannot have such a name.
            StartUpError: The start-up script is too long.
        """
        from taskfleet.machines.gcp.launch import Launch, failures_of
        from taskfleet.machines.gcp.refusals import Fault

        for token in order.tokens:
            check_name(token)
        script = self._script(order)
        check_script(script)
        offer, session = order.offers[0], self._session()
        try:
            wiring = self._wiring(offer)
        except UnreachableError:
            raise
        except ProviderError as error:
            return LaunchResult(
                failures=failures_of(order, [Fault(FailureReason.INVALID, str(error), is_general=True)])
            )
        bodies = {
            token: make_body(token, offer, order.lifetime_seconds, script, order.token, wiring)
            for token in order.tokens
        }
        found = Launch(session, offer.zone, self._operation_seconds).run(bodies)
        started = [token for token, fault in found.items() if fault is None]
        faults = [fault for fault in found.values() if fault is not None]
        return LaunchResult(
            tuple(LaunchedMachine(token, offer.instance_type, offer.zone) for token in started),
            failures_of(order, faults),
        )

    def list(self) -> Sequence[Machine]:
        """Give the machines that are there, and those that were deleted or preempted lately; see ``Machines.list``.

        Raises:
            UnreachableError: See ``Machines.list``; also if a zone does not answer, whose machines would be missing.
            ProviderError: The login or the permissions do not suffice.
        """
        there = [_machine(one) for one in self._instances()]
        names = {one.instance_id for one in there}
        return [*there, *(one for one in self._ended() if one.instance_id not in names)]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Delete machines, without waiting until they are gone; see ``Machines.terminate``.

        Raises:
            UnreachableError: See ``Machines.terminate``.
            ProviderError: The login or the permissions do not suffice.
        """
        from google.cloud import compute_v1

        wanted = set(instance_ids)
        if not wanted:
            return
        those = [(last(one.zone), one.name) for one in self._instances() if one.name in wanted]
        session = self._session()
        with session.client(compute_v1.InstancesClient) as client:

            def end(zone: str, name: str) -> None:
                request = compute_v1.DeleteInstanceRequest(project=self._project, zone=zone, instance=name)
                delete(session, client.delete_unary, request, "compute.instances.delete")

            run_parallel({one: partial(end, *one) for one in those}, max_threads=PARALLEL)

    def console(self, instance_id: str) -> str:
        """Give the output of a machine's first serial port; see ``Machines.console``.

        Raises:
            UnreachableError: See ``Machines.console``.
            ProviderError: The login or the permissions do not suffice.
        """
        from google.cloud import compute_v1

        session = self._session()
        those = [one for one in self._instances(f'(name = "{instance_id}")') if one.name == instance_id]
        if not those:
            return ""
        text, start = "", 0
        with session.client(compute_v1.InstancesClient) as client:
            request = compute_v1.GetSerialPortOutputInstanceRequest(
                project=self._project, zone=last(those[0].zone), instance=instance_id, port=1
            )
            for _ in range(MOST_CONSOLE_PAGES):
                request.start = start
                page = session.call(
                    lambda: or_missing(client.get_serial_port_output, request),
                    "compute.instances.getSerialPortOutput",
                )
                if page is None or not page.contents:
                    break
                text += page.contents
                start = page.next_
        return text

    def clear(self) -> Mapping[str, int]:
        """Delete disks that outlived their machines; see ``Machines.clear``.

        Raises:
            UnreachableError: See ``Machines.clear``.
            ProviderError: The login or the permissions do not suffice.
        """
        from google.cloud import compute_v1

        session = self._session()
        with session.client(compute_v1.DisksClient) as client:
            request = compute_v1.AggregatedListDisksRequest(
                project=self._project, filter=self._filter(), max_results=MOST_PER_PAGE
            )
            found = [
                one
                for scope in scopes(session, client.aggregated_list, request, "compute.disks.list", self._regions)
                for one in scope.disks
                if self._is_ours(one.labels)
            ]

            def end(zone: str, name: str) -> None:
                request = compute_v1.DeleteDiskRequest(project=self._project, zone=zone, disk=name)
                delete(session, client.delete_unary, request, "compute.disks.delete")

            those = [(last(one.zone), one.name) for one in found if not one.users]
            run_parallel({one: partial(end, *one) for one in those}, max_threads=PARALLEL)
        return {"disks": len(found)}

    def preflight(self) -> Sequence[str]:
        """Look for what would keep machines from being started, listed or ended.

        Returns:
            A sentence for each thing that is missing or wrong; empty if nothing was found.

        Raises:
            UnreachableError: Google Cloud does not answer.
            CredentialsError: There is no login, or it is not accepted.
        """
        from taskfleet.machines.gcp.preflight import find_troubles

        return find_troubles(
            self._session(),
            regions=self._regions,
            network=self._network,
            subnetwork=self._subnetwork,
            external_ip=self._external_ip,
            find_image=self._image_found,
        )

    # --- what they need ---

    def _session(self) -> GoogleSession:
        if self._logged_in is None:
            if not self._project:
                raise SettingsError("PROJECT_ID is not set: name your Google Cloud project in config/pool.env.")
            session = GoogleSession(self._project, endpoints=self._endpoints, patience_seconds=self._patience_seconds)
            session.credentials(COMPUTE)  # without a login no offer is to blame
            self._logged_in = session
        return self._logged_in

    def _image_found(self) -> Any:
        """Find the image once, so that all machines have the same one."""
        if self._found_image is None:
            self._found_image = find(self._session(), self._image, self._architecture)
        return self._found_image

    def _wiring(self, offer: Offer) -> Wiring:
        image = self._image_found()
        if image.disk_size_gb > disk_gib(offer):
            raise WrongSettingError(
                f"Image {image.name} needs a boot disk of {image.disk_size_gb} GiB, and {disk_gib(offer)} GiB are ordered. Set "
                f"BOOT_DISK_GIB to {image.disk_size_gb} or more in config/pool.env.",
                setting="BOOT_DISK_GIB",
            )
        return Wiring(
            image=path_of(image),
            labels=self._labels,
            service_account=self._service_account,
            network=self._network,
            subnetwork=self._subnetwork,
            external_ip=self._external_ip,
        )

    def _filter(self, more: str = "") -> str:
        return " ".join(f'(labels.{name} = "{value}")' for name, value in self._labels.items()) + more

    def _is_ours(self, labels: Mapping[str, str]) -> bool:
        return self._labels.items() <= labels.items()

    def _instances(self, more: str = "") -> Sequence[Any]:
        from google.cloud import compute_v1

        session = self._session()
        request = compute_v1.AggregatedListInstancesRequest(
            project=self._project, filter=self._filter(more), max_results=MOST_PER_PAGE
        )
        with session.client(compute_v1.InstancesClient) as client:
            return [
                one
                for scope in scopes(session, client.aggregated_list, request, "compute.instances.list", self._regions)
                for one in scope.instances
                if self._is_ours(one.labels)
            ]

    def _ended(self) -> Iterable[Machine]:
        """Give the machines that were preempted or deleted lately, from the operations that did it."""
        from google.cloud import compute_v1

        now = time.time()
        since = datetime.datetime.fromtimestamp(now - ENDED_SECONDS - _SLACK_SECONDS, datetime.UTC)
        request = compute_v1.AggregatedListGlobalOperationsRequest(
            project=self._project,
            filter=f'(operationType = "{_PREEMPTION}") OR (operationType = "delete") '
            f'AND (creationTimestamp > "{since:%Y-%m-%dT%H:%M:%S}.000Z")',
            max_results=MOST_PER_PAGE,
        )
        session = self._session()
        found: dict[str, Machine] = {}
        with session.client(compute_v1.GlobalOperationsClient) as client:
            for scope in scopes(
                session, client.aggregated_list, request, "compute.globalOperations.list", self._regions
            ):
                for one in scope.operations:
                    machine = self._machine_that_ended(one, now)
                    if machine is not None and not (
                        machine.instance_id in found and found[machine.instance_id].end_reason is EndReason.PREEMPTED
                    ):
                        found[machine.instance_id] = machine
        return found.values()

    def _machine_that_ended(self, operation: Any, now: float) -> Machine | None:
        from google.cloud import compute_v1

        target = _TARGET.fullmatch(operation.target_link)
        is_preemption = operation.operation_type == _PREEMPTION
        if (
            target is None
            or not (is_preemption or operation.operation_type == "delete")
            or not self._run_name
            or not target[2].startswith(f"{self._run_name}-")
            or operation.status != compute_v1.Operation.Status.DONE
            or operation.error.errors
            or now - seconds(operation.insert_time or operation.start_time) > ENDED_SECONDS
        ):
            return None
        return Machine(
            instance_id=target[2],
            order=target[2].rpartition("-")[0],
            state=MachineState.ENDED,
            zone=target[1],
            market=Market.SPOT if is_preemption else Market.ON_DEMAND,
            end_reason=EndReason.PREEMPTED if is_preemption else None,
            detail="Google Cloud took it back" if is_preemption else f"deleted by {operation.user}",
        )


def _machine(instance: Any) -> Machine:
    return Machine(
        instance_id=instance.name,
        order=label_text(instance.labels.get(ORDER_LABEL, "")),
        state=_STATES.get(instance.status, MachineState.RUNNING),
        zone=last(instance.zone),
        instance_type=last(instance.machine_type),
        market=Market.SPOT
        if instance.scheduling.provisioning_model == "SPOT" or instance.scheduling.preemptible
        else Market.ON_DEMAND,
        created_at=seconds(instance.creation_timestamp),
        detail="it is stopped and costs its disk until it is deleted" if instance.status in _STOPPED else "",
    )
