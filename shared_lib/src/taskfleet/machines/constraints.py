"""Constraints that exclude instance types, or limit the number of machines of a pool."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from taskfleet.machine_terms import EPSILON, Range
from taskfleet.machines import Coded
from taskfleet.machines.catalogue import InstanceType
from taskfleet.machines.needs import Need
from taskfleet.machines.patterns import matches

#: More than any quota.
MAX_MACHINES = 100_000


class Constraint(Coded):
    """A constraint that excludes an instance type, or limits the number of machines. The code is for programs, the words for people."""

    ARCHITECTURE = "architecture", "architecture"
    """The type has another architecture than the image."""
    INSTANCE_TYPES = "instance_types", "instance types"
    """The type's name."""
    EXCLUDED = "exclude_instance_types", "excluded instance types"
    """The type's name is excluded."""
    HARDWARE = "special_hardware", "special hardware"
    """It has hardware that was not requested."""
    CPU_FAMILIES = "cpu_families", "CPU family"
    """The type's processor."""
    BURSTABLE = "burstable", "burstable"
    """The type has full speed only for limited bursts."""
    CPU_RANK = "cpu_rank", "CPU rank"
    """The rank of its processor."""
    CPUS = "cpus", "CPUs"
    """The number of its CPUs."""
    CPUS_PER_TASK = "cpus_per_task", "CPUs per task"
    """It has fewer than one task needs."""
    MEMORY = "memory_gib", "memory"
    """Its total memory."""
    MEMORY_PER_CPU = "memory_gib_per_cpu", "memory per CPU"
    """Its memory divided by its CPUs."""
    MEMORY_PER_TASK = "memory_gib_per_task", "memory per task"
    """Its memory divided by its slots."""
    LOCAL_SSD = "local_ssd_gib", "local SSD"
    """The total size of its local disks."""
    LOCAL_SSD_PER_CPU = "local_ssd_gib_per_cpu", "local SSD per CPU"
    """The size of its local disks divided by its CPUs."""
    LOCAL_SSD_PER_TASK = "local_ssd_gib_per_task", "local SSD per task"
    """The size of its local disks divided by its slots."""
    TASKS_PER_MACHINE = "tasks_per_machine", "tasks per machine"
    """The number of its slots."""
    PRICED = "priced", "price"
    """It is not offered in that market, or has no valid price."""
    ZONES = "zones", "zone"
    """It is offered only in other zones."""
    BOOT_DISK = "boot_disk", "boot disk"
    """No disk of the required types is large and fast enough."""
    NUMBER = "number", "number of machines"
    """The limits of the pool allow no number of machines of this type."""
    MACHINES = "machines", "the maximum number of machines"
    """A limit of the pool."""
    TOTAL_CPUS = "total_cpus", "the total number of CPUs"
    """A limit of the pool."""
    SIMULTANEOUS_TASKS = "simultaneous_tasks", "the total number of concurrent tasks"
    """A limit of the pool."""
    PRICE = "price_usd_per_hour", "the total price of the pool"
    """A limit of the pool."""
    TASKS = "tasks", "the number of tasks"
    """More machines would be idle."""
    COMPUTER = "computer", "this computer's CPUs"
    """All machines together have this computer's CPUs."""
    SINGLE = "single", "the computers that there are"
    """There is one machine of each type."""
    NOTHING = "nothing", "no limit"
    """There are no limits."""

    @property
    def setting(self) -> str:
        """The setting of this limit of the pool; empty for other constraints."""
        return self.value.upper() if self in _POOL_LIMITS else ""


