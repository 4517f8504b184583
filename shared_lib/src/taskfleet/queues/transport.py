"""Transports: named queues of messages at a service, independent of tasks, attempts and retries.

``Transport`` is the interface for SQS, Pub/Sub and PostgreSQL. The layers above it (tasks in messages, events, retries) are the same for
all of them. A transport object belongs to one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

#: What is kept of a body that is not a text.
SHOWN_BYTES = 10_000


class Outgoing(NamedTuple):
    """A message to send."""

    body: str
    delay_seconds: float = 0.0
    """The delay before it can be received; at most ``longest_delay_seconds``."""


class Message(NamedTuple):
    """A received message, which belongs to this receiver until its lease ends."""

    body: str
    """Its text, which anybody who may write to the queue can have written."""
    receipt: str
    """Its identifier in further calls; each delivery has another one."""
    deliveries: int
    """The number of deliveries, including this one; 0 if the service does not report it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of a queue, as the service reports it; None where it does not."""

    ready: int | None
    leased: int | None
    delayed: int | None
    is_exact: bool


def text_of(body: bytes, most_bytes: int) -> str:
    """Return the text of a received body; one that ``send`` cannot have sent becomes a text that is no message of tasks or events."""
    if len(body) > most_bytes:
        return f"{len(body):,} bytes: {body[:SHOWN_BYTES]!r}"
    try:
        return body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return f"not UTF-8: {body[:SHOWN_BYTES]!r}"


class Transport(Protocol):
    """One named queue at a service. Delivery is at least once, in any order.

    Every method retries when the service throttles it, is unavailable or loses an answer, with growing pauses, up to ``patience_seconds``
    or for as long as the outage lasts; see ``Outages.patience``. Partial failures are retried item by item.

    Raises:
        ProviderError: From every method: a permanent error (credentials, permissions); ``QueueError`` if the queue does not exist.
        UnreachableError: From every method: the service is unavailable or overloaded, after several retries. The operation may or may not
            have been executed; repeating it is safe, though it may send messages twice.
    """

    address: str
    """The address, as in QUEUE_URL."""
    most_message_bytes: ClassVar[int]
    """The maximum size of a message's body in UTF-8."""
    longest_delay_seconds: ClassVar[float]
    """The maximum of ``Outgoing.delay_seconds``."""
    longest_lease_seconds: ClassVar[float]
    """The maximum total lease time of a delivery, including renewals; infinity if there is none."""
    counts_exactly: ClassVar[bool]
    """Whether ``size`` is exact."""
    fences_receipts: ClassVar[bool]
    """Whether ``extend`` and ``acknowledge`` with the receipt of an earlier delivery do not affect the current one."""
    purge_seconds: ClassVar[float]
    """For how long after a purge the service may delete messages that are sent after it."""
    knows_lost_leases: ClassVar[bool]
    """Whether ``extend`` reports each receipt whose message was delivered again or deleted."""

    def create(self, *, tags: dict[str, str]) -> None:
        """Create the queue; do nothing if it exists."""

    def exists(self) -> bool:
        """Return whether the queue exists."""

    def delete(self) -> None:
        """Delete the queue and its messages; do nothing if it does not exist."""

    def purge(self) -> None:
        """Delete all messages, including leased ones as far as the service supports it; see ``purge_seconds``."""

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in full batches and several calls concurrently; return once all are accepted."""

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """Receive up to ``most`` messages, waiting up to ``wait_seconds`` for the first; none is buffered in this process."""

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """Make leases end ``lease_seconds`` from now; 0 gives messages back. Return the receipts known to have lost their lease."""

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """Delete processed messages; the receipt of a lost lease may or may not have an effect."""

    def size(self) -> Size:
        """Return the size of the queue."""

    def close(self) -> None:
        """Close connections."""
