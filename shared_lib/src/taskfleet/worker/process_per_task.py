"""A runner that forks for each task, so that every task has its own process.

The runner itself runs no user code and does little else: each memory page that it or its child writes to has to be copied, and these
copies dominate the cost of a process per task. Therefore it does what it can before the fork, the child leaves its record in shared
memory without waking any process, and everything that is not urgent is left to the slot, which never forks while tasks run.
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

#: Records up to this size go into the shared memory, where the runner keeps this much room; longer ones go into a file.
SHORT_BYTES = CAPACITY // 2


class ForkingRunner(Runner):
    """Run each task in a child process."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._most = 0  # the limit on tasks per process applies to the children, not to this process
        self._long_record = SharedFile("taskfleet-record").fd
        self._prepared: list[dict[str, Any] | None] = []
        self._lifeline, self._slots_end = socket.socketpair()
        self._fd_of_lifeline = self._lifeline.fileno()

    def _begin(self) -> None:
        self._pid = os.getpid()
        after_fork()
        adopt_orphans()
        # The kernel kills the owner of the lifeline when its other end, which only the slot holds, is closed. So if the slot dies, and
        # this process with it, the child dies too. Unlike PR_SET_PDEATHSIG, this costs no system call in the child.
        self._slots_end.close()
        fcntl.fcntl(self._lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(self._lifeline, fcntl.F_SETFL, os.O_ASYNC)

    def run(self, chunk: Sequence[Lease]) -> None:
        """See ``Runner.run``; prepare all tasks before the first fork."""
        self._prepared = [self._prepare(lease) for lease in reversed(chunk)]
        super().run(chunk)

    def _prepare(self, lease: Lease) -> dict[str, Any] | None:
        try:
            return self._calls.prepare(lease)
        except Exception:  # the child will raise it again, and report it
            return None

    def _skip(self) -> None:
        self._prepared.pop()

    def _do(self, index: int, lease: Lease) -> None:
        """Run one task in a child, and kill the processes that it leaves behind."""
        memory = self._memory
        prepared = self._prepared.pop()
        self._report_codes(index)
        self._output.keep_errors_apart(bool(lease.function))
        pid = fork()
        if pid == 0:
            self._child_main(index, lease, prepared)
        fcntl.fcntl(self._fd_of_lifeline, fcntl.F_SETOWN, pid)
        _, status, usage = os.wait4(pid, 0)
        try:
            os.waitpid(-1, os.WNOHANG)
            kill_orphans()
        except ChildProcessError:  # no child is left
            pass
        reported, used = memory.reported()
        peak_memory_mib = usage.ru_maxrss / MAXRSS_PER_MIB
        if reported == index and used > self._used and self._output.is_empty:
            memory.settle(self._used, used, peak_memory_mib)
            self._used = used
        else:
            self._report(self._record(index, reported == index, status, peak_memory_mib))
        if self._used > SHORT_BYTES or time.monotonic() - self._sent_at > SEND_AFTER_SECONDS:
            self._send()

    def _record(self, index: int, is_reported: bool, status: int, peak_memory_mib: float) -> bytes:
        """Return the record of a task that failed, printed something or has a long result."""
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

    def _child_main(self, index: int, lease: Lease, prepared: dict[str, Any] | None) -> NoReturn:
        """Run the task. The code is inlined on purpose: each function and object that is touched here is another page to copy."""
        code = CUT_OFF
        try:
            os.setsid()
            os.close(self._fd)
            after_fork()
            unblock_signals()
            me = os.getpid()
            body = self._calls.record(index, lease, prepared)
            if os.getpid() != me:  # the task forked, and its child returned from the user's function
                os._exit(0)
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:  # the task closed or replaced it
                    continue
            if len(body) <= SHORT_BYTES:
                self._memory.append_and_report(self._used, body, index)
            else:
                _write_all(self._long_record, body)
                self._memory.report(index)
            code = 0
        except KeyboardInterrupt:  # just before or after the call of the function
            die_of_interrupt()
        finally:
            os._exit(code)


def _write_all(fd: int, body: bytes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.seek(0)  # others that share the descriptor's position may have moved it
        file.write(body)


def _take_all(fd: int) -> bytes:
    body = os.pread(fd, os.fstat(fd).st_size, 0)
    os.ftruncate(fd, 0)
    return body
