"""Follow what users ask of a worker while it works: they cancel tasks, and pause the job."""

import time

from taskfleet.queues import Queue
from taskfleet.worker.lease_buffer import LeaseBuffer
from taskfleet.worker.slot_pool import SlotPool

#: How often the worker looks.
LOOK_SECONDS = 0.5


class Steering:
    """Ask the queue, and instruct the lease buffer and the slots."""

    def __init__(self, queue: Queue, leases: LeaseBuffer, slots: SlotPool) -> None:
        self._queue = queue
        self._leases = leases
        self._slots = slots
        self._look_at = 0.0

    def update(self) -> None:
        """Look, if it is time to. What the queue raises is raised, and the next call looks again."""
        now = time.monotonic()
        if now < self._look_at:
            return
        orders = self._queue.orders()
        self._look_at = now + LOOK_SECONDS
        self._leases.pause(orders.is_paused)
        if orders.is_paused:
            self._slots.recall_queued()
        if orders.cancelled:
            self._slots.cancel(frozenset(orders.cancelled))
