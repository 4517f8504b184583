"""The thread of a worker that fetches messages of tasks while some are wanted, so that a slow service does not keep the worker waiting."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from taskfleet.errors import UnreachableError
from taskfleet.queues.health import Activity, ServiceHealth
from taskfleet.queues.in_flight import InFlightMessage, InFlightMessages
from taskfleet.queues.transport import Message, Size, Transport

#: How long one request waits for a message; a worker that ends may have to wait for it.
POLL_SECONDS = 2.0
SHORT_POLL_SECONDS = 0.5
#: How often a queue that gave nothing is asked for its size, where the answer is not exact.
SIZE_SECONDS = 2.0
OUTAGE_PAUSE_SECONDS = 1.0
#: A request that is under way takes so much longer than it waits for messages, at most.
ANSWER_SECONDS = 15.0


class Arrival(NamedTuple):
    """A message that has come and was not looked into yet."""

    in_flight: InFlightMessage
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was last seen of the service's queue of tasks."""

    has_arrivals: bool
    """Whether messages have come and were not taken yet."""
    size: Size | None
    """What the queue said it has when it gave nothing; None if it gave something since, or was sent something."""
    idle_seconds: float
    """How long ago it gave something, or was sent something."""


class Receiver:
    """Fetches messages and keeps them until they are taken; may be used by several threads at a time.

    Args:
        open_tasks: Opens the queue of tasks; called in the thread.
        in_flight: Holds the messages that have come, and has their leases renewed.
        health: Hears of what goes wrong.
        lease_seconds: For how long messages are leased at first.
    """

    def __init__(
        self,
        open_tasks: Callable[[], Transport],
        *,
        in_flight: InFlightMessages,
        health: ServiceHealth,
        lease_seconds: float,
    ) -> None:
        self._open_tasks = open_tasks
        self._in_flight = in_flight
        self._health = health
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition()
        self._wanted = 0
        self._may_die = False
        self._is_stopping = False
        self._inbox: deque[Arrival] = deque()
        self._size: Size | None = None
        self._moved_at = time.monotonic()
        self._times_sent = 0
        self._asked_at = -math.inf
        self._thread = health.start_thread("receiver", self._receive)

    def want(self, messages: int, *, may_die: bool = False) -> None:
        """Fetch up to this many messages from now on.

        Args:
            messages: How many.
            may_die: Have no request wait at the service: it would be given messages even after this process has died.
        """
        with self._changed:
            self._may_die = may_die
            if messages != self._wanted:
                self._wanted = messages
                self._changed.notify_all()

    def take_arrivals(self) -> list[Arrival]:
        """Return the messages that have come since the last call."""
        with self._changed:
            arrivals = list(self._inbox)
            self._inbox.clear()
            return arrivals

    def sighting(self) -> Sighting:
        """Return what was last seen of the queue."""
        with self._changed:
            idle_seconds = time.monotonic() - self._moved_at
            return Sighting(has_arrivals=bool(self._inbox), size=self._size, idle_seconds=idle_seconds)

    def note_sent(self) -> None:
        """Forget what was seen of the queue, as tasks were sent to it meanwhile."""
        with self._changed:
            self._times_sent += 1
            self._size, self._moved_at = None, time.monotonic()

    def stop(self) -> None:
        """Fetch nothing more; waits for a request that is under way, whose messages would be lost to all for a while."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self._thread.join(POLL_SECONDS + ANSWER_SECONDS)

    # --- in the thread ---

    def _receive(self) -> None:
        transport = self._open_tasks()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._is_stopping)
                if self._is_stopping:
                    break
            try:
                self._ask(transport)
            except UnreachableError as error:
                self._health.interrupted(Activity.RECEIVING, error)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopping, OUTAGE_PAUSE_SECONDS)
            else:
                self._health.resumed(Activity.RECEIVING)
        transport.close()

    def _ask(self, transport: Transport) -> None:
        """Make one request for messages; if it gives none, ask for the queue's size now and then, and pause if it has not waited."""
        with self._changed:
            wanted, times_sent = self._wanted, self._times_sent
            wait_seconds = 0.0 if self._may_die else POLL_SECONDS
        began_at = time.monotonic()
        messages = transport.receive(wanted, wait_seconds=wait_seconds, lease_seconds=self._lease_seconds)
        size = None if messages else self._size_of(transport)
        arrivals = [
            Arrival(
                self._in_flight.add(
                    message.receipt, received_at=began_at, longest_lease_seconds=transport.longest_lease_seconds
                ),
                message,
            )
            for message in messages
        ]
        with self._changed:
            self._inbox += arrivals
            self._wanted = max(0, self._wanted - len(arrivals))
            if arrivals:
                self._size, self._moved_at = None, time.monotonic()
            elif size is not None and times_sent == self._times_sent:
                self._size = size
            if not arrivals and not wait_seconds and not self._is_stopping:
                self._changed.wait(SHORT_POLL_SECONDS)

    def _size_of(self, transport: Transport) -> Size | None:
        """Ask for the queue's size; None if it was asked for a moment ago and is not exact."""
        if not transport.counts_exactly and time.monotonic() - self._asked_at <= SIZE_SECONDS:
            return None
        self._asked_at = time.monotonic()
        return transport.size()
