"""Termination notices: what the metadata service of a machine says when it is about to be taken away.

The service is asked by threads beside the supervisor, which only looks at what they have left; they end with the process. What is asked,
and what an answer means, is each provider's: ``machines/<provider>/notice.py``.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

#: Of the time that is left, what handing back takes.
HAND_BACK_SECONDS = 5.0
#: After so many failures in a row the user is told.
FAILURES = 4
LONGEST_PAUSE_SECONDS = 30.0


class Notice(NamedTuple):
    """The machine is about to be taken away."""

    seconds: float
    """How long running tasks have."""
    text: str


class MetadataResponse(NamedTuple):
    """What the metadata service answers."""

    status: int
    text: str
    etag: str


class Watcher:
    """Watches for a notice from ``start`` on; each provider has a subclass that says what to look at.

    Args:
        address: The metadata service, ``http://HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._failures = 0
        self.notice: Notice | None = None
        """Set once."""
        self._messages: deque[str] = deque()

    def start(self) -> None:
        """Begin to watch."""
        raise NotImplementedError

    def take_messages(self) -> list[str]:
        """Return what the user should know besides, each message once."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def report(self, message: str) -> None:
        """Note something that the user should know."""
        self._messages.append(message)

    def ask(self, path: str, headers: Mapping[str, str], *, method: str = "GET", seconds: float) -> MetadataResponse:
        """Ask the metadata service.

        Raises:
            OSError: It does not answer in time.
            http.client.HTTPException: What answers is something else.
        """
        from http.client import HTTPConnection

        connection = HTTPConnection(self._host, self._port, timeout=seconds)
        try:
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            text = answer.read(1 << 16).decode("utf-8", "replace")
            return MetadataResponse(answer.status, text, answer.headers.get("ETag", ""))
        finally:
            connection.close()

    def keep_looking(self, look: Callable[[], None], pause_seconds: float) -> None:
        """Look in a thread of its own until there is a notice, whatever goes wrong; less and less often while nobody answers."""
        threading.Thread(target=self._keep_looking, args=(look, pause_seconds), daemon=True, name="notice").start()

    def _keep_looking(self, look: Callable[[], None], pause_seconds: float) -> None:
        pause = 1.0
        while self.notice is None:
            try:
                look()
            except Exception as error:  # a worker does not end because the service does not answer
                self._failures += 1
                if self._failures == FAILURES:
                    self.report(
                        f"The metadata service of this machine does not answer ({error}): a termination notice would be missed."
                    )
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._failures, pause = 0, 1.0
                time.sleep(pause_seconds)
