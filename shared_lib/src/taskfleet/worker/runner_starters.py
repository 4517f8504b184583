"""Start the runners of a slot: by fork here, by ``multiprocessing`` in ``launching``."""

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
from taskfleet.worker.output import OutputFile, open_output
from taskfleet.worker.process_per_task import ForkingRunner
from taskfleet.worker.runner import Runner
from taskfleet.worker.runner_connection import RunnerConnection
from taskfleet.worker.shared_memory import SharedMemory
from taskfleet.worker.wire import Channel


class RunnerStarter(Protocol):
    """Starts one runner after another, and knows the state of the current one."""

    takes_batches: ClassVar[bool]
    """Whether a runner starts with its first tasks and can have many; otherwise it gets one at a time through the connection."""
    forks_per_task: bool
    """Whether a runner forks a child for each task, and runs no user code itself."""
    memory: SharedMemory
    """The memory shared with all runners."""
    output: OutputFile
    """The file that captures the output of all runners."""
    helpers: frozenset[int]
    """Children of this process that are not runners."""

    def start(self, connection: RunnerConnection, leases: Sequence[Lease]) -> int:
        """Start a runner at the other end of a connection; return its process id.

        Args:
            connection: The slot's connection to it.
            leases: Its first tasks; empty unless ``takes_batches``.

        Raises:
            OSError: The system cannot create another process.
        """

    def pause(self) -> bool:
        """Stop the runner temporarily; return False if it has exited, or cannot be stopped."""

    def resume(self) -> None:
        """Continue a paused runner."""

    def has_ended(self) -> bool:
        """Return whether the runner has exited, without waiting."""

    def reap(self) -> int:
        """Wait for the runner to exit; return its status as ``os.waitpid`` does."""


class Forker:
    """Forks runners from the slot itself, which has loaded the user's module.

    Args:
        channel: The slot's channel to the supervisor; runners close it.
        function: The task function.
        config: The rest of the configuration of runners.
    """

    takes_batches: ClassVar[bool] = True

    def __init__(self, channel: Channel, function: TaskFunction, config: WorkerConfig) -> None:
        self._channel = channel
        self._function = function
        self._config = config
        # without PR_SET_CHILD_SUBREAPER, orphaned children could not be found, so the slot itself forks one runner per task
        self.forks_per_task = config.tasks_per_process == 1 and CAN_DIE_WITH_PARENT
        self.memory = SharedMemory()
        self.output = open_output(config.output_tail_bytes)
        self.helpers: frozenset[int] = frozenset()
        self._prepared: tuple[socket.socket, Runner] | None = None
        """The runner object for the next child, and the socket it was created for."""
        self._pid = 0
        self._status: int | None = None
        """The exit status, if the runner has already been waited for."""

    def start(self, connection: RunnerConnection, leases: Sequence[Lease]) -> int:
        """See ``RunnerStarter.start``."""
        runner = self._prepare(connection.open())
        slot = os.getpid()
        self._status = None
        self._pid = fork()
        if self._pid == 0:
            self._runner_main(runner, connection, leases, slot)
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

    def _runner_main(self, runner: Runner, connection: RunnerConnection, leases: Sequence[Lease], slot: int) -> None:
        """Run in the forked child of the slot with that process id; never return."""
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

    def pause(self) -> bool:
        """See ``RunnerStarter.pause``."""
        os.kill(self._pid, signal.SIGSTOP)
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._status = status
        return False

    def resume(self) -> None:
        """See ``RunnerStarter.resume``."""
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
