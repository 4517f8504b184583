"""Launches the processes that call a function together: the ranks of MPI, or one process on another node of the machine.

Each connects to this process, gets the task, and reports how it ended (see ``rank``). The connections are authenticated by a key in the
environment of the processes. Whatever happens to this process or to the launcher, all of them end (see ``processes.lifeline``).
"""

import json
import os
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

from taskfleet.errors import UsageError
from taskfleet.processes import mpi
from taskfleet.processes.lifeline import Lifeline
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.records import Record

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Has the addresses and the key of the launching process, as JSON.
VARIABLE = "TASKFLEET_RANK"
#: In front of a report: the rank, and whether the call succeeded.
REPORT = struct.Struct("<i?")
#: Answers a report, which has arrived then; other bytes are the flags of the task.
RECEIVED = 255
KEY_BYTES = 32
#: Files of this process besides the two connections to each process.
OTHER_FILES = 256
#: How often the flags of the task are passed on, and whether the launcher has ended is checked.
STEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What processes are to be launched for."""

    index: int
    """Of the record."""
    lease: Lease
    mpi_processes: int
    """0 for a single process without MPI."""

    @property
    def processes(self) -> int:
        """The number of processes."""
        return self.mpi_processes or 1


class Launches:
    """The processes that a task launches.

    Args:
        config: The configuration of the worker.
        flags: Returns the flags of the task.
    """

    def __init__(self, config: WorkerConfig, flags: Callable[[], int]) -> None:
        self._config = config
        self._flags = flags
        self._lifelines: list[Lifeline] = []

    def words(self, n: int) -> list[str]:
        """Return the beginning of a command line that runs the rest as ``n`` processes, which end with the task.

        Raises:
            UsageError: There is no launcher.
        """
        _allow_files(2 * n + OTHER_FILES)
        template, environ = self._config.mpi_launcher, dict(os.environ)
        words = mpi.launcher(n, slots=self._config.slots, template=template, environ=environ)
        self._lifelines.append(Lifeline(spans_hosts=mpi.spans_hosts(template, environ)))
        return [*words, *mpi.attached(self._lifelines[-1].address)]

    def end(self) -> None:
        """End all processes that are left."""
        while self._lifelines:
            self._lifelines.pop().close()

    def run(self, order: Order) -> bytes:
        """Have processes call the function of a task; return the packed record of rank 0, or of the first one that failed.

        Raises:
            UsageError: There is no launcher.
        """
        started_at, started = time.time(), time.monotonic()
        words = self.words(order.processes)
        with _Exchange(order, self._config) as exchange:
            environ = {**os.environ, VARIABLE: exchange.announcement}
            environ.pop("MPI4PY_RC_INITIALIZE", None)
            command = [*words, sys.executable, "-P", "-m", "taskfleet.worker.rank"]
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environ)
            except OSError as error:
                raise UsageError(f"MPI processes cannot be launched: {error}. Correct MPI_LAUNCHER.") from None
            while process.poll() is None:
                exchange.step(self._flags())
            while exchange.step(self._flags(), wait_seconds=0.0):
                pass
        self.end()
        if exchange.failure is not None:
            return exchange.failure
        if process.returncode == 0 and exchange.result is not None:
            return exchange.result
        return Record(
            task_index=order.index,
            outcome=Outcome.EXIT,
            started_at=started_at,
            elapsed_seconds=time.monotonic() - started,
            exit_code=process.returncode if process.returncode >= 0 else 128 - process.returncode,
            error=_how_ended(command, process.returncode, exchange.n_connected, order.processes).encode(),
        ).pack()


class _Exchange:
    """The connections to the processes."""

    def __init__(self, order: Order, config: WorkerConfig) -> None:
        self._flags = 0
        self.failure: bytes | None = None
        self.result: bytes | None = None
        self.n_connected = 0
        self._key = secrets.token_hex(KEY_BYTES // 2).encode()
        spans_hosts = mpi.spans_hosts(config.mpi_launcher, os.environ)
        self._server = socket.create_server(
            ("" if spans_hosts else "127.0.0.1", 0), backlog=min(order.processes, socket.SOMAXCONN)
        )
        host = socket.gethostname() if spans_hosts else "127.0.0.1"
        job = json.dumps({"config": asdict(config), **asdict(order)}).encode()
        self._job = struct.pack("<Q", len(job)) + job
        self.announcement = json.dumps(
            {"address": f"{host}:{self._server.getsockname()[1]}", "key": self._key.decode()}
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._received: dict[socket.socket, bytearray] = {}
        self._is_known: set[socket.socket] = set()

    def __enter__(self) -> "_Exchange":
        return self

    def __exit__(self, *_error: object) -> None:
        for one in (*self._received, self._server):
            one.close()
        self._selector.close()

    def step(self, flags: int, wait_seconds: float = STEP_SECONDS) -> bool:
        """Serve the connections for a moment; return whether there was anything to do."""
        if flags != self._flags:
            self._flags = flags
            for one in self._is_known:
                _send(one, bytes([flags]))
        ready = self._selector.select(wait_seconds)
        for key, _ in ready:
            if key.fileobj is self._server:
                connection, _ = self._server.accept()
                self._received[connection] = bytearray()
                self._selector.register(connection, selectors.EVENT_READ)
            else:
                self._receive(key.fileobj)  # type: ignore[arg-type]
        return bool(ready)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            self._is_known.discard(connection)
            del self._received[connection]
            connection.close()
            return
        received = self._received[connection]
        received += data
        if connection not in self._is_known and len(received) >= KEY_BYTES:
            if not secrets.compare_digest(bytes(received[:KEY_BYTES]), self._key):
                connection.shutdown(socket.SHUT_RDWR)
                return
            self._is_known.add(connection)
            self.n_connected += 1
            _send(connection, self._job + bytes([self._flags]))
        self._take_report(connection, received)

    def _take_report(self, connection: socket.socket, received: bytearray) -> None:
        start = KEY_BYTES + 8
        if connection not in self._is_known or len(received) < start:
            return
        (length,) = struct.unpack_from("<Q", received, KEY_BYTES)
        if len(received) < start + length:
            return
        rank, has_succeeded = REPORT.unpack_from(received, start)
        record = bytes(received[start + REPORT.size : start + length])
        if not has_succeeded:
            self.failure = self.failure or record
        elif rank == 0:
            self.result = record
        _send(connection, bytes([RECEIVED]))


def _allow_files(n: int) -> None:
    """Let this process and those that it starts open as many files, if the system allows it."""
    if resource is not None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < n:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n if hard < 0 else min(n, hard), hard))


def _send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # the process has ended
        connection.sendall(data)


def _how_ended(command: list[str], code: int, n_connected: int, n: int) -> str:
    launcher = mpi.program_of(command)
    if code < 0:
        return f"Exit: {launcher} was killed by signal {-code}, and all {n} processes of the task with it"
    if code > 128 and code - 128 != signal.SIGTERM:  # with which launchers end the others when one fails
        hint = " (out of memory?)" if code - 128 == signal.SIGKILL else ""
        how = f"one of the {n} processes was killed by signal {code - 128}{hint}"
    elif code == 0:
        how = "the processes ended before the function returned"
    else:
        what = (
            f"{n - n_connected} of {n} processes did not start" if n_connected < n else f"one of {n} processes failed"
        )
        how = f"{launcher} ended with code {code}, and {what}; the output of the task says more"
    return f"Exit: {how}"
