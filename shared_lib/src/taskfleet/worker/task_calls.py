"""Calls functions for tasks, and makes records of how that ended. Runs in a process that may run user code."""

import math
import time
from collections.abc import Callable
from typing import Any

from taskfleet.context import Fail, Retry, TaskContext
from taskfleet.errors import UsageError
from taskfleet.functions import TaskFunction
from taskfleet.tables.values import UnsupportedValueError
from taskfleet.tasks import Lease, Outcome
from taskfleet.tracebacks import describe_error, shorten_error
from taskfleet.worker.config import WorkerConfig, mpi_processes_of
from taskfleet.worker.graph_calls import GraphCalls
from taskfleet.worker.ranks import Launches, Order
from taskfleet.worker.records import Record, pack_success
from taskfleet.worker.result_encoding import ResultEncoder

#: A placeholder lease, for functions that do not take a context.
_NO_LEASE = Lease(seq=0, attempt=0, task_id="", data="")


class TaskCalls:
    """Calls the functions of tasks.

    Args:
        function: TASK_FUNCTION.
        config: The configuration of the worker.
        flags: Returns the flags that the worker sets for its tasks.
        mpicomm: The communicator, if this is one of several processes that call a function.
        is_launched: Whether this process was launched for a task, see ``ranks``.
    """

    def __init__(
        self,
        function: TaskFunction,
        config: WorkerConfig,
        flags: Callable[[], int],
        *,
        mpicomm: Any = None,
        is_launched: bool = False,
    ) -> None:
        self._function = function
        self._config = config
        self._flags = flags
        self._mpicomm = mpicomm
        self._is_launched = is_launched
        self._launches = Launches(config, flags)
        self._needs_context = function.is_rms_style or bool(function.injected)
        self._call = function.call
        self._is_rms_style = function.is_rms_style
        self._encode = ResultEncoder().encode
        self._graph_calls = GraphCalls(config)
        self._most_bytes = config.max_result_bytes
        self._bare = self._context(_NO_LEASE)

    def prepare(self, lease: Lease) -> dict[str, Any] | None:
        """Do what can be done before the fork of a task's process; return the arguments, or None."""
        if self._is_to_launch(lease):
            return None
        if lease.function:
            return self._graph_calls.prepare(lease)
        return self._arguments(lease)

    def take_codes(self) -> dict[str, str]:
        """See ``GraphCalls.take_codes``."""
        return self._graph_calls.take_codes()

    def _arguments(self, lease: Lease) -> dict[str, Any]:
        return self._function.arguments(lease.data, self._context(lease) if self._needs_context else self._bare)

    def record(self, index: int, lease: Lease, prepared: dict[str, Any] | None = None) -> bytes:
        """Call the function, in several processes if it is to be; return the packed record."""
        started_at, started = time.time(), time.perf_counter()
        try:
            if self._is_to_launch(lease):
                processes = mpi_processes_of(lease.function, self._config)
                if processes > self._config.slots:
                    raise UsageError(
                        f"The task takes {processes} slots, one for each MPI process, and this worker has {self._config.slots}. Run it on "
                        f"a larger machine, or set SLOTS={processes}."
                    )
                if not (processes and lease.function and self._graph_calls.load(lease.function).is_bash):
                    return self._launches.run(Order(index=index, lease=lease, mpi_processes=processes))
            if lease.function:
                value, encode = self._graph_calls.call(lease, self._context, prepared), self._graph_calls.encode
            else:
                value, encode = self._call(**(self._arguments(lease) if prepared is None else prepared)), self._encode
                if self._is_rms_style:
                    value = self._function.result(value)
            elapsed = time.perf_counter() - started
            if self._mpicomm is not None and self._mpicomm.rank:
                value = None  # the result is that of rank 0
            try:
                result = encode(value)
            except UnsupportedValueError as error:
                return _not_json(index, started_at, elapsed, error).pack()
            if len(result) > self._most_bytes:
                return _too_large(index, started_at, elapsed, len(result), self._most_bytes).pack()
            return pack_success(index, started_at, elapsed, result)
        except UsageError as error:  # of this worker, not of the function
            return _refused(index, started_at, str(error)).pack()
        except BaseException as error:  # whatever a task raises is its outcome
            if self._mpicomm is not None:
                error.add_note(f"(MPI process {self._mpicomm.rank} of {self._mpicomm.size})")
            return _unsuccessful(index, started_at, time.perf_counter() - started, error).pack()
        finally:
            self._launches.end()

    def _is_to_launch(self, lease: Lease) -> bool:
        """Return whether other processes are launched for a task; those of MPI by a command, if its function returns one."""
        is_wanted = self._config.launches_tasks or bool(mpi_processes_of(lease.function, self._config))
        return is_wanted and not self._is_launched

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
            flags=self._flags,
            rms=config.rms,
            mpi_processes=mpi_processes_of(lease.function, config),
            mpicomm=self._mpicomm,
            launch=None if self._is_launched else self._launches.words,
        )


def _refused(index: int, started_at: float, error: str) -> Record:
    return Record(
        task_index=index,
        outcome=Outcome.EXCEPTION,
        started_at=started_at,
        elapsed_seconds=0.0,
        retry_delay_seconds=Fail.delay_seconds,
        error=shorten_error(error),
    )


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
