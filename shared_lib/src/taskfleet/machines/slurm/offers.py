"""The catalogue of the provider ``slurm``: one size of machine, a part of a node or a whole one, in the partitions of the settings."""

import math
from dataclasses import replace

from taskfleet.errors import WrongSettingError
from taskfleet.machine_terms import EPSILON, Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, Price
from taskfleet.machines.disks import DiskType
from taskfleet.machines.needs import Need
from taskfleet.machines.shared_files import need_without_types
from taskfleet.machines.slurm.partitions import NodeShape, Partition
from taskfleet.settings.provider_fields import SlurmSettings

_MIB_PER_GIB = 1024


def slurm_need(need: Need) -> Need:
    """Return a need without the requirements that do not apply: Slurm gives a job what it asks for, or lets it wait."""
    return replace(need_without_types(need), boot_disk_gib=0.0, boot_disk_gib_per_cpu=0.0, boot_disk_gib_per_task=0.0)


def partitions_of(settings: SlurmSettings, found: dict[str, Partition]) -> list[Partition]:
    """Return the partitions of the settings, or the cluster's default one.

    Args:
        settings: Of Slurm.
        found: The cluster's partitions.

    Raises:
        WrongSettingError: There is no such partition, or none that runs jobs.
    """
    names = (
        settings.partition.split(",") if settings.partition else [one.name for one in found.values() if one.is_default]
    )
    existing = ", ".join(found) or "none that you may use"
    if not names:
        raise WrongSettingError(
            f"The cluster has no default partition. Set PARTITION in config/pool.env to one of its partitions: {existing}.",
            setting="PARTITION",
        )
    for name in names:
        if name not in found:
            raise WrongSettingError(
                f"PARTITION={settings.partition}: the cluster has no partition {name}. Its partitions: {existing}.",
                setting="PARTITION",
            )
    usable = [found[name] for name in names if found[name].is_up and found[name].shapes]
    if not usable:
        raise WrongSettingError(
            f"No node of partition {', '.join(names)} runs jobs for now: they are down or drained, or the partition is closed. 'sinfo -R' "
            f"shows the administrators' reasons. The cluster's partitions: {existing}.",
            setting="PARTITION",
        )
    return usable


def slurm_catalogue(need: Need, settings: SlurmSettings, found: dict[str, Partition], now: float) -> Catalogue:
    """Return a catalogue with one type of machine: the allocation to ask for.

    Args:
        need: The requirements.
        settings: Of Slurm.
        found: The cluster's partitions.
        now: Seconds since the epoch.

    Raises:
        WrongSettingError: As ``partitions_of``, or no node has GRES.
    """
    partitions = partitions_of(settings, found)
    shapes = [shape for one in partitions if (shape := _usual_shape(one, settings.gres)) is not None]
    if not shapes:
        have = sorted({shape.gres for one in partitions for shape in one.shapes if shape.gres})
        raise WrongSettingError(
            f"GRES={settings.gres}: no node of partition {', '.join(one.name for one in partitions)} has it. "
            f"{'They have ' + ', '.join(have) + '.' if have else 'They have no generic resources.'}",
            setting="GRES",
        )
    nodes = settings.nodes_per_machine
    most = max(sum(one.nodes for one in partition.shapes) for partition in partitions)
    if nodes > most:
        raise WrongSettingError(
            f"NODES_PER_MACHINE={nodes}: partition {', '.join(one.name for one in partitions)} has {most} nodes that run jobs.",
            setting="NODES_PER_MACHINE",
        )
    node = _times(nodes, min(shapes, key=lambda one: (one.cpus, one.memory_mib)))
    cpus = math.ceil(_cpus(need, settings, node) / nodes) * nodes  # the same on all nodes
    memory_mib = _memory_mib(need, settings, node, cpus)
    memory_share = memory_mib / node.memory_mib if node.memory_mib > nodes else 0.0  # 1 each: sites that do not set it
    share = 1.0 if settings.exclusive else max(cpus / node.cpus, memory_share)
    kind = InstanceType(
        name=f"{f'{nodes}nodes-' if nodes > 1 else ''}{cpus}cpu-{memory_mib / _MIB_PER_GIB:.3g}gib",
        cpus=cpus,
        memory_gib=memory_mib / _MIB_PER_GIB,
        architecture=need.architecture,
        nodes=nodes * share,
    )
    zone = ",".join(one.name for one in partitions)
    usd_per_hour = (settings.usd_per_node_hour or 0.0) * kind.nodes
    return Catalogue(
        provider="slurm",
        regions=(zone,),
        fetched_at=now,
        types={kind.name: kind},
        disks=(DiskType(name="", region=zone, usd_per_gib_month=0.0),),
        prices={(kind.name, Market.ON_DEMAND): (Price(usd_per_hour, zone),)},
    )


def allocation(*, cpus: int, memory_gib: float, partition: str, is_exclusive: bool, nodes: int = 1) -> list[str]:
    """Return the options for sbatch that ask for a machine, whose CPUs and memory are those of all its nodes."""
    return [
        f"--partition={partition}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus // nodes}",
        f"--mem={'0' if is_exclusive else f'{math.floor(memory_gib * _MIB_PER_GIB / nodes)}M'}",
        *(["--exclusive"] if is_exclusive else []),
    ]


def _times(nodes: int, node: NodeShape) -> NodeShape:
    """Return some nodes as if they were one."""
    return replace(node, cpus=nodes * node.cpus, memory_mib=nodes * node.memory_mib)


def _usual_shape(partition: Partition, gres: str | None) -> NodeShape | None:
    """Return the most frequent shape of nodes in a partition that has the generic resources."""
    wanted = [one.partition(":")[0] for one in gres.split(",")] if gres else []
    return next(
        (
            shape
            for shape in partition.shapes
            if all(name in {one.partition(":")[0] for one in shape.gres.split(",")} for name in wanted)
        ),
        None,
    )


def _cpus(need: Need, settings: SlurmSettings, node: NodeShape) -> int:
    """Return the CPUs of a machine: as many as are allowed and useful, at most those of a node."""
    if settings.exclusive:
        return node.cpus
    wanted = min(node.cpus, need.cpus.high or math.inf)
    if need.tasks_per_machine.high is not None:
        wanted = min(wanted, max(need.tasks_per_machine.high * need.cpus_per_task, need.cpus.low or 1))
    return max(1, math.ceil(wanted - EPSILON))


def _memory_mib(need: Need, settings: SlurmSettings, node: NodeShape, cpus: int) -> int:
    """Return the memory of a machine: its share of a node, more if the requirements ask for more, less if they allow only less."""
    if settings.exclusive:
        return node.memory_mib
    share = node.memory_mib * cpus / node.cpus
    slots = min(cpus // need.cpus_per_task or 1, need.tasks_per_machine.high or math.inf)
    least_gib = max(
        need.memory_gib.low or 0,
        (need.memory_gib_per_cpu.low or 0) * cpus,
        (need.memory_gib_per_task.low or 0) * slots,
    )
    most_gib = min(need.memory_gib.high or math.inf, (need.memory_gib_per_cpu.high or math.inf) * cpus)
    wanted = min(max(share, least_gib * _MIB_PER_GIB), most_gib * _MIB_PER_GIB)
    return max(1, math.floor(min(wanted, node.memory_mib) + EPSILON))
