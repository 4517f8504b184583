"""Google Cloud Pub/Sub queues: ``PubSubTransport``. Its permissions are listed in ``clouds.google_permissions``.

Limits are from https://cloud.google.com/pubsub/quotas.
"""

import math
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

import grpc
from google.auth.exceptions import GoogleAuthError
from google.protobuf import duration_pb2, field_mask_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from taskfleet.clouds.google_session import log_in
from taskfleet.clouds.permissions import USER_AGENT
from taskfleet.clouds.retrying import Outages, Retries
from taskfleet.errors import QueueError
from taskfleet.invocation import poe
from taskfleet.messages.grouping import chunks, grouped
from taskfleet.queues.pubsub_calls import PubSubCalls, raw
from taskfleet.queues.pubsub_errors import AlreadyExistsError, MissingError, explain
from taskfleet.queues.transport import Message, Outgoing, Size, text_of

#: Messages per publish and pull request, and bytes per publish request, with a margin for overhead.
BATCH_MESSAGES = 1000
BATCH_BYTES = 9_000_000
#: Maximum overhead of a message in a request.
OVERHEAD_BYTES = 10
#: Acknowledgement ids, of about 200 bytes each, per request of at most 512 KiB.
BATCH_RECEIPTS = 1000
LONGEST_DEADLINE_SECONDS = 600
#: The acknowledgement deadline of the subscription, which applies until a message's lease is set.
LEASE_SECONDS = 30
SUBSCRIPTION_RETENTION_SECONDS = 7 * 86400
TOPIC_RETENTION_SECONDS = 31 * 86400
#: The service counts deliveries only if there is a dead-letter topic; this maximum is never reached in practice.
MOST_DELIVERIES = 100

#: A pull that waits for messages and is not answered can mean that there are none, or that the service is not reachable. After this long
#: without an answer, one that has to be answered immediately shows which.
SILENCE_SECONDS = 5.0

#: Attributes of a delayed message: when it is due, and its original delay.
NOT_BEFORE, DELAY = "not_before", "delay_seconds"


