"""Starting the machines of an order at Compute Engine: all are asked for side by side, and then waited for."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.api_core.exceptions import GoogleAPICallError

from taskfleet.clouds.google_errors import ERRORS, TRANSIENT_CODES
from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession
from taskfleet.machines import FailureReason, LaunchFailure, LaunchRequest
from taskfleet.machines.gcp.bodies import JOB_LABEL, ORDER_LABEL, request_id
from taskfleet.machines.gcp.calls import PARALLEL, or_missing
from taskfleet.machines.gcp.refusals import Fault, of_operation, of_request


class Launch:
    """The requests of one order."""

    def __init__(self, session: GoogleSession, zone: str, operation_seconds: float) -> None:
        self._session = session
        self._zone = zone
        self._operation_seconds = operation_seconds
        self._general: Fault | None = None
        """Of what others would meet too: they are not asked for."""

    def run(self, bodies: Mapping[str, Any]) -> dict[str, Fault | None]:
        """Start machines; give for each of them why it was not, or None."""
        from google.cloud import compute_v1

        with (
            self._session.client(compute_v1.InstancesClient) as instances,
            self._session.client(compute_v1.ZoneOperationsClient) as operations,
            ThreadPoolExecutor(min(PARALLEL, len(bodies))) as threads,
        ):
            asked = list(threads.map(lambda body: self._insert(instances, body), bodies.values()))
            deadline = time.monotonic() + self._operation_seconds
            found = threads.map(
                lambda body, one: self._outcome(instances, operations, body, one, deadline), bodies.values(), asked
            )
            return dict(zip(bodies, found, strict=True))

    def _insert(self, instances: Any, body: Any) -> Any:
        """Ask for a machine; give the operation, or the fault."""
        from google.cloud import compute_v1

        project = self._session.project
        request = compute_v1.InsertInstanceRequest(
            project=project,
            zone=self._zone,
            instance_resource=body,
            request_id=request_id(project, self._zone, body.name),
        )

        def ask() -> Any:
            if self._general is not None:
                return self._general
            try:
                return instances.insert_unary(request, retry=None, timeout=REQUEST_SECONDS)
            except GoogleAPICallError as error:
                fault = of_request(error, project)
                if fault is None:
                    raise
                return fault

        found = self._session.call(ask, "compute.instances.create")
        if isinstance(found, Fault) and (found.is_general or found.reason is FailureReason.THROTTLED):
            self._general = found
        return found

    def _outcome(self, instances: Any, operations: Any, body: Any, asked: Any, deadline: float) -> Fault | None:
        fault = asked if isinstance(asked, Fault) else None
        if fault is None:
            errors = self._wait(operations, asked, deadline)
            fault = of_operation(errors, self._session.project) if errors else None
        if fault is not None and fault.is_taken:
            return self._look(instances, body, fault)
        return fault

    def _wait(self, operations: Any, operation: Any, deadline: float) -> list[tuple[str, str]]:
        """Give the errors an operation ends with. If it does not end in time, the list of machines will tell what became of it."""
        from google.cloud import compute_v1

        request = compute_v1.WaitZoneOperationRequest(
            project=self._session.project, zone=self._zone, operation=operation.name
        )
        while operation.status != compute_v1.Operation.Status.DONE:
            if time.monotonic() >= deadline:
                return []
            began_at = time.monotonic()
            try:
                left = max(0.1, deadline - began_at)
                operation = operations.wait(request, retry=None, timeout=min(left, REQUEST_SECONDS))
                is_done = operation.status == compute_v1.Operation.Status.DONE
            except ERRORS as error:
                if isinstance(error, GoogleAPICallError) and error.code not in TRANSIENT_CODES:
                    return []
                is_done = False
            if not is_done and time.monotonic() - began_at < 1.0:  # it may answer at once when it is busy
                time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        return [(one.code, one.message) for one in operation.error.errors]

    def _look(self, instances: Any, body: Any, fault: Fault) -> Fault | None:
        """See whose machine has the name already."""
        from google.cloud import compute_v1

        request = compute_v1.GetInstanceRequest(project=self._session.project, zone=self._zone, instance=body.name)
        there = self._session.call(lambda: or_missing(instances.get, request), "compute.instances.get")
        if there is None:
            return fault
        mine = (JOB_LABEL, ORDER_LABEL)
        if all(there.labels.get(one) == body.labels[one] for one in mine):
            return None
        return Fault(FailureReason.INVALID, f"There is a machine called {body.name} already, and it is not this job's.")


def failures_of(order: LaunchRequest, faults: Sequence[Fault]) -> tuple[LaunchFailure, ...]:
    """Say of which offers what is known: of all of them, if it would be the same with others; the most frequent first."""
    found: dict[tuple[str, str, FailureReason], str] = {}
    for (reason, is_general), _ in Counter((one.reason, one.is_general) for one in faults).most_common():
        text = next(one.text for one in faults if (one.reason, one.is_general) == (reason, is_general))
        for offer in order.offers if is_general else order.offers[:1]:
            found.setdefault((offer.instance_type, offer.zone, reason), text)
    return tuple(LaunchFailure(name, zone, reason, text) for (name, zone, reason), text in found.items())
