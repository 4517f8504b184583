"""Call Pub/Sub methods over a gRPC channel, several concurrently, and retry transient errors."""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import empty_pb2

from taskfleet.clouds.retrying import Retries
from taskfleet.errors import UnreachableError
from taskfleet.queues.pubsub_errors import explain

#: Concurrent requests.
CALLS = 4
ANSWER_SECONDS = 10.0
#: Assumed minimum upload rate.
UPLINK_BYTES_PER_SECOND = 50_000


def raw(kind: Any) -> Any:
    """Return the plain protobuf class behind one of the SDK's classes, at a tenth of the cost per message."""
    return type(kind.pb(kind()))


class PubSubCalls:
    """Calls in one project. A method is named ``Service/Method``; ``answer`` is the SDK's class of its answer, None if it is empty.

    Args:
        channel: A channel to the service.
        project: The project of the queue.
        label: The queue, for messages.
        retries: Repeats the calls.
    """

    def __init__(self, channel: Any, *, project: str, label: str, retries: Retries) -> None:
        self._channel = channel
        self._project = project
        self._label = label
        self._retries = retries
        self._metadata = (("x-goog-request-params", f"project={project}"),)
        self._stubs: dict[str, Any] = {}

    def one(self, method: str, request: Any, answer: Any) -> Any:
        """Make a request; return the answer."""
        return self.several(method, [request], answer)[0]

    def several(self, method: str, requests: Sequence[Any], answer: Any) -> list[Any]:
        """Make several requests, some concurrently, and retry transient errors; return the answers in order."""
        answers: list[Any] = [None] * len(requests)
        left = list(range(len(requests)))
        stub = self._stub(method, answer)

        def attempt() -> None:
            last_error: Exception | None = None
            for start in range(0, len(left), CALLS):
                places = left[start : start + CALLS]
                upload_seconds = sum(requests[place].ByteSize() for place in places) / UPLINK_BYTES_PER_SECOND
                futures = [
                    stub.future(requests[place], timeout=ANSWER_SECONDS + upload_seconds, metadata=self._metadata)
                    for place in places
                ]
                for place, future in zip(places, futures, strict=True):
                    try:
                        answers[place] = future.result()
                    except grpc.RpcError as error:
                        explained = self._explain(method, error)
                        if not isinstance(explained, UnreachableError):
                            raise explained from error
                        last_error = explained
                        answers[place] = error
            left[:] = [place for place in left if isinstance(answers[place], grpc.RpcError)]
            if last_error is not None:
                raise last_error

        self._retries.call(method, attempt)
        return answers

    def waiting(self, method: str, request: Any, answer: Any, wait_seconds: float) -> Any:
        """Make a request that waits at the service for ``wait_seconds``; return None if there is no answer by then."""
        stub = self._stub(method, answer)

        def attempt() -> Any:
            try:
                return stub(request, timeout=wait_seconds or ANSWER_SECONDS, metadata=self._metadata)
            except grpc.RpcError as error:
                if wait_seconds > 0 and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return None  # the service itself would wait longer
                raise self._explain(method, error) from error

        return self._retries.call(method, attempt)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _stub(self, method: str, answer: Any) -> Any:
        stub = self._stubs.get(method)
        if stub is None:
            kind = empty_pb2.Empty if answer is None else raw(answer)
            stub = self._stubs[method] = self._channel.unary_unary(
                f"/google.pubsub.v1.{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=kind.FromString,
            )
        return stub

    def _explain(self, method: str, error: grpc.RpcError) -> Exception:
        return explain(error, label=self._label, method=method, project=self._project)
