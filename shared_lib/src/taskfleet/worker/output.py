"""What tasks print: caught in an unnamed file per slot, of which only the end is kept."""

import fcntl
import os

#: While a task runs, its slot looks at the file now and then and empties it when it has grown beyond this.
EMPTY_BEYOND_BYTES = 1 << 20


class OutputFile:
    """The file that stands in for a slot's standard output and error; processes forked from it share it."""

    def __init__(self, tail_bytes: int) -> None:
        self._fd = _unnamed_file()
        self._tail_bytes = tail_bytes
        self._before = b""

    def redirect(self) -> None:
        """Make it the standard output and error of this process and its children to come."""
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)

    def take(self) -> bytes | None:
        """Give the end of what was printed since the last call, None if nothing was, and forget it."""
        tail = self._empty() if os.fstat(self._fd).st_size else b""
        before, self._before = self._before, b""
        return self._cut(before + tail) or None

    def bound(self) -> None:
        """Keep the file from filling the disk while a task prints without end."""
        if os.fstat(self._fd).st_size > EMPTY_BEYOND_BYTES:
            self._before = self._cut(self._before + self._empty())

    def _empty(self) -> bytes:
        size = os.fstat(self._fd).st_size
        start = max(0, size - self._tail_bytes)
        tail = os.pread(self._fd, size - start, start)
        os.ftruncate(self._fd, 0)
        return tail

    def _cut(self, text: bytes) -> bytes:
        return text[-self._tail_bytes :] if self._tail_bytes else b""


def _unnamed_file() -> int:
    """Open a file without a name, for appending; in memory where the system offers that."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("taskfleet-output")
    else:
        import tempfile

        with tempfile.TemporaryFile(prefix="taskfleet-") as file:
            fd = os.dup(file.fileno())
    os.set_inheritable(fd, False)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd
