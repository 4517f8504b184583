"""The process that stands for a machine of the provider ``local``: it runs the worker and ends it in time.

``python -m taskfleet.machines.local.keeper FOLDER``, with the worker's environment, returns when the keeper has started, in a session of
its own: it outlives who started it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskfleet.files import write_atomically
from taskfleet.machines.local.machines import ENDED, LOCK, PAPERS, PID
from taskfleet.processes.tree import die_with_parent

with suppress(ImportError):  # Windows, where the provider is not to be had
    import fcntl

#: A worker that was told to stop and does not is killed after so long, and at once when it is told again.
END_SECONDS = 60.0
#: The clock is looked at so often: a computer that slept may be late.
TICK_SECONDS = 1.0


class Keeper:
    """Runs one worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._papers: dict[str, Any] = json.loads((folder / PAPERS).read_text(encoding="utf-8"))
        self._signals = 0

    def run(self, writer: int) -> None:
        """Hold the lock until the worker has ended; close a descriptor when it has begun."""
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        worker = subprocess.Popen(
            self._papers["command"],
            stdin=subprocess.DEVNULL,
            cwd=self._papers["project"],
            pass_fds=[lock],  # should this process be killed where the system does not end its children
            preexec_fn=lambda: die_with_parent(True),
        )
        write_atomically(self._folder / PID, str(os.getpid()))
        os.close(writer)
        reason = self._wait(worker)
        write_atomically(self._folder / ENDED, json.dumps({"at": time.time(), "reason": reason}))

    def _note(self, *_: object) -> None:
        self._signals += 1

    def _wait(self, worker: "subprocess.Popen[bytes]") -> str:
        ends_at = self._papers["created_at"] + self._papers["lifetime_seconds"]
        told_at = 0.0
        reason = ""
        while True:
            now = time.time()
            if not reason and (self._signals or now >= ends_at):
                reason = "terminated" if self._signals else "its lifetime is over"
                told_at = now
                worker.terminate()
            elif reason and (self._signals > 1 or now >= told_at + END_SECONDS):
                worker.kill()
            try:
                code = worker.wait(TICK_SECONDS if not reason else TICK_SECONDS / 10)
            except subprocess.TimeoutExpired:
                continue
            return reason or ("its worker is done" if code == 0 else f"its worker ended with code {code}")


def main(folder: Path) -> None:
    """Have a child be the keeper, and end when it has started its worker or has died."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        Keeper(folder).run(writer)
        return
    os.close(writer)
    os.read(reader, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
