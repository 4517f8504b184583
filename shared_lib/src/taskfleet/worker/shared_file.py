"""An unnamed file shared between processes, including processes that are not forked from its creator."""

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any


class SharedFile:
    """Can be an argument of a ``multiprocessing.Process``: passed as a descriptor or, on Windows, as the path of a temporary file."""

    def __init__(self, name: str) -> None:
        """Create an empty file, in memory if the system supports that; ``name`` is shown by debugging tools."""
        self._path: str | None = None
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create(name)
        elif sys.platform == "win32":
            fd, self._path = tempfile.mkstemp(prefix=f"{name}-")
            os.close(fd)
            self.fd = _open(self._path)
        else:
            with tempfile.TemporaryFile(prefix=f"{name}-") as file:
                self.fd = os.dup(file.fileno())
        os.set_inheritable(self.fd, False)

    def __reduce__(self) -> tuple[Callable[..., "SharedFile"], tuple[Any, ...]]:
        """Pickle it for a process that is being started."""
        from multiprocessing import reduction

        if self._path is not None:
            return _from_path, (self._path,)
        return _from_descriptor, (reduction.DupFd(self.fd),)


def _open(path: str) -> int:
    """Open a file that is deleted when it is closed everywhere."""
    return os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_TEMPORARY", 0))


def _from_path(path: str) -> SharedFile:
    file = SharedFile.__new__(SharedFile)
    file._path, file.fd = path, _open(path)
    return file


def _from_descriptor(passed: Any) -> SharedFile:
    file = SharedFile.__new__(SharedFile)
    file._path, file.fd = None, passed.detach()
    os.set_inheritable(file.fd, False)
    return file
