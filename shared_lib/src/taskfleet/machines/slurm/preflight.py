"""Checks of the settings with the cluster before anything is submitted."""

from collections.abc import Sequence

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machines.needs import Need
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.machines.slurm.errors import is_submit_limit
from taskfleet.machines.slurm.offers import allocation, partitions_of, slurm_catalogue
from taskfleet.machines.slurm.partitions import read_partitions
from taskfleet.machines.slurm.script import time_limit_minutes
from taskfleet.settings import Configuration
from taskfleet.settings.provider_fields import SlurmSettings

#: Options that the pool relies on, long and short, each with the setting to use instead if there is one.
_OWN_OPTIONS = {
    **dict.fromkeys(("time", "t", "time-min"), "LIFETIME_HOURS"),
    **dict.fromkeys(("array", "a", "job-name", "J", "comment", "requeue", "wrap", "output", "o"), ""),
}


def find_obstacles(configuration: Configuration, slurm: Slurm, options: Sequence[str], need: Need) -> list[str]:
    """Return a sentence for each known obstacle; see ``Machines.preflight``.

    Args:
        configuration: The settings.
        slurm: Slurm's commands.
        options: Options for sbatch from the settings.
        need: The requirements on machines.

    Raises:
        UnreachableError: Slurm's controller does not answer.
    """
    own, hours = configuration.of(SlurmSettings), configuration.pool.lifetime_hours
    try:
        found = read_partitions(slurm)
        partitions = partitions_of(own, found)
    except UnreachableError:
        raise
    except ProviderError as error:
        return [str(error)]
    for option in own.slurm_options:
        name = option[2:].partition("=")[0] if option.startswith("--") else option[1:2]
        if option.startswith("-") and name in _OWN_OPTIONS:
            instead = f"set {_OWN_OPTIONS[name]} instead" if _OWN_OPTIONS[name] else "the pool needs its own value"
            return [f"SLURM_OPTIONS has {option}. Remove it from config/pool.env: {instead}."]
    longest = max(one.max_seconds for one in partitions)
    if hours * 3600 > longest:
        return [
            f"LIFETIME_HOURS={hours:g} is longer than jobs may run in partition {', '.join(one.name for one in partitions)}. Set "
            f"LIFETIME_HOURS={longest / 3600:g} or less in config/pool.env; shorter jobs start sooner."
        ]
    try:
        catalogue = slurm_catalogue(need, own, found, 0.0)
        [kind], [zone] = catalogue.types.values(), catalogue.regions
        size = allocation(
            cpus=kind.cpus,
            memory_gib=kind.memory_gib,
            partition=zone,
            is_exclusive=own.exclusive,
            nodes=own.nodes_per_machine,
        )
        limit = f"--time={time_limit_minutes(hours * 3600)}"
        slurm.run("sbatch", ["--test-only", *size, limit, *options], script="#!/bin/sh\n")
    except UnreachableError:
        raise
    except ProviderError as error:
        text = str(error)
        if is_submit_limit(text):  # jobs of this user, perhaps of this pool, have to end first
            return []
        if "node configuration" in text:
            return [
                f"No node of partition {', '.join(one.name for one in partitions)} can run such a machine: it would wait for ever. "
                "Reduce CPUS or MEMORY_GIB, or correct CONSTRAINT, GRES or SLURM_OPTIONS in config/pool.env; 'sinfo -Nel' shows the "
                f"nodes. ({text})"
            ]
        return [text]
    return []
