"""Queues: where workers get tasks from.

``Queue`` is the contract; ``open_queue`` finds the back end a setting names. A queue object belongs to one worker and one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from taskfleet.tasks import Finished, FinishReport, Lease, LeaseLostError, WorkerEnd

__all__ = ["Depth", "FinishReport", "LeaseLostError", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What is left in a queue, as one worker sees it."""

    leasable: bool
    """Whether anything is pending for this worker, due now or later."""
    running: int
    """Tasks leased by anybody."""


class Queue(Protocol):
    """Hands out tasks under leases and takes note of what became of them.

    Delivery is at least once. All leases of a worker are renewed together. What a worker says about a task whose lease it has lost
    changes nothing and is counted as a duplicate.
    """

    counts_exactly: ClassVar[bool]
    """Whether ``count`` is exact."""
    surplus_after_seconds: ClassVar[float]
    """A worker whose slots have all been at long tasks for this long gives back what it has not begun; the more that costs, the longer."""

    def lease(self, most: int, now: float) -> list[Lease]:
        """Lease up to ``most`` tasks; does not wait; an empty list means that nothing is due.

        Raises:
            LeaseLostError: Everything this worker held has gone to others; it may go on with ``lease``, as a new worker.
        """

    def renew(self, now: float) -> None:
        """Extend all leases of this worker by the lease time.

        Raises:
            LeaseLostError: As for ``lease``.
        """

    def finish(self, finished: Sequence[Finished], now: float) -> FinishReport:
        """Record outcomes, for good once this returns, and decide on retries. Repeating it is harmless."""

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return tasks that were not started, at once and without costing them a try; and what this object keeps in store, if it does."""

    def count(self) -> Depth:
        """Say what is left."""

    def close(self, now: float, reason: WorkerEnd = WorkerEnd.STOPPED) -> None:
        """End this worker's part; it must hold nothing."""
