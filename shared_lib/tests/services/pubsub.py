"""Google Cloud Pub/Sub on this machine, for its real clients: a double over real gRPC.

As a module (``python -m shared_lib.tests.services.pubsub``) it is the server's process; ``PubSub`` is how a test holds it. It knows
topics, and pull subscriptions with deadlines, counted deliveries, a topic for dead letters, retention and seeking to a time. Like the
service it keeps no order, may hand a message out again, and does not say whether an acknowledgement came too late.
https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1 and, for the limits, https://cloud.google.com/pubsub/quotas
"""

import inspect
import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from shared_lib.tests.services.double import LATE_SECONDS, Clock, Double, Faults, obey

MOST_MESSAGES = 1000
MOST_BYTES = 10_000_000
MOST_REQUEST_BYTES = 524_288
DEADLINES = range(10, 601)
PATIENCE_SECONDS = 90.0
#: What methods take. https://cloud.google.com/pubsub/docs/access-control#required_permissions
PERMISSIONS = {
    "CreateTopic": ("pubsub.topics.create",),
    "GetTopic": ("pubsub.topics.get",),
    "UpdateTopic": ("pubsub.topics.update",),
    "DeleteTopic": ("pubsub.topics.delete",),
    "Publish": ("pubsub.topics.publish",),
    "CreateSubscription": ("pubsub.subscriptions.create", "pubsub.topics.attachSubscription"),
    "GetSubscription": ("pubsub.subscriptions.get",),
    "DeleteSubscription": ("pubsub.subscriptions.delete",),
    **dict.fromkeys(("Pull", "Acknowledge", "ModifyAckDeadline", "Seek"), ("pubsub.subscriptions.consume",)),
}
#: The key of billed bytes among the counts of requests.
BILLED = "(billed bytes)"
_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9_.~+%-]{2,254}")

_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class PubSub(Double):
    """Pub/Sub, until ``stop``. Faults are injected by the methods of its API, such as ``Publish``; codes are those of gRPC."""

    module = "shared_lib.tests.services.pubsub"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``."""
        return {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self.port}", "GOOGLE_CLOUD_PROJECT": "test-project"}


def resource_of(permission: str, request: Any) -> str:
    """Return the topic or subscription, or the project of what is created, on which a request needs a permission.

    https://cloud.google.com/pubsub/docs/access-control#required_permissions
    """
    kind = permission.split(".")[1].removesuffix("s")
    found = getattr(request, kind, "") or request.name
    found = str(getattr(found, "name", found))
    return found.partition(f"/{kind}s/")[0] if permission.endswith("create") else found


# --- in the process ---


class _RefusedError(Exception):
    """The request is rejected, with a code of gRPC."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class _Kept:
    """A message in a subscription."""

    message: Any
    published_at: float
    deliveries: int = 0
    due_at: float = 0.0


@dataclass
class _Subscription:
    proto: Any
    kept: dict[str, _Kept] = field(default_factory=dict)
    """Unacknowledged messages, by message ID."""
    due: list[tuple[float, float, str]] = field(default_factory=list)
    """(time of the next delivery, random number, message ID)."""
    acknowledged: list[_Kept] = field(default_factory=list)

    def keep(self, message: Any, now: float) -> None:
        self.kept[message.message_id] = _Kept(message, now)
        self.plan(message.message_id, 0.0)

    def plan(self, message_id: str, at: float) -> None:
        self.kept[message_id].due_at = at
        heappush(self.due, (at, random.random(), message_id))

    def of(self, receipt: str) -> _Kept | None:
        """Return the message of a receipt; a receipt of an earlier delivery is valid, too, as it may be at the service."""
        return self.kept.get(receipt.split("|")[0])


