"""AWS SQS on this machine, for the real boto3: the server of moto, made fast and strict about receipts, with fault injection.

As a module (``python -m shared_lib.tests.services.sqs``) it is the server's process; ``Sqs`` is how a test holds it. What moto lacks is
written over its models here: a queue of n messages costs log n instead of n, receipts of earlier deliveries have no effect, messages come
in no order, sizes are counted in bytes, 120,000 messages at most are in flight, a deleted queue's name is taken for a minute, and for a
minute after a purge what is sent is deleted and no other purge is accepted.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

import io
import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from heapq import heappop, heappush
from importlib import import_module
from typing import Any

from shared_lib.tests.services.aws_server import ACCOUNT, make_application, serve
from shared_lib.tests.services.double import LATE_SECONDS, Clock, Double, Faults, obey

IN_FLIGHT_LIMIT = 120_000
LONGEST_LEASE_SECONDS = 43_200
NAME_TAKEN_SECONDS = 60
PURGE_SECONDS = 60
#: The key of billed requests among the counts of requests.
BILLED = "(billed)"
BILLED_BYTES = 65_536
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Sqs(Double):
    """SQS, until ``stop``. Faults are injected by the actions of its API, such as ``SendMessageBatch``."""

    module = "shared_lib.tests.services.sqs"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``."""
        return {"AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{self.port}", **ACCOUNT}


# --- in the process ---


class _Store:
    """A queue's messages by ID and by receipt, and the time at which each is delivered next."""

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        self.by_id: dict[str, Any] = {}
        self.by_receipt: dict[str, Any] = {}
        self.past_receipts: set[str] = set()
        self.received_at: dict[str, float] = {}
        self.due: list[tuple[float, float, str]] = []
        for message in messages:
            self.append(message)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.by_id.values()))

    def __len__(self) -> int:
        return len(self.by_id)

    def append(self, message: Any) -> None:
        self.by_id[message.id] = message
        self.plan(message)

    def remove(self, message: Any) -> None:
        del self.by_id[message.id]
        self.received_at.pop(message.id, None)
        if message.receipt_handle:
            self.by_receipt.pop(message.receipt_handle, None)
            self.past_receipts.add(message.receipt_handle)

    def plan(self, message: Any) -> None:
        """Set the time at which a message is delivered next; the order of redelivered messages is random."""
        heappush(self.due, (max(message.visible_at, message.delayed_until), random.random(), message.id))

    def take(self, most: int, now_ms: float) -> list[Any]:
        found: list[Any] = []
        while self.due and self.due[0][0] <= now_ms and len(found) < most:
            at, _, message_id = heappop(self.due)
            message = self.by_id.get(message_id)
            if message is not None and at == max(message.visible_at, message.delayed_until):
                found.append(message)
        return found