_POOL_LIMITS = (Constraint.MACHINES, Constraint.TOTAL_CPUS, Constraint.SIMULTANEOUS_TASKS, Constraint.PRICE)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One reason for which a type does not fit."""

    constraint: Constraint
    text: str

    def __str__(self) -> str:
        """Return the constraint and the text."""
        return f"{self.constraint.words}: {self.text}"


def reject(need: Need, kind: InstanceType) -> list[Rejection]:
    """Return the constraints that a type violates, except those on prices."""
    found: list[Rejection] = []
    if kind.architecture is not need.architecture:
        found.append(Rejection(Constraint.ARCHITECTURE, f"{kind.architecture}, the image needs {need.architecture}"))
    if not matches(kind.name, need.instance_types):
        found.append(Rejection(Constraint.INSTANCE_TYPES, f"not one of {', '.join(need.instance_types)}"))
    if need.exclude_instance_types and matches(kind.name, need.exclude_instance_types):
        found.append(Rejection(Constraint.EXCLUDED, f"one of {', '.join(need.exclude_instance_types)}"))
    unwanted = [one for one in kind.hardware if one not in need.special_hardware]
    if unwanted and kind.name not in need.instance_types:
        found.append(
            Rejection(Constraint.HARDWARE, f"{', '.join(unwanted)}, chosen only if requested (SPECIAL_HARDWARE)")
        )
    if not matches(kind.cpu_family.lower(), [one.lower() for one in need.cpu_families]):
        found.append(Rejection(Constraint.CPU_FAMILIES, kind.cpu_family or "unknown"))
    if kind.is_burstable and not need.allow_burstable:
        found.append(Rejection(Constraint.BURSTABLE, "full speed only for limited bursts"))
    for constraint, value, allowed in (
        (Constraint.CPU_RANK, kind.cpu_rank, need.cpu_rank),
        (Constraint.CPUS, kind.cpus, need.cpus),
        (Constraint.MEMORY, kind.memory_gib, need.memory_gib),
        (Constraint.MEMORY_PER_CPU, kind.memory_gib / kind.cpus, need.memory_gib_per_cpu),
        (Constraint.LOCAL_SSD, kind.local_ssd_gib, need.local_ssd_gib),
        (Constraint.LOCAL_SSD_PER_CPU, kind.local_ssd_gib / kind.cpus, need.local_ssd_gib_per_cpu),
    ):
        if value not in allowed:
            found.append(Rejection(constraint, f"{value:g}, required is {allowed.describe()}"))
    return found


def slots_of(need: Need, kind: InstanceType) -> tuple[range, list[Rejection]]:
    """Return the allowed numbers of slots of a machine as a range, or the constraints that exclude any number."""
    fewest, most = 1, math.floor(kind.cpus / need.cpus_per_task + EPSILON)
    if most < 1:
        return _no_slots(Constraint.CPUS_PER_TASK, f"{kind.cpus}, required are {need.cpus_per_task:g}")
    shared = (
        (Constraint.MEMORY_PER_TASK, kind.memory_gib, need.memory_gib_per_task),
        (Constraint.LOCAL_SSD_PER_TASK, kind.local_ssd_gib, need.local_ssd_gib_per_task),
    )
    for constraint, has, each in shared:
        if each.low:
            most = min(most, math.floor(has / each.low + EPSILON))
        if each.high is not None and has > 0:
            if each.high <= 0:
                return _no_slots(constraint, f"{has:g} GiB, required is {each.describe()}")
            fewest = max(fewest, math.ceil(has / each.high - EPSILON))
        if most < fewest:
            return _no_slots(
                constraint, f"{has:g} GiB, required is {each.describe()} for each of {max(1, fewest)} tasks or more"
            )
    if need.tasks_per_machine.low is not None:
        fewest = max(fewest, math.ceil(need.tasks_per_machine.low - EPSILON))
    if need.tasks_per_machine.high is not None:
        most = min(most, math.floor(need.tasks_per_machine.high + EPSILON))
    if most < fewest:
        text = f"at most {most}, required is {need.tasks_per_machine.describe()}"
        return _no_slots(Constraint.TASKS_PER_MACHINE, text)
    return range(fewest, most + 1), []


def _no_slots(constraint: Constraint, text: str) -> tuple[range, list[Rejection]]:
    return range(0), [Rejection(constraint, text)]


class Count(NamedTuple):
    """The number of machines of a type that a pool may have."""

    fewest: int
    most: int
    limited_by: Constraint
    """The constraint that sets ``most``."""


def count_machines(need: Need, slots: int, cpus: int, usd_per_hour: float) -> Count | None:
    """Return the number of machines of a type that a pool may have; None if the constraints allow no number.

    Args:
        need: The constraints.
        slots: Of each machine.
        cpus: Of each machine.
        usd_per_hour: Of each machine.
    """
    found = count_without_price(need, slots, cpus)
    found = narrow(found, Constraint.PRICE, need.price_usd_per_hour, usd_per_hour)
    fewest, most, limited_by = found
    if most < fewest:
        return None
    if need.tasks is not None and math.ceil(need.tasks / slots) < most:
        most, limited_by = max(fewest, math.ceil(need.tasks / slots)), Constraint.TASKS
    return Count(fewest, most, limited_by)


def count_without_price(need: Need, slots: int, cpus: int) -> Count:
    """Return the number of machines of a type that a pool may have, regardless of the price; see ``count_machines``."""
    found = Count(1, MAX_MACHINES, Constraint.NOTHING)
    found = narrow(found, Constraint.MACHINES, need.machines, 1)
    found = narrow(found, Constraint.TOTAL_CPUS, need.total_cpus, cpus)
    found = narrow(found, Constraint.COMPUTER, need.shared_cpus, cpus)
    return narrow(found, Constraint.SIMULTANEOUS_TASKS, need.simultaneous_tasks, slots)


def narrow(found: Count, constraint: Constraint, allowed: Range, each: float) -> Count:
    """Reduce a range of numbers of machines by a limit on their total."""
    fewest, most = bounds(found.fewest, found.most, allowed, each)
    return Count(fewest, most, constraint if most < found.most else found.limited_by)


def bounds(fewest: int, most: int, allowed: Range, each: float) -> tuple[int, int]:
    """Return the minimum and the maximum number of machines whose total is within a range; none is allowed if minimum > maximum.

    A limit does not apply to machines that count nothing, such as those without a price.
    """
    if not each:
        return fewest, most
    if allowed.low is not None:
        fewest = max(fewest, math.ceil(allowed.low / each - EPSILON))
    if allowed.high is not None:
        most = min(most, math.floor(allowed.high / each + EPSILON))
    return fewest, most
