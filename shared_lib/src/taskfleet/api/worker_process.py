"""A worker on this computer in a process of its own, whose parent stops it."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

#: How often a worker is started at most, should something kill it each time.
MOST_STARTS = 4
#: How long to wait for the end of tasks that run, beyond SHUTDOWN_GRACE_SECONDS.
END_SECONDS = 10.0


class WorkerProcess:
    """Starts a worker when it is needed, and again if it was killed.

    Args:
        command: Its command line.
        folder: Its current folder.
        environ: Its environment.
        grace_seconds: How long its tasks may run after it was told to stop.
        output: The descriptor that gets its standard output; None for that of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        grace_seconds: float,
        output: int | None = None,
    ) -> None:
        self._command = command
        self._folder = folder
        self._environ = environ
        self._output = output
        self.grace_seconds = grace_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._lock = threading.Lock()

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs, if it was never started, or if it was killed and may be started again."""
        code = None if self._process is None else self._process.poll()
        return None if code is not None and code < 0 and self._starts < MOST_STARTS else code

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            if not self.is_running:
                self._starts += 1
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    cwd=self._folder,
                    process_group=0,  # Ctrl-C reaches this process alone, which stops it
                    env=self._environ,
                )

    def stop(self) -> None:
        """Ask it to stop, if it is running. It first finishes its running tasks; a second call makes it return them to the queue."""
        if self.is_running and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, or the time has passed."""
        if self._process is not None:
            try:
                self._process.wait(max(seconds, 0))
            except subprocess.TimeoutExpired:
                return


def end_all(workers: Iterable[WorkerProcess]) -> None:
    """Stop workers, and wait for the tasks that they run; Ctrl-C then has them return these to the queue."""
    running = [one for one in workers if one.is_running]
    for one in running:
        one.stop()
    deadline = time.monotonic() + max((one.grace_seconds for one in running), default=0.0) + END_SECONDS
    while any(one.is_running for one in running) and time.monotonic() < deadline:
        try:
            for one in running:
                one.wait(deadline - time.monotonic())
        except KeyboardInterrupt:
            for one in running:
                one.stop()
            deadline = time.monotonic() + END_SECONDS


def standard_error() -> int | None:
    """Return the descriptor of standard error, if ``sys.stderr`` still is that; else None."""
    try:
        return 2 if sys.stderr.fileno() == 2 else None
    except (AttributeError, OSError, ValueError):
        return None
