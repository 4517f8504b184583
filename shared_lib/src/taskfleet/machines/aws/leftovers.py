"""What can be left of a job on AWS besides its machines: launch templates, disks and network interfaces.

A disk and a network interface go with their machine; that they are looked for is for the day on which one did not. The fleets of orders
cannot be deleted without ending their machines; they cost nothing, are listed nowhere, and AWS forgets them by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from taskfleet.clouds.aws_faults import answer_of
from taskfleet.machines.aws.calls import AwsCalls
from taskfleet.machines.aws.faults import ERRORS
from taskfleet.machines.aws.regions import Wishes
from taskfleet.machines.aws.templates import mine


class _Kind(NamedTuple):
    """A kind of thing, and how EC2 calls it."""

    title: str
    describe: str
    field: str
    id: str
    delete: str
    is_free: Callable[[Mapping[str, Any]], bool]
    """Whether nothing uses it."""


_KINDS = (
    _Kind(
        "launch templates",
        "DescribeLaunchTemplates",
        "LaunchTemplates",
        "LaunchTemplateId",
        "DeleteLaunchTemplate",
        lambda _: True,
    ),
    _Kind(
        "disks",
        "DescribeVolumes",
        "Volumes",
        "VolumeId",
        "DeleteVolume",
        lambda one: one["State"] in ("available", "error"),
    ),
    _Kind(
        "network interfaces",
        "DescribeNetworkInterfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "DeleteNetworkInterface",
        lambda one: one["Status"] == "available",
    ),
)


def clear(calls: AwsCalls, wishes: Wishes) -> dict[str, int]:
    """Delete what nothing uses, in all regions; give how many of each kind are there after that.

    Raises:
        MachinesUnreachableError: AWS does not answer.
        MachinesError: These credentials may not.
    """

    def clear_region(region: str) -> dict[str, int]:
        for kind in _KINDS:
            for one in [*_list(calls, wishes, region, kind)]:
                if kind.is_free(one):
                    _delete(calls, region, kind, one)
        return {kind.title: sum(1 for _ in _list(calls, wishes, region, kind)) for kind in _KINDS}

    found = calls.side_by_side(clear_region, wishes.regions)
    return {kind.title: sum(one[kind.title] for one in found) for kind in _KINDS}


def _list(calls: AwsCalls, wishes: Wishes, region: str, kind: _Kind) -> Iterator[dict[str, Any]]:
    for page in calls.pages(region, kind.describe, Filters=mine(wishes)):
        yield from page[kind.field]


def _delete(calls: AwsCalls, region: str, kind: _Kind, one: Mapping[str, Any]) -> None:
    try:
        calls.ask_plainly(region, kind.delete, **{kind.id: one[kind.id]})
    except ERRORS as error:
        code = answer_of(error).code if isinstance(error, ClientError) else ""
        if ".NotFound" not in code and not code.endswith(("InUse", "AlreadyInUse")):  # it is looked for again
            raise calls.trouble(error, region, kind.delete) from error
