"""Queues: the sources of tasks for workers.

``Queue`` is the interface. A queue object belongs to one worker and one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from taskfleet.tasks import Finished, FinishReport, Lease, LeaseLostError, WorkerEnd

__all__ = ["Depth", "FinishReport", "LeaseLostError", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The remaining tasks of a queue, as one worker sees them."""

    leasable: bool
    """Whether any task is pending for this worker, due now or later."""
    running: int
    """Tasks leased by any worker."""


class Queue(Protocol):
    """Lease tasks to workers and record the results.

    Delivery is at least once. All leases of a worker are renewed together. Results of a task whose lease the worker has lost change nothing
    and are counted as duplicates.
    """

    counts_exactly: ClassVar[bool]
    """Whether ``count`` is exact."""
    return_excess_after_seconds: ClassVar[float]
    """If all slots run a task longer than this, the worker gives back the others; longer where that is more expensive."""

    def lease(self, most: int, now: float) -> list[Lease]:
        """Lease up to ``most`` tasks, without waiting; an empty list means that no task is due.

        Raises:
            LeaseLostError: All leases of this worker were lost; it may call ``lease`` again, as a new worker.
        """

    def renew(self, now: float) -> None:
        """Extend all leases of this worker by the lease time.

        Raises:
            LeaseLostError: As for ``lease``.
        """

    def finish(self, finished: Sequence[Finished], now: float) -> FinishReport:
        """Record results durably and decide on retries. Repeating a call is harmless."""

    def give_back(self, leases: Sequence[Lease]) -> None:
        """Return tasks that were not started, without counting an attempt; also return tasks that this object has prefetched."""

    def count(self) -> Depth:
        """Return the remaining tasks."""

    def close(self, now: float, reason: WorkerEnd = WorkerEnd.STOPPED) -> None:
        """Unregister the worker, which must hold no tasks."""