def _mend(clock: Clock, faults: Faults) -> Callable[[], None]:
    """Patch what moto lacks; return the function that wakes all waiting receivers."""
    models: Any = import_module("moto.sqs.models")
    queue_class: Any = models.Queue
    backend: Any = models.SQSBackend
    queues: list[Any] = []
    deleted_at: dict[str, float] = {}
    purged_at: dict[str, float] = {}

    models.unix_time = lambda *_: clock.now()
    models.unix_time_millis = lambda *_: clock.now() * 1000
    queue_class._messages = property(lambda queue: queue.store, _set_messages)
    queue_class.attributes = property(_Attributes)

    plain_create, plain_delete = backend.create_queue, backend.delete_queue
    plain_send_batch, plain_purge = backend.send_message_batch, backend.purge_queue

    def create_queue(self: Any, name: str, *rest: Any, **more: Any) -> Any:
        if clock.now() - deleted_at.get(name, 0) < NAME_TAKEN_SECONDS:
            raise models.SQSException(
                "AWS.SimpleQueueService.QueueDeletedRecently",
                "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
            )
        queue = plain_create(self, name, *rest, **more)
        queues.append(queue)
        return queue

    def delete_queue(self: Any, name: str) -> None:
        plain_delete(self, name)
        deleted_at[name] = clock.now()
        purged_at.pop(name, None)

    def send_message_batch(self: Any, name: str, entries: dict[str, dict[str, Any]]) -> Any:
        size = sum(len(entry["MessageBody"].encode("utf-8", "surrogatepass")) for entry in entries.values())
        if size > models.MAXIMUM_MESSAGE_LENGTH:
            raise models.BatchRequestTooLong(size)
        for entry in entries.values():
            if _ILLEGAL.search(entry["MessageBody"]):
                raise models.SQSException(
                    "InvalidMessageContents", "The message contains characters outside the allowed set."
                )
        queue = self.get_queue(name)
        kept = set(queue.store.by_id) if is_being_purged(name) else None
        answer = plain_send_batch(self, name, entries)
        if kept is not None:
            with queue._messages_lock:
                for message_id in set(queue.store.by_id) - kept:
                    queue.store.remove(queue.store.by_id[message_id])
        return answer

    def is_being_purged(name: str) -> bool:
        return clock.now() - purged_at.get(name, 0) < PURGE_SECONDS

    def purge_queue(self: Any, name: str) -> None:
        self.get_queue(name)
        if is_being_purged(name):
            raise models.SQSException(
                "AWS.SimpleQueueService.PurgeQueueInProgress",
                f"Only one PurgeQueue operation on {name} is allowed every 60 seconds.",
            )
        plain_purge(self, name)
        purged_at[name] = clock.now()

    def receive_message(
        self: Any,
        name: str,
        count: int,
        wait_seconds_timeout: int,
        visibility_timeout: int,
        names: Any = None,
    ) -> list[Any]:
        queue = self.get_queue(name)
        deadline = time.monotonic() + wait_seconds_timeout
        with queue._messages_lock:
            while True:
                _check_in_flight(queue, clock.now() * 1000)
                found = queue.store.take(count, clock.now() * 1000)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    break
                queue._messages_lock.wait(min(left, 0.25))
            handed = [_hand_out(queue, message, visibility_timeout, clock, faults) for message in found]
            return [message for message in handed if message is not None]

    def _check_in_flight(queue: Any, now_ms: float) -> None:
        if len(queue.store.received_at) >= IN_FLIGHT_LIMIT:
            flying = sum(1 for message in queue.store if message.visible_at > now_ms)
            if flying >= IN_FLIGHT_LIMIT:
                raise models.OverLimit(flying)

    def delete_message(self: Any, name: str, receipt_handle: str) -> None:
        queue = self.get_queue(name)
        with queue._messages_lock:
            message = queue.store.by_receipt.get(receipt_handle)
            if message is not None:
                queue.store.remove(message)
            elif receipt_handle not in queue.store.past_receipts:
                raise models.ReceiptHandleIsInvalid

    def change_message_visibility(self: Any, queue_name: str, receipt_handle: str, visibility_timeout: int) -> None:
        queue = self.get_queue(queue_name)
        now_ms = clock.now() * 1000
        with queue._messages_lock:
            message = queue.store.by_receipt.get(receipt_handle)
            if message is None and receipt_handle not in queue.store.past_receipts:
                raise models.ReceiptHandleIsInvalid
            if message is None or message.visible_at <= now_ms:
                raise _error(models, "InvalidParameterValue", receipt_handle)
            end_ms = queue.store.received_at[message.id] + LONGEST_LEASE_SECONDS * 1000
            if now_ms + visibility_timeout * 1000 > end_ms + 1000:
                raise _error(models, "InvalidParameterValue", receipt_handle)
            message.visible_at = now_ms + visibility_timeout * 1000
            queue.store.plan(message)
            queue._messages_lock.notify_all()

    def change_message_visibility_batch(self: Any, queue_name: str, entries: list[dict[str, Any]]) -> Any:
        done, failed = [], []
        for entry in entries:
            try:
                change_message_visibility(self, queue_name, entry["ReceiptHandle"], int(entry["VisibilityTimeout"]))
                done.append(entry["Id"])
            except models.SQSException as error:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message})
        return done, failed

    for function in (
        create_queue,
        delete_queue,
        purge_queue,
        send_message_batch,
        receive_message,
        delete_message,
        change_message_visibility,
        change_message_visibility_batch,
    ):
        setattr(backend, function.__name__, function)

    def wake() -> None:
        for queue in list(queues):
            with queue._messages_lock:
                queue._messages_lock.notify_all()

    return wake