class Service:
    """The state behind the methods, which are called with the lock held."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        self.changed = threading.Condition()
        self._clock = clock
        self._faults = faults
        self._topics: dict[str, Any] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._count = 0

    def create_topic(self, request: Any) -> Any:
        _check_name(request.name)
        if request.name in self._topics:
            raise _RefusedError("ALREADY_EXISTS", "Resource already exists in the project")
        _check_labels(request.labels)
        self._topics[request.name] = request
        return request

    def update_topic(self, request: Any) -> Any:
        topic = self._topic(request.topic.name)
        if list(request.update_mask.paths) != ["labels"]:
            raise _RefusedError("INVALID_ARGUMENT", "The double updates labels only")
        _check_labels(request.topic.labels)
        topic.labels.clear()
        topic.labels.update(request.topic.labels)
        return topic

    def get_topic(self, request: Any) -> Any:
        return self._topic(request.topic)

    def delete_topic(self, request: Any) -> None:
        self._topic(request.topic)
        del self._topics[request.topic]
        for subscription in self._subscriptions.values():
            if subscription.proto.topic == request.topic:
                subscription.proto.topic = "_deleted-topic_"

    def publish(self, request: Any) -> dict[str, Any]:
        self._topic(request.topic)
        if not 0 < len(request.messages) <= MOST_MESSAGES:
            raise _RefusedError(
                "INVALID_ARGUMENT", f"The value for message_count is too large or none: {len(request.messages)}"
            )
        if request.ByteSize() > MOST_BYTES:
            raise _RefusedError("INVALID_ARGUMENT", f"Request payload size exceeds the limit: {MOST_BYTES} bytes.")
        now = self._clock.now()
        for message in request.messages:
            if not message.data and not message.attributes:
                raise _RefusedError("INVALID_ARGUMENT", "One or more messages in the publish request is empty.")
        for message in request.messages:
            self._count += 1
            message.message_id = str(self._count)
            message.publish_time.FromNanoseconds(int(now * 1e9))
            for subscription in self._subscriptions.values():
                if subscription.proto.topic == request.topic:
                    subscription.keep(message, now)
        self.changed.notify_all()
        return {"message_ids": [message.message_id for message in request.messages]}

    def create_subscription(self, request: Any) -> Any:
        _check_name(request.name)
        if request.name in self._subscriptions:
            raise _RefusedError("ALREADY_EXISTS", "Resource already exists in the project")
        self._topic(request.topic)
        if request.HasField("dead_letter_policy"):
            self._topic(request.dead_letter_policy.dead_letter_topic)
            if not 5 <= request.dead_letter_policy.max_delivery_attempts <= 100:
                raise _RefusedError("INVALID_ARGUMENT", "max_delivery_attempts must be between 5 and 100")
        request.ack_deadline_seconds = request.ack_deadline_seconds or 10
        if request.ack_deadline_seconds not in DEADLINES:
            raise _RefusedError("INVALID_ARGUMENT", "Invalid ack deadline: must be between 10 and 600 seconds")
        if request.message_retention_duration.seconds > 31 * 86400:
            raise _RefusedError("INVALID_ARGUMENT", "Invalid message retention duration")
        self._subscriptions[request.name] = _Subscription(request)
        return request

    def get_subscription(self, request: Any) -> Any:
        return self._subscription(request.subscription).proto

    def delete_subscription(self, request: Any) -> None:
        self._subscription(request.subscription)
        del self._subscriptions[request.subscription]

    def pull(self, request: Any, context: Any) -> dict[str, Any]:
        if request.max_messages <= 0:
            raise _RefusedError("INVALID_ARGUMENT", "max_messages must be positive")
        seconds = min((context.time_remaining() or 2.0) - 0.2, PATIENCE_SECONDS)
        deadline = time.monotonic() + (0 if request.return_immediately else seconds)
        while context.is_active():  # nothing is handed to a client that is gone
            found = self._take(self._subscription(request.subscription), min(request.max_messages, MOST_MESSAGES))
            left = deadline - time.monotonic()
            if found or left <= 0:
                return {"received_messages": found}
            self.changed.wait(min(left, 0.25))
        return {}

    def acknowledge(self, request: Any) -> None:
        _check_size(request)
        subscription = self._subscription(request.subscription)
        for receipt in request.ack_ids:
            kept = subscription.of(receipt)
            if kept is not None:
                subscription.acknowledged.append(subscription.kept.pop(kept.message.message_id))

    def modify_ack_deadline(self, request: Any) -> None:
        _check_size(request)
        if request.ack_deadline_seconds and request.ack_deadline_seconds not in range(601):
            raise _RefusedError("INVALID_ARGUMENT", "Invalid ack deadline: must be between 0 and 600 seconds")
        subscription, now = self._subscription(request.subscription), self._clock.now()
        for receipt in request.ack_ids:
            kept = subscription.of(receipt)
            if kept is not None:
                subscription.plan(kept.message.message_id, now + request.ack_deadline_seconds)
        self.changed.notify_all()

    def seek(self, request: Any) -> dict[str, Any]:
        subscription = self._subscription(request.subscription)
        since = request.time.ToNanoseconds() / 1e9 + self._clock.ahead_seconds  # the caller's clock was not put forward
        everything = list(subscription.kept.values())
        if subscription.proto.retain_acked_messages:
            everything += subscription.acknowledged
        subscription.kept, subscription.due = {}, []
        for kept in everything:
            if kept.published_at >= since:
                subscription.keep(kept.message, kept.published_at)
        return {}

    def _take(self, subscription: _Subscription, most: int) -> list[dict[str, Any]]:
        now = self._clock.now()
        found: list[dict[str, Any]] = []
        seconds = subscription.proto.ack_deadline_seconds
        policy = subscription.proto.dead_letter_policy
        while subscription.due and subscription.due[0][0] <= now and len(found) < most:
            at, _, message_id = heappop(subscription.due)
            kept = subscription.kept.get(message_id)
            if kept is None or kept.due_at != at:
                continue
            retention = subscription.proto.message_retention_duration.seconds or 7 * 86400
            if now - kept.published_at > retention or (
                policy.dead_letter_topic and kept.deliveries >= policy.max_delivery_attempts
            ):
                del subscription.kept[message_id]
                continue
            kind = self._faults.draw("(each message)").get("kind")
            if kind == "late":
                subscription.plan(message_id, now + LATE_SECONDS)
                continue
            kept.deliveries += 1
            receipt = f"{message_id}|{kept.deliveries}|{subscription.proto.name}".ljust(200, ".")
            is_doubled = kind == "duplicate"
            subscription.plan(message_id, now if is_doubled else now + seconds)
            found.append(
                {
                    "ack_id": receipt,
                    "message": kept.message,
                    "delivery_attempt": kept.deliveries if policy.dead_letter_topic else 0,
                }
            )
            if is_doubled:
                break
        return found

    def _topic(self, name: str) -> Any:
        if name not in self._topics:
            raise _RefusedError("NOT_FOUND", f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self._topics[name]

    def _subscription(self, name: str) -> _Subscription:
        if name not in self._subscriptions:
            raise _RefusedError("NOT_FOUND", f"Resource not found (resource={name.rpartition('/')[2]}).")
        return self._subscriptions[name]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _RefusedError("INVALID_ARGUMENT", f"Invalid resource name given (name={name})")


def _check_labels(labels: Any) -> None:
    """Check labels. https://cloud.google.com/resource-manager/docs/labels-overview#requirements."""
    if len(labels) > 64 or not all(_LABEL_NAME.fullmatch(name) and _LABEL.fullmatch(labels[name]) for name in labels):
        raise _RefusedError("INVALID_ARGUMENT", "Invalid labels")


