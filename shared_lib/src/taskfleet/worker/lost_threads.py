"""Threads that the user's module started when it was imported. A fork copies none of them, so a task that waits for one hangs.

By measurement (start threads, fork twice, use them), tasks hang that use an executor, Polars, or a library with GNU OpenMP such as
scikit-learn or numba, if its threads ran during the import. Those of NumPy (OpenBLAS), pyarrow and gRPC are ignored: these libraries start
new ones after a fork.
"""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from taskfleet.worker.config import WorkerConfig

#: Names that native libraries give to threads which they do not start again after a fork.
_NATIVE = re.compile(r"polars-\d|tokio-|cuda")
#: Packages whose Python threads no task waits for.
_HARMLESS = frozenset({"tqdm"})
#: GNU OpenMP does not name its threads; where they wait shows whose they are.
_OPENMP = "libgomp"
#: How long a thread of OpenMP may spin before it waits.
_SPIN_SECONDS = 0.1
_SPIN_CHECK_SECONDS = 0.01


def lost_threads() -> list[str]:
    """Return the names of the threads of this process that its forked children would miss."""
    return sorted({*_python_threads(), *_native_threads()})


def fork_note(names: list[str], config: WorkerConfig) -> str:
    """Return what such threads mean for the tasks, and what the user can do."""
    module = config.function.partition(":")[0]
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    started = f"{module} starts threads when it is imported ({shown}), which a forked process does not have"
    if not config.is_start_method_free:
        return (
            f"{started}: a task that waits for them hangs. Set START_METHOD=forkserver, or start them in the function."
        )
    reuse = "TASKS_PER_PROCESS=100 to reuse processes, or " if config.tasks_per_process == 1 else ""
    return (
        f"{started}: each process imports it itself, as with START_METHOD=forkserver. If that takes too long, set {reuse}"
        "START_METHOD=fork if tasks do not use these threads."
    )


def _python_threads() -> Iterator[str]:
    threading = sys.modules.get("threading")
    if threading is None:
        return
    for thread in threading.enumerate():
        is_dummy = isinstance(thread, threading._DummyThread)  # of a native thread that has called Python
        is_harmless = type(thread).__module__.partition(".")[0] in _HARMLESS
        if thread is not threading.main_thread() and not is_dummy and not is_harmless:
            yield thread.name


def _native_threads() -> Iterator[str]:
    if not sys.platform.startswith("linux"):
        return
    openmp = _mapped(_OPENMP)
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):  # it has ended
            name = _read(f"/proc/self/task/{thread}/comm").strip()
            if _NATIVE.match(name):
                yield name
            elif openmp and int(thread) != os.getpid() and _waits_in(thread, openmp):
                yield "OpenMP"


def _waits_in(thread: str, ranges: list[range]) -> bool:
    """Return whether a thread waits in a system call that was made by code in one of these ranges of addresses."""
    deadline = time.monotonic() + _SPIN_SECONDS
    words = _read(f"/proc/self/task/{thread}/syscall").split()
    while words == ["running"] and time.monotonic() < deadline:
        time.sleep(_SPIN_CHECK_SECONDS)
        words = _read(f"/proc/self/task/{thread}/syscall").split()
    return len(words) > 1 and any(int(words[-1], 16) in addresses for addresses in ranges)


def _mapped(library: str) -> list[range]:
    """Return the addresses at which a library is loaded."""
    lines = [line for line in _read("/proc/self/maps").splitlines() if library in line]
    bounds = [line.split(maxsplit=1)[0].split("-") for line in lines]
    return [range(int(first, 16), int(last, 16)) for first, last in bounds]


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
