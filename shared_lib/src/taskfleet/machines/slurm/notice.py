"""The end of a batch job as a termination notice: the time limit is known from its start, so no signal is needed."""

import os
import threading
import time

from taskfleet.machines.notice import HAND_BACK_SECONDS, MachineIdentity, Notice, Watcher
from taskfleet.machines.slurm.script import END_VARIABLE

#: How long before the time limit the worker is told.
NOTICE_SECONDS = 120.0
_POLL_SECONDS = 10.0


class SlurmWatcher(Watcher):
    """See ``Watcher``."""

    def start(self) -> None:
        """See ``Watcher.start``; without a time limit there is no notice."""
        try:
            ends_at = float(os.environ.get(END_VARIABLE, ""))
        except ValueError:
            return
        began_at = time.time()
        notice_at = ends_at - min(NOTICE_SECONDS, max(0.0, ends_at - began_at) / 4)
        threading.Thread(target=self._wait, args=(notice_at, ends_at), daemon=True, name="notice").start()

    def find_identity(self) -> MachineIdentity:
        """See ``Watcher.find_identity``."""
        found = [os.environ.get(f"TASKFLEET_{name}", "") for name in ("MACHINE", "INSTANCE_TYPE", "ZONE")]
        if not found[0]:
            raise OSError("the batch script has not set TASKFLEET_MACHINE")
        return MachineIdentity(*found)

    def _wait(self, notice_at: float, ends_at: float) -> None:
        while (left := notice_at - time.time()) > 0:  # in steps, since the clock may be set
            time.sleep(min(left, _POLL_SECONDS))
        seconds = max(0.0, round(ends_at - time.time() - HAND_BACK_SECONDS, 1))
        self.notice = Notice(seconds, "The job's time limit is near")
