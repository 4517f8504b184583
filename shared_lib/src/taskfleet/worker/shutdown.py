"""Stop a worker before its tasks are done: on request, or after a termination notice for its machine."""

import logging
import math
import time
from enum import Enum

from taskfleet.context import STOPPING_FLAG, TERMINATING_FLAG
from taskfleet.machines.notice import HAND_BACK_SECONDS, Notice, Watcher
from taskfleet.settings import Settings
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.slot_pool import SlotPool
from taskfleet.worker.stop_requests import StopRequests

logger = logging.getLogger(__name__)


class Phase(Enum):
    """The state of the shutdown."""

    WORKING = "working"
    """Leasing and running tasks."""
    STOPPING = "stopping"
    """Finishing running tasks, within the grace period."""
    KILLING = "killing"
    """Waiting for the slots to return the killed tasks."""


class Shutdown:
    """Advance from phase to phase, and instruct the slots accordingly.

    Args:
        settings: The grace periods, and when to simulate a notice.
        stop_requests: Counts the requests to stop.
        slots: The slots.
        prefetch: Measures the duration of tasks.
        observers: Notified of the shutdown.
        watcher: Watches for termination notices of the provider; None if it has none.
    """

    def __init__(
        self,
        settings: Settings,
        stop_requests: StopRequests,
        slots: SlotPool,
        *,
        prefetch: Prefetch,
        observers: Observers,
        watcher: Watcher | None,
    ) -> None:
        self._grace_seconds = settings.shutdown_grace_seconds
        after = settings.simulate_spot_termination_after_seconds
        self._simulate_at = math.inf if after is None else time.monotonic() + after
        self._simulated = Notice(
            settings.simulate_spot_termination_delay_seconds, "Spot termination notice (simulated)"
        )
        self._stop_requests = stop_requests
        self._slots = slots
        self._observers = observers
        self._watcher = watcher
        self._prefetch = prefetch
        self._phase = Phase.WORKING
        self._deadline = 0.0
        """When the current phase ends, in monotonic time."""
        self._requests_to_kill = 0
        self._was_preempted = False
        self._lifetime_seconds: float | None = None
        """See ``Notice``."""

    @property
    def is_working(self) -> bool:
        """Whether the worker may start more tasks."""
        return self._phase is Phase.WORKING

    @property
    def was_preempted(self) -> bool:
        """Whether a termination notice was received."""
        return self._was_preempted

    @property
    def is_overdue(self) -> bool:
        """Whether the time to return the killed tasks is over."""
        return self._phase is Phase.KILLING and time.monotonic() > self._deadline

    def update(self) -> None:
        """Handle stop requests, notices and deadlines since the last call."""
        now = time.monotonic()
        if self._phase is Phase.WORKING and self._stop_requests.count:
            self._begin_stopping(
                STOPPING_FLAG,
                self._grace_seconds,
                "Stopping: {} running tasks have {:g} s to finish. Ctrl-C again returns them to the queue at once.",
            )
        if not self._was_preempted:
            notice = self._find_notice(now)
            if notice is not None:
                self._was_preempted = True
                self._lifetime_seconds = notice.lifetime_seconds
                self._observers.termination_noticed(time.time())
                self._handle_notice(notice, now)
        if self._phase is Phase.STOPPING and (
            self._stop_requests.count >= self._requests_to_kill or now > self._deadline
        ):
            logger.info("Killing the running tasks of %d slots", self._slots.busy)
            is_overdue = now > self._deadline
            self._phase = Phase.KILLING
            self._deadline = now + HAND_BACK_SECONDS
            self._slots.kill_tasks(self._lifetime_seconds if is_overdue else None)

    def _find_notice(self, now: float) -> Notice | None:
        """Return the provider's notice, or the simulated one if it is due."""
        if self._watcher is not None:
            for text in self._watcher.take_messages():
                self._observers.say(text)
            self._watcher.longest_task_seconds = self._prefetch.longest_seconds
            if self._watcher.notice is not None:
                return self._watcher.notice
        return self._simulated if now >= self._simulate_at else None

    def _handle_notice(self, notice: Notice, now: float) -> None:
        if self._phase is Phase.WORKING:
            text = notice.text + ": {} running tasks have {:g} s to finish."
            self._begin_stopping(TERMINATING_FLAG, notice.seconds, text)
        elif self._phase is Phase.STOPPING:
            self._observers.say(f"{notice.text}: at most {notice.seconds:g} s are left.")
            self._deadline = min(self._deadline, now + notice.seconds)
            self._slots.set_flags(STOPPING_FLAG | TERMINATING_FLAG)

    def _begin_stopping(self, flags: int, seconds: float, text: str) -> None:
        """Start no more tasks, show the flags to running ones, and take back the others; running tasks have ``seconds`` to finish."""
        self._phase = Phase.STOPPING
        self._deadline = time.monotonic() + seconds
        self._requests_to_kill = self._stop_requests.count + 1
        running = self._slots.busy
        self._slots.drain(flags)
        if running:
            self._observers.say(text.format(running, seconds))
