"""The process that represents a machine of the provider ``local``: it runs the worker, and terminates it when its lifetime is over.

``python -m taskfleet.machines.local.shim FOLDER``, with the worker's environment, returns when the shim has started. The shim has its own
session, so that it outlives the process that launched it, as containerd's shims do.
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
from taskfleet.machines.local.machines import ENDED, LOCK, METADATA, PID
from taskfleet.processes.tree import die_with_parent

with suppress(ImportError):  # Windows, where this provider is not available
    import fcntl

#: A worker that does not stop after SIGTERM is killed after this time, or at the next SIGTERM of the shim.
KILL_SECONDS = 60.0
#: How often the clock is checked, since the computer may have been asleep.
TICK_SECONDS = 1.0


class Shim:
    """Runs one worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metadata: dict[str, Any] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        self._signals = 0

    def run(self, writer: int) -> None:
        """Hold the lock until the worker has ended; close a descriptor when the worker has started."""
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        worker = subprocess.Popen(
            self._metadata["command"],
            stdin=subprocess.DEVNULL,
            cwd=self._metadata["project"],
            pass_fds=[lock],  # in case this process is killed, and the system does not end its children
            preexec_fn=lambda: die_with_parent(True),
        )
        write_atomically(self._folder / PID, str(os.getpid()))
        os.close(writer)
        reason = self._wait(worker)
        with suppress(FileNotFoundError):
            write_atomically(self._folder / ENDED, json.dumps({"at": time.time(), "reason": reason}))

    def _on_signal(self, *_: object) -> None:
        self._signals += 1

    def _wait(self, worker: "subprocess.Popen[bytes]") -> str:
        ends_at = self._metadata["created_at"] + self._metadata["lifetime_seconds"]
        terminated_at = 0.0
        reason = ""
        while True:
            now = time.time()
            is_known = self._folder.exists()  # otherwise nothing can list or terminate this machine
            if not reason:
                if self._signals:
                    reason = "terminated"
                elif not is_known:
                    reason = "its folder was deleted"
                elif now >= ends_at:
                    reason = "its lifetime is over"
                if reason:
                    terminated_at = now
                    worker.terminate()
            elif self._signals > 1 or now >= terminated_at + KILL_SECONDS:
                worker.kill()
            try:
                code = worker.wait(TICK_SECONDS if not reason else TICK_SECONDS / 10)
            except subprocess.TimeoutExpired:
                continue
            return reason or ("its worker has finished" if code == 0 else f"its worker ended with code {code}")


def main(folder: Path) -> None:
    """Fork the shim, and return when it has started its worker or has died."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        Shim(folder).run(writer)
        return
    os.close(writer)
    os.read(reader, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
