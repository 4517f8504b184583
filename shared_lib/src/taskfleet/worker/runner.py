"""The process that runs user code, or forks children that do (``process_per_task``). It communicates only with its slot."""

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from taskfleet.context import Fail, Retry, TaskContext
from taskfleet.functions import TaskFunction
from taskfleet.processes.memory import own_peak_memory_mib
from taskfleet.tables.values import UnsupportedValueError
from taskfleet.tasks import Lease, Outcome
from taskfleet.tracebacks import describe_error, shorten_error
from taskfleet.worker.chunks import receive_chunk
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import after_fork, unblock_signals
from taskfleet.worker.graph_calls import GraphCalls
from taskfleet.worker.output import OutputFile
from taskfleet.worker.records import Record, amended, pack_codes, pack_success
from taskfleet.worker.result_encoding import ResultEncoder
from taskfleet.worker.shared_memory import CAPACITY, SharedMemory

#: Records are sent when the oldest is this old, and at the end of a chunk.
SEND_AFTER_SECONDS = 0.01

#: The exit code of a runner that lost the connection to its slot.
CUT_OFF = 97

#: A placeholder lease, for functions that do not take a context.
_NO_LEASE = Lease(seq=0, attempt=0, task_id="", data="")


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
        self._function = function
        self._config = config
        self._memory = memory
        self._output = output
        self._socket = sock
        self._pid = 0
        self._index = 0
        self._used = 0
        self._most = config.tasks_per_process
        self._sent_at = time.monotonic()
        self._needs_context = function.is_rms_style or bool(function.injected)
        self._bare = self._context(_NO_LEASE)
        self._call = function.call
        self._is_rms_style = function.is_rms_style
        self._encode = ResultEncoder().encode
        self._graph_calls = GraphCalls(config)
        self._most_bytes = config.max_result_bytes
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
        body = self._try(index, lease)
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

    def _arguments(self, lease: Lease) -> dict[str, Any]:
        return self._function.arguments(lease.data, self._context(lease) if self._needs_context else self._bare)

    def _try(self, index: int, lease: Lease, prepared: dict[str, Any] | None = None) -> bytes:
        """Call the function; return the packed record."""
        started_at, started = time.time(), time.perf_counter()
        try:
            if lease.function:
                value, encode = self._graph_calls.call(lease, self._context, prepared), self._graph_calls.encode
            else:
                value, encode = self._call(**(self._arguments(lease) if prepared is None else prepared)), self._encode
                if self._is_rms_style:
                    value = self._function.result(value)
            elapsed = time.perf_counter() - started
            try:
                result = encode(value)
            except UnsupportedValueError as error:
                return _not_json(index, started_at, elapsed, error).pack()
            if len(result) > self._most_bytes:
                return _too_large(index, started_at, elapsed, len(result), self._most_bytes).pack()
            return pack_success(index, started_at, elapsed, result)
        except BaseException as error:  # whatever a task raises is its outcome
            return _unsuccessful(index, started_at, time.perf_counter() - started, error).pack()

    def _context(self, lease: Lease) -> TaskContext:
        config = self._config
        return TaskContext(
            task_id=lease.task_id,
            attempt=lease.attempt,
            job_id=config.job_id,
            output_path=config.output_path,
            args=config.args,
            hostname=config.hostname,
            slots=config.slots,
            max_runtime_seconds=config.max_runtime_seconds,
            memory_limit_gib=None if config.memory_limit_bytes is None else config.memory_limit_bytes / 2**30,
            flags=self._memory.flags,
            rms=config.rms,
        )

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
        codes = self._graph_calls.take_codes()
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


def _not_json(index: int, started_at: float, elapsed: float, error: UnsupportedValueError) -> Record:
    return Record(
        task_index=index,
        outcome=Outcome.EXCEPTION,
        started_at=started_at,
        elapsed_seconds=elapsed,
        error=shorten_error(f"ResultNotJSON: {error.message('the result')}"),
    )


def _too_large(index: int, started_at: float, elapsed: float, n_bytes: int, most_bytes: int) -> Record:
    error = (
        f"ResultTooLarge: the result is {n_bytes / 2**20:.1f} MiB of JSON; MAX_RESULT_MIB is {most_bytes / 2**20:g}. Write large "
        "results to a file and return its path."
    )
    return Record(
        task_index=index,
        outcome=Outcome.EXCEPTION,
        started_at=started_at,
        elapsed_seconds=elapsed,
        retry_delay_seconds=Fail.delay_seconds,
        error=error.encode(),
    )


def _unsuccessful(index: int, started_at: float, elapsed: float, error: BaseException) -> Record:
    outcome, delay, code = Outcome.EXCEPTION, math.nan, 0
    if isinstance(error, Retry):
        outcome = Outcome.RETRY
        delay = math.nan if error.delay_seconds is None else error.delay_seconds
    elif isinstance(error, Fail):
        delay = error.delay_seconds
    elif isinstance(error, SystemExit):
        outcome = Outcome.EXIT
        code = error.code & 0xFF if isinstance(error.code, int) else int(error.code is not None)
    return Record(
        task_index=index,
        outcome=outcome,
        started_at=started_at,
        elapsed_seconds=elapsed,
        retry_delay_seconds=delay,
        exit_code=code,
        error=describe_error(error),
        is_interrupt=isinstance(error, KeyboardInterrupt),
    )


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
