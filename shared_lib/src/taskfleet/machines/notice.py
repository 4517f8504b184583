"""Termination notices from the metadata service of the machine that a worker runs on.

Threads of the worker's supervisor poll the service; the supervisor reads what they found. They end with the process. Each provider has
its paths and responses in ``machines/<provider>/notice.py``.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

#: The part of the remaining time that is reserved for returning leases.
HAND_BACK_SECONDS = 5.0
#: The number of consecutive failures after which the user is informed.
FAILURES = 4
MAX_PAUSE_SECONDS = 30.0


class Notice(NamedTuple):
    """A notice that the machine is about to end."""

    seconds: float
    """How long running tasks may continue."""
    text: str
    lifetime_seconds: float | None = None
    """Of the machine, if it ends as planned."""


class MetadataResponse(NamedTuple):
    """A response of the metadata service."""

    status: int
    text: str
    etag: str


class MachineIdentity(NamedTuple):
    """What a machine is, by its metadata service."""

    name: str
    """As the start-up script finds it: the ID on AWS, the name on Google Cloud."""
    instance_type: str
    zone: str


class Watcher:
    """Watches for a termination notice; each provider has a subclass that knows its metadata service.

    Args:
        address: The metadata service, ``http://HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._failures = 0
        self.notice: Notice | None = None
        """None until there is one."""
        self.longest_task_seconds = 0.0
        """Of the worker's tasks so far, for watchers that know the end of the machine in advance."""
        self._messages: deque[str] = deque()

    def start(self) -> None:
        """Start to watch."""
        raise NotImplementedError

    def find_identity(self) -> MachineIdentity:
        """Return what this machine is.

        Raises:
            OSError, http.client.HTTPException: As ``request``, or the service does not know.
        """
        raise NotImplementedError

    def take_messages(self) -> list[str]:
        """Return messages for the user, each once."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def report(self, message: str) -> None:
        """Add a message for the user."""
        self._messages.append(message)

    def request(
        self, path: str, headers: Mapping[str, str], *, method: str = "GET", seconds: float
    ) -> MetadataResponse:
        """Send a request to the metadata service.

        Raises:
            OSError: It does not respond in time.
            http.client.HTTPException: The response is not HTTP.
        """
        from http.client import HTTPConnection

        connection = HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, path, headers=dict(headers))
            response = connection.getresponse()
            text = response.read(1 << 16).decode("utf-8", "replace")
            return MetadataResponse(response.status, text, response.headers.get("ETag", ""))
        finally:
            connection.close()

    def poll(self, check: Callable[[], None], pause_seconds: float) -> None:
        """Call a function in a daemon thread until there is a notice; after errors with pauses that double up to a maximum."""
        threading.Thread(target=self._poll, args=(check, pause_seconds), daemon=True, name="notice").start()

    def _poll(self, check: Callable[[], None], pause_seconds: float) -> None:
        pause = 1.0
        while self.notice is None:
            try:
                check()
            except Exception as error:  # a worker continues without the metadata service
                self._failures += 1
                logger.debug("The metadata service failed %d times: %s", self._failures, error)
                if self._failures == FAILURES:
                    self.report(
                        f"The metadata service of this machine does not respond ({error}): a termination notice would be missed."
                    )
                time.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            else:
                self._failures, pause = 0, 1.0
                time.sleep(pause_seconds)
