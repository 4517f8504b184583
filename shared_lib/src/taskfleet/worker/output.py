"""What tasks print: caught in an unnamed file per slot, of which only the end is kept."""

import os
import tempfile

#: While a task runs, its slot looks at the file now and then and empties it when it has grown beyond this.
EMPTY_BEYOND_BYTES = 1 << 20


class OutputFile:
    """The file that stands in for a slot's standard output and error; processes forked from it share it."""

    def __init__(self, tail_bytes: int) -> None:
        with tempfile.TemporaryFile(prefix="taskfleet-") as file:
            self._fd = os.dup(file.fileno())
        os.set_inheritable(self._fd, False)
        import fcntl

        fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) | os.O_APPEND)
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
