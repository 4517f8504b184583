"""Checks of the settings with the cluster before anything is submitted."""

from collections.abc import Callable, Sequence

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.machines.slurm.offers import partitions_of
from taskfleet.machines.slurm.partitions import read_partitions
from taskfleet.settings import Configuration
from taskfleet.settings.provider_fields import SlurmSettings


def find_obstacles(
    configuration: Configuration, slurm: Slurm, options: Sequence[str], allocation: Callable[[], Sequence[str]]
) -> list[str]:
    """Return a sentence for each known obstacle; see ``Machines.preflight``.

    Args:
        configuration: The settings.
        slurm: Slurm's commands.
        options: Options for sbatch from the settings.
        allocation: Returns the options for the size of a machine.

    Raises:
        UnreachableError: Slurm's controller does not answer.
    """
    own, hours = configuration.of(SlurmSettings), configuration.pool.lifetime_hours
    try:
        partitions = partitions_of(own, read_partitions(slurm))
    except UnreachableError:
        raise
    except ProviderError as error:
        return [str(error)]
    longest = max(one.max_seconds for one in partitions)
    if hours * 3600 > longest:
        return [
            f"LIFETIME_HOURS={hours:g} is longer than jobs may run in partition {', '.join(one.name for one in partitions)}. Set "
            f"LIFETIME_HOURS={longest / 3600:g} or less in config/pool.env; shorter jobs start sooner."
        ]
    try:
        slurm.run("sbatch", ["--test-only", *allocation(), *options], script="#!/bin/sh\n")
    except UnreachableError:
        raise
    except ProviderError as error:
        text = str(error)
        if "node configuration" in text:
            return [
                f"No node of partition {', '.join(one.name for one in partitions)} can run such a machine: it would wait for ever. "
                "Reduce CPUS or MEMORY_GIB, or correct CONSTRAINT, GRES or SLURM_OPTIONS in config/pool.env; 'sinfo -Nel' shows the "
                f"nodes. ({text})"
            ]
        return [text]
    return []
