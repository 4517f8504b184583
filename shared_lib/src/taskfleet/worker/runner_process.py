"""The slot's handle of its runner: start it, assign tasks, receive records, kill, reap and replace it."""

import os
import sys
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, BaseSelector

from taskfleet.processes.memory import memory_bytes
from taskfleet.processes.tree import kill_group, kill_orphans
from taskfleet.tasks import NO_RETRY, AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.chunks import pack_chunk
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.finished_batch import FinishedBatch
from taskfleet.worker.forking import STOPPING_SIGNALS
from taskfleet.worker.graph_calls import note_reported
from taskfleet.worker.records import CODES, CorruptRecordError, Record, codes_in, salvage
from taskfleet.worker.runner import exit_reason
from taskfleet.worker.runner_connection import RunnerConnection
from taskfleet.worker.runner_starters import RunnerStarter
from taskfleet.worker.shared_memory import NOTHING_BEGUN

#: A runner that has started a later task and sent nothing for this long has unsent records and is busy.
SILENT_SECONDS = 0.05
#: If runners die this often in a row without starting a task, the current task fails.
STARTUP_DEATHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kill:
    """The reason for killing the runner."""

    outcome: Outcome
    reason: str
    target: int | None
    """The index of the task to be killed; None for the running one, whichever it is."""
    is_final: bool
    """Whether the task gets no other attempt."""


