"""The time limit of a batch job as a termination notice. It is known from the start, so neither a signal nor a call of Slurm is needed."""

import os
import time
from collections.abc import Callable

from taskfleet.machines.notice import HAND_BACK_SECONDS, MachineIdentity, Notice, Watcher
from taskfleet.machines.slurm.script import END_VARIABLE

#: A worker starts no task in this time before the limit, nor in this multiple of its longest task so far, but at most in this part of the
#: job's time: a task that may take longer than the rest is left to another machine.
LEAST_SECONDS = 10.0
TASKS = 1.5
MOST_PART = 0.5
_POLL_SECONDS = 1.0


class SlurmWatcher(Watcher):
    """See ``Watcher``; ``clock`` returns seconds since the epoch."""

    def __init__(self, address: str, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(address)
        self._clock = clock

    def start(self) -> None:
        """See ``Watcher.start``; without a time limit there is no notice."""
        try:
            self._ends_at = float(os.environ.get(END_VARIABLE, ""))
        except ValueError:
            return
        self._began_at = self._clock()
        self.poll(self._check, _POLL_SECONDS)

    def find_identity(self) -> MachineIdentity:
        """See ``Watcher.find_identity``."""
        name, *others = (os.environ.get(f"TASKFLEET_{name}", "") for name in ("MACHINE", "INSTANCE_TYPE", "ZONE"))
        if not name:
            raise OSError("the batch script has not set TASKFLEET_MACHINE")
        return MachineIdentity(name, *others)

    def _check(self) -> None:
        left, lifetime_seconds = self._ends_at - self._clock(), self._ends_at - self._began_at
        ahead = max(LEAST_SECONDS, TASKS * self.longest_task_seconds)
        if left <= min(ahead, MOST_PART * lifetime_seconds):
            seconds = max(0.0, round(left - HAND_BACK_SECONDS, 1))
            self.notice = Notice(seconds, "The job's time limit is near", lifetime_seconds)
