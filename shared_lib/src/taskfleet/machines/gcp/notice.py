"""Termination notices of Compute Engine instances.

https://cloud.google.com/compute/docs/instances/spot#preemption-process and
https://cloud.google.com/compute/docs/metadata/querying-metadata#waitforchange.
"""

import time
from collections.abc import Callable

from taskfleet.machines.notice import HAND_BACK_SECONDS, MachineIdentity, MetadataResponse, Notice, Watcher

REQUEST_SECONDS = 2.0
#: How long the service waits for a change, and how much longer the client waits for the response.
WAIT_SECONDS = 60
WAIT_MORE_SECONDS = 10.0
#: Google gives notice 30 s before a preemption, and 60 s before host maintenance.
PREEMPTION_SECONDS = 30.0
MAINTENANCE_SECONDS = 60.0


class GcpWatcher(Watcher):
    """See ``Watcher``."""

    def start(self) -> None:
        """See ``Watcher.start``."""
        self.poll(_LongPoll(self, "preempted", self._on_preempted), 0.0)
        self.poll(_LongPoll(self, "maintenance-event", self._on_maintenance), 0.0)

    def find_identity(self) -> MachineIdentity:
        """See ``Watcher.find_identity``; types and zones are paths such as ``projects/1/machineTypes/n2-standard-2``."""
        return MachineIdentity(self._last_part("name"), self._last_part("machine-type"), self._last_part("zone"))

    def _last_part(self, key: str) -> str:
        return self.value(key).text.strip().rpartition("/")[2]

    def value(self, key: str, *, seconds: float = REQUEST_SECONDS) -> MetadataResponse:
        """Return the response with the value of a key of this machine.

        Raises:
            OSError, http.client.HTTPException: As ``request``, or there is no such key.
        """
        response = self.request(f"/computeMetadata/v1/instance/{key}", {"Metadata-Flavor": "Google"}, seconds=seconds)
        if response.status != 200:
            raise OSError(f"HTTP status {response.status}")
        return response

    def _on_preempted(self, value: str) -> None:
        if value == "TRUE":
            self.notice = Notice(PREEMPTION_SECONDS - HAND_BACK_SECONDS, "Spot termination notice")

    def _on_maintenance(self, value: str) -> None:
        if value.startswith("TERMINATE"):
            self.notice = Notice(
                MAINTENANCE_SECONDS - HAND_BACK_SECONDS, "Notice of host maintenance that ends the machine"
            )
        elif value.startswith("MIGRATE"):
            self.report("This machine is about to be migrated to another host; it may pause for a moment.")


class _LongPoll:
    """Waits, at each call, for a change of a metadata key."""

    def __init__(self, watcher: GcpWatcher, key: str, on_change: Callable[[str], None]) -> None:
        self._watcher = watcher
        self._key = key
        self._on_change = on_change
        self._etag = ""

    def __call__(self) -> None:
        key, seconds = self._key, REQUEST_SECONDS
        if self._etag:
            key += f"?wait_for_change=true&timeout_sec={WAIT_SECONDS}&last_etag={self._etag}"
            seconds = WAIT_SECONDS + WAIT_MORE_SECONDS
        response = self._watcher.value(key, seconds=seconds)
        if response.etag != self._etag:
            self._on_change(response.text.strip())
        if not response.etag:  # without an ETag, a request cannot wait for a change
            time.sleep(1.0)
        self._etag = response.etag
