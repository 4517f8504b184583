"""The slot's side of its connection to the runners: it sends chunks of leases and receives records."""

import socket
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from taskfleet.worker.records import Record, salvage, unpack

_READ_BYTES = 1 << 20
_WRITE_BYTES = 1 << 20
#: A shorter read means that nothing more is available.
_PART_BYTES = 1 << 16


class RunnerConnection:
    """A socket pair that never blocks. It is opened with the first runner, and again after a runner died with data in it.

    Args:
        selector: The slot's selector, for records and, when the socket is full, for writing.
    """

    def __init__(self, selector: BaseSelector) -> None:
        self._selector = selector
        self._ours: socket.socket | None = None
        self._theirs: socket.socket | None = None
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._is_full = False

    def open(self) -> socket.socket:
        """Return the runners' end; create the pair if there is none."""
        if self._ours is None or self._theirs is None:
            self._ours, self._theirs = socket.socketpair()
            self._ours.setblocking(False)
            self._selector.register(self._ours, EVENT_READ)
        return self._theirs

    def is_from(self, fd: int) -> bool:
        """Return whether this descriptor is the slot's end."""
        return self._ours is not None and fd == self._ours.fileno()

    @property
    def is_flushed(self) -> bool:
        """Whether all bytes have been sent."""
        return not self._outgoing

    @property
    def has_leftovers(self) -> bool:
        """Whether a dead runner has left unread data in either direction."""
        return bool(self._outgoing or self._incoming)

    def send(self, body: bytes) -> None:
        """Send bytes; keep what cannot be sent yet for ``flush``."""
        self._outgoing += body
        self.flush()

    def flush(self) -> None:
        """Send as much as possible; discard it if the runner has died."""
        if self._ours is None:
            return
        while self._outgoing:
            try:
                sent = self._ours.send(memoryview(self._outgoing)[:_WRITE_BYTES])
            except BlockingIOError:
                break
            except OSError:  # the runner died; ``RunnerProcess.reap`` handles that
                self._outgoing.clear()
                break
            del self._outgoing[:sent]
        if bool(self._outgoing) != self._is_full:
            self._is_full = bool(self._outgoing)
            self._selector.modify(self._ours, EVENT_READ | (EVENT_WRITE if self._is_full else 0))

    def receive(self, last_index: int) -> list[Record]:
        """Return the records that have arrived completely.

        Raises:
            CorruptRecordError: Other data has arrived.
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
        """Return the complete records that a dead runner has sent; they count as leftovers."""
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
        """Close the pair, and discard all data in it."""
        if self._ours is not None and self._theirs is not None:
            self._selector.unregister(self._ours)
            self._ours.close()
            self._theirs.close()
        self._ours = self._theirs = None
        self._incoming.clear()
        self._outgoing.clear()
        self._is_full = False
