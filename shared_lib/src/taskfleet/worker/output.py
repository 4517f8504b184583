"""Capture the output of tasks in an unnamed file per slot, and keep only its end."""

import os

from taskfleet.processes.descriptors import append_only, free_beginning, read_at
from taskfleet.worker.shared_file import SharedFile

#: While a task runs, its slot frees everything but the end of the file when it has grown by this much.
EMPTY_BEYOND_BYTES = 1 << 20


class OutputFile:
    """The file that replaces a slot's standard output and error; processes forked from the slot, or given ``file``, share it."""

    def __init__(self, tail_bytes: int, file: SharedFile | None = None) -> None:
        self.file = SharedFile("taskfleet-output") if file is None else file
        self.fd = self.file.fd
        append_only(self.fd)
        self._tail_bytes = tail_bytes
        self._bounded_to = 0

    def redirect(self) -> None:
        """Redirect standard output and error of this process and its future children to the file."""
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)

    def take(self) -> bytes | None:
        """Return the end of the output since the last call, None if there is none, and clear the file."""
        size = os.fstat(self.fd).st_size
        if not size:
            return None
        tail = self._tail(size)
        os.ftruncate(self.fd, 0)
        return tail or None

    def bound(self) -> None:
        """Free the beginning of the file, so that a task which prints without end does not fill the disk."""
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
