"""Conversion of Compute Engine's instances and operations to ``Machine``."""

import re
from typing import Any, Final

from taskfleet.machine_terms import Market
from taskfleet.machines import EndReason, Machine, MachineState
from taskfleet.machines.gcp.bodies import ORDER_LABEL, label_text
from taskfleet.machines.gcp.calls import last, seconds

#: How long machines that have ended are listed.
ENDED_SECONDS = 2 * 3600.0
#: The type of operations that preempt: https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption
PREEMPTION: Final = "compute.instances.preempted"

#: https://cloud.google.com/compute/docs/instances/instance-lifecycle
#: A stopped or suspended instance still costs its disk and is not deleted automatically: it counts as running until it is terminated.
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
_TARGET: Final = re.compile(r".*/zones/([^/]+)/instances/([^/]+)")


def read_instance(instance: Any) -> Machine:
    """Return an instance as a machine."""
    is_spot = instance.scheduling.provisioning_model == "SPOT" or instance.scheduling.preemptible
    return Machine(
        instance_id=instance.name,
        request_token=label_text(instance.labels.get(ORDER_LABEL, "")),
        state=_STATES.get(instance.status, MachineState.RUNNING),
        zone=last(instance.zone),
        instance_type=last(instance.machine_type),
        market=Market.SPOT if is_spot else Market.ON_DEMAND,
        created_at=seconds(instance.creation_timestamp),
        detail="stopped; its disk costs money until it is deleted" if instance.status in _STOPPED else "",
    )


def read_ended(operation: Any, run: str, now: float) -> Machine | None:
    """Return the machine that an operation has preempted or deleted recently; None if the operation is another one.

    Args:
        operation: Of Compute Engine.
        run: The prefix of the names of the job's machines; empty if it is unknown.
        now: Seconds since the epoch.
    """
    from google.cloud import compute_v1

    target = _TARGET.fullmatch(operation.target_link)
    is_preemption = operation.operation_type == PREEMPTION
    if (
        target is None
        or not (is_preemption or operation.operation_type == "delete")
        or not run
        or not target[2].startswith(f"{run}-")
        or operation.status != compute_v1.Operation.Status.DONE
        or operation.error.errors
        or now - seconds(operation.insert_time or operation.start_time) > ENDED_SECONDS
    ):
        return None
    return Machine(
        instance_id=target[2],
        request_token=target[2].rpartition("-")[0],
        state=MachineState.ENDED,
        zone=target[1],
        market=Market.SPOT if is_preemption else Market.ON_DEMAND,
        end_reason=EndReason.PREEMPTED if is_preemption else None,
        detail="preempted by Google Cloud" if is_preemption else f"deleted by {operation.user}",
    )
