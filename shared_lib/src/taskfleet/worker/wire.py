"""The wire between trusted processes of a worker: length-prefixed ``marshal``, both ends being the same interpreter.

What a process that runs user code says never comes this way; see ``records``.
"""

import marshal
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 20

#: Return a plain tuple of the right length as a named one: ``as_named(Lease, values)``; ``Lease._make`` at a third of the cost.
as_named = tuple.__new__


def as_plain(named: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return named tuples as plain ones, the only ones that ``marshal`` knows."""
    return [one[:] for one in named]  # half the cost of tuple(one)


def dump(values: Any) -> bytes:
    """Return plain values as bytes that ``marshal.loads`` takes."""
    return marshal.dumps(values, 2)  # later versions look up each value among those before it, to write it only once


class Channel:
    """One end of a socket pair that never blocks: what cannot be sent yet is kept."""

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
        """Whether something is left to send."""
        return bool(self._out)

    def send(self, message: Any) -> None:
        """Send a message of plain values, now or later (see ``flush``)."""
        body = dump(message)
        self._out += _LENGTH.pack(len(body))
        self._out += body
        self.flush()

    def flush(self) -> None:
        """Send what can be sent; nothing happens if the other end is gone (``receive`` tells)."""
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
        """Return the messages that have arrived whole.

        Raises:
            EOFError: The other end is gone, and no message is left.
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
