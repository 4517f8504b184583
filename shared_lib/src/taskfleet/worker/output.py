"""Capture the output of tasks in two unnamed files per slot, and keep only the end of each.

Standard error goes to the same file as standard output, so that what a task prints stays in its order. Tasks of a graph have it in a file
of its own.
"""

import os

from taskfleet.processes.descriptors import append_only, free_beginning, read_at
from taskfleet.tasks import SEPARATOR
from taskfleet.worker.shared_file import SharedFile

#: While a task runs, its slot frees everything but the end of the file when it has grown by this much.
EMPTY_BEYOND_BYTES = 1 << 20
_SEPARATOR = SEPARATOR.encode()


class OutputFile:
    """The file that replaces a slot's standard output and error; processes forked from the slot, or given ``file``, share it.

    Args:
        tail_bytes: How much of the end to keep.
        file: The file; None for a new one.
        errors: Another one for the standard error that is kept apart; None if none is.
    """

    def __init__(self, tail_bytes: int, file: SharedFile | None = None, errors: "OutputFile | None" = None) -> None:
        self.file = SharedFile("taskfleet-output") if file is None else file
        self.errors = errors
        self.is_apart: bool | None = None
        """Whether this process keeps standard error apart; None if other processes write into the files, which may do so."""
        self.fd = self.file.fd
        append_only(self.fd)
        self._tail_bytes = tail_bytes
        self._bounded_to = 0

    def redirect(self) -> None:
        """Redirect standard output and error of this process and its future children to the file."""
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)

    def keep_errors_apart(self, is_apart: bool) -> None:
        """Redirect standard error of this process and its future children to its own file, or to that of standard output again."""
        if self.errors is not None and self.is_apart is not is_apart:
            self.is_apart = is_apart
            os.dup2(self.errors.fd if is_apart else self.fd, 2)

    @property
    def is_empty(self) -> bool:
        """Whether there is no output since the last call of ``take``."""
        return not os.lseek(self.fd, 0, os.SEEK_END) and (self.errors is None or self.errors.is_empty)

    def take(self) -> bytes | None:
        """Return the end of the output since the last call, None if there is none, and clear the file; see ``tasks.streams``."""
        if self.errors is None or self.is_apart is False:
            return self._take()
        output, errors = self._take(), self.errors._take()
        return output if errors is None else (output or b"") + _SEPARATOR + errors

    def _take(self) -> bytes | None:
        size = os.fstat(self.fd).st_size
        if not size:
            return None
        tail = self._tail(size).replace(_SEPARATOR, rb"\x1e")
        os.ftruncate(self.fd, 0)
        return tail or None

    def bound(self) -> None:
        """Free the beginning of the file, so that a task which prints without end does not fill the disk."""
        if self.errors is not None:
            self.errors.bound()
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


def open_output(tail_bytes: int, files: tuple[SharedFile | None, SharedFile | None] = (None, None)) -> OutputFile:
    """Return the files for a slot's output.

    Args:
        tail_bytes: How much of the end of each to keep.
        files: Those of the slot, in a process that was not forked from it.
    """
    file, errors = files
    return OutputFile(tail_bytes, file, OutputFile(tail_bytes, errors))
