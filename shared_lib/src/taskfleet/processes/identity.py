"""Identify processes across restarts, containers and hosts."""

import os
import socket
import sys
from functools import cache
from pathlib import Path


def identity(pid: int | None = None) -> str:
    """Return a name of a process that is unique across time and hosts.

    Args:
        pid: The process; None for this one.
    """
    pid = os.getpid() if pid is None else pid
    return f"{_pid_namespace()}|{pid}|{_start_time(pid)}"


def pid_of(name: str) -> str:
    """Return the process id in the name of a process, as its own host knows it."""
    return name.split("|")[1]


def is_surely_dead(name: str) -> bool:
    """Return whether the process of this name is known to have exited; False if it runs or cannot be checked from here."""
    namespace, _, rest = name.rpartition("|")[0].rpartition("|")
    if namespace != _pid_namespace() or not rest.isdigit():
        return False
    pid = int(rest)
    if sys.platform == "win32":  # os.kill(pid, 0) is Ctrl-C there
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return identity(pid) != name


#: Environment variable of a worker on a machine of a pool: the provider's name of the machine.
MACHINE_VARIABLE = "TASKFLEET_MACHINE"


#: Environment variable of the same worker: the name of the manager whose tasks the machine was launched for.
MANAGER_VARIABLE = "TASKFLEET_MANAGER"
#: How many nodes the machine has, in the environment of its worker.
NODES_VARIABLE = "TASKFLEET_NODES"


#: Environment variable of a machine that needs no controller: when it began, in seconds since the epoch.
BEGAN_VARIABLE = "TASKFLEET_BEGAN_AT"


#: Environment variable of a controller that is a batch job of a pool's provider: the ID of the job.
CONTROLLER_VARIABLE = "TASKFLEET_CONTROLLER_JOB"


def machine() -> str | None:
    """Return the provider's name of the pool machine on which this process runs; None if it does not run on one."""
    return os.environ.get(MACHINE_VARIABLE) or None


def available_cpus() -> int:
    """Return the number of CPUs available to this process."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


#: Environment variable of the same worker: slots by the machine's number of CPUs, as "8:8 16:12".
SLOTS_VARIABLE = "TASKFLEET_SLOTS"


def available_slots() -> int:
    """Return the default number of slots: one per CPU, or what the pool has planned."""
    cpus = available_cpus()
    planned = dict(one.split(":") for one in os.environ.get(SLOTS_VARIABLE, "").split() if ":" in one)
    return int(planned.get(str(cpus), cpus))


@cache
def hostname() -> str:
    """Return the host name shown in events and reports."""
    return socket.gethostname()


def host() -> str:
    """Return a name of this host in this boot, without spaces; containers on one host have different names."""
    return f"{hostname().replace(' ', '_')}/{_pid_namespace()}"


@cache
def _pid_namespace() -> str:
    """Return a name of the process id namespace of this process in this boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return hostname()
    return f"{boot}/{namespace}"


def _start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot, or "-" if unknown; zombies count as exited."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "-"
    fields = text[text.rindex(")") + 2 :].split()
    return "zombie" if fields[0] in "ZX" else fields[19]
