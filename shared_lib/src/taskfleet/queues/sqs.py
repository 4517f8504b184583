"""AWS SQS queues: ``SqsTransport``. Its permissions are listed in ``clouds.aws_permissions``.

Limits are from https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html.
"""

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from botocore.config import Config

from taskfleet.clouds.aws_client import open_session
from taskfleet.clouds.aws_errors import ERRORS
from taskfleet.clouds.retrying import Outages, Retries
from taskfleet.errors import QueueError, UnreachableError
from taskfleet.messages.grouping import chunks, grouped
from taskfleet.queues.sqs_errors import MissingError, OverLimitError, explain, label_of
from taskfleet.queues.transport import Message, Outgoing, Size

#: Messages per call, and their total bytes.
BATCH_MESSAGES = 10
BATCH_BYTES = 1 << 20
#: Concurrent calls.
CALLS = 8
LONGEST_WAIT_SECONDS = 5
RETENTION_SECONDS = 14 * 86400
#: The visibility timeout of a created queue; each ``receive`` sets its own.
LEASE_SECONDS = 30
CONNECT_SECONDS = 5
#: Maximum time of an answer beyond the requested wait.
ANSWER_SECONDS = 7

#: The codes of SQS for a receipt whose message was deleted or is held by another receiver.
_LOST = ("MessageNotInflight", "InvalidParameterValue", "ReceiptHandleIsInvalid")