def _check_size(request: Any) -> None:
    if request.ByteSize() > MOST_REQUEST_BYTES:
        raise _RefusedError("INVALID_ARGUMENT", f"Request payload size exceeds the limit: {MOST_REQUEST_BYTES} bytes.")


def _handlers(service: Service, faults: Faults) -> list[Any]:
    """Return the handlers of both gRPC services."""
    import grpc
    from google.protobuf import empty_pb2
    from google.pubsub_v1 import types

    def raw(kind: Any) -> Any:
        return type(kind.pb(kind()))

    methods: dict[str, dict[str, Any]] = {
        "Publisher": {
            "CreateTopic": (service.create_topic, types.Topic, types.Topic),
            "GetTopic": (service.get_topic, types.GetTopicRequest, types.Topic),
            "UpdateTopic": (service.update_topic, types.UpdateTopicRequest, types.Topic),
            "DeleteTopic": (service.delete_topic, types.DeleteTopicRequest, None),
            "Publish": (service.publish, types.PublishRequest, types.PublishResponse),
        },
        "Subscriber": {
            "CreateSubscription": (service.create_subscription, types.Subscription, types.Subscription),
            "GetSubscription": (service.get_subscription, types.GetSubscriptionRequest, types.Subscription),
            "DeleteSubscription": (service.delete_subscription, types.DeleteSubscriptionRequest, None),
            "Pull": (service.pull, types.PullRequest, types.PullResponse),
            "Acknowledge": (service.acknowledge, types.AcknowledgeRequest, None),
            "ModifyAckDeadline": (service.modify_ack_deadline, types.ModifyAckDeadlineRequest, None),
            "Seek": (service.seek, types.SeekRequest, types.SeekResponse),
        },
    }

    def handler(name: str, method: Callable[..., Any], request: Any, response: Any) -> Any:
        takes_context = "context" in inspect.signature(method).parameters
        kind = empty_pb2.Empty if response is None else raw(response)

        def call(asked: Any, context: Any) -> Any:
            fault = faults.draw(name)
            for permission in PERMISSIONS[name]:
                faults.need(permission, on=resource_of(permission, asked))
            if fault.get("kind") == "error":
                context.abort(grpc.StatusCode[fault["code"]], fault.get("message", "ordered"))
            try:
                with service.changed:
                    answer = method(asked, context) if takes_context else method(asked)
            except _RefusedError as refused:
                context.abort(grpc.StatusCode[refused.code], str(refused))
            except Exception as error:  # else the client would see UNKNOWN, and try again for a minute
                context.abort(grpc.StatusCode.DATA_LOSS, f"the double failed: {error!r}")
            answer = answer if isinstance(answer, kind) else kind(**(answer or {}))
            if name in ("Publish", "Pull"):  # a thousand bytes at least (https://cloud.google.com/pubsub/pricing)
                faults.requests[BILLED] += max(1000, asked.ByteSize(), answer.ByteSize())
            if fault.get("kind") == "lost":
                context.abort(grpc.StatusCode.UNAVAILABLE, "ordered")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=raw(request).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    return [
        grpc.method_handlers_generic_handler(
            f"google.pubsub.v1.{name}", {method: handler(method, *found) for method, found in those.items()}
        )
        for name, those in methods.items()
    ]


def main() -> None:
    """Run the server on a free port of the loopback interface."""
    from concurrent.futures import ThreadPoolExecutor

    try:
        import google.pubsub_v1  # noqa: F401
        import grpc
    except ImportError:
        print(json.dumps({"lacks": "google-cloud-pubsub is not installed: uv add google-cloud-pubsub"}), flush=True)
        return
    clock, faults = Clock(), Faults()
    service = Service(clock, faults)
    sizes = [("grpc.max_receive_message_length", 20 << 20), ("grpc.max_send_message_length", 64 << 20)]
    server = grpc.server(ThreadPoolExecutor(64), options=sizes)
    server.add_generic_rpc_handlers(_handlers(service, faults))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def wake() -> None:
        with service.changed:
            service.changed.notify_all()

    obey(port, clock, faults, wake)
    server.stop(None)


if __name__ == "__main__":
    main()
