"""What the import of the user's module leaves open, which tasks share when they are forked from the process that imported it."""

import os
import re
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taskfleet.worker.config import WorkerConfig

_DESCRIPTORS = "/proc/self/fd"
#: How many are named in a message.
_MAX_NAMED = 5
#: Graphics processors; a process that was forked while one was open cannot use it.
_GPU = re.compile(r"/dev/(nvidia|kfd|dri/)")


def open_descriptors() -> frozenset[int]:
    """Return the file descriptors of this process; none where the system does not list them."""
    found = set()
    with suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):
            with suppress(OSError):  # the descriptor of the list itself is closed by now
                os.fstat(int(name))
                found.add(int(name))
    return frozenset(found)


def shared_by_tasks(before: Iterable[int], config: WorkerConfig) -> list[str]:
    """Return a warning about what was opened since ``before``, if tasks that share it disturb each other."""
    mapped = _mapped_files()
    found: dict[str, None] = {}
    for fd in sorted(open_descriptors().difference(before)):
        with suppress(OSError):
            what = _description(fd, mapped, Path(config.project))
            if what is not None:
                found[what] = None
    if not found:
        return []
    named = list(found)[:_MAX_NAMED]
    more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
    return [
        f"The import of {config.function.partition(':')[0]} leaves open: {', '.join(named)}{more}. All tasks share this, including the "
        "position in a file, and may disturb each other. Open it in the function, or set START_METHOD=spawn."
    ]


def _description(fd: int, mapped: frozenset[tuple[int, int]], project: Path) -> str | None:
    """Return what a descriptor leads to; None if sharing it is harmless.

    Harmless are files that are mapped into memory or to which all writes are appended, and pipes, which connect helper processes.
    """
    target = os.readlink(f"{_DESCRIPTORS}/{fd}")
    status = os.fstat(fd)
    if stat.S_ISSOCK(status.st_mode):
        return _connection(fd)
    if stat.S_ISCHR(status.st_mode):
        return f"the GPU {target}" if _GPU.match(target) else None
    if target == "anon_inode:[eventpoll]":
        return "an event loop"
    if not stat.S_ISREG(status.st_mode) or target.startswith(("/proc/", "/sys/", "/dev/shm/", "/memfd:")):
        return None
    import fcntl

    is_appended = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
    if is_appended or (status.st_dev, status.st_ino) in mapped:
        return None
    if not status.st_nlink:
        return "a temporary file"
    path = Path(target)
    return str(path.relative_to(project) if path.is_relative_to(project) else path)


def _connection(fd: int) -> str | None:
    with socket.socket(fileno=os.dup(fd)) as copy:
        peer = copy.getpeername()  # OSError if there is none
        if isinstance(peer, tuple):
            return f"a connection to {peer[0]}, port {peer[1]}"
        name = peer.decode(errors="replace") if isinstance(peer, bytes) else str(peer)
        return f"a connection to {name}" if name else None  # without a name, both ends are in this process or a child


def _mapped_files() -> frozenset[tuple[int, int]]:
    """Return device and inode of the files mapped into memory."""
    found = set()
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, _, _, device, inode, *_ = line.split(maxsplit=5)
            major, _, minor = device.partition(":")
            found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return frozenset(found)
