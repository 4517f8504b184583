"""The warm process, seen from the supervisor: started, asked for slots, replaced when it dies, ended."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

from taskfleet.errors import FunctionError
from taskfleet.processes.sockets import send_socket, start_arguments, start_values
from taskfleet.processes.tree import kill_group
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch

#: How often in a row it may die before it has forked a slot that did anything.
MOST_DEATHS = 3
#: While it imports the user's module, how often to look whether somebody said stop.
STOP_CHECK_SECONDS = 0.2
#: How long it has to end by itself: what ``warm.LAST_WAIT_SECONDS`` says, and some more.
END_SECONDS = 6.0


class WarmProcess:
    """One process at a time, in which the user's module is loaded.

    Args:
        config: What it is told.
        exports: Environment variables for the user's code.
        prefetch: Takes note of how long processes below it take to start.
        observers: Hear of its death.
        is_stopped: Whether somebody said stop; then nothing is waited for.
    """

    def __init__(
        self,
        config: WorkerConfig,
        exports: Mapping[str, str],
        *,
        prefetch: Prefetch,
        observers: Observers,
        is_stopped: Callable[[], bool],
    ) -> None:
        self._config = config
        self._exports = exports
        self._prefetch = prefetch
        self._observers = observers
        self._is_stopped = is_stopped
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._deaths = 0

    @property
    def pids(self) -> set[int]:
        """Its process id, as long as it was not waited for."""
        return set() if self._process is None or self._process.returncode is not None else {self._process.pid}

    def start(self) -> bool:
        """Have the user's module imported; False if somebody said stop meanwhile.

        Raises:
            FunctionError: It cannot be imported.
        """
        self._control, theirs = socket.socketpair()
        argument, descriptors = start_arguments(theirs)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet.worker.warm", argument],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            cwd=self._config.project,
            env={**self._exports, **os.environ},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        values = self._config.pack() | start_values(theirs, self._process.pid)
        theirs.close()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values).encode() + b"\n")
        self._process.stdin.close()
        line = self._read_answer()
        if line is None:
            return False
        answer = json.loads(line or b'{"error": "The process that imports the task function died while importing it."}')
        if "error" in answer:
            raise FunctionError(answer["error"])
        self._prefetch.measure_start(answer.get("start_seconds", 0.0))
        return True

    def _read_answer(self) -> bytes | None:
        """Wait for its line: empty if it died, None if somebody said stop (a module may import for minutes)."""
        assert self._control is not None
        self._control.settimeout(STOP_CHECK_SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            try:
                part = self._control.recv(1 << 16)
            except TimeoutError:
                if self._is_stopped():
                    self._kill()
                    return None
                continue
            if not part:
                return None if self._is_stopped() else b""
            line += part
        self._control.settimeout(None)
        return line

    def open_slot(self) -> socket.socket | None:
        """Have a slot started, by another warm process if this one has died; return our end of its channel, None if somebody said stop.

        Raises:
            FunctionError: It dies again and again.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._hand_over(theirs)
            except OSError:
                if not self._restart():
                    ours.close()
                    return None
                self._hand_over(theirs)
        return ours

    def _hand_over(self, theirs: socket.socket) -> None:
        assert self._control is not None
        assert self._process is not None
        send_socket(self._control, theirs, self._process.pid)

    def forget_deaths(self) -> None:
        """Take note that a slot has done something."""
        self._deaths = 0

    def _restart(self) -> bool:
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise FunctionError(
                "The process that imports the task function dies again and again; look for what kills it (memory?)."
            )
        self._observers.say("The warm process died; another one takes its place.")
        self.end()
        return self.start()

    def end(self) -> None:
        """End it and all below it."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
                self._process.wait()

    def _kill(self) -> None:
        """Kill it and what the user's module has started in its group."""
        assert self._process is not None
        kill_group(self._process.pid)
