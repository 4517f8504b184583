"""Queues: the sources of tasks for workers.

``Queue`` is the interface. A queue object belongs to one worker and one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from taskfleet.processes.waking import Waker
from taskfleet.tasks import AttemptKey, Finished, FinishReport, Lease, LeaseLostError, WorkerEnd

__all__ = ["Depth", "FinishReport", "LeaseLostError", "Orders", "Queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """The remaining tasks of a queue, as one worker sees them."""

    leasable: bool
    """Whether any task is pending for this worker, due now or later."""
    running: int
    """Tasks leased by any worker, or, if there are none and tasks wait for others, those that workers of other managers will lease."""
    is_limited: bool = False
    """Whether as many tasks run as MAX_CONCURRENT_TASKS allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What users ask of a worker while it works."""

    is_paused: bool = False
    """Whether it must not start tasks."""
    cancelled: Sequence[AttemptKey] = ()
    """Attempts that it has to kill. They are repeated until they are finished, and some may have ended already."""


class Queue(Protocol):
    """Lease tasks to workers and record the results.

    Delivery is at least once. All leases of a worker are renewed together. Results of a task whose lease the worker has lost change nothing
    and are counted as duplicates.
    """

    counts_exactly: ClassVar[bool]
    """Whether ``count`` is exact."""
    return_excess_after_seconds: ClassVar[float]
    """If all slots run a task longer than this, the worker gives back the others; longer where that is more expensive."""

    @property
    def arrivals(self) -> Waker | None:
        """Is woken when tasks have arrived, so that an idle worker calls ``lease`` at once; None if nothing arrives by itself."""

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

    def note_code(self, codes: Mapping[str, str]) -> None:
        """Note which code of a graph's functions this worker has imported: its hash by the name of the function."""

    def orders(self) -> Orders:
        """Return what users ask of this worker, without waiting; it is called several times a second."""

    def count(self) -> Depth:
        """Return the remaining tasks."""

    def close(self, now: float, reason: WorkerEnd = WorkerEnd.STOPPED) -> None:
        """Unregister the worker, which must hold no tasks."""
