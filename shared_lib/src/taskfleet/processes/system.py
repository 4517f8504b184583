"""What the operating system offers for keeping processes in hand; each has a plain answer where the system lacks it."""

import os
import select
import signal
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE = 3

#: ``ru_maxrss`` is in KiB but for macOS, where it is in bytes.
MAXRSS_PER_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10

#: As ``select.poll`` wants them, where there is one.
POLLIN: int = getattr(select, "POLLIN", 1)
POLLOUT: int = getattr(select, "POLLOUT", 4)


def _load_libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return libc


_libc = _load_libc()
_HAS_PROC = sys.platform.startswith("linux")

#: Whether ``die_with_parent`` does anything here.
CAN_DIE_WITH_PARENT = _libc is not None


def adopt_orphans(wanted: bool = True) -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and ended; or no longer."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def die_with_parent(wanted: bool) -> None:
    """Have this process killed when its parent dies, or no longer."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0, 0, 0, 0)


def die_with(parent: int) -> None:
    """Have this process, a fork of that one, killed when its parent dies, also if it has died already."""
    die_with_parent(True)
    if _libc is not None and os.getppid() != parent:
        os._exit(1)


def own_peak_memory_mib() -> float:
    """Give the most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MIB


def free_beginning(fd: int, size: int) -> bool:
    """Give the memory or disk behind the first bytes of a file back, leaving its length; False where that is not possible."""
    return _libc is not None and _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE, 0, size) == 0


class Poll(Protocol):
    """What is used of ``select.poll``."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Look at a descriptor too."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Look for something else."""

    def unregister(self, fd: int, /) -> None:
        """Look at it no more."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, for so many milliseconds at most."""


def make_poll() -> Poll:
    """Make a ``select.poll``, or what does its work where there is none."""
    return select.poll() if hasattr(select, "poll") else SelectPoll()


class SelectPoll:
    """Does what ``select.poll`` does by ``select.select``: for Windows."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        """See ``select.poll``."""
        self._masks[fd] = eventmask

    def modify(self, fd: int, eventmask: int, /) -> None:
        """See ``select.poll``."""
        self._masks[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        """See ``select.poll``."""
        del self._masks[fd]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """See ``select.poll``."""
        readers = [fd for fd, mask in self._masks.items() if mask & POLLIN]
        writers = [fd for fd, mask in self._masks.items() if mask & POLLOUT]
        readable, writable, _ = select.select(readers, writers, [], None if timeout is None else timeout / 1000)
        ready = dict.fromkeys(readable, POLLIN)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | POLLOUT
        return list(ready.items())


def append_only(fd: int) -> None:
    """Have everything that is written to a file go to its end."""
    try:
        import fcntl
    except ImportError:  # Windows, where it was opened so
        return
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def read_at(fd: int, size: int, start: int) -> bytes:
    """Read from a place in a file that others append to."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, start)
    os.lseek(fd, start, os.SEEK_SET)
    return os.read(fd, size)


_LENGTH = struct.Struct("<I")


def send_socket(channel: socket.socket, passed: socket.socket, pid: int) -> None:
    """Hand a socket to the process ``pid`` at the other end of a channel."""
    if sys.platform == "win32":
        share = passed.share(pid)
        channel.sendall(_LENGTH.pack(len(share)) + share)
    else:
        socket.send_fds(channel, [b"s"], [passed.fileno()])


def start_arguments(theirs: socket.socket) -> tuple[str, list[int]]:
    """Give what a program that is started gets on its command line, and in ``pass_fds``, to find a socket of its own."""
    return ("-", []) if sys.platform == "win32" else (str(theirs.fileno()), [theirs.fileno()])


def start_values(theirs: socket.socket, pid: int) -> dict[str, str]:
    """Give what it gets on its standard input besides, now that its process id is known."""
    if sys.platform == "win32":
        return {"control": theirs.share(pid).hex()}
    return {}


def receive_start(argument: str, values: dict[str, Any]) -> socket.socket:
    """Take the socket in the program that was started so."""
    if sys.platform == "win32":
        return socket.fromshare(bytes.fromhex(values["control"]))
    sock = socket.socket(fileno=int(argument))
    os.set_inheritable(sock.fileno(), False)
    return sock


def receive_socket(channel: socket.socket) -> socket.socket | None:
    """Take a socket from a channel on which one is waiting; None at its end."""
    if sys.platform == "win32":
        header = channel.recv(_LENGTH.size, socket.MSG_WAITALL)
        return (
            socket.fromshare(channel.recv(_LENGTH.unpack(header)[0], socket.MSG_WAITALL))
            if len(header) == _LENGTH.size
            else None
        )
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:  # the other side was killed before it had read everything
        return None
    return socket.socket(fileno=descriptors[0]) if message else None


def blunt_descriptors(shared_fd: int) -> None:
    """Have descriptors lead nowhere by which user code could do harm.

    Those are ours of a file that is mapped (the map stays), and the pipes by which ``multiprocessing`` speaks to its helpers; writing
    to one of them ends a fork server. On Windows nothing is done: what is open there has no small number to be found by.
    """
    try:
        import fcntl
    except ImportError:
        return
    shared = os.fstat(shared_fd)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in range(3, 256):
        with suppress(OSError):
            found = os.fstat(fd)
            is_shared = (found.st_dev, found.st_ino) == (shared.st_dev, shared.st_ino)
            is_pipe = stat.S_ISFIFO(found.st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
            if is_shared or is_pipe:
                os.dup2(nowhere, fd, inheritable=False)
    os.close(nowhere)


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
    if not _HAS_PROC:
        return [child for child, (parent, _) in process_table().items() if parent == pid]
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
            children += map(int, text.split())
    except OSError:
        return children
    return children


def process_table() -> dict[int, tuple[int, int]]:
    """Give each process's parent and the memory it holds in bytes, as ``ps`` tells; empty where there is no ``ps``."""
    import subprocess

    try:
        with subprocess.Popen(["ps", "-A", "-o", "pid=,ppid=,rss="], stdout=subprocess.PIPE, text=True) as ps:
            rows = [line.split() for line in ps.communicate()[0].splitlines()]
    except OSError:
        return {}
    return {int(pid): (int(parent), int(rss) * 1024) for pid, parent, rss in rows if int(pid) != ps.pid}


def memory_bytes(pid: int, *, enough: int, spare: frozenset[int] = frozenset()) -> int:
    """Give the memory that the descendants of a process hold, but for those spared, without shared files; 0 if there are none.

    What they share among themselves and with others (a table loaded before the fork, shared memory) counts for each of them in
    proportion. That is slow to find out, so it is done only when the sum could be more than ``enough`` bytes. Without /proc
    it is the resident memory of each, which counts all they share in full.
    """
    if not _HAS_PROC:
        return _memory_by_table(pid, spare)
    processes = [one for one in _descendants(pid) if one not in spare]
    most = sum(_figures(f"/proc/{one}/status", ("RssAnon:", "RssShmem:", "VmSwap:")) for one in processes)
    if most <= enough:
        return most
    shares = [_figures(f"/proc/{one}/smaps_rollup", ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")) for one in processes]
    return sum(shares) if any(shares) else most


def _memory_by_table(pid: int, spare: frozenset[int]) -> int:
    table = process_table()
    found, total = [pid], 0
    for one in found:
        found += [child for child, (parent, _) in table.items() if parent == one]
        if one != pid and one not in spare:
            total += table[one][1]
    return total


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
