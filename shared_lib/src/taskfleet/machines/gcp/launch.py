"""Launching the machines of one request at Compute Engine: insert all in parallel, then wait for the operations."""

import logging
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
from taskfleet.machines.gcp.calls import PARALLEL, get_or_none
from taskfleet.machines.gcp.errors import InsertFailure, read_operation_errors, read_request_error

logger = logging.getLogger(__name__)


class Launch:
    """The calls for one launch request.

    Args:
        session: Makes the calls.
        zone: Where the machines are launched.
        operation_seconds: How long to wait for the operations, at most.
    """

    def __init__(self, session: GoogleSession, zone: str, operation_seconds: float) -> None:
        self._session = session
        self._zone = zone
        self._operation_seconds = operation_seconds
        self._general: InsertFailure | None = None
        """A failure that further machines would meet too: they are not inserted."""

    def run(self, bodies: Mapping[str, Any]) -> dict[str, InsertFailure | None]:
        """Insert instances; return for each the reason why it was not launched, or None."""
        from google.cloud import compute_v1

        with (
            self._session.client(compute_v1.InstancesClient) as instances,
            self._session.client(compute_v1.ZoneOperationsClient) as operations,
            ThreadPoolExecutor(min(PARALLEL, len(bodies))) as threads,
        ):
            inserted = list(threads.map(lambda body: self._insert(instances, body), bodies.values()))
            deadline = time.monotonic() + self._operation_seconds
            results = threads.map(
                lambda body, one: self._result(instances, operations, body, one, deadline), bodies.values(), inserted
            )
            return dict(zip(bodies, results, strict=True))

    def _insert(self, instances: Any, body: Any) -> Any:
        """Insert one instance; return the operation, or the failure."""
        from google.cloud import compute_v1

        project = self._session.project
        request = compute_v1.InsertInstanceRequest(
            project=project,
            zone=self._zone,
            instance_resource=body,
            request_id=request_id(project, self._zone, body.name),
        )

        def call() -> Any:
            if self._general is not None:
                return self._general
            try:
                return instances.insert_unary(request, retry=None, timeout=REQUEST_SECONDS)
            except GoogleAPICallError as error:
                failure = read_request_error(error, project)
                if failure is None:
                    logger.info("Inserting %s in %s failed, it is retried: %s", body.name, self._zone, error)
                    raise
                return failure

        found = self._session.call(call, "compute.instances.create")
        if isinstance(found, InsertFailure) and (found.error or found.reason is FailureReason.THROTTLED):
            self._general = found
        return found

    def _result(
        self, instances: Any, operations: Any, body: Any, inserted: Any, deadline: float
    ) -> InsertFailure | None:
        failure = inserted if isinstance(inserted, InsertFailure) else None
        if failure is None:
            errors = self._wait(operations, inserted, deadline)
            failure = read_operation_errors(errors, self._session.project) if errors else None
        if failure is not None and failure.name_exists:
            return self._check_existing(instances, body, failure)
        return failure

    def _wait(self, operations: Any, operation: Any, deadline: float) -> list[tuple[str, str]]:
        """Return the errors of an operation. If it is not done by the deadline, the list of machines will show its result."""
        from google.cloud import compute_v1

        request = compute_v1.WaitZoneOperationRequest(
            project=self._session.project, zone=self._zone, operation=operation.name
        )
        while operation.status != compute_v1.Operation.Status.DONE:
            if time.monotonic() >= deadline:
                logger.info("Operation %s in %s is not done yet.", operation.name, self._zone)
                return []
            began_at = time.monotonic()
            try:
                left = max(0.1, deadline - began_at)
                operation = operations.wait(request, retry=None, timeout=min(left, REQUEST_SECONDS))
                is_done = operation.status == compute_v1.Operation.Status.DONE
            except ERRORS as error:
                if isinstance(error, GoogleAPICallError) and error.code not in TRANSIENT_CODES:
                    return []
                logger.debug("Waiting for operation %s failed, it is retried: %s", operation.name, error)
                is_done = False
            if not is_done and time.monotonic() - began_at < 1.0:  # a busy service may respond at once
                time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        return [(one.code, one.message) for one in operation.error.errors]

    def _check_existing(self, instances: Any, body: Any, failure: InsertFailure) -> InsertFailure | None:
        """Return None if the instance that has the name already is the requested one."""
        from google.cloud import compute_v1

        request = compute_v1.GetInstanceRequest(project=self._session.project, zone=self._zone, instance=body.name)
        existing = self._session.call(lambda: get_or_none(instances.get, request), "compute.instances.get")
        if existing is None:
            return failure
        if all(existing.labels.get(one) == body.labels[one] for one in (JOB_LABEL, ORDER_LABEL)):
            return None
        return InsertFailure(
            FailureReason.INVALID, f"there is an instance named {body.name} that does not belong to this job"
        )


def launch_failures(request: LaunchRequest, failures: Sequence[InsertFailure]) -> tuple[LaunchFailure, ...]:
    """Return a failure for each affected offer, the most frequent first; general failures affect all offers."""
    found: dict[tuple[str, str, FailureReason], str] = {}
    for (reason, is_general), _ in Counter((one.reason, one.error is not None) for one in failures).most_common():
        text = next(one.text for one in failures if (one.reason, one.error is not None) == (reason, is_general))
        for offer in request.offers if is_general else request.offers[:1]:
            found.setdefault((offer.instance_type, offer.zone, reason), text)
    return tuple(LaunchFailure(name, zone, reason, text) for (name, zone, reason), text in found.items())
