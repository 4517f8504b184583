"""What keeps types of machines out, and a pool from having more of them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from taskfleet.machine_terms import EPSILON, Range
from taskfleet.machines import Coded
from taskfleet.machines.catalogue import InstanceType
from taskfleet.machines.needs import Need

#: Nobody's quota has more.
MOST_MACHINES = 100_000


class Constraint(Coded):
    """What keeps a type of machines out, or a pool from having more of them. The code is for programs, the words are for people."""

    ARCHITECTURE = "architecture", "architecture"
    """The type runs other programs than the image."""
    INSTANCE_TYPES = "instance_types", "instance types"
    """Its name."""
    CPU_FAMILIES = "cpu_families", "CPU family"
    """Its processor."""
    BURSTABLE = "burstable", "burstable"
    """It has its whole speed for a while only."""
    CPU_RANK = "cpu_rank", "CPU rank"
    """How fast its cores are."""
    CPUS = "cpus", "CPUs"
    """How many it has."""
    CPUS_PER_TASK = "cpus_per_task", "CPUs per task"
    """It has not enough for one task."""
    MEMORY = "memory_gib", "memory"
    """All of it."""
    MEMORY_PER_CPU = "memory_gib_per_cpu", "memory per CPU"
    """The share of a CPU."""
    MEMORY_PER_TASK = "memory_gib_per_task", "memory per task"
    """The share of a task."""
    LOCAL_SSD = "local_ssd_gib", "local SSD"
    """All of its local disks."""
    LOCAL_SSD_PER_CPU = "local_ssd_gib_per_cpu", "local SSD per CPU"
    """The share of a CPU."""
    LOCAL_SSD_PER_TASK = "local_ssd_gib_per_task", "local SSD per task"
    """The share of a task."""
    TASKS_PER_MACHINE = "tasks_per_machine", "tasks per machine"
    """How many run on it at a time."""
    PRICED = "priced", "price"
    """It is not offered in that market, or at no price that makes sense."""
    ZONES = "zones", "zone"
    """It is offered in other zones only."""
    BOOT_DISK = "boot_disk", "boot disk or number of machines"
    """No disk of the types wanted is fast enough, or the limits leave no number of machines."""
    NUMBER = "number", "number of machines"
    """The limits of the whole pool leave no number of such machines."""
    MACHINES = "machines", "the number of machines"
    """Of the pool."""
    TOTAL_CPUS = "total_cpus", "the number of CPUs of all machines"
    """Of the pool."""
    SIMULTANEOUS_TASKS = "simultaneous_tasks", "the number of simultaneous tasks"
    """Of the pool."""
    PRICE = "price_usd_per_hour", "the price of all machines"
    """Of the pool."""
    TASKS = "tasks", "the number of tasks"
    """More machines would have nothing to do."""
    NOTHING = "nothing", "the most there can be"
    """There are no limits."""

    @property
    def setting(self) -> str:
        """The setting of the pool that says how many machines there may be; empty if it is none."""
        return self.value.upper() if self in _OF_THE_POOL else ""


_OF_THE_POOL = (Constraint.MACHINES, Constraint.TOTAL_CPUS, Constraint.SIMULTANEOUS_TASKS, Constraint.PRICE)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One reason why a type does not fit."""

    constraint: Constraint
    text: str

    def __str__(self) -> str:
        """Say it, the constraint first."""
        return f"{self.constraint.words}: {self.text}"


def reject(need: Need, kind: InstanceType) -> list[Rejection]:
    """Return all that is against a type, its prices apart."""
    found: list[Rejection] = []
    if kind.architecture is not need.architecture:
        found.append(Rejection(Constraint.ARCHITECTURE, f"{kind.architecture}, the image wants {need.architecture}"))
    if not matches(kind.name, need.instance_types):
        found.append(Rejection(Constraint.INSTANCE_TYPES, f"not one of {', '.join(need.instance_types)}"))
    if not matches(kind.cpu_family.lower(), [one.lower() for one in need.cpu_families]):
        found.append(Rejection(Constraint.CPU_FAMILIES, kind.cpu_family or "unknown"))
    if kind.is_burstable and not need.allow_burstable:
        found.append(Rejection(Constraint.BURSTABLE, "has its whole speed for a while only"))
    for constraint, value, allowed in (
        (Constraint.CPU_RANK, kind.cpu_rank, need.cpu_rank),
        (Constraint.CPUS, kind.cpus, need.cpus),
        (Constraint.MEMORY, kind.memory_gib, need.memory_gib),
        (Constraint.MEMORY_PER_CPU, kind.memory_gib / kind.cpus, need.memory_gib_per_cpu),
        (Constraint.LOCAL_SSD, kind.local_ssd_gib, need.local_ssd_gib),
        (Constraint.LOCAL_SSD_PER_CPU, kind.local_ssd_gib / kind.cpus, need.local_ssd_gib_per_cpu),
    ):
        if value not in allowed:
            found.append(Rejection(constraint, f"{value:g}, wanted is {allowed.in_words()}"))
    return found