class SqsTransport:
    """A standard queue; see ``Transport``. Region, profile, credentials and endpoint come from the SDK's default chain.

    Bodies must consist of characters that XML supports, as from ``messages.tasks.carriable``; SQS rejects others.

    Args:
        address: ``sqs://NAME``, ``sqs://NAME?region=REGION`` or the queue's URL, ``https://sqs.REGION.amazonaws.com/ACCOUNT/NAME``.
        patience_seconds: How long a call is repeated while SQS is unavailable or throttles it.
        outages: Observes the calls.

    Raises:
        QueueError: The address is not valid.
        CredentialsError: The profile does not exist.
    """

    most_message_bytes: ClassVar[int] = 1 << 20
    longest_delay_seconds: ClassVar[float] = 900.0
    longest_lease_seconds: ClassVar[float] = 43_200.0
    counts_exactly: ClassVar[bool] = False
    fences_receipts: ClassVar[bool] = True
    #: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html
    purge_seconds: ClassVar[float] = 60.0
    knows_lost_leases: ClassVar[bool] = True

    def __init__(self, address: str, *, patience_seconds: float = 60.0, outages: Outages | None = None) -> None:
        self.address = address
        self._retries = Retries(patience_seconds, outages)
        self._label = label_of(address)
        self._name, region, endpoint, self._url = _parse(address)
        self._has_url = self._url is not None
        try:
            self._client: Any = open_session().create_client(
                "sqs",
                region_name=region,
                endpoint_url=endpoint,
                config=Config(
                    retries={
                        "total_max_attempts": 1,
                        "mode": "standard",
                    },  # ``Retries`` retries, also entries of batches
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=LONGEST_WAIT_SECONDS + ANSWER_SECONDS,
                    max_pool_connections=CALLS,
                    parameter_validation=False,
                    tcp_keepalive=True,
                ),
            )
        except ERRORS as error:
            raise explain(error, address=address, operation="", region=region) from error
        self._region: str = self._client.meta.region_name
        self._pool: ThreadPoolExecutor | None = None

    def create(self, *, tags: dict[str, str]) -> None:
        """See ``Transport.create``; the first to create it sets its tags. It keeps messages for 14 days, the longest SQS offers."""
        if self.exists():
            return
        attributes = {
            "VisibilityTimeout": str(LEASE_SECONDS),
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "MaximumMessageSize": str(self.most_message_bytes),
        }
        if self._has_url:
            with suppress(MissingError):
                self._require_account(self._call("get_queue_url", QueueName=self._name)["QueueUrl"])
        url = self._call("create_queue", QueueName=self._name, Attributes=attributes, tags=tags)["QueueUrl"]
        try:
            self._require_account(url)
        except QueueError:
            self._call("delete_queue", QueueUrl=url)
            raise
        self._url = self._url or url

    def exists(self) -> bool:
        """See ``Transport.exists``."""
        try:
            self._call("get_queue_attributes", AttributeNames=["QueueArn"])
        except MissingError:
            self._forget_url()
            return False
        return True

    def delete(self) -> None:
        """See ``Transport.delete``. For a minute no queue of that name can be created."""
        with suppress(MissingError):
            self._call("delete_queue")
        self._forget_url()

    def purge(self) -> None:
        """See ``Transport.purge``; SQS allows one a minute, and the next one waits for that."""
        self._call("purge_queue")

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See ``Transport.send``."""
        for message in messages:
            size = _size(message)
            if not 0 < size <= self.most_message_bytes:
                raise QueueError(
                    f"{self._label}: a message of {size:,} bytes; SQS accepts 1 to {self.most_message_bytes:,}."
                )
            if message.delay_seconds > self.longest_delay_seconds:
                raise QueueError(
                    f"{self._label}: a delay of {message.delay_seconds:g} s; SQS delays messages by up to {self.longest_delay_seconds:g} s."
                )
        batches = grouped(messages, most=BATCH_MESSAGES, most_size=BATCH_BYTES, size_of=_size)
        self._all(self._send_batch, list(batches))

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """See ``Transport.receive``. SQS returns at most ten per call; full batches are followed by further calls."""
        if most <= 0:
            return []
        found = self._receive(min(most, BATCH_MESSAGES), wait_seconds, lease_seconds)
        is_full = len(found) == BATCH_MESSAGES
        while is_full and len(found) < most:
            calls = min(-(-(most - len(found)) // BATCH_MESSAGES), CALLS)
            wanted = [min(BATCH_MESSAGES, most - len(found) - BATCH_MESSAGES * index) for index in range(calls)]
            more = self._all(lambda n: self._receive(n, 0, lease_seconds), wanted)
            for one in more:
                found += one
            is_full = all(more)
        return found

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """See ``Transport.extend``. The total lease time of a message is at most 12 hours."""
        seconds = min(math.ceil(lease_seconds), int(self.longest_lease_seconds))
        lost: set[str] = set()

        def extend(batch: Sequence[str]) -> None:
            entries = [{"ReceiptHandle": receipt, "VisibilityTimeout": seconds} for receipt in batch]
            lost.update(batch[index] for index in self._batch("change_message_visibility_batch", entries, _LOST))

        self._all(extend, list(chunks(receipts, BATCH_MESSAGES)))
        return lost

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """See ``Transport.acknowledge``."""

        def acknowledge(batch: Sequence[str]) -> None:
            self._batch("delete_message_batch", [{"ReceiptHandle": receipt} for receipt in batch], _LOST)

        self._all(acknowledge, list(chunks(receipts, BATCH_MESSAGES)))

    def size(self) -> Size:
        """See ``Transport.size``; the counts of SQS are approximate, and up to a minute old."""
        names = [f"ApproximateNumberOfMessages{what}" for what in ("", "NotVisible", "Delayed")]
        found = self._call("get_queue_attributes", AttributeNames=names)["Attributes"]
        ready, leased, delayed = (int(found[name]) for name in names)
        return Size(ready=ready, leased=leased, delayed=delayed, is_exact=False)

    def close(self) -> None:
        """See ``Transport.close``."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        self._client.close()

    # --- calls ---

    def _receive(self, most: int, wait_seconds: float, lease_seconds: float) -> list[Message]:
        try:
            answer = self._call(
                "receive_message",
                MaxNumberOfMessages=most,
                WaitTimeSeconds=min(math.ceil(wait_seconds), LONGEST_WAIT_SECONDS),
                VisibilityTimeout=min(math.ceil(lease_seconds), int(self.longest_lease_seconds)),
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        except OverLimitError:  # 120,000 messages are in flight; retry once some are acknowledged
            return []
        return [
            Message(one["Body"], one["ReceiptHandle"], int(one["Attributes"]["ApproximateReceiveCount"]))
            for one in answer.get("Messages", ())
        ]

    def _send_batch(self, batch: Sequence[Outgoing]) -> None:
        entries: list[dict[str, Any]] = [
            {"MessageBody": body, "DelaySeconds": math.ceil(delay)} if delay > 0 else {"MessageBody": body}
            for body, delay in batch
        ]
        self._batch("send_message_batch", entries, ())

    def _batch(self, verb: str, entries: list[dict[str, Any]], final: Sequence[str]) -> list[int]:
        """Call with several entries, and repeat failed ones; return the indexes of those that failed with a code in ``final``."""
        left = {str(index): {"Id": str(index), **entry} for index, entry in enumerate(entries)}
        hopeless: list[int] = []

        def call() -> None:
            answer = self._call_once(verb, Entries=list(left.values()))
            failed = {one["Id"]: one for one in answer.get("Failed", ())}
            for index in [index for index in left if index not in failed]:
                del left[index]
            for index, one in failed.items():
                code = one["Code"].rpartition(".")[2]
                if code in final:
                    hopeless.append(int(index))
                    del left[index]
                elif one.get("SenderFault") and "hrottl" not in code:
                    raise QueueError(
                        f"{self._label}: SQS rejects an entry of {_operation(verb)}: {one.get('Message', '')} ({code})"
                    )
            if left:
                raise UnreachableError(f"{self._label}: SQS has not accepted all entries of a batch ({code}).")

        self._retries.call(verb, call)
        return hopeless

    def _call(self, verb: str, **arguments: Any) -> Any:
        return self._retries.call(verb, lambda: self._call_once(verb, **arguments))

    def _forget_url(self) -> None:
        """Look up the URL before the next call: a queue that is created again may have another one."""
        if not self._has_url:
            self._url = None

    def _require_account(self, url: str) -> None:
        """Check that the queue of this name in the credentials' account is the one of the address, if that is a URL.

        Raises:
            QueueError: The address has another account; only the credentials of that account can create the queue.
        """
        if self._has_url and urlsplit(url).path != urlsplit(self.address).path:
            raise QueueError(
                f"{self._label} does not exist, and these AWS credentials are for another account: their queue would be {url}. Correct the "
                "account in QUEUE_URL, or use credentials of that account."
            )

    def _call_once(self, verb: str, **arguments: Any) -> Any:
        if verb not in ("create_queue", "get_queue_url") and "QueueUrl" not in arguments:
            if self._url is None:
                self._url = self._ask("get_queue_url", QueueName=self._name)["QueueUrl"]
            arguments["QueueUrl"] = self._url
        return self._ask(verb, **arguments)

    def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, verb)(**arguments)
        except ERRORS as error:
            raise explain(error, address=self.address, operation=_operation(verb), region=self._region) from error

    def _all(self, call: Callable[[Any], Any], batches: Sequence[Any]) -> list[Any]:
        """Make all calls, several concurrently."""
        if len(batches) <= 1:
            return [call(batch) for batch in batches]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(CALLS, thread_name_prefix="sqs")
        return list(self._pool.map(call, batches))


