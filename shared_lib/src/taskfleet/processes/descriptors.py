"""Operations on open files other than reading and writing."""

import os
import stat
from contextlib import suppress

from taskfleet.processes import linux

_FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE = 3


def append_only(fd: int) -> None:
    """Make all writes to a file append to its end."""
    try:
        import fcntl
    except ImportError:  # Windows, where it was opened with O_APPEND
        return
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def read_at(fd: int, size: int, start: int) -> bytes:
    """Read at an offset of a file to which others append."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, start)
    os.lseek(fd, start, os.SEEK_SET)
    return os.read(fd, size)


def free_beginning(fd: int, size: int) -> bool:
    """Free the storage of the first bytes of a file, keeping its length; return False if the system does not support it."""
    libc = linux.LIBC
    return libc is not None and libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE_AND_PUNCH_HOLE, 0, size) == 0


def neutralize_descriptors(shared_fd: int) -> None:
    """Redirect to /dev/null the descriptors through which user code could do harm.

    They are the library's descriptors of a mapped file (the mapping stays), and the pipes from ``multiprocessing`` to its helper processes:
    writing to one of them ends a fork server. On Windows, where handles are not small numbers, nothing is done.
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
