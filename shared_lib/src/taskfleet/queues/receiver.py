"""The thread of a worker that receives messages of tasks on request, so that a slow service does not block the worker."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from taskfleet.errors import UnreachableError
from taskfleet.queues.health import ServiceHealth
from taskfleet.queues.in_flight import InFlightMessage, InFlightMessages
from taskfleet.queues.transport import Message, Size, Transport

#: How long one request waits for messages; a stopping worker may have to wait for it.
POLL_SECONDS = 2.0
SHORT_POLL_SECONDS = 0.5
#: How often to request the size of an empty queue, where it is not exact.
SIZE_SECONDS = 2.0
OUTAGE_PAUSE_SECONDS = 1.0
#: Maximum time of a request beyond its wait for messages.
ANSWER_SECONDS = 15.0


class Arrival(NamedTuple):
    """A received message that was not decoded yet."""

    in_flight: InFlightMessage
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSnapshot:
    """The last known state of the service queue of tasks."""

    has_arrivals: bool
    """Whether received messages were not taken yet."""
    size: Size | None
    """The queue's size when it was last empty; None if a message was received or sent since."""
    idle_seconds: float
    """Seconds since a message was received or sent."""


class Receiver:
    """Receive messages and keep them until they are taken. Thread-safe.

    Args:
        open_tasks: Opens the queue of tasks; called in the thread.
        in_flight: Holds the received messages, and has their leases renewed.
        health: Records a permanent error.
        lease_seconds: The initial lease of messages.
        on_arrival: Called in the thread when messages have arrived.
    """

    def __init__(
        self,
        open_tasks: Callable[[], Transport],
        *,
        in_flight: InFlightMessages,
        health: ServiceHealth,
        lease_seconds: float,
        on_arrival: Callable[[], None],
    ) -> None:
        self._open_tasks = open_tasks
        self._on_arrival = on_arrival
        self._in_flight = in_flight
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition()
        self._wanted = 0
        self._is_careful = False
        self._is_stopping = False
        self._inbox: deque[Arrival] = deque()
        self._size: Size | None = None
        self._last_message_at = time.monotonic()
        self._times_sent = 0
        self._asked_at = -math.inf
        self._thread = health.start_thread("receiver", self._receive)

    def request(self, messages: int, *, is_careful: bool = False) -> None:
        """Receive up to this many messages from now on.

        Args:
            messages: The number of messages.
            is_careful: Whether requests must not wait at the service, which could deliver messages after the death of this process.
        """
        with self._changed:
            self._is_careful = is_careful
            if messages != self._wanted:
                self._wanted = messages
                self._changed.notify_all()

    def take_arrivals(self) -> list[Arrival]:
        """Return the messages received since the last call."""
        with self._changed:
            arrivals = list(self._inbox)
            self._inbox.clear()
            return arrivals

    def snapshot(self) -> QueueSnapshot:
        """Return the last known state of the queue."""
        with self._changed:
            idle_seconds = time.monotonic() - self._last_message_at
            return QueueSnapshot(has_arrivals=bool(self._inbox), size=self._size, idle_seconds=idle_seconds)

    def reset_snapshot(self) -> None:
        """Discard the known state of the queue, because tasks were sent to it."""
        with self._changed:
            self._times_sent += 1
            self._size, self._last_message_at = None, time.monotonic()

    def stop(self) -> None:
        """Stop receiving; wait for a pending request, whose messages would otherwise stay leased for a while."""
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
            except UnreachableError:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopping, OUTAGE_PAUSE_SECONDS)
        transport.close()

    def _ask(self, transport: Transport) -> None:
        """Make one request for messages; if there are none, sometimes request the queue's size, and pause if the request did not wait."""
        with self._changed:
            wanted, times_sent = self._wanted, self._times_sent
            wait_seconds = 0.0 if self._is_careful else POLL_SECONDS
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
                self._size, self._last_message_at = None, time.monotonic()
            elif size is not None and times_sent == self._times_sent:
                self._size = size
            if arrivals:
                self._on_arrival()
            if not arrivals and not wait_seconds and not self._is_stopping:
                self._changed.wait(SHORT_POLL_SECONDS)

    def _size_of(self, transport: Transport) -> Size | None:
        """Request the queue's size; return None if it is not exact and was requested recently."""
        if not transport.counts_exactly and time.monotonic() - self._asked_at <= SIZE_SECONDS:
            return None
        self._asked_at = time.monotonic()
        return transport.size()
