"""A command at a terminal, as a person sits before it."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

PATIENCE_SECONDS = 60.0


class Terminal:
    """Runs a command in a terminal of its own; used in a ``with`` statement, it ends with it."""

    def __init__(self, command, *, cwd, env):
        self._ours, theirs = pty.openpty()

        def sit_down():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=sit_down
        )
        os.close(theirs)
        self.text = ""
        self._read_to = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)

    def until(self, pattern, seconds=PATIENCE_SECONDS):
        """Wait until something is printed that was not waited for before."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text[self._read_to :])):
            assert time.monotonic() < deadline, f"waited in vain for {pattern!r} in:\n{self.text}"
            assert self._read() or self.process.poll() is None, f"it ended without {pattern!r}:\n{self.text}"
        self._read_to += found.end()
        return found

    def type(self, text):
        """Type something."""
        os.write(self._ours, text.encode())

    def control_c(self):
        """Press Ctrl-C: everything in the foreground gets a signal."""
        self.type("\x03")

    def wait(self, seconds=PATIENCE_SECONDS):
        """Wait for the end; give the exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self):
        if not select.select([self._ours], [], [], 0.1)[0]:
            return False
        try:
            part = os.read(self._ours, 1 << 16)
        except OSError:  # nobody is at the other end any more
            return False
        self.text += part.decode(errors="replace").replace("\r\n", "\n")
        return bool(part)
