"""Google Cloud Pub/Sub queues: ``PubSubTransport``. The permissions that are used are in ``clouds.google_permissions``.

Limits are from https://cloud.google.com/pubsub/quotas.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

import grpc
from google.auth.exceptions import GoogleAuthError
from google.protobuf import empty_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from taskfleet.clouds.google_session import log_in
from taskfleet.clouds.permissions import USER_AGENT
from taskfleet.clouds.retrying import retry_call
from taskfleet.errors import ProviderError, QueueError, UnreachableError
from taskfleet.queues.pubsub_faults import MissingError, ThereError, explain
from taskfleet.queues.transport import Message, Outgoing, Size

#: Messages in one request to publish or to pull, and bytes in one to publish, with room for what is around them.
BATCH_MESSAGES = 1000
BATCH_BYTES = 9_000_000
#: Acknowledgement ids, of some 200 bytes each, in one request, which has 512 KiB at most.
BATCH_RECEIPTS = 1000
#: Requests in flight.
CALLS = 4
LONGEST_DEADLINE_SECONDS = 600
#: Of the subscription, for messages whose lease nobody has set yet.
LEASE_SECONDS = 30
SUBSCRIPTION_RETENTION_SECONDS = 7 * 86400
TOPIC_RETENTION_SECONDS = 31 * 86400
ANSWER_SECONDS = 10.0
#: What an uplink is trusted to carry.
UPLINK_BYTES_PER_SECOND = 50_000
#: What the service calls deliveries are counted only where there is a topic for those that fail; so often none does.
MOST_DELIVERIES = 100

#: Attributes of a message that must not be handed out yet: until when, and for how long from the beginning.
NOT_BEFORE, DELAY = "not_before", "delay_seconds"

Answer = Any


def _raw(kind: Any) -> Any:
    """Give the plain protobuf class behind one of the SDK's, which costs a tenth per message."""
    return type(kind.pb(kind()))


