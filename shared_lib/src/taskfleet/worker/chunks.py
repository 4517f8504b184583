"""Encode the chunks of leases that a slot sends to its runner: a length, then ``marshal``."""

import marshal
import socket
import struct
from collections.abc import Sequence

from taskfleet.tasks import Lease
from taskfleet.worker.wire import as_named, as_plain, dump

_LENGTH = struct.Struct("<I")


def pack_chunk(leases: Sequence[Lease]) -> bytes:
    """Encode a chunk."""
    body = dump(as_plain(leases))
    return _LENGTH.pack(len(body)) + body


def receive_chunk(sock: socket.socket) -> list[Lease] | None:
    """Wait for the next chunk; return None if the connection was closed."""
    header = _receive_exactly(sock, _LENGTH.size)
    if header is None:
        return None
    (length,) = _LENGTH.unpack(header)
    body = _receive_exactly(sock, length)
    return None if body is None else [as_named(Lease, one) for one in marshal.loads(body)]


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        try:
            part = sock.recv(min(size - len(received), 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        received += part
    return bytes(received)
