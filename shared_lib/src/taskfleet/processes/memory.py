"""Measure the memory of processes."""

import sys
from contextlib import suppress
from pathlib import Path

from taskfleet.processes import linux
from taskfleet.processes.tree import descendants_of, process_table

#: ``ru_maxrss`` is in KiB, on macOS in bytes.
MAXRSS_PER_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10


def own_peak_memory_mib() -> float:
    """Return the peak memory of this process; 0 if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB


def memory_bytes(pid: int, *, enough: int, spare: frozenset[int] = frozenset()) -> int:
    """Return the memory of the descendants of a process, except ``spare``, without shared files; 0 if there are none.

    Memory shared among them and with other processes (a table loaded before the fork, shared memory) is divided in proportion. Computing
    that is slow, so it is done only if the sum could exceed ``enough`` bytes. Without /proc, the result is the sum of resident memory, in
    which shared memory counts in full for each process.
    """
    if not linux.HAS_PROC:
        return _memory_by_table(pid, spare)
    processes = [one for one in descendants_of(pid) if one not in spare]
    most = sum(_figures(f"/proc/{one}/status", ("RssAnon:", "RssShmem:", "VmSwap:")) for one in processes)
    if most <= enough:
        return most
    shares = [_figures(f"/proc/{one}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")) for one in processes]
    return sum(shares) if any(shares) else most


def _memory_by_table(pid: int, spare: frozenset[int]) -> int:
    table = process_table()
    found, total = [pid], 0
    for one in found:
        found += [child for child, row in table.items() if row.parent == one]
        if one != pid and one not in spare:
            total += table[one].rss_bytes
    return total


def _figures(path: str, names: tuple[str, ...]) -> int:
    """Return the sum of some lines of a /proc file in bytes; 0 if the process has exited."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(names):
                total += int(line.split()[1]) * 1024
    return total
