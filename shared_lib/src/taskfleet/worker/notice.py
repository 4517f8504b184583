"""Termination notices: what a provider says on a machine of its own that it is about to take away.

AWS: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html (the token).
Google Cloud: https://cloud.google.com/compute/docs/instances/spot#preemption-process and
https://cloud.google.com/compute/docs/metadata/querying-metadata#waitforchange.

The service is asked by threads beside the supervisor, which only looks at what they have left; they end with the process.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

#: As AWS recommends.
POLL_SECONDS = 5.0
TOKEN_SECONDS = 21_600
REQUEST_SECONDS = 2.0
#: How long Google's answer waits for a change, and how much longer we do.
WAIT_SECONDS = 60
WAIT_MORE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
#: AWS gives two minutes, Google thirty seconds; sixty before a host is serviced.
LONGEST_NOTICE_SECONDS = 120.0
PREEMPTION_SECONDS = 30.0
MAINTENANCE_SECONDS = 60.0
#: Of the time that is left, what handing back takes.
HAND_BACK_SECONDS = 5.0
#: After this many failures in a row the user is told.
FAILURES = 4

_EC2 = "/latest/meta-data/"
_GCE = "/computeMetadata/v1/instance/"


class Notice(NamedTuple):
    """The machine is about to be taken away."""

    seconds: float
    """That running tasks have."""
    text: str


class Answer(NamedTuple):
    """Of the metadata service."""

    status: int
    text: str
    etag: str


class Watcher:
    """Watches for a notice from ``start`` on.

    Args:
        provider: "aws" or "gcp".
        address: The metadata service, ``http://HOST:PORT``.
    """

    def __init__(self, provider: str, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._provider = provider
        self._token = ""
        self._token_until = 0.0
        self._failures = 0
        self.notice: Notice | None = None
        """Set once."""
        self._messages: deque[str] = deque()

    def start(self) -> None:
        """Begin to watch."""
        if self._provider == "aws":
            self._spawn(self._look_at_ec2, POLL_SECONDS)
        else:
            self._spawn(_Waiting(self, "preempted", self._hear_preempted), 0.0)
            self._spawn(_Waiting(self, "maintenance-event", self._hear_maintenance), 0.0)

    def take_messages(self) -> list[str]:
        """Return what the user should know besides, each message once."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def ask(self, path: str, headers: Mapping[str, str], *, method: str = "GET", seconds: float) -> Answer:
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
            return Answer(answer.status, text, answer.headers.get("ETag", ""))
        finally:
            connection.close()

    def _spawn(self, look: Callable[[], None], pause_seconds: float) -> None:
        threading.Thread(target=self._keep_looking, args=(look, pause_seconds), daemon=True, name="notice").start()

    def _keep_looking(self, look: Callable[[], None], pause_seconds: float) -> None:
        """Look until there is a notice, whatever goes wrong; less and less often while nobody answers."""
        pause = 1.0
        while self.notice is None:
            try:
                look()
            except Exception as error:  # a worker does not end because nobody tells it when to
                self._failures += 1
                if self._failures == FAILURES:
                    self._messages.append(
                        f"The metadata service of this machine does not answer ({error}): a termination notice would not be heard."
                    )
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._failures, pause = 0, 1.0
                time.sleep(pause_seconds)

    # --- AWS ---

    def _look_at_ec2(self) -> None:
        action = self._ask_ec2("spot/instance-action")
        if action.status == 200:
            self.notice = Notice(_seconds_left(action.text), "Spot termination notice")
        elif action.status != 404:
            raise OSError(f"it answers {action.status}")
        elif not self._was_rebalance_reported and self._ask_ec2("events/recommendations/rebalance").status == 200:
            self._was_rebalance_reported = True
            self._messages.append(
                "AWS recommends to leave this spot instance: it is at a higher risk of being taken away. The worker goes on until it is."
            )

    _was_rebalance_reported = False

    def _ask_ec2(self, path: str) -> Answer:
        if time.monotonic() >= self._token_until:
            given = self.ask(
                "/latest/api/token",
                {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
                method="PUT",
                seconds=REQUEST_SECONDS,
            )
            if given.status != 200:
                raise OSError(f"it gives no token but {given.status}")
            self._token, self._token_until = given.text, time.monotonic() + TOKEN_SECONDS / 2
        answer = self.ask(_EC2 + path, {"X-aws-ec2-metadata-token": self._token}, seconds=REQUEST_SECONDS)
        if answer.status == 401:
            self._token_until = 0.0
        return answer

    # --- Google Cloud ---

    def _hear_preempted(self, value: str) -> None:
        if value == "TRUE":
            self.notice = Notice(PREEMPTION_SECONDS - HAND_BACK_SECONDS, "Spot termination notice")

    def _hear_maintenance(self, value: str) -> None:
        if value.startswith("TERMINATE"):
            self.notice = Notice(MAINTENANCE_SECONDS - HAND_BACK_SECONDS, "Notice that the machine's host is serviced")
        elif value.startswith("MIGRATE"):
            self._messages.append("This machine is about to be moved to another host; it may stand still for a moment.")


class _Waiting:
    """Waits at Compute Engine's metadata server for another value of a key, each time it is called."""

    def __init__(self, watcher: Watcher, key: str, hear: Callable[[str], None]) -> None:
        self._watcher = watcher
        self._key = key
        self._hear = hear
        self._etag = ""

    def __call__(self) -> None:
        path, seconds = _GCE + self._key, REQUEST_SECONDS
        if self._etag:
            path += f"?wait_for_change=true&timeout_sec={WAIT_SECONDS}&last_etag={self._etag}"
            seconds = WAIT_SECONDS + WAIT_MORE_SECONDS
        answer = self._watcher.ask(path, {"Metadata-Flavor": "Google"}, seconds=seconds)
        if answer.status != 200:
            raise OSError(f"it answers {answer.status}")
        if answer.etag != self._etag:
            self._hear(answer.text.strip())
        if not answer.etag:  # without, nobody can wait
            time.sleep(1.0)
        self._etag = answer.etag


def make_watcher(environ: Mapping[str, str]) -> Watcher | None:
    """Make a watcher, if the start-up script of a machine has said whose it is (TASKFLEET_PROVIDER).

    TASKFLEET_METADATA_URL stands in for the service's own address.
    """
    provider = environ.get("TASKFLEET_PROVIDER", "")
    if provider not in ("aws", "gcp"):
        return None
    return Watcher(provider, environ.get("TASKFLEET_METADATA_URL") or "http://169.254.169.254")


def _seconds_left(text: str) -> float:
    """Return how many seconds the tasks have of those that ``{"action": "terminate", "time": "2026-11-21T08:22:00Z"}`` leaves."""
    try:
        left = datetime.fromisoformat(json.loads(text)["time"]).timestamp() - time.time()
    except (ValueError, KeyError, TypeError):  # the action alone is enough to go
        left = PREEMPTION_SECONDS
    return max(0.0, round(min(left, LONGEST_NOTICE_SECONDS) - HAND_BACK_SECONDS, 1))
