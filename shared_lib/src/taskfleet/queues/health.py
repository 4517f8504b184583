"""Whether a worker's queue at a service can be used, as the threads that talk to the service see it."""

import threading
from collections.abc import Callable
from enum import Enum, auto

from taskfleet.errors import ProviderError


class Activity(Enum):
    """What a thread does at the service."""

    RECEIVING = auto()
    """It fetches messages."""
    SENDING = auto()
    """It does what is in the outbox, and extends leases."""


class ServiceHealth:
    """What the background threads report of the service, for the worker's own thread; may be used by all of them at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failure: ProviderError | None = None
        self._interrupted: set[Activity] = set()
        self._news: list[str] = []

    @property
    def failure(self) -> ProviderError | None:
        """The first error that trying again does not cure, if there was one."""
        with self._lock:
            return self._failure

    def fail(self, error: ProviderError) -> None:
        """Note an error that trying again does not cure."""
        with self._lock:
            self._failure = self._failure or error

    def interrupted(self, activity: Activity, error: ProviderError) -> None:
        """Note that the service does not answer; the user hears of it once, whatever else does not work meanwhile."""
        with self._lock:
            if not self._interrupted:
                self._news.append(f"{error} Trying again; what runs goes on.")
            self._interrupted.add(activity)

    def resumed(self, activity: Activity) -> None:
        """Note that the service answers; the user hears of it once nothing is interrupted any more."""
        with self._lock:
            if activity in self._interrupted:
                self._interrupted.discard(activity)
                if not self._interrupted:
                    self._news.append("The queue answers again.")

    def take_news(self) -> list[str]:
        """Return what the user should know, each sentence once."""
        with self._lock:
            news, self._news = self._news, []
            return news

    def start_thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread; a ``ProviderError`` that ends it is kept as ``failure``."""

        def guarded() -> None:
            try:
                work()
            except ProviderError as error:
                self.fail(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread
