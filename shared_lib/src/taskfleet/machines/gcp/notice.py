"""Termination notices of Google Cloud's machines.

https://cloud.google.com/compute/docs/instances/spot#preemption-process and
https://cloud.google.com/compute/docs/metadata/querying-metadata#waitforchange.
"""

import time
from collections.abc import Callable

from taskfleet.machines.notice import HAND_BACK_SECONDS, Notice, Watcher

REQUEST_SECONDS = 2.0
#: How long an answer waits for a change, and how much longer we do.
WAIT_SECONDS = 60
WAIT_MORE_SECONDS = 10.0
#: Google gives thirty seconds, and sixty before a host is serviced.
PREEMPTION_SECONDS = 30.0
MAINTENANCE_SECONDS = 60.0


class GcpWatcher(Watcher):
    """See ``Watcher``."""

    def start(self) -> None:
        """See ``Watcher.start``."""
        self.keep_looking(_Waiting(self, "preempted", self._hear_preempted), 0.0)
        self.keep_looking(_Waiting(self, "maintenance-event", self._hear_maintenance), 0.0)

    def _hear_preempted(self, value: str) -> None:
        if value == "TRUE":
            self.notice = Notice(PREEMPTION_SECONDS - HAND_BACK_SECONDS, "Spot termination notice")

    def _hear_maintenance(self, value: str) -> None:
        if value.startswith("TERMINATE"):
            self.notice = Notice(MAINTENANCE_SECONDS - HAND_BACK_SECONDS, "Notice that the machine's host is serviced")
        elif value.startswith("MIGRATE"):
            self.report("This machine is about to be moved to another host; it may stand still for a moment.")


class _Waiting:
    """Waits for another value of a key, each time it is called."""

    def __init__(self, watcher: Watcher, key: str, hear: Callable[[str], None]) -> None:
        self._watcher = watcher
        self._key = key
        self._hear = hear
        self._etag = ""

    def __call__(self) -> None:
        path, seconds = f"/computeMetadata/v1/instance/{self._key}", REQUEST_SECONDS
        if self._etag:
            path += f"?wait_for_change=true&timeout_sec={WAIT_SECONDS}&last_etag={self._etag}"
            seconds = WAIT_SECONDS + WAIT_MORE_SECONDS
        answer = self._watcher.ask(path, {"Metadata-Flavor": "Google"}, seconds=seconds)
        if answer.status != 200:
            raise OSError(f"it answers {answer.status}")
        if answer.etag != self._etag:
            self._hear(answer.text.strip())
        if not answer.etag:  # without one, no request can wait for a change
            time.sleep(1.0)
        self._etag = answer.etag
