"""Track the messages of a service queue that a worker holds, and their unfinished tasks.

A message is in flight from its receipt until it is acknowledged, its lease is lost, or it is handed over. Where a service limits the total
lease time, the remaining tasks are sent again in a new message with a claim. Other receivers leave that message to the worker that claims
it. When the claiming worker receives it, it replaces the old one.
"""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.messages.tasks import QueuedTask
from taskfleet.tasks import SUSPECT_LOSSES, AttemptKey, Outcome

logger = logging.getLogger(__name__)

#: The fraction of a lease after which it is renewed.
RENEW_AFTER = 1 / 3


@dataclass(slots=True, eq=False)
class InFlightMessage:
    """A message that this worker holds; opaque to all but ``InFlightMessages``."""

    receipt: str
    renew_at: float
    """Monotonic time."""
    ends_at: float
    """When the service ends the lease for good, in monotonic time."""
    ledger: str = ""
    """As in ``TaskMessage``."""
    tasks: dict[AttemptKey, QueuedTask] = field(default_factory=dict)
    """The unfinished tasks, in their state before the attempt."""
    is_lost: bool = False
    """Whether its lease has ended, so that other workers may have its tasks."""


class HeldTask(NamedTuple):
    """A task of a message in flight."""

    task: QueuedTask
    """Its state before the attempt."""
    ledger: str
    is_lost: bool
    """Whether other workers may have it, because the lease of its message has ended."""


class HandedOver(NamedTuple):
    """The unfinished tasks of a message whose lease cannot be extended further."""

    receipt: str
    """The receipt of the message, to be acknowledged once the new one is sent."""
    ledger: str
    tasks: list[QueuedTask]
    claim: str
    """The claim in the new message, by which other workers leave it to this one."""


