"""How a worker comes to its end before its tasks do: somebody says stop, or the machine is about to be taken away."""

import math
import time
from collections.abc import Callable
from enum import Enum

from taskfleet.context import STOPPING_FLAG, TERMINATING_FLAG
from taskfleet.machines.notice import HAND_BACK_SECONDS, Notice, Watcher
from taskfleet.worker.observers import Observers
from taskfleet.worker.options import SupervisorOptions
from taskfleet.worker.slot_pool import SlotPool
from taskfleet.worker.stop_requests import StopRequests


class Phase(Enum):
    """What the worker is about."""

    WORKING = "working"
    """Leasing and running."""
    STOPPING = "stopping"
    """Running what has begun to its end, within the grace period."""
    KILLING = "killing"
    """Waiting for the slots to hand back what was killed."""


class Shutdown:
    """Goes from phase to phase, and has the slots do what belongs to each.

    Args:
        options: How long running tasks have.
        stop_requests: Who said stop.
        slots: The slots.
        observers: Hear of all this.
        watcher: Hears the notices of the machine's provider; None where there is none.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        options: SupervisorOptions,
        stop_requests: StopRequests,
        slots: SlotPool,
        *,
        observers: Observers,
        watcher: Watcher | None,
        clock: Callable[[], float],
    ) -> None:
        self._grace_seconds = options.grace_seconds
        after = options.notice_after_seconds
        self._simulate_at = math.inf if after is None else time.monotonic() + after
        self._simulated = Notice(options.notice_seconds, "Spot termination notice (simulated)")
        self._stop_requests = stop_requests
        self._slots = slots
        self._observers = observers
        self._watcher = watcher
        self._clock = clock
        self._phase = Phase.WORKING
        self._deadline = 0.0
        """When the phase at hand ends, on the monotonic clock."""
        self._requests_to_kill = 0
        self._was_preempted = False

    @property
    def is_working(self) -> bool:
        """Whether nothing keeps the worker from taking on more."""
        return self._phase is Phase.WORKING

    @property
    def was_preempted(self) -> bool:
        """Whether a termination notice came."""
        return self._was_preempted

    @property
    def is_overdue(self) -> bool:
        """Whether the slots have had their time to hand back what was killed."""
        return self._phase is Phase.KILLING and time.monotonic() > self._deadline

    def heed(self) -> None:
        """Do what was asked for since the last call, or is due."""
        now = time.monotonic()
        if self._phase is Phase.WORKING and self._stop_requests.count:
            self._wind_up(
                STOPPING_FLAG,
                self._grace_seconds,
                "Stopping: {} running tasks have {:g} s to finish. Ctrl-C again hands them back at once.",
            )
        if not self._was_preempted:
            notice = self._find_notice(now)
            if notice is not None:
                self._was_preempted = True
                self._observers.termination_noticed(self._clock())
                self._heed_notice(notice, now)
        if self._phase is Phase.STOPPING and (
            self._stop_requests.count >= self._requests_to_kill or now > self._deadline
        ):
            self._phase = Phase.KILLING
            self._deadline = now + HAND_BACK_SECONDS
            self._slots.kill_tasks()

    def _find_notice(self, now: float) -> Notice | None:
        """Return what the machine's provider says, or pretends to."""
        if self._watcher is not None:
            for text in self._watcher.take_messages():
                self._observers.say(text)
            if self._watcher.notice is not None:
                return self._watcher.notice
        return self._simulated if now >= self._simulate_at else None

    def _heed_notice(self, notice: Notice, now: float) -> None:
        if self._phase is Phase.WORKING:
            text = notice.text + ": {} running tasks have {:g} s to finish."
            self._wind_up(TERMINATING_FLAG, notice.seconds, text)
        elif self._phase is Phase.STOPPING:
            self._observers.say(f"{notice.text}: {notice.seconds:g} s are left at most.")
            self._deadline = min(self._deadline, now + notice.seconds)
            self._slots.set_flags(STOPPING_FLAG | TERMINATING_FLAG)

    def _wind_up(self, flags: int, seconds: float, text: str) -> None:
        """Take on no more, show the tasks a sign, hand back what has not begun; the rest has some time to finish."""
        self._phase = Phase.STOPPING
        self._deadline = time.monotonic() + seconds
        self._requests_to_kill = self._stop_requests.count + 1
        running = self._slots.busy
        self._slots.wind_up(flags)
        if running:
            self._observers.say(text.format(running, seconds))
