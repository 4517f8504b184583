"""The process that runs user code. It is forked by a slot, does one or more tasks, and never talks to anything but its slot."""

import json
import math
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from taskfleet.context import Fail, Retry, TaskContext
from taskfleet.functions import TaskFunction
from taskfleet.tasks import Outcome
from taskfleet.tracebacks import describe_error, shorten_error
from taskfleet.worker.forking import after_fork_in_runner
from taskfleet.worker.order import Order
from taskfleet.worker.output import OutputFile
from taskfleet.worker.records import CAPACITY, Record, SharedMemory

#: A task as a runner gets it: id, attempt, data.
Job = tuple[str, int, str]

#: Finished records are sent when the oldest is this old, and at the end of what was given.
SEND_AFTER_SECONDS = 0.005

#: The exit code of a runner that cannot reach its slot any more.
CUT_OFF = 97

CHUNK_HEADER = struct.Struct("<I")

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Runner:
    """Runs tasks in this process and reports each to the slot."""

    def __init__(
        self, function: TaskFunction, order: Order, memory: SharedMemory, output: OutputFile, sock: socket.socket
    ) -> None:
        self._function = function
        self._order = order
        self._memory = memory
        self._output = output
        self._socket = sock
        self._pid = 0
        self._index = 0
        self._used = 0
        self._sent_at = time.monotonic()
        self._needs_context = function.is_rms_style or bool(function.injected)
        self._bare = self._context("", 0)
        self._prepared: dict[str, Any] | None = None
        self._streams = (sys.stdout, sys.stderr)

    def prepare(self, job: Job) -> None:
        """Make the first task ready, still in the slot: what is done before the fork costs the child no page copies."""
        with suppress(Exception):  # it will fail again, and be reported, in the child
            self._prepared = self._arguments(job)
        self._memory.begin(0, time.monotonic())

    def serve_one(self, job: Job) -> None:
        """Be the runner for one task, in the process just forked; what it printed is the slot's to collect.

        Each page of memory that is touched here has to be copied first, so this does as little as it can.
        """
        self._pid = os.getpid()
        after_fork_in_runner()
        record = self._try(0, job)
        if os.getpid() != self._pid:  # the task forked, and this is the child, come back from the user's function
            os._exit(0)
        _flush_streams()
        body = record.pack()
        if len(body) <= CAPACITY:
            self._memory.keep(0, body)  # the slot looks there when this process is gone: one thing less to wake it for
        else:
            self._send_bytes(body)

    def serve(self, chunk: Sequence[Job]) -> None:
        """Be the runner, in the process just forked: do these tasks, and more as they come, until the process is worn out."""
        self._pid = os.getpid()
        after_fork_in_runner()
        most = self._order.tasks_per_process
        todo: Sequence[Job] | None = chunk
        while todo is not None:
            self.run(todo)
            if most and self._index >= most:
                break
            todo = receive_chunk(self._socket)

    def run(self, chunk: Sequence[Job]) -> None:
        """Do a run of tasks; all of it has been sent when this returns."""
        memory, take_output = self._memory, self._output.take
        for job in chunk:
            index, self._index = self._index, self._index + 1
            memory.begin(index, time.monotonic())
            if memory.is_skipped(index):
                continue
            record = self._try(index, job)
            if os.getpid() != self._pid:  # the task forked, and this is the child, come back from the user's function
                os._exit(0)
            _flush_streams()
            self._restore_streams()
            try:
                output = take_output()
            except OSError:  # the task closed our descriptors: the next ones need another process
                self._report(record)
                os._exit(CUT_OFF)
            self._report(record if output is None else record._replace(output=output))
        self._send()

    def _restore_streams(self) -> None:
        """Give the next task the standard output and error that this one may have replaced or closed."""
        for fd, (name, stream) in enumerate(zip(("stdout", "stderr"), self._streams, strict=True), start=1):
            if stream is not None and stream.closed:
                stream = open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
                self._streams = (stream, self._streams[1]) if fd == 1 else (self._streams[0], stream)
            setattr(sys, name, stream)

    def _arguments(self, job: Job) -> dict[str, Any]:
        task_id, attempt, data = job
        return self._function.arguments(data, self._context(task_id, attempt) if self._needs_context else self._bare)

    def _try(self, index: int, job: Job) -> Record:
        prepared, self._prepared = self._prepared, None
        started_at, started = time.time(), time.perf_counter()
        try:
            arguments = self._arguments(job) if prepared is None else prepared
            value = self._function.result(self._function.call(**arguments))
            elapsed = time.perf_counter() - started
            return self._encode(index, started_at, elapsed, value)
        except BaseException as error:  # whatever a task raises is its outcome
            return _unsuccessful(index, started_at, time.perf_counter() - started, error)

    def _encode(self, index: int, started_at: float, elapsed: float, value: object) -> Record:
        try:
            result = _encoder.encode(value).encode()
        except (TypeError, ValueError):
            from taskfleet.tables.values import Refused, to_json

            try:
                result = _encoder.encode(to_json(value)).encode()
            except Refused as refused:
                reason = f"ResultNotJSON: {refused.sentence('the result')}"
                return Record(index, Outcome.EXCEPTION, started_at, elapsed, math.nan, 0, None, shorten_error(reason))
        most = self._order.max_result_bytes
        if len(result) > most:
            error = (
                f"ResultTooLarge: the result is {len(result) / 2**20:.1f} MiB of JSON; MAX_RESULT_MIB allows {most / 2**20:g}. Write large "
                "results to a file and return its path."
            )
            return Record(index, Outcome.EXCEPTION, started_at, elapsed, Fail.delay_seconds, 0, None, error.encode())
        return Record(index, Outcome.SUCCEEDED, started_at, elapsed, math.nan, 0, result)

    def _context(self, task_id: str, attempt: int) -> TaskContext:
        order = self._order
        return TaskContext(
            task_id=task_id,
            attempt=attempt,
            job_id=order.job_id,
            output_path=order.output_path,
            args=order.args,
            hostname=order.hostname,
            slots=order.slots,
            max_runtime_seconds=order.max_runtime_seconds,
            memory_limit_gib=None if order.memory_limit_bytes is None else order.memory_limit_bytes / 2**30,
            signs=self._memory.signs,
        )

    def _report(self, record: Record) -> None:
        body = record.pack()
        if self._used + len(body) > CAPACITY:
            self._send()
        if len(body) > CAPACITY:
            self._send_bytes(body)
            return
        self._used = self._memory.keep(self._used, body)
        if time.monotonic() - self._sent_at > SEND_AFTER_SECONDS:
            self._send()

    def _send(self) -> None:
        if self._used:
            self._send_bytes(self._memory.kept())
            self._memory.forget()
            self._used = 0
        self._sent_at = time.monotonic()

    def _send_bytes(self, body: bytes) -> None:
        try:
            self._socket.sendall(body)
        except OSError:
            os._exit(CUT_OFF)


def receive_chunk(sock: socket.socket) -> list[Job] | None:
    """Wait for the next run of tasks from the slot; None when there will be none."""
    import marshal

    header = _receive_exactly(sock, CHUNK_HEADER.size)
    if header is None:
        return None
    body = _receive_exactly(sock, CHUNK_HEADER.unpack(header)[0])
    return None if body is None else marshal.loads(body)


def _receive_exactly(sock: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        try:
            part = sock.recv(min(size - len(received), 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        received += part
    return bytes(received)


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
    return Record(index, outcome, started_at, elapsed, delay, code, None, describe_error(error))


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # the task closed or replaced it
            continue
