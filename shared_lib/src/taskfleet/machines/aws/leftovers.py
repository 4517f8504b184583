"""What can be left of a job on AWS besides its machines: launch templates, disks and network interfaces.

A disk and a network interface go with their machine; that they are looked for is for the day on which one did not. The fleets of orders
cannot be deleted without ending their machines; they cost nothing, are listed nowhere, and AWS forgets them by itself.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.clouds.aws_errors import ERRORS, code_of
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


def clear(client: AwsClient, wishes: Wishes) -> dict[str, int]:
    """Delete what nothing uses, in all regions; give how many of each kind are there after that.

    Raises:
        UnreachableError: AWS does not answer.
        ProviderError: These credentials lack a permission.
    """

    def clear_region(region: str) -> dict[str, int]:
        for kind in _KINDS:
            for one in [*_list(client, wishes, region, kind)]:
                if kind.is_free(one):
                    _delete(client, region, kind, one)
        return {kind.title: sum(1 for _ in _list(client, wishes, region, kind)) for kind in _KINDS}

    found = client.run_parallel({region: partial(clear_region, region) for region in wishes.regions})
    return {kind.title: sum(one[kind.title] for one in found.values()) for kind in _KINDS}


def _list(client: AwsClient, wishes: Wishes, region: str, kind: _Kind) -> Iterator[dict[str, Any]]:
    for page in client.pages(region, kind.describe, Filters=mine(wishes)):
        yield from page[kind.field]


def _delete(client: AwsClient, region: str, kind: _Kind, one: Mapping[str, Any]) -> None:
    try:
        client.call_raw(region, kind.delete, **{kind.id: one[kind.id]})
    except ERRORS as error:
        code = code_of(error)
        if ".NotFound" not in code and not code.endswith(("InUse", "AlreadyInUse")):  # it is looked for again
            raise client.explain(error, region, kind.delete) from error
