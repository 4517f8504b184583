"""What became of attempts, until the queue has recorded it."""

import time
from collections.abc import Callable, Iterable, Sequence

from taskfleet.queues import Queue
from taskfleet.tasks import AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.observers import Observers
from taskfleet.worker.stop_requests import StopRequests

RECORD_AFTER_SECONDS = 0.03
RECORD_AT_ONCE = 1000


class ResultBuffer:
    """Records in batches, and lets the observers know."""

    def __init__(
        self, queue: Queue, observers: Observers, stop_requests: StopRequests, clock: Callable[[], float]
    ) -> None:
        self._queue = queue
        self._observers = observers
        self._stop_requests = stop_requests
        self._clock = clock
        self._leases: list[Lease] = []
        self._finished: list[Finished] = []
        self._interrupted: set[AttemptKey] = set()
        self._record_at = 0.0

    def __bool__(self) -> bool:
        """Whether something is still to be recorded."""
        return bool(self._finished)

    def add(
        self, leases: Iterable[Lease], finished: Sequence[Finished], interrupted: Iterable[AttemptKey] = ()
    ) -> None:
        """Add what became of some attempts.

        Args:
            leases: Those they were made under, in the same order.
            finished: What became of them.
            interrupted: Those of them that a signal ended which asks for the end.
        """
        if not self._finished:
            self._record_at = time.monotonic() + RECORD_AFTER_SECONDS
        self._leases += leases
        self._finished += finished
        self._interrupted.update(interrupted)

    def record_in(self, now: float) -> float:
        """Return in how many seconds the oldest is to be recorded."""
        return self._record_at - now

    def record(self, *, at_once: bool = False) -> bool:
        """Record all of them if it is time to, or they are many; return whether they were recorded.

        When the queue fails, it raises what the queue does and keeps all.
        """
        if not self._finished:
            return False
        if not at_once and len(self._finished) < RECORD_AT_ONCE and time.monotonic() < self._record_at:
            return False
        leases, finished = self._leases, self._finished
        if self._interrupted and self._stop_requests.count:
            finished = [_excused(one) if one.key in self._interrupted else one for one in finished]
        report = self._queue.finish(finished, self._clock())
        self._leases, self._finished = [], []
        self._interrupted.clear()
        self._observers.recorded(leases, finished, report)
        return True


def _excused(finished: Finished) -> Finished:
    """Do not hold it against a task that the signal which stopped the worker was sent to its process as well."""
    return finished._replace(outcome=Outcome.INTERRUPTED, error="The worker was stopped")
