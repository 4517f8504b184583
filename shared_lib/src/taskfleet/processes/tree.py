"""Find and kill the descendants of a process, and tie the lifetime of processes to their parents."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from taskfleet.processes import linux

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: Whether ``die_with_parent`` has an effect on this system.
CAN_DIE_WITH_PARENT = linux.LIBC is not None


def adopt_orphans(wanted: bool = True) -> None:
    """Become, or stop being, the new parent of descendants whose parent dies, so that they can be found and killed."""
    if linux.LIBC is not None:
        linux.LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def die_with_parent(wanted: bool) -> None:
    """Have this process killed, or no longer killed, when its parent dies."""
    if linux.LIBC is not None:
        linux.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0, 0, 0, 0)


def die_with(parent: int) -> None:
    """Have this process, forked from ``parent``, killed when that dies, even if it has already died."""
    die_with_parent(True)
    if linux.LIBC is not None and os.getppid() != parent:
        os._exit(1)


def lead_group() -> None:
    """Make this process the leader of a new session and process group, so that the group can be killed together."""
    if hasattr(os, "setsid"):
        os.setsid()


def kill_group(pid: int) -> None:
    """Kill a process and its process group; also the process alone, in case it does not lead a group yet."""
    kills = (os.killpg, os.kill) if hasattr(os, "killpg") else (os.kill,)
    for kill in kills:
        with suppress(OSError):  # it has exited, or belongs to another user
            kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows, both have the same effect in os.kill


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process; empty if the system does not list them."""
    if not linux.HAS_PROC:
        return [child for child, row in process_table().items() if row.parent == pid]
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            children += map(int, text.split())
    except OSError:
        return children
    return children


def descendants_of(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


class ProcessRow(NamedTuple):
    """One process, as ``ps`` reports it."""

    parent: int
    rss_bytes: int
    """Its resident memory, including shared memory."""


def process_table() -> dict[int, ProcessRow]:
    """Return all processes by process id; empty if there is no ``ps``."""
    import subprocess

    try:
        with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,rss="], stdout=subprocess.PIPE, text=True) as ps:
            rows = [map(int, line.split()) for line in ps.communicate()[0].splitlines()]
    except OSError:
        return {}
    return {pid: ProcessRow(parent=parent, rss_bytes=rss * 1024) for pid, parent, rss in rows if pid != ps.pid}


def kill_orphans(spare: frozenset[int] = frozenset()) -> None:
    """Kill and reap every child of this process, except ``spare``, and the children reparented to it by their deaths."""
    if not hasattr(os, "WNOHANG"):  # Windows, which does not reparent orphans
        return
    me = os.getpid()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG) if not spare else (0, 0)
        except ChildProcessError:
            return
        if pid:
            continue
        children = [child for child in children_of(me) if child not in spare]
        if not children:
            return
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)
