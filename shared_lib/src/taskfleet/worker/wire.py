"""Exchange messages between trusted processes of a worker: length-prefixed ``marshal``, with the same interpreter at both ends.

Data from processes that run user code is not decoded this way; see ``records``.
"""

import marshal
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 20

#: Convert a plain tuple to a named one: ``as_named(Lease, values)``; ``Lease._make`` takes three times as long.
as_named = tuple.__new__


def as_plain(named: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Convert named tuples to plain ones, the only ones that ``marshal`` supports."""
    return [one[:] for one in named]  # half the cost of tuple(one)


def dump(values: Any) -> bytes:
    """Encode plain values for ``marshal.loads``."""
    return marshal.dumps(values, 2)  # later versions look up each value among the earlier ones, to write it only once


class Channel:
    """One end of a socket pair. It never blocks: data that cannot be sent yet is kept."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._out = bytearray()
        self._in = bytearray()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether there is unsent data."""
        return bool(self._out)

    def send(self, message: Any) -> None:
        """Send a message of plain values; keep what cannot be sent yet for ``flush``."""
        body = dump(message)
        self._out += _LENGTH.pack(len(body))
        self._out += body
        self.flush()

    def flush(self) -> None:
        """Send as much as possible; discard it if the other end is closed (``receive`` reports that)."""
        while self._out:
            try:
                sent = self._socket.send(memoryview(self._out)[:_CHUNK])
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()
                return
            del self._out[:sent]

    def receive(self) -> list[Any]:
        """Return the messages that have arrived completely.

        Raises:
            EOFError: The other end is closed, and no message is left.
        """
        ended = False
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                ended = True
                break
            self._in += chunk
            if len(chunk) < _CHUNK // 16:
                break
        messages = []
        start = 0
        while len(self._in) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._in, start)
            end = start + _LENGTH.size + length
            if len(self._in) < end:
                break
            messages.append(marshal.loads(memoryview(self._in)[start + _LENGTH.size : end]))
            start = end
        del self._in[:start]
        if ended and not messages:
            raise EOFError
        return messages

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