def slots_of(need: Need, kind: InstanceType) -> tuple[range, list[Rejection]]:
    """Return how many tasks at a time a machine may have: a range, or what is against any number."""
    fewest, most = 1, math.floor(kind.cpus / need.cpus_per_task + EPSILON)
    if most < 1:
        return _no_slots(Constraint.CPUS_PER_TASK, f"has {kind.cpus}, wanted are {need.cpus_per_task:g}")
    shared = (
        (Constraint.MEMORY_PER_TASK, kind.memory_gib, need.memory_gib_per_task),
        (Constraint.LOCAL_SSD_PER_TASK, kind.local_ssd_gib, need.local_ssd_gib_per_task),
    )
    for constraint, has, each in shared:
        if each.low:
            most = min(most, math.floor(has / each.low + EPSILON))
        if each.high is not None and has > 0:
            if each.high <= 0:
                return _no_slots(constraint, f"{has:g} GiB, wanted is {each.in_words()}")
            fewest = max(fewest, math.ceil(has / each.high - EPSILON))
        if most < fewest:
            return _no_slots(
                constraint, f"{has:g} GiB, wanted is {each.in_words()} for each of {max(1, fewest)} tasks or more"
            )
    if need.tasks_per_machine.low is not None:
        fewest = max(fewest, math.ceil(need.tasks_per_machine.low - EPSILON))
    if need.tasks_per_machine.high is not None:
        most = min(most, math.floor(need.tasks_per_machine.high + EPSILON))
    if most < fewest:
        text = f"has room for {most}, wanted is {need.tasks_per_machine.in_words()}"
        return _no_slots(Constraint.TASKS_PER_MACHINE, text)
    return range(fewest, most + 1), []


def _no_slots(constraint: Constraint, text: str) -> tuple[range, list[Rejection]]:
    return range(0), [Rejection(constraint, text)]


class Count(NamedTuple):
    """How many machines of a kind a pool may have."""

    fewest: int
    most: int
    limited_by: Constraint
    """What keeps it from being more."""


def count_machines(need: Need, slots: int, cpus: int, usd_per_hour: float) -> Count | None:
    """Return how many machines of a kind a pool may have; None if the constraints allow no number.

    Args:
        need: The constraints.
        slots: Tasks at a time on each.
        cpus: Of each.
        usd_per_hour: Of each.
    """
    found = count_but_for_price(need, slots, cpus)
    found = narrow(found, Constraint.PRICE, need.price_usd_per_hour, usd_per_hour)
    fewest, most, limited_by = found
    if most < fewest:
        return None
    if need.tasks is not None and math.ceil(need.tasks / slots) < most:
        most, limited_by = max(fewest, math.ceil(need.tasks / slots)), Constraint.TASKS
    return Count(fewest, most, limited_by)


def count_but_for_price(need: Need, slots: int, cpus: int) -> Count:
    """Return how many machines of a kind a pool may have, whatever they cost; see ``count_machines``."""
    found = Count(1, MOST_MACHINES, Constraint.NOTHING)
    found = narrow(found, Constraint.MACHINES, need.machines, 1)
    found = narrow(found, Constraint.TOTAL_CPUS, need.total_cpus, cpus)
    return narrow(found, Constraint.SIMULTANEOUS_TASKS, need.simultaneous_tasks, slots)


def narrow(found: Count, constraint: Constraint, allowed: Range, each: float) -> Count:
    """Narrow a number of machines down by what all of them together may be."""
    fewest, most = bounds(found.fewest, found.most, allowed, each)
    return Count(fewest, most, constraint if most < found.most else found.limited_by)


def bounds(fewest: int, most: int, allowed: Range, each: float) -> tuple[int, int]:
    """Return the fewest and the most machines that may be, together, as much as is allowed; no number is left if the fewest are more."""
    if allowed.low is not None:
        fewest = max(fewest, math.ceil(allowed.low / each - EPSILON))
    if allowed.high is not None:
        most = min(most, math.floor(allowed.high / each + EPSILON))
    return fewest, most


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether a text is like one of some patterns with ``*`` and ``?``, or there are none."""
    patterns = list(patterns)
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)
