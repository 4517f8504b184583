"""What tasks print: caught in an unnamed file per slot, of which only the end is kept."""

import os

from taskfleet.processes.descriptors import append_only, free_beginning, read_at
from taskfleet.worker.shared_file import SharedFile

#: While a task runs, its slot looks at the file now and then and gives back all but the end when it has grown by this.
EMPTY_BEYOND_BYTES = 1 << 20


class OutputFile:
    """The file that stands in for a slot's standard output and error; processes forked from it, or given ``file``, share it."""

    def __init__(self, tail_bytes: int, file: SharedFile | None = None) -> None:
        self.file = SharedFile("taskfleet-output") if file is None else file
        self.fd = self.file.fd
        append_only(self.fd)
        self._tail_bytes = tail_bytes
        self._bounded_to = 0

    def redirect(self) -> None:
        """Make it the standard output and error of this process and its children to come."""
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)

    def take(self) -> bytes | None:
        """Return the end of what was printed since the last call, None if nothing was, and forget it."""
        size = os.fstat(self.fd).st_size
        if not size:
            return None
        tail = self._tail(size)
        os.ftruncate(self.fd, 0)
        return tail or None

    def bound(self) -> None:
        """Keep the file from filling the disk while a task prints without end."""
        size = os.fstat(self.fd).st_size
        if size < self._bounded_to:
            self._bounded_to = 0
        if size - self._bounded_to <= EMPTY_BEYOND_BYTES:
            return
        self._bounded_to = max(0, size - self._tail_bytes)
        if not free_beginning(self.fd, self._bounded_to):
            tail = self._tail(size)
            os.ftruncate(self.fd, 0)
            os.write(self.fd, tail)
            self._bounded_to = 0

    def _tail(self, size: int) -> bytes:
        start = max(0, size - self._tail_bytes)
        return read_at(self.fd, size - start, start)
