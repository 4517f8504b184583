"""Track whether a worker's service queue is available, as its background threads observe it."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import ProviderError

logger = logging.getLogger(__name__)


class ServiceHealth:
    """Errors of the service, reported by background threads for the worker's own thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failure: ProviderError | None = None
        self._news: deque[str] = deque()
        self.outages = Outages(self._news.append, meanwhile="Retrying; running tasks continue.")

    @property
    def failure(self) -> ProviderError | None:
        """The first permanent error, if there was one."""
        with self._lock:
            return self._failure

    def fail(self, error: ProviderError) -> None:
        """Record a permanent error."""
        logger.info("Permanent error of the service queue: %s", error)
        with self._lock:
            self._failure = self._failure or error

    def take_news(self) -> list[str]:
        """Return the new messages for the user."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def say(self, text: str) -> None:
        """Add a message for the user."""
        self._news.append(text)

    def start_thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread; a ``ProviderError`` that ends it is recorded as ``failure``."""

        def guarded() -> None:
            try:
                work()
            except ProviderError as error:
                self.fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread
