"""The messages that a worker holds at a queue at a service, and the tasks in them that have not come to an end.

A message is in flight from when it is received until it is acknowledged, its lease is lost, or it is handed over: where a service lets
nobody hold a message for longer, what is left of it is sent again under a claim, and whoever receives that leaves it to the worker that
claims it. When the new message comes round to this worker, it takes the place of the old one.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.messages.tasks import QueuedTask
from taskfleet.tasks import SUSPECT_LOSSES, AttemptKey, Outcome

#: The part of a lease after which it is renewed.
RENEW_AFTER = 1 / 3


@dataclass(slots=True, eq=False)
class InFlightMessage:
    """A message that this worker holds; for others than ``InFlightMessages`` it only stands for itself."""

    receipt: str
    renew_at: float
    """On the monotonic clock."""
    ends_at: float
    """When the service lets it be held no longer, on the monotonic clock."""
    ledger: str = ""
    """As in ``TaskMessage``."""
    tasks: dict[AttemptKey, QueuedTask] = field(default_factory=dict)
    """Those that have not come to an end, as they were before the attempt."""
    is_lost: bool = False
    """Whether its lease has ended: others may have its tasks."""


class HeldTask(NamedTuple):
    """A task of a message in flight."""

    task: QueuedTask
    """As it was before the attempt."""
    ledger: str
    is_lost: bool
    """Whether others may have it, because the lease of its message has ended."""


class HandedOver(NamedTuple):
    """What is left of a message that can be held no longer."""

    receipt: str
    """Of the message, which is to be acknowledged once the new one is sent."""
    ledger: str
    tasks: list[QueuedTask]
    claim: str
    """What the new message has to say, so that others leave it to this worker."""


class InFlightMessages:
    """All messages that a worker holds; may be used by several threads at a time.

    Args:
        source: The worker's name, which begins its claims.
        lease_seconds: For how long a message is leased at a time.
    """

    def __init__(self, source: str, *, lease_seconds: float) -> None:
        self._lock = threading.Lock()
        self._source = source
        self._lease_seconds = lease_seconds
        self._by_receipt: dict[str, InFlightMessage] = {}
        """Those whose leases are renewed."""
        self._by_attempt: dict[AttemptKey, InFlightMessage] = {}
        self._claims: dict[str, InFlightMessage] = {}
        """Those that were handed over, until the new message comes round."""
        self._claim_count = 0

    # --- messages ---

    def add(self, receipt: str, *, received_at: float, longest_lease_seconds: float) -> InFlightMessage:
        """Take note of a message that was received, whose lease is renewed from now on.

        Args:
            receipt: Its receipt.
            received_at: When it was asked for, on the monotonic clock.
            longest_lease_seconds: See ``Transport``.
        """
        renew_at = received_at + self._lease_seconds * RENEW_AFTER
        message = InFlightMessage(receipt, renew_at, ends_at=received_at + longest_lease_seconds)
        with self._lock:
            self._by_receipt[receipt] = message
        return message

    def to_renew(self, now: float) -> list[str]:
        """Return the receipts of the messages whose leases are a third over, by the monotonic clock."""
        with self._lock:
            return [receipt for receipt, message in self._by_receipt.items() if message.renew_at <= now]

    def renewed(self, receipts: Sequence[str], lost: Collection[str], now: float) -> None:
        """Take note of leases that were renewed at a time of the monotonic clock, and of those among them that turned out to be lost."""
        with self._lock:
            for receipt in receipts:
                message = self._by_receipt.get(receipt)
                if message is None:
                    continue
                message.renew_at = now + self._lease_seconds * RENEW_AFTER
                if receipt in lost:
                    message.is_lost = True
                    del self._by_receipt[receipt]

    def leave(self, message: InFlightMessage) -> None:
        """Renew a message's lease no longer, and let it end."""
        with self._lock:
            self._by_receipt.pop(message.receipt, None)

    def release(self, message: InFlightMessage) -> str | None:
        """Return the receipt of a message without tasks, which is to be acknowledged; None if it has some, or is held no longer."""
        with self._lock:
            return self._released(message)

    def _released(self, message: InFlightMessage) -> str | None:
        if message.tasks or self._by_receipt.pop(message.receipt, None) is None:
            return None
        return message.receipt

    # --- tasks ---

    @property
    def has_tasks(self) -> bool:
        """Whether this worker has any task that has not come to an end."""
        with self._lock:
            return bool(self._by_attempt)

    @property
    def has_suspect(self) -> bool:
        """Whether it holds a task that may be why other workers died: no other such task should be lost with it again."""
        with self._lock:
            return any(is_suspect(task) for message in self._by_receipt.values() for task in message.tasks.values())

    def put(self, message: InFlightMessage, task: QueuedTask, *, ledger: str) -> bool:
        """Hold a task of a message for its next attempt.

        Some messages come twice, and some tasks are sent twice: one that is held already stays with the message it came in first, unless
        that has lost its lease.

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

    def find(self, key: AttemptKey) -> HeldTask:
        """Return a task that is held."""
        with self._lock:
            message = self._by_attempt[key]
            return HeldTask(message.tasks[key], message.ledger, message.is_lost)

    def settle(self, key: AttemptKey) -> tuple[HeldTask, str | None]:
        """Hold a task no longer.

        Returns:
            The task, and the receipt of its message if that is to be acknowledged: this was its last task.
        """
        with self._lock:
            message = self._by_attempt.pop(key)
            held = HeldTask(message.tasks.pop(key), message.ledger, message.is_lost)
            return held, self._released(message)

    # --- what is held for longer than a service allows ---

    @property
    def has_claims(self) -> bool:
        """Whether a message that was handed over has not come round yet."""
        with self._lock:
            return bool(self._claims)

    def hand_over(self, before: float) -> list[HandedOver]:
        """Hold no longer, but under a claim, the messages that have to be given up before a time of the monotonic clock."""
        handed_over = []
        with self._lock:
            for message in [one for one in self._by_receipt.values() if one.ends_at < before and one.tasks]:
                self._claim_count += 1
                claim = f"{self._source}/{self._claim_count}"
                self._claims[claim] = message
                del self._by_receipt[message.receipt]
                tasks = [task.after(attempt - 1) for (_, attempt), task in message.tasks.items()]
                handed_over.append(HandedOver(message.receipt, message.ledger, tasks, claim))
        return handed_over

    def take_back(self, claim: str, message: InFlightMessage) -> bool:
        """Put a message that came round under a claim in the place of the one that was handed over; False if the claim is another's."""
        with self._lock:
            former = self._claims.pop(claim, None)
            if former is None:
                return False
            message.ledger, message.tasks = former.ledger, former.tasks
            self._by_attempt |= dict.fromkeys(message.tasks, message)
            return True


def is_suspect(task: QueuedTask) -> bool:
    """Whether it may be what its workers died of."""
    return task.count_of(Outcome.LOST) >= SUSPECT_LOSSES
