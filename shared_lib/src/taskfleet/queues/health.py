"""Track whether a worker's service queue is available, as its background threads observe it."""

import logging
import threading
from collections.abc import Callable
from enum import Enum, auto

from taskfleet.errors import ProviderError

logger = logging.getLogger(__name__)


class Activity(Enum):
    """The activity of a background thread."""

    RECEIVING = auto()
    """Receiving messages."""
    SENDING = auto()
    """Processing the outbox, and extending leases."""


class ServiceHealth:
    """Errors of the service, reported by background threads for the worker's own thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failure: ProviderError | None = None
        self._interrupted: set[Activity] = set()
        self._news: list[str] = []

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

    def interrupted(self, activity: Activity, error: ProviderError) -> None:
        """Record that the service is unavailable; the user is notified once per outage."""
        logger.debug("%s is interrupted: %s", activity.name, error)
        with self._lock:
            if not self._interrupted:
                self._news.append(f"{error} Retrying; running tasks continue.")
            self._interrupted.add(activity)

    def resumed(self, activity: Activity) -> None:
        """Record that the service is available; the user is notified once all activities have resumed."""
        with self._lock:
            if activity in self._interrupted:
                self._interrupted.discard(activity)
                if not self._interrupted:
                    self._news.append("The queue is available again.")

    def take_news(self) -> list[str]:
        """Return the new messages for the user."""
        with self._lock:
            news, self._news = self._news, []
            return news

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