def _set_messages(queue: Any, messages: Iterable[Any]) -> None:
    queue.store = _Store(messages)


def _hand_out(queue: Any, message: Any, visibility_timeout: int, clock: Clock, faults: Faults) -> Any:
    store = queue.store
    kind = faults.draw("(each message)").get("kind")
    if kind == "late":
        message.visible_at = (clock.now() + LATE_SECONDS) * 1000
        store.plan(message)
        return None
    if message.receipt_handle:
        store.by_receipt.pop(message.receipt_handle, None)
        store.past_receipts.add(message.receipt_handle)
    is_doubled = kind == "duplicate"
    message.mark_received(0 if is_doubled else visibility_timeout)
    if is_doubled or not visibility_timeout:
        message.visible_at = clock.now() * 1000
    message._old_receipt_handles.clear()
    store.by_receipt[message.receipt_handle] = message
    store.received_at[message.id] = clock.now() * 1000
    store.plan(message)
    return copy(message)


def _error(models: Any, code: str, receipt_handle: str) -> Exception:
    error: Exception = models.SQSException(
        code,
        f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for "
        "visibility timeout change.",
    )
    return error


class _Attributes(dict[str, Any]):
    """A queue's attributes, computed on demand, since some need all messages."""

    def __init__(self, queue: Any) -> None:
        names = [*queue.BASE_ATTRIBUTES, *(queue.FIFO_ATTRIBUTES if queue.fifo_queue else ())]
        super().__init__({name: None for name in names if name not in ("Policy", "RedrivePolicy")})
        self._queue = queue

    def __getitem__(self, name: str) -> Any:
        value = getattr(self._queue, re.sub("(?<!^)([A-Z])", r"_\1", name).lower()) if name in self else None
        return str(value).lower() if isinstance(value, bool) else value

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


class _Faulty:
    """WSGI middleware before moto that counts requests and injects faults."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        fault = self._faults.draw(action) if action else {}
        if action:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            request = json.loads(body)
            queue = request.get("QueueName") or request.get("QueueUrl", "").rpartition("/")[2]
            self._faults.need(*permissions_for(action, request), on=queue)
        match fault.get("kind"):
            case "error":
                return _refuse(fault, start_response)
            case "partial":
                return self._part(environ, start_response)
        answer = [b"".join(self._inner(environ, start_response))]
        if action:  # every 64 KiB of a request's payload is billed as one (https://aws.amazon.com/sqs/pricing)
            size = max(int(environ.get("CONTENT_LENGTH") or 0), len(answer[0]))
            self._faults.requests[BILLED] += max(1, -(-size // BILLED_BYTES))
        if fault.get("kind") == "lost":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    def _part(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Carry out every second entry of a batch."""
        request = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        failed = request.get("Entries", [])[::2]
        request["Entries"] = request.get("Entries", [])[1::2]
        answer: dict[str, Any] = {}
        if request["Entries"]:
            body = json.dumps(request).encode()
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            answer = json.loads(b"".join(self._inner(environ, lambda *_: None)))
        answer.setdefault("Failed", []).extend(
            {"Id": one["Id"], "SenderFault": False, "Code": "InternalError", "Message": "ordered"} for one in failed
        )
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
        return [json.dumps(answer).encode()]


def permissions_for(action: str, request: dict[str, Any]) -> list[str]:
    """Return the permissions that a call needs; a batch needs those of a single call.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsqs.html
    """
    found = [f"sqs:{action.removesuffix('Batch')}"]
    return [*found, "sqs:TagQueue"] if action == "CreateQueue" and request.get("tags") else found


def _refuse(fault: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    status = int(fault.get("status", 400))
    start_response(f"{status} ordered", [("Content-Type", "application/x-amz-json-1.0")])
    error = {"__type": f"com.amazonaws.sqs#{fault['code']}", "message": fault.get("message", "ordered")}
    return [json.dumps(error).encode()]


def main() -> None:
    """Run the server on a free port of the loopback interface."""
    application = make_application()
    if application is None:
        return
    clock, faults = Clock(), Faults()
    wake = _mend(clock, faults)
    obey(serve(_Faulty(application, faults)), clock, faults, wake)


if __name__ == "__main__":
    main()
