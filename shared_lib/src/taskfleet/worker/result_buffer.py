"""Hold finished attempts until the queue has recorded them."""

import logging
import time
from collections.abc import Iterable, Sequence

from taskfleet.queues import Queue
from taskfleet.tasks import AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.observers import Observers
from taskfleet.worker.stop_requests import StopRequests

logger = logging.getLogger(__name__)

RECORD_AFTER_SECONDS = 0.03
RECORD_AT_ONCE = 1000


class ResultBuffer:
    """Record finished attempts in batches, and notify the observers."""

    def __init__(self, queue: Queue, observers: Observers, stop_requests: StopRequests) -> None:
        self._queue = queue
        self._observers = observers
        self._stop_requests = stop_requests
        self._leases: list[Lease] = []
        self._finished: list[Finished] = []
        self._interrupted: set[AttemptKey] = set()
        self._record_at = 0.0

    def __bool__(self) -> bool:
        """Return whether there are unrecorded attempts."""
        return bool(self._finished)

    def add(
        self, leases: Iterable[Lease], finished: Sequence[Finished], interrupted: Iterable[AttemptKey] = ()
    ) -> None:
        """Add finished attempts.

        Args:
            leases: Their leases, in the same order.
            finished: The attempts.
            interrupted: The keys of those that a stop signal ended.
        """
        if not self._finished:
            self._record_at = time.monotonic() + RECORD_AFTER_SECONDS
        self._leases += leases
        self._finished += finished
        self._interrupted.update(interrupted)

    def record_in(self, now: float) -> float:
        """Return the seconds until the oldest has to be recorded."""
        return self._record_at - now

    def record(self, *, at_once: bool = False) -> bool:
        """Record all of them if it is time to, or if there are many; return whether they were recorded.

        If the queue raises, they are kept.
        """
        if not self._finished:
            return False
        if not at_once and len(self._finished) < RECORD_AT_ONCE and time.monotonic() < self._record_at:
            return False
        leases, finished = self._leases, self._finished
        if self._interrupted and self._stop_requests.count:
            finished = [_excused(one) if one.key in self._interrupted else one for one in finished]
        report = self._queue.finish(finished, time.time())
        logger.debug("Recorded %d attempts, %d of them duplicates", len(finished), len(report.duplicates))
        self._leases, self._finished = [], []
        self._interrupted.clear()
        self._observers.recorded(leases, finished, report)
        return True


def _excused(finished: Finished) -> Finished:
    """Return an attempt as interrupted: the signal that stopped the worker was sent to the task's process as well."""
    return finished._replace(outcome=Outcome.INTERRUPTED, error="The worker was stopped")
