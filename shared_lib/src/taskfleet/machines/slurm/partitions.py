"""The partitions of a cluster and the shapes of their nodes, as ``sinfo`` shows them."""

import math
import re
from dataclasses import dataclass, replace

from taskfleet.machines.slurm.commands import Slurm

#: Separates fields of Slurm's output; no name has it.
SEPARATOR = "\x1f"
#: Partition, with ``*`` if it is the default one, availability, time limit, nodes, CPUs, MiB, generic resources, state of the nodes.
_FIELDS = ("%R", "%P", "%a", "%l", "%D", "%c", "%m", "%G", "%t")
#: Beginnings of the short states of nodes that run no jobs for now.
_UNUSABLE = ("down", "drain", "drng", "fail", "unk", "inval", "maint", "futr", "planned_down")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """Nodes of a partition that are alike."""

    nodes: int
    """Those that are not down or drained."""
    idle: int
    """Those of them without jobs."""
    cpus: int
    memory_mib: int
    gres: str
    """Generic resources, such as ``gpu:a100:4``; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition."""

    name: str
    is_default: bool
    is_up: bool
    max_seconds: float
    """The time limit of jobs; infinity for none."""
    shapes: tuple[NodeShape, ...]
    """The most frequent first; empty if no node is usable."""


def read_partitions(slurm: Slurm) -> dict[str, Partition]:
    """Return the partitions that the user can see, by name.

    Raises:
        UnreachableError, SlurmError: As ``Slurm.run``.
    """
    text = slurm.run("sinfo", ["--noheader", "--exact", f"--format={SEPARATOR.join(_FIELDS)}"])
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.split(SEPARATOR)
        if len(fields) != len(_FIELDS):
            continue
        name, starred, availability, limit, nodes, cpus, memory, gres, state = (one.strip() for one in fields)
        before = found.get(name)
        shapes = list(before.shapes) if before else []
        if not state.startswith(_UNUSABLE) and _number(nodes):
            shape = NodeShape(
                nodes=_number(nodes),
                idle=_number(nodes) if state.startswith("idle") and not state.endswith("*") else 0,
                cpus=_number(cpus),
                memory_mib=_number(memory),
                gres="" if gres == "(null)" else gres,
            )
            shapes = _merged(shapes, shape)
        found[name] = Partition(
            name=name,
            is_default=starred.endswith("*"),
            is_up=availability == "up",
            max_seconds=read_duration(limit),
            shapes=tuple(sorted(shapes, key=lambda one: (-one.nodes, one.cpus, one.memory_mib, one.gres))),
        )
    return found


def read_duration(text: str) -> float:
    """Return the seconds of a duration as Slurm writes it: ``1-12:00:00``, ``12:00:00``, ``30:00``; infinity for other words."""
    if not re.fullmatch(r"(?:\d+-)?\d+(?::\d+){0,2}", text):
        return math.inf
    days, dash, rest = text.rpartition("-")
    parts = [int(one) for one in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:  # minutes, or minutes and seconds
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    return int(days or 0) * 86_400.0 + hours * 3600 + minutes * 60 + seconds


def _number(text: str) -> int:
    """Return a number, which has a ``+`` at the end for the least of several nodes; 0 if it is none."""
    text = text.removesuffix("+")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _merged(shapes: list[NodeShape], new: NodeShape) -> list[NodeShape]:
    """Return shapes with another one; nodes in different states are in different lines."""
    same = [one for one in shapes if (one.cpus, one.memory_mib, one.gres) == (new.cpus, new.memory_mib, new.gres)]
    nodes = sum(one.nodes for one in (new, *same))
    merged = replace(new, nodes=nodes, idle=sum(one.idle for one in (new, *same)))
    return [one for one in shapes if one not in same] + [merged]
