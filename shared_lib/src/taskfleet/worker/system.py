"""What the operating system offers for keeping processes in hand; each has a plain answer where the system lacks it."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


def _load_prctl() -> object:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    return ctypes.CDLL(None, use_errno=True).prctl


_prctl = _load_prctl()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and ended."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # type: ignore[operator]


def children_of(pid: int) -> list[int]:
    """List the direct children of a process; empty where the system does not tell."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            children += map(int, text.split())
    except OSError:
        return children
    return children


def memory_bytes(pid: int) -> int:
    """Give the memory a process and its descendants hold for themselves, without shared files; 0 if they are gone."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        total = (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return total + sum(memory_bytes(child) for child in children_of(pid))


def end_orphans(spare: frozenset[int] = frozenset()) -> None:
    """Kill and reap every child of this process but those spared, and what their deaths leave to it in turn."""
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
