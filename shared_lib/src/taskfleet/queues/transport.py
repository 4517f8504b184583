"""Transports: named queues of messages at a service, with nothing in them of tasks, attempts or retries.

``Transport`` is the contract of SQS, Pub/Sub and PostgreSQL. What is built on top of it (tasks in messages, events, retries) is written
once, for all of them. A transport object belongs to one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol


class Outgoing(NamedTuple):
    """A message to send."""

    body: str
    delay_seconds: float = 0.0
    """It is not handed out before; at most ``longest_delay_seconds``."""


class Message(NamedTuple):
    """A message that was received and is this receiver's until its lease ends."""

    body: str
    receipt: str
    """What it is called in further calls; another receipt comes with each delivery."""
    deliveries: int
    """How often it was handed out, this time included; 0 where the service does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What the service says is in a queue; None where it does not say."""

    ready: int | None
    leased: int | None
    delayed: int | None
    is_exact: bool


class Transport(Protocol):
    """One named queue at a service. Delivery is at least once, in any order.

    Every verb tries again by itself when the service throttles it, fails for a moment or loses an answer, with growing pauses up to
    ``patience_seconds``; partial failures are repeated item by item.

    Raises:
        ProviderError: From every verb: trying again does not help (credentials, permissions); ``QueueError`` if the queue is missing.
        UnreachableError: From every verb: the service cannot be reached or is overloaded, after several tries. What was asked may or
            may not have happened; asking again is safe, though it may send twice.
    """

    address: str
    """As the user writes it in QUEUE_URL."""
    most_message_bytes: ClassVar[int]
    """Of one message's body in UTF-8."""
    longest_delay_seconds: ClassVar[float]
    """Of ``Outgoing.delay_seconds``."""
    longest_lease_seconds: ClassVar[float]
    """For how long a delivery can be leased in all, renewals included; infinity if there is no end."""
    counts_exactly: ClassVar[bool]
    """Whether ``size`` is exact."""
    fences_receipts: ClassVar[bool]
    """Whether ``extend`` and ``acknowledge`` with the receipt of an earlier delivery leave the present holder's alone."""
    knows_lost_leases: ClassVar[bool]
    """Whether ``extend`` reports each receipt whose message has been handed out again or dropped."""

    def create(self, *, tags: dict[str, str]) -> None:
        """Make the queue if it is not there; harmless if it is."""

    def exists(self) -> bool:
        """Whether the queue is there."""

    def delete(self) -> None:
        """Delete the queue and all in it; harmless if it is gone."""

    def purge(self) -> None:
        """Drop all messages, those leased among them as far as the service can."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in full batches, several calls in flight where that helps; all have been taken when this returns."""

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """Take up to ``most`` messages, waiting up to ``wait_seconds`` for the first; none is held back in this process."""

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """Have leases end ``lease_seconds`` from now; 0 gives messages back. Returns the receipts known to have lost theirs."""

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """Drop messages that are done with; a receipt that has lost its lease may or may not have an effect."""

    def size(self) -> Size:
        """Say what is in the queue."""

    def close(self) -> None:
        """Let go of connections."""
