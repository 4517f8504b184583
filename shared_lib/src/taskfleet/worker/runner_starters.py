"""How a slot starts its runners: by fork here, by ``multiprocessing`` in ``launching``."""

import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Protocol

from taskfleet.functions import TaskFunction
from taskfleet.processes.tree import CAN_DIE_WITH_PARENT, die_with
from taskfleet.tasks import Lease
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import die_of_interrupt, fork
from taskfleet.worker.output import OutputFile
from taskfleet.worker.process_per_task import ForkingRunner
from taskfleet.worker.runner import Runner
from taskfleet.worker.runner_connection import RunnerConnection
from taskfleet.worker.shared_memory import SharedMemory
from taskfleet.worker.wire import Channel


class RunnerStarter(Protocol):
    """Starts runners, one after the other, and knows what became of the one at hand."""

    takes_batches: ClassVar[bool]
    """Whether a runner starts with its first tasks in hand and may hold many; else it gets one at a time through the connection."""
    forks_per_task: bool
    """Whether a runner has each task done by a child, and runs no user code itself."""
    memory: SharedMemory
    """Shared with all its runners."""
    output: OutputFile
    """Where all its runners print to."""
    helpers: frozenset[int]
    """Children of this process that are no runners."""

    def start(self, connection: RunnerConnection, leases: Sequence[Lease]) -> int:
        """Start a runner at the other end of a connection; return its process id.

        Args:
            connection: How the slot speaks to it.
            leases: Its first tasks; none unless it ``takes_batches``.

        Raises:
            OSError: The system has no room for another process.
        """

    def hold(self) -> bool:
        """Have the runner stand still; False if it has ended, or cannot be held."""

    def release(self) -> None:
        """Let a runner that was held go on."""

    def has_ended(self) -> bool:
        """Whether the runner is gone; does not wait."""

    def reap(self) -> int:
        """Wait for the runner's end; return its status as ``os.waitpid`` does."""


class Forker:
    """Forks runners from the slot itself, in which the user's module is loaded.

    Args:
        channel: The slot's to its supervisor, which no runner may keep open.
        function: The task function.
        config: What else runners are told.
    """

    takes_batches: ClassVar[bool] = True

    def __init__(self, channel: Channel, function: TaskFunction, config: WorkerConfig) -> None:
        self._channel = channel
        self._function = function
        self._config = config
        # where a child that outlives its runner could not be found, the slot itself forks, a runner for each task
        self.forks_per_task = config.tasks_per_process == 1 and CAN_DIE_WITH_PARENT
        self.memory = SharedMemory()
        self.output = OutputFile(config.output_tail_bytes)
        self.helpers: frozenset[int] = frozenset()
        self._prepared: tuple[socket.socket, Runner] | None = None
        """What the next child becomes, and the socket it was made for."""
        self._pid = 0
        self._status: int | None = None
        """Of a runner that has ended, if the system has told it already."""

    def start(self, connection: RunnerConnection, leases: Sequence[Lease]) -> int:
        """See ``RunnerStarter.start``."""
        runner = self._prepare(connection.open())
        slot = os.getpid()
        self._status = None
        self._pid = fork()
        if self._pid == 0:
            self._be_runner(runner, connection, leases, slot)
        return self._pid

    def _prepare(self, sock: socket.socket) -> Runner:
        if self._prepared is not None:
            made_for, runner = self._prepared
            if made_for is sock:
                return runner
        make = ForkingRunner if self.forks_per_task else Runner
        runner = make(self._function, self._config, self.memory, self.output, sock)
        self._prepared = sock, runner
        return runner

    def _be_runner(self, runner: Runner, connection: RunnerConnection, leases: Sequence[Lease], slot: int) -> None:
        """Never returns: this is the forked child of the slot with that process id."""
        code = 1
        try:
            die_with(slot)
            os.setsid()
            self._channel.close()
            connection.close_here()
            runner.serve(leases)
            code = 0
        except KeyboardInterrupt:  # between two tasks
            die_of_interrupt()
        finally:
            os._exit(code)

    def hold(self) -> bool:
        """See ``RunnerStarter.hold``."""
        os.kill(self._pid, signal.SIGSTOP)
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._status = status
        return False

    def release(self) -> None:
        """See ``RunnerStarter.release``."""
        os.kill(self._pid, signal.SIGCONT)

    def has_ended(self) -> bool:
        """See ``RunnerStarter.has_ended``."""
        if self._status is None:
            with suppress(ChildProcessError):
                if hasattr(os, "waitid"):
                    return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
                pid, status = os.waitpid(self._pid, os.WNOHANG)  # macOS before Python 3.13
                if pid:
                    self._status = status
        return self._status is not None

    def reap(self) -> int:
        """See ``RunnerStarter.reap``."""
        if self._status is None:
            _, self._status = os.waitpid(self._pid, 0)
        return self._status
