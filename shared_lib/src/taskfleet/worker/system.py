"""What the operating system offers for keeping processes in hand; each has a plain answer where the system lacks it."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE = 3


def _load_libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return libc


_libc = _load_libc()


def adopt_orphans(wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and ended; or no longer."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def die_with_parent(wanted: bool) -> None:
    """Have this process killed when its parent dies, or no longer."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0, 0, 0, 0)


def free_beginning(fd: int, size: int) -> bool:
    """Give the memory or disk behind the first bytes of a file back, leaving its length; False where that is not possible."""
    return _libc is not None and _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE, 0, size) == 0


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


def memory_bytes(pid: int, *, enough: int) -> int:
    """Give the memory that the descendants of a process hold, without shared files; 0 if there are none.

    What they share among themselves and with others (a table loaded before the fork, shared memory) counts for each of them in
    proportion. That is slow to find out, so it is done only when the sum could be more than ``enough`` bytes.
    """
    processes = _descendants(pid)
    most = sum(_figures(f"/proc/{one}/status", ("RssAnon:", "RssShmem:", "VmSwap:")) for one in processes)
    if most <= enough:
        return most
    shares = [_figures(f"/proc/{one}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")) for one in processes]
    return sum(shares) if any(shares) else most


def _descendants(pid: int) -> list[int]:
    found = []
    for child in children_of(pid):
        found += [child, *_descendants(child)]
    return found


def _figures(path: str, names: tuple[str, ...]) -> int:
    """Add up some lines of a file in /proc, in bytes; 0 if the process is gone."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(names):
                total += int(line.split()[1]) * 1024
    return total


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
