"""The supervisor's handle of the warm process: start it, request slots, replace it when it dies, end it."""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace

from taskfleet.errors import FunctionError
from taskfleet.processes.sockets import send_socket, start_arguments, start_values
from taskfleet.processes.tree import kill_group
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch

logger = logging.getLogger(__name__)

#: Maximum number of consecutive deaths without a slot that ran a task.
MAX_DEATHS = 3
#: How often to check for a stop request while it imports the user's module.
STOP_CHECK_SECONDS = 0.2
#: How long to wait for its exit: ``warm.EXIT_SECONDS`` plus a margin.
END_SECONDS = 6.0


class WarmProcess:
    """One process at a time that has loaded the user's module.

    Args:
        config: Its configuration.
        exports: Environment variables for the user's code.
        prefetch: Records how long its child processes take to start.
        observers: Notified of its death.
        is_stopped: Returns whether the worker was stopped; then nothing is waited for.
        on_code: Receives the hash of the code of each function of the job's graph that was imported, by its name.
    """

    def __init__(
        self,
        config: WorkerConfig,
        exports: Mapping[str, str],
        *,
        prefetch: Prefetch,
        observers: Observers,
        is_stopped: Callable[[], bool],
        on_code: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._config = config
        self._exports = exports
        self._prefetch = prefetch
        self._observers = observers
        self._is_stopped = is_stopped
        self._on_code = on_code
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._deaths = 0
        self._warned: set[str] = set()

    @property
    def pids(self) -> set[int]:
        """Its process id, until it has been waited for."""
        return set() if self._process is None or self._process.returncode is not None else {self._process.pid}

    def start(self) -> bool:
        """Start it and have it import the user's module; return False if the worker was stopped meanwhile.

        Raises:
            FunctionError: The module cannot be imported.
        """
        self._control, theirs = socket.socketpair()
        argument, descriptors = start_arguments(theirs)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "taskfleet.worker.warm", argument],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            cwd=self._config.working_directory or self._config.project,
            env={**self._exports, **os.environ},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        values = {"config": asdict(self._config)} | start_values(theirs, self._process.pid)
        theirs.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed; its answer is missing then
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.flush()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        line = self._read_answer()
        if line is None:
            return False
        answer = json.loads(line or b'{"error": "The process that imports the task function died while importing it."}')
        if "error" in answer:
            raise FunctionError(answer["error"])
        for warning in answer.get("warnings", ()):
            if warning not in self._warned:  # it may be started several times
                self._warned.add(warning)
                self._observers.say(warning)
        if "start_method" in answer:
            self.end()
            self._config = replace(self._config, start_method=answer["start_method"])
            return self.start()
        if answer.get("codes"):
            self._on_code(answer["codes"])
        self._prefetch.measure_start(answer.get("start_seconds", 0.0))
        logger.info("Warm process %d has imported %s", self._process.pid, self._config.function)
        return True

    def _read_answer(self) -> bytes | None:
        """Wait for its answer; return an empty line if it died, None if the worker was stopped (an import may take minutes)."""
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
        """Have a slot started, and return the supervisor's end of its channel; None if the worker was stopped.

        If the warm process has died, another one is started first.

        Raises:
            FunctionError: It dies repeatedly.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            while True:
                try:
                    self._send_socket(theirs)
                    return ours
                except OSError:
                    if not self._restart():
                        ours.close()
                        return None

    def _send_socket(self, theirs: socket.socket) -> None:
        assert self._control is not None
        assert self._process is not None
        send_socket(self._control, theirs, self._process.pid)

    def reset_deaths(self) -> None:
        """Reset the count of deaths, because a slot has finished a task."""
        self._deaths = 0

    def _restart(self) -> bool:
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise FunctionError(
                f"The process that imports the task function died {self._deaths} times. Check whether it runs out of memory or is killed."
            )
        self._observers.say("The warm process died. Starting another one.")
        self.end()
        return self.start()

    def end(self) -> None:
        """End it and its descendants."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                logger.warning("Warm process %d did not exit within %g s and is killed", self._process.pid, END_SECONDS)
                self._kill()
                self._process.wait()

    def _kill(self) -> None:
        """Kill it and its process group, which includes processes started by the user's module."""
        assert self._process is not None
        kill_group(self._process.pid)
