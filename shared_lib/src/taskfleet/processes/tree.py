"""The tree of processes: who is below whom, who ends with whom."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from taskfleet.processes import linux

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: Whether ``die_with_parent`` does anything here.
CAN_DIE_WITH_PARENT = linux.LIBC is not None


def adopt_orphans(wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and ended; or no longer."""
    if linux.LIBC is not None:
        linux.LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def die_with_parent(wanted: bool) -> None:
    """Have this process killed when its parent dies, or no longer."""
    if linux.LIBC is not None:
        linux.LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0, 0, 0, 0)


def die_with(parent: int) -> None:
    """Have this process, a fork of that one, killed when its parent dies, also if it has died already."""
    die_with_parent(True)
    if linux.LIBC is not None and os.getppid() != parent:
        os._exit(1)


def lead_group() -> None:
    """Make this process the first of a session and a group of its own, so that they can be ended together."""
    if hasattr(os, "setsid"):
        os.setsid()


def kill_group(pid: int) -> None:
    """Kill a process and its group; the process itself too, in case it has no group of its own yet."""
    kills = (os.killpg, os.kill) if hasattr(os, "killpg") else (os.kill,)
    for kill in kills:
        with suppress(OSError):  # it is gone, or not ours
            kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows both mean the same to os.kill


def children_of(pid: int) -> list[int]:
    """List the direct children of a process; empty where the system does not tell."""
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
    """List the children of a process, theirs, and so on."""
    found = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


class ProcessRow(NamedTuple):
    """One process, as ``ps`` tells."""

    parent: int
    rss_bytes: int
    """The memory it holds, with all it shares."""


def process_table() -> dict[int, ProcessRow]:
    """Return all processes by their ids; empty where there is no ``ps``."""
    import subprocess

    try:
        with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,rss="], stdout=subprocess.PIPE, text=True) as ps:
            rows = [map(int, line.split()) for line in ps.communicate()[0].splitlines()]
    except OSError:
        return {}
    return {pid: ProcessRow(parent=parent, rss_bytes=rss * 1024) for pid, parent, rss in rows if pid != ps.pid}


def kill_orphans(spare: frozenset[int] = frozenset()) -> None:
    """Kill and reap every child of this process but those spared, and what their deaths leave to it in turn."""
    if not hasattr(os, "WNOHANG"):  # Windows: nothing is left to anybody there
        return
    me = os.getpid()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG) if not spare else (0, 0)
        except ChildProcessError:
            return
        if pid:
            continue
        strays = [child for child in children_of(me) if child not in spare]
        if not strays:
            return
        for stray in strays:
            with suppress(ProcessLookupError):
                os.kill(stray, signal.SIGKILL)
        for stray in strays:
            with suppress(ChildProcessError):
                os.waitpid(stray, 0)
