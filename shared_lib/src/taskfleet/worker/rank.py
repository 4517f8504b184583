"""One of the processes that call a function together: ``python -m taskfleet.worker.rank``, launched as ``ranks`` describes."""

import json
import os
import socket
import struct
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

from taskfleet.errors import FunctionError
from taskfleet.processes.lifeline import connect
from taskfleet.script_import import become_worker
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.graph_calls import load_task_function
from taskfleet.worker.ranks import RECEIVED, REPORT, VARIABLE
from taskfleet.worker.records import Record, outcome_of
from taskfleet.worker.task_calls import TaskCalls


class _Connection:
    """The connection to the launching process."""

    def __init__(self, announcement: dict[str, str]) -> None:
        self._socket = connect(announcement["address"])
        self._socket.settimeout(None)
        self._socket.sendall(announcement["key"].encode())
        self._flags = 0

    def order(self) -> dict[str, Any]:
        """Return what is to be done."""
        (length,) = struct.unpack("<Q", self._receive(8))
        found: dict[str, Any] = json.loads(self._receive(length))
        [self._flags] = self._receive(1)
        return found

    def flags(self) -> int:
        """Return the flags of the task."""
        with suppress(OSError):  # nothing has come since the last call
            flags = self._socket.recv(1024, socket.MSG_DONTWAIT)
            self._flags = flags[-1] if flags else self._flags
        return self._flags

    def report(self, rank: int, record: bytes) -> None:
        """Report how the call ended, and wait until the report has arrived."""
        body = REPORT.pack(rank, outcome_of(record) == Outcome.SUCCEEDED) + record
        self._socket.sendall(struct.pack("<Q", len(body)) + body)
        while (answer := self._socket.recv(1)) and answer[0] != RECEIVED:
            pass

    def _receive(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self._socket.recv(min(length - len(data), 1 << 20))
            if not part:
                raise ConnectionError("the launching process has ended")
            data += part
        return bytes(data)


def main() -> int:
    """Call the function of a task with the other processes; return the exit code."""
    become_worker()
    connection = _Connection(json.loads(os.environ.pop(VARIABLE)))
    order = connection.order()
    config, lease = WorkerConfig.from_json(order["config"]), Lease(*order["lease"])
    index, n = order["index"], order["mpi_processes"]
    sys.argv = [config.function, *config.args]
    comm: Any = None
    started_at = time.time()
    try:
        if n:
            comm = _communicator(n)
        function = load_task_function(config)
    except FunctionError as error:
        record = Record(
            task_index=index,
            outcome=Outcome.EXCEPTION,
            started_at=started_at,
            elapsed_seconds=0.0,
            error=str(error).encode("utf-8", "replace"),
        ).pack()
    else:
        record = TaskCalls(function, config, connection.flags, mpicomm=comm, is_launched=True).record(index, lease)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the function closed or replaced it
            stream.flush()
    connection.report(0 if comm is None else comm.rank, record)
    if outcome_of(record) == Outcome.SUCCEEDED or n <= 1:
        return 0
    if comm is not None:
        comm.Abort(1)  # the others may wait for this one
    return 1


def _communicator(n: int) -> Any:
    """Initialise MPI; return the communicator of all processes.

    Raises:
        FunctionError: There is no mpi4py or no MPI library, or it is not the launcher's.
    """
    try:
        from mpi4py import MPI
    except ModuleNotFoundError:
        raise FunctionError(
            "mpi4py is not installed where the task runs. Add it to the project: uv add mpi4py"
        ) from None
    except (ImportError, RuntimeError) as error:
        raise FunctionError(
            f"mpi4py cannot load an MPI library: {error}. Install an MPI (Debian: openmpi-bin), or load the site's module in the script of "
            "BEFORE_WORKER"
        ) from None
    if MPI.COMM_WORLD.size != n:
        raise FunctionError(
            f"{n} processes were launched, but MPI knows of {MPI.COMM_WORLD.size}: the launcher is not that of mpi4py's MPI library "
            f"({MPI.Get_library_version().splitlines()[0].strip()[:60]}). With srun, choose one of 'srun --mpi=list' by the variable "
            "SLURM_MPI_TYPE; elsewhere, the mpiexec of this library by MPI_LAUNCHER"
        )
    return MPI.COMM_WORLD


if __name__ == "__main__":
    try:
        code = main()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.exit(code)
