"""The tasks that a worker has leased and not handed to a slot yet."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from taskfleet.queues import Queue
from taskfleet.tasks import AttemptKey, Lease
from taskfleet.worker.observers import Observers
from taskfleet.worker.options import SupervisorOptions
from taskfleet.worker.prefetch import Prefetch

#: How often an idle worker looks for new tasks.
IDLE_SECONDS = 0.2


class LeaseBuffer:
    """Leases ahead, renews the lease of all that the worker holds, gives back what it will not begin.

    Every method that asks the queue raises what the queue does; called again, it goes on where it was.
    """

    def __init__(
        self,
        queue: Queue,
        prefetch: Prefetch,
        options: SupervisorOptions,
        observers: Observers,
        clock: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._keeps_waiting = options.keep_waiting
        self._renew_after_seconds = options.lease_seconds / 3
        self._observers = observers
        self._clock = clock
        self._leases: deque[Lease] = deque()
        self._surplus: list[Lease] = []
        """To be given back."""
        self._tasks_left = options.max_tasks
        self._ask_again_at = 0.0
        self._renew_at = 0.0
        self._is_drained = False
        self._waiting_was_said = False

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing, neither to hand out nor to give back."""
        return not self._leases and not self._surplus

    @property
    def has_ended(self) -> bool:
        """Whether there will be nothing more: nothing is left in the queue, or this worker has had its share."""
        return self._is_drained or self._tasks_left == 0

    @property
    def next_key(self) -> AttemptKey | None:
        """Which attempt is handed out next."""
        return self._leases[0].key if self._leases else None

    def fill(self, *, idle_slots: int, is_idle: bool) -> None:
        """Lease what is to be held now; find out when nothing is left.

        Args:
            idle_slots: How many slots have nothing to do.
            is_idle: Whether the whole worker has nothing to do or to record.
        """
        now = time.monotonic()
        wanted = max(self._prefetch.size, idle_slots * self._prefetch.per_slot)
        if len(self._leases) > wanted // 2 or not wanted or now < self._ask_again_at:
            return
        wanted -= len(self._leases)
        if self._tasks_left is not None:
            wanted = min(wanted, self._tasks_left)
        if not wanted:
            return
        leases = self._queue.lease(wanted, self._clock())
        self._renew_at = now + self._renew_after_seconds
        if leases:
            self._waiting_was_said = False
            self._leases.extend(leases)
            self._prefetch.measure_bytes([len(lease.data) for lease in leases])
            if self._tasks_left is not None:
                self._tasks_left -= len(leases)
        else:
            self._ask_again_at = now + IDLE_SECONDS
            if is_idle:
                self._look_what_is_left()

    def _look_what_is_left(self) -> None:
        depth = self._queue.count()
        if self._keeps_waiting:
            return
        self._is_drained = not depth.leasable and not depth.running
        if not self._is_drained and not self._waiting_was_said:
            self._waiting_was_said = True
            if depth.running:
                self._observers.say(f"Waiting for tasks that other workers are running: {depth.running:,}.")

    def ask_again(self) -> None:
        """Ask the queue at the next occasion: a retry may be due, or what was recorded was the last."""
        self._ask_again_at = 0.0

    def take(self, most: int) -> list[Lease]:
        """Take out up to ``most`` tasks, for a slot."""
        return [self._leases.popleft() for _ in range(min(most, len(self._leases)))]

    def put_back(self, leases: Sequence[Lease]) -> None:
        """Put tasks back that a slot has not begun; they are next."""
        self._leases.extendleft(reversed(leases))

    def release(self) -> None:
        """Mean all of them to be given back."""
        self._surplus += self._leases
        self._leases.clear()

    def give_back(self, *, and_stored: bool = False) -> None:
        """Return what was released; after a failure of the queue the next call tries again.

        Args:
            and_stored: Have the queue return what it keeps in store for this worker too.
        """
        if self._surplus or and_stored:
            self._queue.give_back(self._surplus)
            if self._tasks_left is not None:
                self._tasks_left += len(self._surplus)
            self._surplus = []

    def renew_in(self, now: float) -> float:
        """Return in how many seconds the lease is to be renewed."""
        return self._renew_at - now

    def renew(self) -> None:
        """Renew the lease of all that the worker holds, if it is time to."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._renew_after_seconds
            self._queue.renew(self._clock())

    def clear(self) -> None:
        """Forget everything: it belongs to others."""
        self._leases.clear()
        self._surplus.clear()
