"""What a cluster says about machines before they are submitted: the nodes of their partitions, and the estimated start."""

import math
import re
import time
from collections.abc import Sequence

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machines.choosing import Offer
from taskfleet.machines.slurm.commands import Slurm, read_time
from taskfleet.machines.slurm.partitions import Partition, read_partitions
from taskfleet.text import clock, duration

#: An estimated start that is closer counts as now.
_NOW_SECONDS = 30.0
#: As ``sbatch --test-only`` prints it.
_START = re.compile(r"\bto start at (\S+)")


def outlook(slurm: Slurm, offer: Offer, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return sentences about the partitions of an offer and the estimated start of a machine, as far as Slurm answers.

    Args:
        slurm: Slurm's commands.
        offer: The machine.
        arguments: For sbatch, to request one machine.
    """
    try:
        found = read_partitions(slurm)
        sentences = [_described(found[name]) for name in offer.zone.split(",") if name in found]
        return (*sentences, _start(slurm, arguments))
    except UnreachableError as error:
        return (str(error),)


def _described(partition: Partition) -> str:
    shapes = [
        f"{one.nodes:,} of {one.cpus} CPUs and {one.memory_mib / 1024:.3g} GiB{f' with {one.gres}' if one.gres else ''} ({one.idle:,} idle)"
        for one in partition.shapes
    ]
    limit = "" if math.isinf(partition.max_seconds) else f"; jobs of at most {duration(partition.max_seconds)}"
    return f"Nodes of partition {partition.name}: {', '.join(shapes)}{limit}."


def _start(slurm: Slurm, arguments: Sequence[str]) -> str:
    try:
        answer = slurm.run("sbatch", ["--test-only", *arguments], script="#!/bin/sh\n", with_messages=True)
    except UnreachableError:
        raise
    except ProviderError as error:
        return f"It cannot be submitted as it is. {error}"
    said = _START.search(answer)
    starts_at = (read_time(said[1]) if said else None) or 0.0
    if not starts_at:
        return "Slurm gives no estimate of the start."
    wait_seconds = starts_at - time.time()
    if wait_seconds < _NOW_SECONDS:
        return "Slurm estimates that a machine would start at once."
    return f"Slurm estimates that a machine would start in {duration(wait_seconds)}, at {clock(starts_at, '%Y-%m-%d %H:%M')}."
