"""Requests to stop: signals, and whoever calls ``StopRequests.add``."""

import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from taskfleet.worker.forking import STOPPING_SIGNALS


class StopRequests:
    """Counts how often somebody asked for the end."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def count(self) -> int:
        """How often so far."""
        return self._count

    def add(self) -> None:
        """Ask for the end; safe in a signal handler."""
        self._count += 1

    @contextmanager
    def from_signals(self, selector: selectors.BaseSelector) -> Iterator[None]:
        """Have signals ask for the end, and end a wait at the selector; those that are ignored (``nohup``) stay so."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        drain: Callable[[], None] = lambda: _drain(reader)  # noqa: E731
        selector.register(reader, selectors.EVENT_READ, drain)
        heeded = [number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, lambda *_: self.add()) for number in heeded}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()


def _drain(reader: socket.socket) -> None:
    with suppress(BlockingIOError):
        while reader.recv(4096):
            pass
