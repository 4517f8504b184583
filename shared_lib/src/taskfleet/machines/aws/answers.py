"""What EC2 says of fleets and instances, in the words of ``Machines``."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from taskfleet.clouds.aws_errors import DENIED, ErrorReply, plain_text
from taskfleet.machine_terms import Market
from taskfleet.machines import (
    EndReason,
    FailureReason,
    LaunchedMachine,
    LaunchFailure,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.machines.aws.faults import failure_reason_of, fault_of
from taskfleet.machines.aws.regions import Region
from taskfleet.machines.aws.templates import ORDER
from taskfleet.machines.choosing import Offer

_STATES = {
    "pending": MachineState.STARTING,
    "running": MachineState.RUNNING,
    "shutting-down": MachineState.ENDING,
    "terminated": MachineState.ENDED,
    # stopped by hand: that is no end, its disk is paid for, so it counts as there and is ended by who finds it
    "stopping": MachineState.RUNNING,
    "stopped": MachineState.RUNNING,
}
#: What EC2 says of a machine whose capacity it has taken back.
_TAKEN_AWAY = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}
#: They tell of the account, not of an offer: of no use when all machines were had all the same.
_OF_THE_ACCOUNT = (FailureReason.QUOTA, FailureReason.THROTTLED)


def read_fleet(
    fleet: Mapping[str, Any], region: Region, offers: Sequence[Offer], number: int, decode: Callable[[str], str]
) -> LaunchResult:
    """Say what became of an order.

    Args:
        fleet: What CreateFleet gave.
        region: Where.
        offers: Those that were asked for.
        number: So many machines were wanted.
        decode: Makes a refusal name the permission that is missing, if it does not.

    Raises:
        ProviderError: Nothing was started, and every error is about the account or the settings.
    """
    zones = {subnet: zone for zone, subnet in region.subnets.items()}
    started = tuple(
        LaunchedMachine(instance_id, *_pool(one, zones)[0])
        for one in fleet.get("Instances", ())
        for instance_id in one["InstanceIds"]
    )
    decode = cache(decode)  # every pool has the same to say
    errors = [
        ErrorReply(code, plain_text(decode(text) if code in DENIED else text), 0)
        for code, text in ((one.get("ErrorCode", ""), one.get("ErrorMessage", "")) for one in fleet.get("Errors", ()))
    ]
    faults = [fault for reply in errors if (fault := fault_of(reply, region.name)) is not None]
    if faults and not started and len(faults) == len(errors):
        raise faults[0]
    failures: dict[tuple[str, str, FailureReason], LaunchFailure] = {}
    for one, (code, text, _) in zip(fleet.get("Errors", ()), errors, strict=True):
        reason = failure_reason_of(code)
        if len(started) >= number and reason in _OF_THE_ACCOUNT:
            continue
        for instance_type, zone in _pool(one, zones) or [(offer.instance_type, offer.zone) for offer in offers]:
            failures.setdefault(
                (instance_type, zone, reason),
                LaunchFailure(instance_type, zone, reason, f"{text.rstrip('.')} ({code})"),
            )
    if len(started) < number and not failures:
        text = f"{len(started)} of {number} were started, and AWS does not say why no more"
        best = offers[0]
        failures[best.instance_type, best.zone, FailureReason.STOCK_OUT] = LaunchFailure(
            best.instance_type, best.zone, FailureReason.STOCK_OUT, text
        )
    return LaunchResult(started, tuple(failures.values()))


def _pool(one: Mapping[str, Any], zones: Mapping[str, str]) -> list[tuple[str, str]]:
    """Give the type and the zone that an entry is about; nothing if it names none."""
    override = one.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    zone = zones.get(override.get("SubnetId", "")) or override.get("AvailabilityZone")
    instance_type = override.get("InstanceType")
    return [(instance_type, zone)] if zone and instance_type else []


def read_instance(instance: Mapping[str, Any]) -> Machine:
    """Say how an instance stands."""
    name = instance["State"]["Name"]
    has_ended = name in ("shutting-down", "terminated", "stopping", "stopped")
    tags = tags_in(instance)
    return Machine(
        instance_id=instance["InstanceId"],
        order=tags.get(ORDER, ""),
        state=_STATES.get(name, MachineState.RUNNING),
        zone=zone_of(instance),
        instance_type=instance["InstanceType"],
        market=Market.SPOT if instance.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        created_at=instance["LaunchTime"].timestamp(),
        end_reason=EndReason.PREEMPTED if has_ended and _was_taken_away(instance) else None,
        detail=_detail(instance) if has_ended else "",
    )


def tags_in(instance: Mapping[str, Any]) -> dict[str, str]:
    """Give an instance's tags."""
    return {one["Key"]: one["Value"] for one in instance.get("Tags", ())}


def zone_of(instance: Mapping[str, Any]) -> str:
    """Give an instance's zone."""
    return str(instance.get("Placement", {}).get("AvailabilityZone", ""))


def _was_taken_away(instance: Mapping[str, Any]) -> bool:
    transition = instance.get("StateTransitionReason", "").partition(":")[0].strip()
    return bool(_TAKEN_AWAY & {instance.get("StateReason", {}).get("Code", ""), transition})


def _detail(instance: Mapping[str, Any]) -> str:
    """Return why an instance has ended, in EC2's words."""
    state_reason = instance.get("StateReason", {})
    text = state_reason.get("Message", "") or instance.get("StateTransitionReason", "") or state_reason.get("Code", "")
    return str(text)