class InFlightMessages:
    """All messages that a worker holds. Thread-safe.

    Args:
        source: The worker's name, the prefix of its claims.
        lease_seconds: The duration of a message's lease.
    """

    def __init__(self, source: str, *, lease_seconds: float) -> None:
        self._lock = threading.Lock()
        self._source = source
        self._lease_seconds = lease_seconds
        self._by_receipt: dict[str, InFlightMessage] = {}
        """The messages whose leases are renewed."""
        self._by_attempt: dict[AttemptKey, InFlightMessage] = {}
        self._claims: dict[str, InFlightMessage] = {}
        """The messages that were handed over, until the new message arrives."""
        self._claim_count = 0

    # --- messages ---

    def add(self, receipt: str, *, received_at: float, longest_lease_seconds: float) -> InFlightMessage:
        """Add a received message, whose lease is renewed from now on.

        Args:
            receipt: Its receipt.
            received_at: When it was requested, in monotonic time.
            longest_lease_seconds: See ``Transport``.
        """
        renew_at = received_at + self._lease_seconds * RENEW_AFTER
        message = InFlightMessage(receipt, renew_at, ends_at=received_at + longest_lease_seconds)
        with self._lock:
            self._by_receipt[receipt] = message
        return message

    def to_renew(self, now: float) -> list[str]:
        """Return the receipts of the messages whose leases have to be renewed at a monotonic time."""
        with self._lock:
            return [receipt for receipt, message in self._by_receipt.items() if message.renew_at <= now]

    def renewed(self, receipts: Sequence[str], lost: Collection[str], now: float) -> None:
        """Record that leases were renewed at a monotonic time, and which of them turned out to be lost."""
        with self._lock:
            for receipt in receipts:
                message = self._by_receipt.get(receipt)
                if message is None:
                    continue
                message.renew_at = now + self._lease_seconds * RENEW_AFTER
                if receipt in lost:
                    logger.info("Lost the lease of a message with %d tasks", len(message.tasks))
                    message.is_lost = True
                    del self._by_receipt[receipt]

    def stop_renewing(self, message: InFlightMessage) -> None:
        """Stop renewing a message's lease, and let it end."""
        with self._lock:
            self._by_receipt.pop(message.receipt, None)

    def release(self, message: InFlightMessage) -> str | None:
        """Return the receipt of a message without tasks, to be acknowledged; None if it has tasks, or is no longer held."""
        with self._lock:
            return self._released(message)

    def _released(self, message: InFlightMessage) -> str | None:
        if message.tasks or self._by_receipt.pop(message.receipt, None) is None:
            return None
        return message.receipt

    # --- tasks ---

    @property
    def has_tasks(self) -> bool:
        """Whether this worker has an unfinished task."""
        with self._lock:
            return bool(self._by_attempt)

    @property
    def n_tasks(self) -> int:
        """The number of this worker's unfinished tasks."""
        with self._lock:
            return len(self._by_attempt)

    @property
    def has_suspect(self) -> bool:
        """Whether it holds a task that may have killed other workers; no second one may be at risk of being lost with it."""
        with self._lock:
            return any(is_suspect(task) for message in self._by_receipt.values() for task in message.tasks.values())

    def put(self, message: InFlightMessage, task: QueuedTask, *, ledger: str) -> bool:
        """Add a task of a message for its next attempt.

        Messages can be delivered twice and tasks can be sent twice. A task that is already held stays with its first message, unless that
        has lost its lease.

        Returns:
            Whether the task was not held before.
        """
        key = (task.seq, task.next_attempt)
        with self._lock:
            known = self._by_attempt.get(key)
            if known is not None and not known.is_lost:
                return False
            message.ledger = ledger
            message.tasks[key] = task
            self._by_attempt[key] = message
            if known is not None:
                del known.tasks[key]
            return known is None

    def keys(self, is_wanted: Callable[[str, int], bool]) -> list[AttemptKey]:
        """Return the unfinished attempts for which a function of the ledger and the number of the task is true."""
        with self._lock:
            return [key for key, message in self._by_attempt.items() if is_wanted(message.ledger, key[0])]

    def find(self, key: AttemptKey) -> HeldTask:
        """Return a held task."""
        with self._lock:
            message = self._by_attempt[key]
            return HeldTask(message.tasks[key], message.ledger, message.is_lost)

    def remove(self, key: AttemptKey) -> tuple[HeldTask, str | None]:
        """Remove a task.

        Returns:
            The task, and the receipt of its message if that has to be acknowledged, because this was its last task.
        """
        with self._lock:
            message = self._by_attempt.pop(key)
            held = HeldTask(message.tasks.pop(key), message.ledger, message.is_lost)
            return held, self._released(message)

    # --- handing over messages before the maximum lease time of the service ---

    @property
    def has_claims(self) -> bool:
        """Whether a message that was handed over has not arrived yet."""
        with self._lock:
            return bool(self._claims)

    def hand_over(self, before: float) -> list[HandedOver]:
        """Replace the leases that end before a monotonic time by claims; return the messages to send again."""
        handed_over = []
        with self._lock:
            for message in [one for one in self._by_receipt.values() if one.ends_at < before and one.tasks]:
                self._claim_count += 1
                claim = f"{self._source}/{self._claim_count}"
                logger.info("Handing over a message with %d tasks under claim %s", len(message.tasks), claim)
                self._claims[claim] = message
                del self._by_receipt[message.receipt]
                tasks = [task.after(attempt - 1) for (_, attempt), task in message.tasks.items()]
                handed_over.append(HandedOver(message.receipt, message.ledger, tasks, claim))
        return handed_over

    def take_back(self, claim: str, message: InFlightMessage) -> bool:
        """Replace the message that was handed over under a claim by the new one; return False if the claim is another worker's."""
        with self._lock:
            former = self._claims.pop(claim, None)
            if former is None:
                return False
            message.ledger, message.tasks = former.ledger, former.tasks
            self._by_attempt |= dict.fromkeys(message.tasks, message)
            return True


def is_suspect(task: QueuedTask) -> bool:
    """Return whether the task may have killed its workers."""
    return task.count_of(Outcome.LOST) >= SUSPECT_LOSSES
