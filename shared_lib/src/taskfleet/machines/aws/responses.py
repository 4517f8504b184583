"""Conversion of EC2's responses about fleets and instances to the types of ``Machines``."""

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
from taskfleet.machines.aws.errors import account_error, failure_reason_of
from taskfleet.machines.aws.regions import Region
from taskfleet.machines.aws.templates import ORDER
from taskfleet.machines.choosing import Offer

_STATES = {
    "pending": MachineState.STARTING,
    "running": MachineState.RUNNING,
    "shutting-down": MachineState.ENDING,
    "terminated": MachineState.ENDED,
    # somebody stopped it: it still costs its disk, so it counts as running until it is terminated
    "stopping": MachineState.RUNNING,
    "stopped": MachineState.RUNNING,
}
#: Reasons of EC2 for instances whose capacity it has reclaimed.
_PREEMPTED = {"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"}
#: They are about the account, not about an offer: of no interest if all machines were launched anyway.
_ABOUT_ACCOUNT = (FailureReason.QUOTA, FailureReason.THROTTLED)


def read_fleet(
    fleet: Mapping[str, Any], region: Region, offers: Sequence[Offer], number: int, decode: Callable[[str], str]
) -> LaunchResult:
    """Return the result of a launch request.

    Args:
        fleet: The response of CreateFleet.
        region: Where it was called.
        offers: The offers of the request.
        number: The number of machines of the request.
        decode: Returns the text of a denial with the missing permission in plain text.

    Raises:
        ProviderError: No machine was launched, and every error is about the account or a setting.
    """
    zones = {subnet: zone for zone, subnet in region.subnets.items()}
    launched = tuple(
        LaunchedMachine(instance_id, *_capacity_pool(one, zones)[0])
        for one in fleet.get("Instances", ())
        for instance_id in one["InstanceIds"]
    )
    decode = cache(decode)  # every capacity pool reports the same denial
    replies = [
        ErrorReply(code, plain_text(decode(text) if code in DENIED else text), 0)
        for code, text in ((one.get("ErrorCode", ""), one.get("ErrorMessage", "")) for one in fleet.get("Errors", ()))
    ]
    account_errors = [error for reply in replies if (error := account_error(reply, region.name)) is not None]
    if account_errors and not launched and len(account_errors) == len(replies):
        raise account_errors[0]
    failures: dict[tuple[str, str, FailureReason], LaunchFailure] = {}
    for one, (code, text, _) in zip(fleet.get("Errors", ()), replies, strict=True):
        reason = failure_reason_of(code)
        if len(launched) >= number and reason in _ABOUT_ACCOUNT:
            continue
        for instance_type, zone in _capacity_pool(one, zones) or [(each.instance_type, each.zone) for each in offers]:
            failures.setdefault(
                (instance_type, zone, reason),
                LaunchFailure(instance_type, zone, reason, f"{text.rstrip('.')} ({code})"),
            )
    if len(launched) < number and not failures:
        text = f"AWS launched {len(launched)} of {number} machines and reported no error"
        best = offers[0]
        failures[best.instance_type, best.zone, FailureReason.STOCK_OUT] = LaunchFailure(
            best.instance_type, best.zone, FailureReason.STOCK_OUT, text
        )
    return LaunchResult(launched, tuple(failures.values()))


def _capacity_pool(one: Mapping[str, Any], zones: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the type and the zone of an entry of a fleet; an empty list if the entry has none."""
    override = one.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    zone = zones.get(override.get("SubnetId", "")) or override.get("AvailabilityZone")
    instance_type = override.get("InstanceType")
    return [(instance_type, zone)] if zone and instance_type else []


def read_instance(instance: Mapping[str, Any]) -> Machine:
    """Return an instance as a machine."""
    name = instance["State"]["Name"]
    has_ended = name in ("shutting-down", "terminated", "stopping", "stopped")
    tags = tags_in(instance)
    return Machine(
        instance_id=instance["InstanceId"],
        request_token=tags.get(ORDER, ""),
        state=_STATES.get(name, MachineState.RUNNING),
        zone=zone_of(instance),
        instance_type=instance["InstanceType"],
        market=Market.SPOT if instance.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        created_at=instance["LaunchTime"].timestamp(),
        end_reason=EndReason.PREEMPTED if has_ended and _was_preempted(instance) else None,
        detail=_detail(instance) if has_ended else "",
    )


def tags_in(instance: Mapping[str, Any]) -> dict[str, str]:
    """Return an instance's tags."""
    return {one["Key"]: one["Value"] for one in instance.get("Tags", ())}


def zone_of(instance: Mapping[str, Any]) -> str:
    """Return an instance's zone."""
    return str(instance.get("Placement", {}).get("AvailabilityZone", ""))


def _was_preempted(instance: Mapping[str, Any]) -> bool:
    transition = instance.get("StateTransitionReason", "").partition(":")[0].strip()
    return bool(_PREEMPTED & {instance.get("StateReason", {}).get("Code", ""), transition})


def _detail(instance: Mapping[str, Any]) -> str:
    """Return EC2's text about the end of an instance."""
    state_reason = instance.get("StateReason", {})
    text = state_reason.get("Message", "") or instance.get("StateTransitionReason", "") or state_reason.get("Code", "")
    return str(text)
