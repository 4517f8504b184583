"""Hold the tasks that a worker has leased and not yet assigned to a slot."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from taskfleet.invocation import poe
from taskfleet.queues import Queue
from taskfleet.settings import Settings
from taskfleet.tasks import AttemptKey, Lease
from taskfleet.text import counted
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch

logger = logging.getLogger(__name__)

#: How often an idle worker asks for new tasks.
IDLE_SECONDS = 0.2


class LeaseBuffer:
    """Prefetch leases, renew all leases of the worker, and give back those that it will not start.

    Methods that call the queue raise what the queue raises; calling them again continues where they stopped.
    """

    def __init__(
        self,
        queue: Queue,
        prefetch: Prefetch,
        settings: Settings,
        observers: Observers,
        *,
        width_of: Callable[[Lease], int] = lambda _: 1,
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._width_of = width_of
        self._latest_width = 1
        """How many slots the latest task takes that was leased."""
        self._has_wide = False
        """Whether any task has taken several slots."""
        self._keeps_waiting = settings.keep_waiting
        self._renew_after_seconds = settings.lease_seconds / 3
        self._observers = observers
        self._leases: deque[Lease] = deque()
        self._to_give_back: list[Lease] = []
        """Leases to give back."""
        self._tasks_left = settings.max_tasks
        self._ask_again_at = 0.0
        self._renew_at = 0.0
        self._is_drained = False
        self._reported_waiting = False
        self._is_paused = False
        self._gives_back_stored = False
        """Whether the queue has to give back what it has prefetched for this worker."""

    @property
    def is_empty(self) -> bool:
        """Whether it holds no lease, neither to assign nor to give back."""
        return not self._leases and not self._to_give_back

    @property
    def has_ended(self) -> bool:
        """Whether no more tasks will come: the queue is empty, or the worker has reached its maximum number of tasks."""
        return self._is_drained or self._tasks_left == 0

    @property
    def next_key(self) -> AttemptKey | None:
        """The next attempt to assign; None if there is none."""
        return self._leases[0].key if self._leases else None

    @property
    def next_width(self) -> int:
        """How many slots the next task to assign takes; 1 if there is none."""
        return self._width_of(self._leases[0]) if self._leases else 1

    def fill(self, *, idle_slots: int, is_idle: bool) -> None:
        """Lease up to the prefetch size; detect that the queue is empty.

        Args:
            idle_slots: The number of slots without tasks.
            is_idle: Whether the worker has neither tasks nor unrecorded results.
        """
        now = time.monotonic()
        wanted = max(self._prefetch.size, idle_slots * self._prefetch.per_slot)
        if self._latest_width > 1:
            wanted = math.ceil(wanted / self._latest_width)
        if self._is_paused and is_idle:
            self._wait_or_end()
        if self._is_paused or len(self._leases) > wanted // 2 or not wanted or now < self._ask_again_at:
            return
        wanted -= len(self._leases)
        if self._tasks_left is not None:
            wanted = min(wanted, self._tasks_left)
        if not wanted:
            return
        leases = self._queue.lease(wanted, time.time())
        self._renew_at = now + self._renew_after_seconds
        if leases:
            self._reported_waiting = False
            logger.debug("Leased %d of %d requested tasks", len(leases), wanted)
            self._leases.extend(leases)
            self._latest_width = self._width_of(leases[-1])
            self._has_wide = self._has_wide or any(self._width_of(one) > 1 for one in leases)
            self._prefetch.measure_bytes([len(lease.data) for lease in leases])
            if self._tasks_left is not None:
                self._tasks_left -= len(leases)
        else:
            self._ask_again_at = now + IDLE_SECONDS
            if is_idle:
                self._check_for_end()

    def _check_for_end(self) -> None:
        depth = self._queue.count()
        if self._keeps_waiting:
            return
        self._is_drained = not depth.leasable and not depth.running
        if not self._is_drained and not self._reported_waiting:
            self._reported_waiting = True
            if depth.is_limited and depth.leasable:
                self._observers.say(
                    "As many tasks run on other workers as MAX_CONCURRENT_TASKS allows. Waiting until one of them ends."
                )
            elif depth.running:
                self._observers.say(f"Waiting for {counted(depth.running, 'task')} running on other workers.")

    def pause(self, is_paused: bool) -> None:
        """Lease nothing while the job is paused, and give back what no slot has."""
        if is_paused and not self._is_paused:
            self._observers.say("The job is paused: no task starts, and running ones finish.")
            self.release()
            self._gives_back_stored = True
        elif self._is_paused and not is_paused:
            self._observers.say("The job is no longer paused.")
            self.ask_again()
        if is_paused != self._is_paused:
            self._reported_waiting = False
        self._is_paused = is_paused

    def _wait_or_end(self) -> None:
        """While the job is paused, end if the worker must not wait."""
        self._is_drained = not self._keeps_waiting
        if not self._reported_waiting:
            self._reported_waiting = True
            if self._keeps_waiting:
                self._observers.say(f"The job is paused. Waiting for {poe('resume')}.")
            else:
                self._observers.say(f"The job is paused, so this worker ends. Run {poe('resume')} and start a worker.")

    def remove(self, keys: Collection[AttemptKey]) -> list[Lease]:
        """Remove and return the leases that have these keys, except for those to give back."""
        removed = [one for one in self._leases if one.key in keys]
        if removed:
            self._leases = deque(one for one in self._leases if one.key not in keys)
            if self._tasks_left is not None:  # they were not started
                self._tasks_left += len(removed)
        return removed

    def ask_again(self) -> None:
        """Ask the queue in the next iteration: a retry may be due, or the last task may have been recorded."""
        self._ask_again_at = 0.0

    def take(self, most: int) -> list[Lease]:
        """Remove and return up to ``most`` leases, for a slot; a single one if it takes several slots."""
        n = min(most, len(self._leases))
        if self._has_wide:
            widths = map(self._width_of, self._leases)
            n = min(n, 1 if self.next_width > 1 else next((i for i, width in enumerate(widths) if width > 1), n))
        return [self._leases.popleft() for _ in range(n)]

    def put_back(self, leases: Sequence[Lease]) -> None:
        """Put back leases that a slot has not started, in front of the others."""
        self._leases.extendleft(reversed(leases))
        if self._is_paused:
            self.release()

    def release(self) -> None:
        """Mark all leases to be given back."""
        self._to_give_back += self._leases
        self._leases.clear()

    def give_back(self, *, and_stored: bool = False) -> None:
        """Give the released leases back; after an error of the queue, the next call repeats it.

        Args:
            and_stored: Also have the queue give back what it has prefetched for this worker.
        """
        if self._to_give_back:
            logger.info("Giving %d tasks back to the queue", len(self._to_give_back))
        if self._to_give_back or and_stored or self._gives_back_stored:
            self._queue.give_back(self._to_give_back)
            if self._tasks_left is not None:
                self._tasks_left += len(self._to_give_back)
            self._to_give_back = []
            self._gives_back_stored = False

    def renew_in(self, now: float) -> float:
        """Return the seconds until the leases have to be renewed."""
        return self._renew_at - now

    def renew(self) -> None:
        """Renew all leases of the worker, if it is time to."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_after_seconds
            self._queue.renew(time.time())

    def clear(self) -> None:
        """Drop all leases: other workers may have them."""
        self._leases.clear()
        self._to_give_back.clear()