def _size(message: Outgoing) -> int:
    """Return the bytes of a message's body."""
    return len(message.body.encode("utf-8", "surrogatepass"))


def _operation(verb: str) -> str:
    """Return the name of a call in the SQS API."""
    return "".join(word.capitalize() for word in verb.split("_"))


def _parse(address: str) -> tuple[str, str | None, str | None, str | None]:
    """Return the name, region, endpoint and queue URL in an address."""
    parts = urlsplit(address)
    if parts.scheme == "sqs":
        name = parts.netloc or parts.path.strip("/")
        region = parse_qs(parts.query).get("region", [None])[0]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) or parts.path.strip("/") not in ("", name):
            raise QueueError(
                f"{address} is not a valid address of an SQS queue: the name, with '-events', has 1 to 80 letters, digits, '-' or '_'."
            )
        return name, region, None, None
    found = re.fullmatch(r"/\d+/([A-Za-z0-9_-]{1,80})", parts.path)
    if parts.scheme not in ("http", "https") or found is None or parts.query:
        raise QueueError(
            f"{address} is not a valid address of an SQS queue: write sqs://NAME or https://sqs.REGION.amazonaws.com/ACCOUNT/NAME. The "
            "name, with '-events', has 1 to 80 letters, digits, '-' or '_'."
        )
    amazon = re.search(r"(?:^|\.)(?:sqs\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.(?:queue\.)?amazonaws\.com", parts.netloc)
    endpoint = None if amazon else f"{parts.scheme}://{parts.netloc}"
    return found[1], amazon[1] if amazon else None, endpoint, f"{parts.scheme}://{parts.netloc}{parts.path}"