class RunnerProcess:
    """At most one process at a time, and its tasks, which it knows by an index from 0.

    Args:
        starter: Starts the process; has the memory and the file that it shares with the slot.
        config: The number of tasks after which the process is replaced.
        selector: The slot's selector.
        finished: Collects the finished attempts.
    """

    def __init__(
        self, starter: RunnerStarter, config: WorkerConfig, selector: BaseSelector, finished: FinishedBatch
    ) -> None:
        self._starter = starter
        self._memory = starter.memory
        self._output = starter.output
        self._selector = selector
        self._finished = finished
        self._connection = RunnerConnection(selector)
        self._most = sys.maxsize if starter.forks_per_task else config.tasks_per_process or sys.maxsize
        """How many tasks to assign to one process; a process that forks for each task lives as long as the slot."""
        self._pid = 0
        self._pidfd = -1
        self._assigned: deque[tuple[int, Lease]] = deque()
        """The tasks without a record yet, with their indexes."""
        self._next_index = 0
        self._accepted_index = -1
        """The index of the task of the latest record."""
        self._last_record_at = 0.0
        self._startup_deaths = 0
        self._kill: _Kill | None = None
        self._is_blame_uncertain = False
        self._codes: dict[str, str] = {}
        self._has_recalled = False
        """Whether the connection may have tasks that this process was to skip; the next one must not get them."""

    # --- state ---

    @property
    def is_alive(self) -> bool:
        """Whether there is a process; it may have exited since the last check."""
        return self._pid != 0

    @property
    def is_busy(self) -> bool:
        """Whether there is a process that has tasks without a record."""
        return self._pid != 0 and bool(self._assigned)

    @property
    def reports_exit(self) -> bool:
        """Whether a descriptor becomes ready when the process exits (see ``handle``); otherwise poll ``has_ended``."""
        return self._pidfd >= 0

    @property
    def room(self) -> int:
        """How many tasks can be assigned now."""
        room = self._most - self._next_index
        return room if self._starter.takes_batches else min(room, 1 - len(self._assigned))

    def current_task(self) -> tuple[int, float | None]:
        """Return the index of the task started last, and the monotonic time of that; None if its record has arrived."""
        index, began_at = self._memory.begun()
        return index, began_at if self._assigned and index == self._first_index else None

    def holds(self, keys: Collection[AttemptKey]) -> bool:
        """Return whether it has a task with one of these keys and without a record."""
        return self.is_busy and any(lease.key in keys for _, lease in self._assigned)

    def index_of(self, keys: Collection[AttemptKey]) -> int | None:
        """Return the index of the task that runs, or is about to, if it has one of these keys."""
        if not self.is_busy:
            return None
        begun, _ = self._memory.begun()
        running = self._first_index if begun == NOTHING_BEGUN else max(self._first_index, begun)
        return next((index for index, lease in self._assigned if index == running and lease.key in keys), None)

    def has(self, index: int) -> bool:
        """Return whether it has the task with this index, without a record."""
        return self.is_busy and any(one == index for one, _ in self._assigned)

    @property
    def _first_index(self) -> int:
        index, _ = self._assigned[0]
        return index

    @property
    def _last_index(self) -> int:
        return max(self._next_index - 1, 0)

    def memory_bytes(self, enough: int) -> int:
        """Return the memory of its tasks and of all processes that they started; see ``processes.memory``."""
        parent = self._pid if self._starter.forks_per_task else os.getpid()
        return memory_bytes(parent, enough=enough, spare=self._starter.helpers)

    # --- assigning and recalling tasks ---

    def give(self, leases: Sequence[Lease]) -> None:
        """Assign tasks, at most ``room``; start a process if there is none.

        Raises:
            OSError: The system cannot create another process.
        """
        self._assigned.extend(enumerate(leases, start=self._next_index))
        self._next_index += len(leases)
        if self._pid:
            self._connection.send(pack_chunk(leases))
        elif self._starter.takes_batches:
            self._start(leases)
        else:
            self._start(())
            self._connection.send(pack_chunk(leases))

    def _start(self, leases: Sequence[Lease]) -> None:
        self._pid = self._starter.start(self._connection, leases)
        if hasattr(os, "pidfd_open"):
            with suppress(ProcessLookupError):  # a fork server has reaped it already
                self._pidfd = os.pidfd_open(self._pid)
                self._selector.register(self._pidfd, EVENT_READ)

    def recall(self) -> list[Lease]:
        """Take back the tasks that have not started and are not about to."""
        if not self.is_busy:
            return []
        if not self._starter.pause():  # while it is stopped, the number of started tasks does not change
            return self.reap() if self._starter.has_ended() else []
        begun, _ = self._memory.begun()
        first = self._first_index
        keep = 1 + (first if begun == NOTHING_BEGUN else max(first, begun))
        taken = [lease for index, lease in self._assigned if index >= keep]
        self._assigned = deque((index, lease) for index, lease in self._assigned if index < keep)
        self._memory.skip(keep, self._next_index)
        self._has_recalled = True
        self._starter.resume()
        return taken

    # --- receiving ---

    def handle(self, fd: int) -> bool:
        """Handle a ready descriptor, if it belongs to this runner; return whether the process has to be reaped now."""
        if fd == self._pidfd:
            return True
        if not self._connection.is_from(fd):
            return False
        self._connection.flush()
        try:
            self._accept(self._connection.receive(self._last_index))
        except CorruptRecordError:
            self._is_blame_uncertain = self._next_index > 1  # that task may have finished before this was noticed
            self.kill(Outcome.EXIT, "Exit: the task wrote into a file descriptor that is not its own")
            return self._pid != 0
        self._last_record_at = time.monotonic()
        # at its limit of tasks, with all records received and all recalls delivered, the process exits
        is_worn_out = self._next_index >= self._most and not self._assigned and self._connection.is_flushed
        return self._pid != 0 and is_worn_out

    def take_codes(self) -> dict[str, str]:
        """Return the hashes of the code of functions that runners have loaded since the last call, by their names."""
        codes, self._codes = self._codes, {}
        note_reported(codes)
        return codes

    def accept_unsent(self) -> None:
        """Take the records that it has not sent yet because it is busy with a long task."""
        now = time.monotonic()
        _, began_at = self.current_task()
        if now - self._last_record_at < SILENT_SECONDS or began_at is not None:
            return
        self._last_record_at = now
        self._accept(salvage(self._memory.settled_records(), self._last_index))

    def _accept(self, records: Iterable[Record]) -> None:
        given = self._assigned
        finished, interrupted = [], []
        for record in records:
            if record.outcome == CODES:
                self._codes |= codes_in(record)
                continue
            if not given:
                break
            index, lease = given[0]
            if record.task_index != index:
                continue  # a duplicate (sent and also kept), or a gap after a task wrote into the connection
            given.popleft()
            finished.append(record.finished(lease))
            if record.is_interrupt:
                interrupted.append(lease.key)
            self._accepted_index = index
        if finished:
            self._startup_deaths = 0
            self._finished.add(finished, interrupted, time.monotonic())

    # --- end ---

    def kill(self, outcome: Outcome, reason: str, target: int | None = None, *, is_final: bool = False) -> None:
        """Kill the process; ``reap`` reports it.

        Args:
            outcome: The outcome of the running task.
            reason: Its error.
            target: The index of the task to be killed; if it has just ended, its successor is not blamed. None for whichever task runs.
            is_final: Whether the task gets no other attempt, whatever the outcome is.
        """
        if self._pid:
            self._kill = self._kill or _Kill(outcome=outcome, reason=reason, target=target, is_final=is_final)
            kill_group(self._pid)

    def has_ended(self) -> bool:
        """Return whether the process has exited; for systems without ``pidfd_open``."""
        return self._starter.has_ended()

    def reap(self) -> list[Lease]:
        """Wait for the exit of the process, kill all that it has started, and take its last records and output.

        Its death is attributed to the task that had started.

        Returns:
            Its tasks that had not started; they remain for the next process.
        """
        status = self._starter.reap()
        self._pid = 0
        if self._pidfd >= 0:
            self._selector.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        kill_orphans(spare=self._starter.helpers)
        self._accept_final_records()
        output = self._output.take()
        unstarted: list[Lease] = []
        if self._assigned or self._connection.has_leftovers:
            blamed = self._take_blamed()
            if blamed is not None:
                self._report_death(blamed, status, output)
            unstarted = [lease for _, lease in self._assigned]
            self._assigned.clear()
            self._connection.close()
        elif self._has_recalled:
            self._connection.close()
        self._kill = None
        self._has_recalled = False
        self._is_blame_uncertain = False
        self._next_index = 0
        self._accepted_index = -1
        self._memory.reset()
        return unstarted

    def _accept_final_records(self) -> None:
        """Take the records sent or kept before the exit; add the output of the last one, which may be missing."""
        self._accept(self._connection.drain(self._last_index))
        self._accept(salvage(self._memory.records(), self._last_index))
        index, _ = self._memory.begun()
        if index == self._accepted_index and self._finished.lacks_output:
            self._finished.add_output(_text(self._output.take()))

    def _take_blamed(self) -> Lease | None:
        """Remove and return the task that caused the death; None if none did."""
        if not self._assigned:
            return None
        self._startup_deaths += 1
        begun, _ = self._memory.begun()
        is_target = self._kill is None or self._kill.target in (None, begun)
        is_sure = self._first_index == begun and is_target and not self._is_blame_uncertain
        if not is_sure and self._startup_deaths < STARTUP_DEATHS:
            return None
        self._startup_deaths = 0
        _, blamed = self._assigned.popleft()
        return blamed

    def _report_death(self, blamed: Lease, status: int, output: bytes | None) -> None:
        exit_code = os.waitstatus_to_exitcode(status)
        outcome = Outcome.EXIT if self._kill is None else self._kill.outcome
        _, began_at = self._memory.begun()
        now = time.monotonic()
        elapsed = max(0.0, now - began_at) if began_at else 0.0
        finished = Finished(
            seq=blamed.seq,
            attempt=blamed.attempt,
            outcome=int(outcome),
            started_at=time.time() - elapsed,
            elapsed_seconds=elapsed,
            error=(self._kill and self._kill.reason) or exit_reason(exit_code),
            output=_text(output),
            retry_delay_seconds=NO_RETRY if self._kill is not None and self._kill.is_final else None,
            exit_code=exit_code if outcome is Outcome.EXIT else None,
        )
        is_interrupt = outcome is Outcome.EXIT and -exit_code in STOPPING_SIGNALS
        self._finished.add([finished], [blamed.key] if is_interrupt else [], now)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")
