"""The socket pair between a slot and its runners, seen from the slot: chunks of leases go out, records come in."""

import socket
from contextlib import suppress

from taskfleet.processes.polling import POLLIN, POLLOUT, Poll
from taskfleet.worker.records import Record, salvage, unpack

_READ_BYTES = 1 << 20
_WRITE_BYTES = 1 << 20
#: Less than this at a time, and nothing more is there.
_PART_BYTES = 1 << 16


class RunnerConnection:
    """Opened when the first runner starts, and again after one of them died with something in it. Never blocks.

    Args:
        poll: Where the slot waits, for records and, when the socket is full, for room.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._is_full = False

    def open(self) -> socket.socket:
        """Return the runners' end, of a new pair if there is none."""
        if self._ours is None or self._theirs is None:
            self._ours, self._theirs = socket.socketpair()
            self._ours.setblocking(False)
            self._poll.register(self._ours.fileno(), POLLIN)
        return self._theirs

    def is_from(self, fd: int) -> bool:
        """Whether a descriptor that is ready is the slot's end."""
        return self._ours is not None and fd == self._ours.fileno()

    @property
    def is_flushed(self) -> bool:
        """Whether nothing is left to send."""
        return not self._outgoing

    @property
    def has_leftovers(self) -> bool:
        """Whether a runner that died has left something unread, in either direction."""
        return bool(self._outgoing or self._incoming)

    def send(self, body: bytes) -> None:
        """Send bytes, now or later (see ``flush``)."""
        self._outgoing += body
        self.flush()

    def flush(self) -> None:
        """Send what can be sent; nothing happens if the runner has died."""
        if self._ours is None:
            return
        while self._outgoing:
            try:
                sent = self._ours.send(memoryview(self._outgoing)[:_WRITE_BYTES])
            except BlockingIOError:
                break
            except OSError:  # it died; when it is reaped, things are sorted out
                self._outgoing.clear()
                break
            del self._outgoing[:sent]
        if bool(self._outgoing) != self._is_full:
            self._is_full = bool(self._outgoing)
            self._poll.modify(self._ours.fileno(), POLLIN | (POLLOUT if self._is_full else 0))

    def receive(self, last_index: int) -> list[Record]:
        """Return the records that have arrived whole.

        Raises:
            CorruptRecordError: Something else has arrived.
        """
        assert self._ours is not None
        with suppress(BlockingIOError):
            while part := self._ours.recv(_READ_BYTES):
                self._incoming += part
                if len(part) < _PART_BYTES:
                    break
        records, used = unpack(self._incoming, last_index)
        del self._incoming[:used]
        return records

    def drain(self, last_index: int) -> list[Record]:
        """Return the whole records among all that a dead runner has sent; it counts as left over."""
        if self._ours is None:
            return []
        with suppress(OSError):
            while part := self._ours.recv(_READ_BYTES):
                self._incoming += part
        return salvage(bytes(self._incoming), last_index)

    def close_here(self) -> None:
        """Close the slot's end in a process forked from it."""
        assert self._ours is not None
        self._ours.close()

    def close(self) -> None:
        """Forget the pair and all that is in it."""
        if self._ours is not None and self._theirs is not None:
            self._poll.unregister(self._ours.fileno())
            self._ours.close()
            self._theirs.close()
        self._ours = self._theirs = None
        self._incoming.clear()
        self._outgoing.clear()
        self._is_full = False
