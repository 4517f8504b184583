"""Telling processes apart across restarts, containers and hosts."""

import os
import socket
import sys
from functools import cache
from pathlib import Path


def identity(pid: int | None = None) -> str:
    """Name a process so that no other, before or after it, here or elsewhere, has the same name.

    Args:
        pid: The process, this one if None.
    """
    pid = os.getpid() if pid is None else pid
    return f"{_place()}|{pid}|{_start_time(pid)}"


def pid_of(name: str) -> str:
    """Return the process id in the name of a process, as its own host knows it."""
    return name.split("|")[1]


def is_surely_dead(name: str) -> bool:
    """Return whether the process of that name is known to be gone; False when it lives or cannot be seen from here."""
    place, _, rest = name.rpartition("|")[0].rpartition("|")
    if place != _place() or not rest.isdigit():
        return False
    pid = int(rest)
    if sys.platform == "win32":  # where os.kill(pid, 0) is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return identity(pid) != name


#: In the environment of a worker on a machine of a pool: the provider's name of that machine.
MACHINE_VARIABLE = "TASKFLEET_MACHINE"


def machine() -> str | None:
    """Return the provider's name of the machine of a pool that this process is on; None if it is on none."""
    return os.environ.get(MACHINE_VARIABLE) or None


def available_cpus() -> int:
    """Return the number of CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


#: In the same environment: how many tasks at a time a machine runs, by its number of CPUs, as "8:8 16:12".
SLOTS_VARIABLE = "TASKFLEET_SLOTS"


def available_slots() -> int:
    """Return how many tasks this process should run at a time by default: one for each CPU, or what the pool has planned."""
    cpus = available_cpus()
    planned = dict(one.split(":") for one in os.environ.get(SLOTS_VARIABLE, "").split() if ":" in one)
    return int(planned.get(str(cpus), cpus))


@cache
def hostname() -> str:
    """Return this machine's name as events and reports show it."""
    return socket.gethostname()


@cache
def _place() -> str:
    """Name the set of process ids that this process can see: one boot, one pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return hostname()
    return f"{boot}/{namespace}"


def _start_time(pid: int) -> str:
    """Return the process's start in clock ticks since boot, or "-" where the system does not tell; zombies count as gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "-"
    fields = text[text.rindex(")") + 2 :].split()
    return "zombie" if fields[0] in "ZX" else fields[19]
