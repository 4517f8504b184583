"""Deletion of a job's resources on AWS besides its machines: launch templates, disks and network interfaces.

EC2 deletes the disk and the network interface of an instance with it; they are searched for in case it did not. The fleets of launch
requests cannot be deleted without terminating their instances; they cost nothing, appear in no list, and AWS deletes them by itself.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from taskfleet.clouds.aws_client import AwsClient
from taskfleet.clouds.aws_errors import ERRORS, code_of
from taskfleet.machines.aws.regions import LaunchSettings
from taskfleet.machines.aws.templates import job_filters

logger = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """A kind of resource, and its names in EC2's API."""

    title: str
    describe: str
    field: str
    id: str
    delete: str
    is_unused: Callable[[Mapping[str, Any]], bool]


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


def clear(client: AwsClient, settings: LaunchSettings) -> dict[str, int]:
    """Delete the unused resources of the job in all regions; return how many of each kind are left.

    Raises:
        UnreachableError: AWS does not answer.
        ProviderError: These credentials lack a permission.
    """

    def clear_region(region: str) -> dict[str, int]:
        for kind in _KINDS:
            for one in [*_list(client, settings, region, kind)]:
                if kind.is_unused(one):
                    _delete(client, region, kind, one)
        return {kind.title: sum(1 for _ in _list(client, settings, region, kind)) for kind in _KINDS}

    found = client.run_parallel({region: partial(clear_region, region) for region in settings.regions})
    return {kind.title: sum(one[kind.title] for one in found.values()) for kind in _KINDS}


def _list(client: AwsClient, settings: LaunchSettings, region: str, kind: _Kind) -> Iterator[dict[str, Any]]:
    for page in client.pages(region, kind.describe, Filters=job_filters(settings)):
        yield from page[kind.field]


def _delete(client: AwsClient, region: str, kind: _Kind, one: Mapping[str, Any]) -> None:
    try:
        client.call_raw(region, kind.delete, **{kind.id: one[kind.id]})
    except ERRORS as error:
        code = code_of(error)
        if ".NotFound" not in code and not code.endswith(("InUse", "AlreadyInUse")):
            raise client.explain(error, region, kind.delete) from error
        logger.debug("%s: %s in %s was not deleted: %s.", kind.delete, one[kind.id], region, code)
    else:
        logger.info("%s: deleted %s in %s.", kind.delete, one[kind.id], region)
