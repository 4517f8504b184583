"""A runner that forks for each task, so that every task has a process of its own.

The runner itself runs no user code, and little else: each page of memory that it or its child writes to has to be copied, and those
copies are what a process per task costs. So what can be done before the fork is done there, the child leaves its record in shared memory
without waking anybody, and all that is not urgent is left to the slot, which never forks while tasks run.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from taskfleet.processes.memory import MAXRSS_PER_MIB
from taskfleet.processes.tree import adopt_orphans, kill_orphans
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.forking import STOPPING_SIGNALS, after_fork, die_of_interrupt, fork, unblock_signals
from taskfleet.worker.records import Record, amended
from taskfleet.worker.runner import CUT_OFF, SEND_AFTER_SECONDS, Runner, exit_reason
from taskfleet.worker.shared_file import SharedFile
from taskfleet.worker.shared_memory import CAPACITY

with suppress(ImportError):  # Windows, where there is no fork either
    import fcntl

#: Records up to this go into the shared memory, in which the runner keeps so much room; longer ones go into a file.
SHORT_BYTES = CAPACITY // 2


class ForkingRunner(Runner):
    """Has each task run in a child."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._most = 0  # the children are worn out, not this process
        self._long_record = SharedFile("taskfleet-record").fd
        self._prepared: list[dict[str, Any] | None] = []
        self._lifeline, self._slots_end = socket.socketpair()
        self._fd_of_lifeline = self._lifeline.fileno()

    def _begin(self) -> None:
        self._pid = os.getpid()
        after_fork()
        adopt_orphans()
        # The system kills whoever owns the lifeline when its other end, which is the slot's alone, is closed: should the slot die, and
        # this process with it, the child does too. That costs the child nothing, unlike asking for it itself.
        self._slots_end.close()
        fcntl.fcntl(self._lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(self._lifeline, fcntl.F_SETFL, os.O_ASYNC)

    def run(self, chunk: Sequence[Lease]) -> None:
        """See ``Runner.run``; what can be done for all tasks at once is, before the first fork."""
        self._prepared = [self._prepare(lease) for lease in reversed(chunk)]
        super().run(chunk)

    def _prepare(self, lease: Lease) -> dict[str, Any] | None:
        try:
            return self._arguments(lease)
        except Exception:  # it will fail again, and be reported, in the child
            return None

    def _skip(self) -> None:
        self._prepared.pop()

    def _do(self, index: int, lease: Lease) -> None:
        """Have one task done by a child, and see that nothing is left of it."""
        memory = self._memory
        prepared = self._prepared.pop()
        pid = fork()
        if pid == 0:
            self._be_child(index, lease, prepared)
        fcntl.fcntl(self._fd_of_lifeline, fcntl.F_SETOWN, pid)
        _, status, usage = os.wait4(pid, 0)
        try:
            os.waitpid(-1, os.WNOHANG)
            kill_orphans()
        except ChildProcessError:  # which is how the system says that nothing is left of it
            pass
        reported, used = memory.reported()
        peak_memory_mib = usage.ru_maxrss / MAXRSS_PER_MIB
        if reported == index and used > self._used and not os.lseek(self._output.fd, 0, os.SEEK_END):
            memory.settle(self._used, used, peak_memory_mib)
            self._used = used
        else:
            self._report(self._record(index, reported == index, status, peak_memory_mib))
        if self._used > SHORT_BYTES or time.monotonic() - self._sent_at > SEND_AFTER_SECONDS:
            self._send()

    def _record(self, index: int, is_reported: bool, status: int, peak_memory_mib: float) -> bytes:
        """Make the record of a task that was no short and silent success."""
        output = self._output.take()
        if is_reported:
            record = self._memory.take_last(self._used) or _take_all(self._long_record)
            return amended(record, peak_memory_mib, output)
        exit_code = os.waitstatus_to_exitcode(status)
        _, began_at = self._memory.begun()
        elapsed = time.monotonic() - began_at
        return Record(
            task_index=index,
            outcome=Outcome.EXIT,
            started_at=time.time() - elapsed,
            elapsed_seconds=elapsed,
            exit_code=exit_code,
            error=exit_reason(exit_code).encode(),
            output=output,
            peak_memory_mib=peak_memory_mib,
            is_interrupt=-exit_code in STOPPING_SIGNALS,
        ).pack()

    def _be_child(self, index: int, lease: Lease, prepared: dict[str, Any] | None) -> NoReturn:
        """Do the task. Written out at length: each function, each object that is touched here is another page to copy."""
        code = CUT_OFF
        try:
            os.setsid()
            os.close(self._fd)
            after_fork()
            unblock_signals()
            me = os.getpid()
            body = self._try(index, lease, prepared)
            if os.getpid() != me:  # the task forked, and this is the child, come back from the user's function
                os._exit(0)
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:  # the task closed or replaced it
                    continue
            if len(body) <= SHORT_BYTES:
                self._memory.keep_and_report(self._used, body, index)
            else:
                _write_all(self._long_record, body)
                self._memory.report(index)
            code = 0
        except KeyboardInterrupt:  # just before the function was called, or after it returned
            die_of_interrupt()
        finally:
            os._exit(code)


def _write_all(fd: int, body: bytes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.seek(0)  # where others wrote that share the descriptor's position
        file.write(body)


def _take_all(fd: int) -> bytes:
    body = os.pread(fd, os.fstat(fd).st_size, 0)
    os.ftruncate(fd, 0)
    return body
