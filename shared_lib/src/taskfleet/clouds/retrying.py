"""Retries of calls that a service did not answer, with exponential backoff; outages are reported once, and once when they are over."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from taskfleet.errors import ProviderError, UnreachableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
#: An outage is reported when a call has failed for this long.
REPORT_AFTER_SECONDS = 3.0
#: An outage that begins less than this after the last one is reported only if it lasts this long, so that a service that comes and goes
#: is not reported every few seconds.
CALM_SECONDS = 60.0
#: A call that failed and was not repeated counts no longer after this time without any failure. It is longer than a call and its pause.
FORGET_AFTER_SECONDS = 30.0


class Outages:
    """The outages of a service, as its calls observe them. Thread-safe.

    Args:
        say: Receives a message when an outage has lasted for a few seconds, and one when it is over; None for the log only.
        service: Its name at the beginning of a sentence.
        meanwhile: What happens during the outage, as a sentence.
        waits: Whether calls are repeated without a limit once the service has answered a call. Before that, the address may be wrong.
        report_after_seconds: How long a call has to fail before the outage is reported.
    """

    def __init__(
        self,
        say: Callable[[str], None] | None = None,
        *,
        service: str = "The queue",
        meanwhile: str = "Retrying.",
        waits: bool = False,
        report_after_seconds: float = REPORT_AFTER_SECONDS,
    ) -> None:
        self.say = say
        self._service = service
        self._meanwhile = meanwhile
        self.waits = waits
        self._report_after_seconds = report_after_seconds
        self._lock = threading.Lock()
        self._failing: dict[str, float] = {}
        """The calls that failed when they were last made, and since when, in monotonic time."""
        self._failed_at = -math.inf
        self._over_at = -math.inf
        self._is_reported = False
        self._has_answered = False

    def patience(self, patience_seconds: float) -> float:
        """Return for how long a call is repeated that would have this patience otherwise."""
        return math.inf if self.waits and self._has_answered else patience_seconds

    def failed(self, call: str, error: UnreachableError, began_at: float) -> None:
        """Record that a call failed.

        Args:
            call: Identifies the call.
            error: Its error.
            began_at: When it was first made, in monotonic time.
        """
        now = time.monotonic()
        with self._lock:
            if not self._is_reported and now - self._failed_at > FORGET_AFTER_SECONDS:
                self._failing.clear()
            self._failed_at = now
            since = self._failing.setdefault(call, began_at)
            is_calm = now - self._over_at > CALM_SECONDS
            if not self._is_reported and now - since >= (self._report_after_seconds if is_calm else CALM_SECONDS):
                self._is_reported = True
                self._report(f"{error} {self._meanwhile}")

    def answered(self, call: str) -> None:
        """Record that the service answered a call."""
        self._has_answered = True
        if not self._failing:
            return
        now = time.monotonic()
        with self._lock:
            self._failing.pop(call, None)
            if now - self._failed_at > FORGET_AFTER_SECONDS:
                self._failing.clear()
            if self._is_reported and not self._failing:
                self._is_reported, self._over_at = False, now
                self._report(f"{self._service} is available again.")

    def _report(self, text: str) -> None:
        logger.debug("%s", text)
        if self.say is not None:
            self.say(text)


class Retries:
    """Repeats the calls of one client of a service.

    The pause doubles from 0.1 s to 5 s, with jitter between half of it and all of it, so that clients do not retry in step. It continues
    from call to call: a client whose calls fail one after the other slows down, too.

    Args:
        patience_seconds: The time after which the last error of a call is raised; see also ``Outages.patience``.
        outages: Observes the calls.
    """

    def __init__(self, patience_seconds: float, outages: Outages | None = None) -> None:
        self._patience_seconds = patience_seconds
        self._outages = outages or Outages()
        self._pause_seconds = SHORTEST_PAUSE_SECONDS

    def call(self, name: str, action: Callable[[], T]) -> T:
        """Call a function until it succeeds or the time is over.

        Args:
            name: Identifies the call.
            action: The call. Only UnreachableError leads to another one.

        Raises:
            UnreachableError: The last error.
        """
        began_at = time.monotonic()
        while True:
            try:
                result = action()
            except UnreachableError as error:
                self._outages.failed(name, error, began_at)
                left = began_at + self._outages.patience(self._patience_seconds) - time.monotonic()
                if left <= 0:
                    raise
                seconds = min(left, self._pause_seconds * random.uniform(0.5, 1.0))
                if self._pause_seconds < LONGEST_PAUSE_SECONDS:  # not for hours
                    logger.debug("retry in %.1f s: %s", seconds, error)
                time.sleep(seconds)
                self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
            except ProviderError:  # an answer
                self._answered(name)
                raise
            else:
                self._answered(name)
                return result

    def _answered(self, name: str) -> None:
        self._pause_seconds = SHORTEST_PAUSE_SECONDS
        self._outages.answered(name)


def retry_call(patience_seconds: float, action: Callable[[], T]) -> T:
    """Call a function until it succeeds or the time is over; see ``Retries``."""
    return Retries(patience_seconds).call("", action)