class PubSubTransport:
    """A topic with one subscription; see ``Transport``. Project and credentials are those of the SDK's own chain.

    Pub/Sub has no delayed messages: one that is not due yet is put off by whoever receives it, for up to ten minutes at a time, which is
    two requests each. It counts no messages. Deliveries are counted about right, by means of a topic ``NAME-dead``, where a message ends
    that was handed out a hundred times.

    Args:
        address: ``pubsub://PROJECT/NAME``, or ``pubsub://NAME`` for the default project.
        patience_seconds: For how long a verb tries again while the service does not answer or turns it away.
        clock: Seconds since the epoch.

    Raises:
        QueueError: The address is not one, or names no project.
        CredentialsError: There is no login.
    """

    most_message_bytes: ClassVar[int] = 8 << 20
    longest_delay_seconds: ClassVar[float] = 7 * 86400.0
    longest_lease_seconds: ClassVar[float] = math.inf
    counts_exactly: ClassVar[bool] = False
    fences_receipts: ClassVar[bool] = False
    knows_lost_leases: ClassVar[bool] = False

    def __init__(self, address: str, *, patience_seconds: float = 60.0, clock: Callable[[], float] = time.time) -> None:
        self.address = address
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._label = f"Queue {address}"
        project, self._name = _parse(address)
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.primary_user_agent", USER_AGENT),
        ]
        try:
            if emulator:
                self._channel: Any = grpc.insecure_channel(emulator, options)
                project = project or os.environ.get("GOOGLE_CLOUD_PROJECT", "")
            else:
                credentials, default = log_in()
                project = project or default
                self._channel = PublisherGrpcTransport.create_channel(credentials=credentials, options=options)
        except GoogleAuthError as error:
            raise explain(error, label=self._label, method="", project=project) from error
        if not project:
            raise QueueError(
                f"{self._label}: no project is known. Write pubsub://PROJECT/{self._name}, or set GOOGLE_CLOUD_PROJECT."
            )
        self._project = project
        self._topic = f"projects/{project}/topics/{self._name}"
        self._subscription = f"projects/{project}/subscriptions/{self._name}"
        self._metadata = (("x-goog-request-params", f"project={project}"),)
        self._stubs: dict[str, Any] = {}

    def create(self, *, tags: dict[str, str]) -> None:
        """See ``Transport.create``; the first to create it sets the labels. The subscription is there before anything is sent."""
        labels = {_label_part(name): _label_part(value) for name, value in tags.items()}
        topic = types.Topic(
            name=self._topic, labels=labels, message_retention_duration=_duration(TOPIC_RETENTION_SECONDS)
        )
        dead = types.Topic(name=f"{self._topic}-dead", labels=labels)
        for one in (dead, topic):
            with suppress(ThereError):
                self._call("Publisher/CreateTopic", types.Topic.pb(one), types.Topic)
        subscription = types.Subscription(
            name=self._subscription,
            topic=self._topic,
            ack_deadline_seconds=LEASE_SECONDS,
            message_retention_duration=_duration(SUBSCRIPTION_RETENTION_SECONDS),
            labels=labels,
            expiration_policy=types.ExpirationPolicy(),  # never, however long nobody asks
            dead_letter_policy=types.DeadLetterPolicy(
                dead_letter_topic=dead.name, max_delivery_attempts=MOST_DELIVERIES
            ),
        )
        with suppress(ThereError):
            self._call("Subscriber/CreateSubscription", types.Subscription.pb(subscription), types.Subscription)

    def exists(self) -> bool:
        """See ``Transport.exists``."""
        try:
            self._call("Publisher/GetTopic", _raw(types.GetTopicRequest)(topic=self._topic), types.Topic)
            found = self._call(
                "Subscriber/GetSubscription",
                _raw(types.GetSubscriptionRequest)(subscription=self._subscription),
                types.Subscription,
            )
        except MissingError:
            return False
        return bool(found.topic == self._topic)

    def delete(self) -> None:
        """See ``Transport.delete``."""
        request = _raw(types.DeleteSubscriptionRequest)(subscription=self._subscription)
        with suppress(MissingError):
            self._call("Subscriber/DeleteSubscription", request, None)
        for topic in (self._topic, f"{self._topic}-dead"):
            with suppress(MissingError):
                self._call("Publisher/DeleteTopic", _raw(types.DeleteTopicRequest)(topic=topic), None)

    def purge(self) -> None:
        """See ``Transport.purge``; it takes effect within a minute or so."""
        request = _raw(types.SeekRequest)(subscription=self._subscription)
        request.time.FromNanoseconds(int(self._clock() * 1e9))
        self._call("Subscriber/Seek", request, types.SeekResponse)

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See ``Transport.send``."""
        raw = _raw(types.PubsubMessage)
        now = self._clock()
        packed = []
        for body, delay in messages:
            data = body.encode("utf-8", "surrogatepass")
            if not 0 < len(data) <= self.most_message_bytes:
                raise QueueError(
                    f"{self._label}: a message of {len(data):,} bytes; this library sends 1 to {self.most_message_bytes:,}."
                )
            if delay > self.longest_delay_seconds:
                raise QueueError(
                    f"{self._label}: a delay of {delay:g} s; messages are kept for {self.longest_delay_seconds:g} s."
                )
            attributes = {NOT_BEFORE: f"{now + delay:.3f}", DELAY: f"{delay:.3f}"} if delay > 0 else None
            packed.append(raw(data=data, attributes=attributes))
        request = _raw(types.PublishRequest)
        requests = [request(topic=self._topic, messages=batch) for batch in _packed(packed)]
        self._call_all("Publisher/Publish", requests, types.PublishResponse)

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """See ``Transport.receive``. A request that is cut off by a lost answer leaves its messages leased for half a minute."""
        deadline = time.monotonic() + wait_seconds
        while most > 0:
            left = max(0.0, deadline - time.monotonic())
            found = self._pull(min(most, BATCH_MESSAGES), left)
            messages, early = self._sorted_out(found)
            if early:
                self._put_off(early)
            if lease_seconds != LEASE_SECONDS and messages:
                self.extend([message.receipt for message in messages], lease_seconds)
            if messages or left <= 0:
                return messages
        return []

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """See ``Transport.extend``; ten minutes at most at a time. Nothing is known of lost leases."""
        seconds = min(math.ceil(lease_seconds), LONGEST_DEADLINE_SECONDS)
        request = _raw(types.ModifyAckDeadlineRequest)
        self._call_all(
            "Subscriber/ModifyAckDeadline",
            [
                request(subscription=self._subscription, ack_ids=batch, ack_deadline_seconds=seconds)
                for batch in _chunks(receipts)
            ],
            None,
        )
        return set()

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """See ``Transport.acknowledge``."""
        request = _raw(types.AcknowledgeRequest)
        self._call_all(
            "Subscriber/Acknowledge",
            [request(subscription=self._subscription, ack_ids=batch) for batch in _chunks(receipts)],
            None,
        )

    def size(self) -> Size:
        """See ``Transport.size``; Pub/Sub does not say (Cloud Monitoring does, some minutes late)."""
        if not self.exists():
            raise QueueError(f"{self._label} does not exist. Insert tasks first: poe insert_tasks")
        return Size(ready=None, leased=None, delayed=None, is_exact=False)

    def close(self) -> None:
        """See ``Transport.close``."""
        self._channel.close()

    # --- receiving ---

    def _pull(self, most: int, wait_seconds: float) -> Sequence[Any]:
        request = _raw(types.PullRequest)(subscription=self._subscription, max_messages=most)
        request.return_immediately = wait_seconds <= 0
        stub = self._stub("Subscriber/Pull", types.PullResponse)

        def pull() -> Any:
            try:
                return stub(request, timeout=wait_seconds or ANSWER_SECONDS, metadata=self._metadata)
            except grpc.RpcError as error:
                if wait_seconds > 0 and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return None  # the service itself would wait for longer
                raise self._explain("Subscriber/Pull", error) from error

        answer = retry_call(self._patience_seconds, pull)
        return () if answer is None else answer.received_messages

    def _sorted_out(self, found: Sequence[Any]) -> tuple[list[Message], dict[int, list[str]]]:
        """Give the messages that are due, and the receipts of the others by the seconds they are early."""
        messages: list[Message] = []
        early: dict[int, list[str]] = {}
        now = self._clock()
        for one in found:
            attributes = one.message.attributes
            deliveries = one.delivery_attempt
            if attributes:
                left = float(attributes.get(NOT_BEFORE, 0)) - now
                if left > 0:
                    early.setdefault(min(math.ceil(left), LONGEST_DEADLINE_SECONDS), []).append(one.ack_id)
                    continue
                puttings_off = math.ceil(float(attributes.get(DELAY, 0)) / LONGEST_DEADLINE_SECONDS)
                deliveries = max(1, deliveries - puttings_off) if deliveries else 0
            messages.append(Message(one.message.data.decode("utf-8", "surrogatepass"), one.ack_id, deliveries))
        return messages, early

    def _put_off(self, early: dict[int, list[str]]) -> None:
        for seconds, receipts in early.items():
            self.extend(receipts, seconds)

    # --- calls ---

    def _call(self, method: str, request: Any, answer: Any, *, seconds: float = ANSWER_SECONDS) -> Answer:
        return self._call_all(method, [request], answer, seconds=seconds)[0]

    def _call_all(
        self, method: str, requests: list[Any], answer: Any, *, seconds: float = ANSWER_SECONDS
    ) -> list[Answer]:
        """Make several requests, some of them at a time, and again those that fail in a way that may pass."""
        answers: list[Answer] = [None] * len(requests)
        left = list(range(len(requests)))
        stub = self._stub(method, answer)

        def call() -> None:
            trouble: ProviderError | None = None
            for start in range(0, len(left), CALLS):
                places = left[start : start + CALLS]
                upload_seconds = sum(requests[place].ByteSize() for place in places) / UPLINK_BYTES_PER_SECOND
                futures = [
                    stub.future(requests[place], timeout=seconds + upload_seconds, metadata=self._metadata)
                    for place in places
                ]
                for place, future in zip(places, futures, strict=True):
                    try:
                        answers[place] = future.result()
                    except grpc.RpcError as error:
                        explained = self._explain(method, error)
                        if not isinstance(explained, UnreachableError):
                            raise explained from error
                        trouble = explained
                        answers[place] = error
            left[:] = [place for place in left if isinstance(answers[place], grpc.RpcError)]
            if trouble is not None:
                raise trouble

        retry_call(self._patience_seconds, call)
        return answers

    def _stub(self, method: str, answer: Any) -> Any:
        stub = self._stubs.get(method)
        if stub is None:
            kind = empty_pb2.Empty if answer is None else _raw(answer)
            stub = self._stubs[method] = self._channel.unary_unary(
                f"/google.pubsub.v1.{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=kind.FromString,
            )
        return stub

    def _explain(self, method: str, error: grpc.RpcError) -> ProviderError:
        return explain(error, label=self._label, method=method, project=self._project)


def _parse(address: str) -> tuple[str, str]:
    """Give the project, empty for the default one, and the name."""
    parts = urlsplit(address)
    path = parts.path.strip("/")
    project, name = (parts.netloc, path) if path else ("", parts.netloc)
    # https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names; room is left for "-events-dead"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.~+%-]{2,243}", name) or name.lower().startswith("goog"):
        raise QueueError(
            f"{address} is no address of a Pub/Sub queue: write pubsub://PROJECT/NAME, the name with 3 to 244 letters, digits or '-', "
            "'_', '.', a letter first and not beginning with goog."
        )
    return project, name


def _label_part(text: str) -> str:
    """Give what a label may consist of: lower case letters, digits, '-' and '_', 63 at most."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _duration(seconds: int) -> Any:
    from google.protobuf import duration_pb2

    return duration_pb2.Duration(seconds=seconds)


def _packed(messages: Sequence[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size = 0
    for message in messages:
        more = message.ByteSize() + 10
        if batch and (len(batch) == BATCH_MESSAGES or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += more
    if batch:
        yield batch


def _chunks(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(receipts), BATCH_RECEIPTS):
        yield receipts[start : start + BATCH_RECEIPTS]