class PubSubTransport:
    """A topic with one subscription; see ``Transport``. Project and credentials come from the SDK's default chain.

    Pub/Sub has no delayed messages: a receiver postpones a message that is not due yet, by up to ten minutes at a time, which costs two
    requests each. The number of messages is unknown. Deliveries are counted approximately, by a dead-letter topic ``NAME-dead``, which
    receives messages after a hundred deliveries.

    Args:
        address: ``pubsub://PROJECT/NAME``, or ``pubsub://NAME`` for the default project.
        patience_seconds: How long a call is repeated while the service is unavailable or throttles it.
        outages: Observes the calls.
        clock: Seconds since the epoch.

    Raises:
        QueueError: The address is not valid, or has no project.
        CredentialsError: There are no credentials.
    """

    most_message_bytes: ClassVar[int] = 8 << 20
    longest_delay_seconds: ClassVar[float] = 7 * 86400.0
    longest_lease_seconds: ClassVar[float] = math.inf
    counts_exactly: ClassVar[bool] = False
    fences_receipts: ClassVar[bool] = False
    purge_seconds: ClassVar[float] = 0.0
    knows_lost_leases: ClassVar[bool] = False

    def __init__(
        self,
        address: str,
        *,
        patience_seconds: float = 60.0,
        outages: Outages | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self._clock = clock
        self._answered_at = -math.inf
        self._label = f"Queue {address}"
        project, self._name = _parse(address)
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.max_reconnect_backoff_ms", 5000),  # instead of two minutes
            # During calls, so that a connection which a firewall has forgotten is replaced; Google's own clients use this interval.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        try:
            if emulator:
                channel: Any = grpc.insecure_channel(emulator, options)
                project = project or os.environ.get("GOOGLE_CLOUD_PROJECT", "")
            else:
                credentials, default = log_in()
                project = project or default
                channel = PublisherGrpcTransport.create_channel(credentials=credentials, options=options)
        except GoogleAuthError as error:
            raise explain(error, label=self._label, method="", project=project) from error
        if not project:
            raise QueueError(
                f"{self._label}: the project is unknown. Write pubsub://PROJECT/{self._name}, or set GOOGLE_CLOUD_PROJECT."
            )
        self._topic = f"projects/{project}/topics/{self._name}"
        self._subscription = f"projects/{project}/subscriptions/{self._name}"
        self._calls = PubSubCalls(
            channel, project=project, label=self._label, retries=Retries(patience_seconds, outages)
        )

    def create(self, *, tags: dict[str, str]) -> None:
        """See ``Transport.create``; an existing topic keeps its labels. The subscription exists before any message is sent."""
        labels = {_label_part(name): _label_part(value) for name, value in tags.items()}
        topic = types.Topic(
            name=self._topic, labels=labels, message_retention_duration=_duration(TOPIC_RETENTION_SECONDS)
        )
        dead = types.Topic(name=f"{self._topic}-dead", labels=labels)
        for one in (dead, topic):
            with suppress(AlreadyExistsError):
                self._calls.one("Publisher/CreateTopic", types.Topic.pb(one), types.Topic)
        subscription = types.Subscription(
            name=self._subscription,
            topic=self._topic,
            ack_deadline_seconds=LEASE_SECONDS,
            message_retention_duration=_duration(SUBSCRIPTION_RETENTION_SECONDS),
            labels=labels,
            expiration_policy=types.ExpirationPolicy(),  # never, however long it is unused
            dead_letter_policy=types.DeadLetterPolicy(
                dead_letter_topic=dead.name, max_delivery_attempts=MOST_DELIVERIES
            ),
        )
        with suppress(AlreadyExistsError):
            self._calls.one("Subscriber/CreateSubscription", types.Subscription.pb(subscription), types.Subscription)

    def exists(self) -> bool:
        """See ``Transport.exists``."""
        try:
            self.labels()
            found = self._calls.one(
                "Subscriber/GetSubscription",
                raw(types.GetSubscriptionRequest)(subscription=self._subscription),
                types.Subscription,
            )
        except MissingError:
            return False
        return bool(found.topic == self._topic)

    def labels(self) -> dict[str, str]:
        """Return the labels of the topic."""
        request = raw(types.GetTopicRequest)(topic=self._topic)
        return dict(self._calls.one("Publisher/GetTopic", request, types.Topic).labels)

    def set_labels(self, labels: dict[str, str]) -> None:
        """Replace the labels of the topic, all at once."""
        topic = types.Topic(name=self._topic, labels=labels)
        request = types.UpdateTopicRequest(topic=topic, update_mask=field_mask_pb2.FieldMask(paths=["labels"]))
        self._calls.one("Publisher/UpdateTopic", types.UpdateTopicRequest.pb(request), types.Topic)

    def delete(self) -> None:
        """See ``Transport.delete``."""
        request = raw(types.DeleteSubscriptionRequest)(subscription=self._subscription)
        with suppress(MissingError):
            self._calls.one("Subscriber/DeleteSubscription", request, None)
        for topic in (self._topic, f"{self._topic}-dead"):
            with suppress(MissingError):
                self._calls.one("Publisher/DeleteTopic", raw(types.DeleteTopicRequest)(topic=topic), None)

    def purge(self) -> None:
        """See ``Transport.purge``; it takes effect within about a minute."""
        request = raw(types.SeekRequest)(subscription=self._subscription)
        request.time.FromNanoseconds(int(self._clock() * 1e9))
        self._calls.one("Subscriber/Seek", request, types.SeekResponse)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See ``Transport.send``."""
        new_message = raw(types.PubsubMessage)
        now = self._clock()
        packed = []
        for body, delay in messages:
            data = body.encode("utf-8", "surrogatepass")
            if not 0 < len(data) <= self.most_message_bytes:
                raise QueueError(
                    f"{self._label}: a message has {len(data):,} bytes; it must have 1 to {self.most_message_bytes:,}."
                )
            if delay > self.longest_delay_seconds:
                raise QueueError(
                    f"{self._label}: a delay is {delay:g} s; the maximum is {self.longest_delay_seconds:g} s."
                )
            attributes = {NOT_BEFORE: f"{now + delay:.3f}", DELAY: f"{delay:.3f}"} if delay > 0 else None
            packed.append(new_message(data=data, attributes=attributes))
        request = raw(types.PublishRequest)
        batches = grouped(
            packed, most=BATCH_MESSAGES, most_size=BATCH_BYTES, size_of=lambda one: one.ByteSize() + OVERHEAD_BYTES
        )
        requests = [request(topic=self._topic, messages=batch) for batch in batches]
        self._calls.several("Publisher/Publish", requests, types.PublishResponse)

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """See ``Transport.receive``. If the answer is lost, its messages stay leased for half a minute."""
        deadline = time.monotonic() + wait_seconds
        while most > 0:
            left = max(0.0, deadline - time.monotonic())
            found = self._pull(min(most, BATCH_MESSAGES), left)
            messages, early = self._split_by_due_time(found)
            if early:
                self._postpone(early)
            if lease_seconds != LEASE_SECONDS and messages:
                self.extend([message.receipt for message in messages], lease_seconds)
            if messages or left <= 0:
                return messages
        return []

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """See ``Transport.extend``; by at most ten minutes. Lost leases are not reported."""
        seconds = min(math.ceil(lease_seconds), LONGEST_DEADLINE_SECONDS)
        request = raw(types.ModifyAckDeadlineRequest)
        self._calls.several(
            "Subscriber/ModifyAckDeadline",
            [
                request(subscription=self._subscription, ack_ids=batch, ack_deadline_seconds=seconds)
                for batch in chunks(receipts, BATCH_RECEIPTS)
            ],
            None,
        )
        return set()

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """See ``Transport.acknowledge``."""
        request = raw(types.AcknowledgeRequest)
        self._calls.several(
            "Subscriber/Acknowledge",
            [request(subscription=self._subscription, ack_ids=batch) for batch in chunks(receipts, BATCH_RECEIPTS)],
            None,
        )

    def size(self) -> Size:
        """See ``Transport.size``; Pub/Sub does not report it (Cloud Monitoring does, some minutes late)."""
        if not self.exists():
            raise QueueError(f"{self._label} does not exist. Insert tasks first: {poe('insert_tasks')}")
        return Size(ready=None, leased=None, delayed=None, is_exact=False)

    def close(self) -> None:
        """See ``Transport.close``."""
        self._calls.close()

    # --- receiving ---

    def _pull(self, most: int, wait_seconds: float) -> Sequence[Any]:
        request = raw(types.PullRequest)(subscription=self._subscription, max_messages=most)
        if time.monotonic() - self._answered_at > SILENCE_SECONDS:
            wait_seconds = 0.0
        request.return_immediately = wait_seconds <= 0
        answer = self._calls.waiting("Subscriber/Pull", request, types.PullResponse, wait_seconds)
        if answer is None:
            return ()
        self._answered_at = time.monotonic()
        found: Sequence[Any] = answer.received_messages
        return found

    def _split_by_due_time(self, found: Sequence[Any]) -> tuple[list[Message], dict[int, list[str]]]:
        """Return the messages that are due, and the receipts of the others by the seconds until they are due."""
        messages: list[Message] = []
        early: dict[int, list[str]] = {}
        now = self._clock()
        for one in found:
            attributes = one.message.attributes
            deliveries = one.delivery_attempt
            if attributes:
                left = _seconds(attributes, NOT_BEFORE, now + self.longest_delay_seconds) - now
                if left > 0:
                    early.setdefault(min(math.ceil(left), LONGEST_DEADLINE_SECONDS), []).append(one.ack_id)
                    continue
                delay = _seconds(attributes, DELAY, self.longest_delay_seconds)
                puttings_off = math.ceil(delay / LONGEST_DEADLINE_SECONDS)
                deliveries = max(1, deliveries - puttings_off) if deliveries else 0
            messages.append(Message(text_of(one.message.data, self.most_message_bytes), one.ack_id, deliveries))
        return messages, early

    def _postpone(self, early: dict[int, list[str]]) -> None:
        for seconds, receipts in early.items():
            self.extend(receipts, seconds)


def _parse(address: str) -> tuple[str, str]:
    """Return the project, empty for the default one, and the name."""
    parts = urlsplit(address)
    path = parts.path.strip("/")
    project, name = (parts.netloc, path) if path else ("", parts.netloc)
    # https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names; room is left for "-events-dead"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.~+%-]{2,243}", name) or name.lower().startswith("goog"):
        raise QueueError(
            f"{address} is not a valid address of a Pub/Sub queue: write pubsub://PROJECT/NAME. The name has 3 to 244 letters, digits, "
            "'-', '_' or '.', begins with a letter and does not begin with goog."
        )
    return project, name


def _seconds(attributes: Any, name: str, most: float) -> float:
    """Return the number in an attribute; 0 if there is none, or none that ``send`` writes."""
    try:
        value = float(attributes.get(name, 0))
    except ValueError:
        return 0.0
    return value if 0 <= value <= most else 0.0


def _label_part(text: str) -> str:
    """Return a valid label: lower case letters, digits, '-' and '_', at most 63."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _duration(seconds: int) -> Any:
    return duration_pb2.Duration(seconds=seconds)
