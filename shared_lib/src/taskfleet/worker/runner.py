"""The process that runs user code, or forks children that do (``process_per_task``). It communicates only with its slot."""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from taskfleet.functions import TaskFunction
from taskfleet.processes.memory import own_peak_memory_mib
from taskfleet.tasks import Lease
from taskfleet.worker.chunks import receive_chunk
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import after_fork, unblock_signals
from taskfleet.worker.output import OutputFile
from taskfleet.worker.records import amended, pack_codes
from taskfleet.worker.shared_memory import CAPACITY, SharedMemory
from taskfleet.worker.task_calls import TaskCalls

#: Records are sent when the oldest is this old, and at the end of a chunk.
SEND_AFTER_SECONDS = 0.01

#: The exit code of a runner that lost the connection to its slot.
CUT_OFF = 97


class Runner:
    """Run tasks in this process, and report each of them to the slot."""

    def __init__(
        self,
        function: TaskFunction,
        config: WorkerConfig,
        memory: SharedMemory,
        output: OutputFile,
        sock: socket.socket,
    ) -> None:
        self._memory = memory
        self._output = output
        self._socket = sock
        self._pid = 0
        self._index = 0
        self._used = 0
        self._most = config.tasks_per_process
        self._sent_at = time.monotonic()
        self._calls = TaskCalls(function, config, memory.flags)
        self._fd = sock.fileno()
        self._streams = (sys.stdout, sys.stderr)

    def serve(self, chunk: Sequence[Lease]) -> None:
        """Run these tasks, and more as they arrive, until the limit on tasks per process is reached."""
        self._begin()
        most = self._most
        todo: Sequence[Lease] | None = chunk
        while todo is not None:
            self.run(todo)
            if most and self._index >= most:
                break
            todo = receive_chunk(self._socket)

    def run(self, chunk: Sequence[Lease]) -> None:
        """Run a chunk of tasks; return once all records are sent."""
        memory = self._memory
        for lease in chunk:
            index, self._index = self._index, self._index + 1
            memory.begin(index, time.monotonic())
            if memory.is_skipped(index):
                self._skip()
            else:
                self._do(index, lease)
        self._send()

    def _begin(self) -> None:
        self._pid = os.getpid()
        after_fork()
        unblock_signals()
        self._output.keep_errors_apart(False)

    def _do(self, index: int, lease: Lease) -> None:
        """Run one task and report it."""
        self._output.keep_errors_apart(bool(lease.function))
        body = self._calls.record(index, lease)
        if os.getpid() != self._pid:  # the task forked, and its child returned from the user's function
            os._exit(0)
        self._report_codes(index)
        flush_streams()
        self._restore_streams()
        try:
            output = self._output.take()
        except OSError:  # the task closed the library's descriptors: the next tasks need another process
            self._report(body)
            os._exit(CUT_OFF)
        peak_memory_mib = (
            own_peak_memory_mib() if self._most == 1 else 0.0
        )  # otherwise it may be that of an earlier task
        if output is not None or peak_memory_mib:
            body = amended(body, peak_memory_mib, output)
        self._report(body)

    def _skip(self) -> None:
        """Skip one task."""

    def _restore_streams(self) -> None:
        """Restore the standard output and error that the task may have replaced or closed."""
        for fd, (name, stream) in enumerate(zip(("stdout", "stderr"), self._streams, strict=True), start=1):
            if stream is not None and stream.closed:
                stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
                self._streams = (stream, self._streams[1]) if fd == 1 else (self._streams[0], stream)
            setattr(sys, name, stream)

    def _report(self, body: bytes) -> None:
        if self._used + len(body) > CAPACITY:
            self._send()
        if len(body) > CAPACITY:
            self._send_bytes(body)
            return
        self._used = self._memory.append(self._used, body)
        if time.monotonic() - self._sent_at > SEND_AFTER_SECONDS:
            self._send()

    def _report_codes(self, index: int) -> None:
        """Report which code the functions have that were loaded for a task."""
        codes = self._calls.take_codes()
        if codes:
            self._report(pack_codes(index, codes))

    def _send(self) -> None:
        if self._used:
            self._send_bytes(self._memory.records())
            self._memory.clear_records()
            self._used = 0
        self._sent_at = time.monotonic()

    def _send_bytes(self, body: bytes) -> None:
        try:
            self._socket.sendall(body)
        except OSError:
            os._exit(CUT_OFF)


def exit_reason(exit_code: int) -> str:
    """Return the error message for a process that ended before it reported a result."""
    if exit_code == CUT_OFF:
        return "Exit: the task's process could not report its result; did the task close file descriptors that are not its own?"
    if exit_code >= 0:
        return f"Exit: the task's process ended with code {exit_code} before the function returned"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"Exit: the task's process was killed by {name}{hint}"


def flush_streams() -> None:
    """Flush standard output and error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the task closed or replaced it
            continue
