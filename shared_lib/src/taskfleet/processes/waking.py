"""Wake up a loop that waits with a selector."""

import socket
from contextlib import suppress


class Waker:
    """A descriptor that is readable from ``wake`` to ``clear``; ``wake`` may be called in any thread."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._reader.fileno()

    @property
    def written(self) -> int:
        """The descriptor that makes the other one readable when something is written to it."""
        return self._writer.fileno()

    def wake(self) -> None:
        """Make the descriptor readable; do nothing if it was closed."""
        with suppress(OSError):  # it is full, so it is readable
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Make it unreadable again."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    def close(self) -> None:
        """Close it."""
        self._reader.close()
        self._writer.close()
