"""What can be done with open files beyond reading and writing them."""

import os
import stat
from contextlib import suppress

from taskfleet.processes import linux

_FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE = 3


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


def free_beginning(fd: int, size: int) -> bool:
    """Free the memory or disk behind the first bytes of a file, leaving its length; False where that is not possible."""
    libc = linux.LIBC
    return libc is not None and libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE, 0, size) == 0


def neutralize_descriptors(shared_fd: int) -> None:
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
