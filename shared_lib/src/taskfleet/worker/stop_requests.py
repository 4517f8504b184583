"""Count requests to stop: signals, and calls of ``StopRequests.add``."""

import selectors
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from taskfleet.processes.waking import Waker
from taskfleet.worker.forking import STOPPING_SIGNALS


class StopRequests:
    """The number of requests to stop."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def count(self) -> int:
        """The number so far."""
        return self._count

    def add(self) -> None:
        """Request a stop; safe in a signal handler."""
        self._count += 1

    @contextmanager
    def from_signals(self, selector: selectors.BaseSelector) -> Iterator[None]:
        """Let signals request a stop and wake up the selector; ignored signals (``nohup``) stay ignored."""
        waker = Waker()
        selector.register(waker, selectors.EVENT_READ, waker.clear)
        handled = [number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        handlers = {number: signal.signal(number, lambda *_: self.add()) for number in handled}
        wakeup = signal.set_wakeup_fd(waker.written, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            waker.close()
