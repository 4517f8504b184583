"""A slot's runner, seen from the slot: started, given tasks, listened to, killed, reaped and replaced."""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from taskfleet.processes.memory import memory_bytes
from taskfleet.processes.polling import POLLIN, Poll
from taskfleet.processes.tree import kill_group, kill_orphans
from taskfleet.tasks import Finished, Lease, Outcome
from taskfleet.worker.chunks import pack_chunk
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.finished_batch import FinishedBatch
from taskfleet.worker.forking import STOPPING_SIGNALS
from taskfleet.worker.records import CorruptRecordError, Record, salvage
from taskfleet.worker.runner import exit_reason
from taskfleet.worker.runner_connection import RunnerConnection
from taskfleet.worker.runner_starters import RunnerStarter
from taskfleet.worker.shared_memory import NOTHING_BEGUN

#: A runner that is at a later task than the slot knows of, and silent for this long, has something to report and is busy.
SILENT_SECONDS = 0.05
#: A runner that dies this often in a row without beginning a task makes the task at hand fail.
STARTUP_DEATHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kill:
    """Why the runner was killed."""

    outcome: Outcome
    reason: str
    target: int | None
    """The index of the task it was for; None if it was for whatever ran."""


class RunnerProcess:
    """At most one process at a time, and the tasks it was given, each known to it by an index from 0.

    Args:
        starter: Starts one, and knows the memory and the file that it shares with the slot.
        config: After how many tasks it is replaced.
        poll: Where the slot waits.
        finished: Takes what became of its tasks.
    """

    def __init__(self, starter: RunnerStarter, config: WorkerConfig, poll: Poll, finished: FinishedBatch) -> None:
        self._starter = starter
        self._memory = starter.memory
        self._output = starter.output
        self._poll = poll
        self._finished = finished
        self._connection = RunnerConnection(poll)
        self._most = sys.maxsize if starter.forks_per_task else config.tasks_per_process or sys.maxsize
        """How many tasks it is given in its life; one that forks for each lives as long as the slot."""
        self._pid = 0
        self._pidfd = -1
        self._given: deque[tuple[int, Lease]] = deque()
        """The tasks that nothing was heard of yet, by their indexes."""
        self._next_index = 0
        self._accepted_index = -1
        """Of the task that its latest record is about."""
        self._heard_at = 0.0
        self._startup_deaths = 0
        self._kill: _Kill | None = None
        self._blame_is_unsure = False

    # --- what it is at ---

    @property
    def is_alive(self) -> bool:
        """Whether there is a process; it may have ended since it was looked at last."""
        return self._pid != 0

    @property
    def is_busy(self) -> bool:
        """Whether there is a process that was given tasks of which nothing was heard yet."""
        return self._pid != 0 and bool(self._given)

    @property
    def tells_its_end(self) -> bool:
        """Whether the system tells of its end at a descriptor (see ``handle``); else somebody has to look (``has_ended``)."""
        return self._pidfd >= 0

    @property
    def room(self) -> int:
        """How many tasks it can be given now."""
        room = self._most - self._next_index
        return room if self._starter.takes_batches else min(room, 1 - len(self._given))

    def at_hand(self) -> tuple[int, float | None]:
        """Return the index of the task begun last, and when that was on the monotonic clock, but None if it is known how it ended."""
        index, began_at = self._memory.begun()
        return index, began_at if self._given and index == self._first_index else None

    @property
    def _first_index(self) -> int:
        index, _ = self._given[0]
        return index

    @property
    def _last_index(self) -> int:
        return max(self._next_index - 1, 0)

    def memory_bytes(self, enough: int) -> int:
        """Measure what its tasks hold, and all that they have started; see ``processes.memory``."""
        parent = self._pid if self._starter.forks_per_task else os.getpid()
        return memory_bytes(parent, enough=enough, spare=self._starter.helpers)

    # --- giving and taking back ---

    def give(self, leases: Sequence[Lease]) -> None:
        """Give it tasks, for which there must be room, starting it if there is none.

        Raises:
            OSError: It cannot be started: the system has no room for another process.
        """
        self._given.extend(enumerate(leases, start=self._next_index))
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
                self._poll.register(self._pidfd, POLLIN)

    def recall(self) -> list[Lease]:
        """Take back what has not begun and is not about to."""
        if not self.is_busy:
            return []
        if not self._starter.hold():  # while it stands still, what it has begun cannot change
            return self.reap() if self._starter.has_ended() else []
        begun, _ = self._memory.begun()
        first = self._first_index
        keep = 1 + (first if begun == NOTHING_BEGUN else max(first, begun))
        taken = [lease for index, lease in self._given if index >= keep]
        self._given = deque((index, lease) for index, lease in self._given if index < keep)
        self._memory.skip(keep, self._next_index)
        self._starter.release()
        return taken

    # --- listening ---

    def handle(self, fd: int) -> bool:
        """Do what is to be done when a descriptor is ready, if it is one of this runner's; return whether it is to be reaped now."""
        if fd == self._pidfd:
            return True
        if not self._connection.is_from(fd):
            return False
        self._connection.flush()
        try:
            self._accept(self._connection.receive(self._last_index))
        except CorruptRecordError:
            self._blame_is_unsure = self._next_index > 1  # it may have come to its end before we saw what it wrote
            self.kill(Outcome.EXIT, "Exit: the task wrote into a file descriptor that is not its own")
            return self._pid != 0
        self._heard_at = time.monotonic()
        # has it done all it was made for, and heard what was taken back from it, it is leaving
        is_worn_out = self._next_index >= self._most and not self._given and self._connection.is_flushed
        return self._pid != 0 and is_worn_out

    def accept_kept(self) -> None:
        """Take the records that it has not sent yet because it is busy with a long task."""
        now = time.monotonic()
        _, began_at = self.at_hand()
        if now - self._heard_at < SILENT_SECONDS or began_at is not None:
            return
        self._heard_at = now
        self._accept(salvage(self._memory.kept_now(), self._last_index))

    def _accept(self, records: Iterable[Record]) -> None:
        given = self._given
        finished, interrupted = [], []
        for record in records:
            if not given:
                break
            index, lease = given[0]
            if record.task_index != index:
                continue  # known already: it was sent and kept; or those between were lost to a task that wrote into our channel
            given.popleft()
            finished.append(record.finished(lease))
            if record.is_interrupt:
                interrupted.append(lease.key)
            self._accepted_index = index
        if finished:
            self._startup_deaths = 0
            self._finished.add(finished, interrupted, time.monotonic())

    # --- the end ---

    def kill(self, outcome: Outcome, reason: str, target: int | None = None) -> None:
        """Kill it; ``reap`` says of what.

        Args:
            outcome: What becomes of the task that runs.
            reason: Its error.
            target: The index of the task it is for: if that has just ended, the next one is not to blame. None for whatever runs.
        """
        if self._pid:
            self._kill = self._kill or _Kill(outcome=outcome, reason=reason, target=target)
            kill_group(self._pid)

    def has_ended(self) -> bool:
        """Whether it is to be reaped; for systems that do not tell."""
        return self._starter.has_ended()

    def reap(self) -> list[Lease]:
        """Wait for the end of a runner that has died or is about to, and of all it has started.

        Its final records and output are taken, and its death is put down to the task that had begun.

        Returns:
            The tasks it was given and had not begun; they wait for the next runner.
        """
        status = self._starter.reap()
        self._pid = 0
        if self._pidfd >= 0:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        kill_orphans(spare=self._starter.helpers)
        self._accept_final_records()
        output = self._output.take()
        unstarted: list[Lease] = []
        if self._given or self._connection.has_leftovers:
            blamed = self._take_blamed()
            if blamed is not None:
                self._report_death(blamed, status, output)
            unstarted = [lease for _, lease in self._given]
            self._given.clear()
            self._connection.close()
        self._kill = None
        self._blame_is_unsure = False
        self._next_index = 0
        self._accepted_index = -1
        self._memory.reset()
        return unstarted

    def _accept_final_records(self) -> None:
        """Take the records that were sent or kept before the end; what the last of them printed may not have been added to it."""
        self._accept(self._connection.drain(self._last_index))
        self._accept(salvage(self._memory.kept(), self._last_index))
        index, _ = self._memory.begun()
        if index == self._accepted_index and self._finished.lacks_output:
            self._finished.add_output(_text(self._output.take()))

    def _take_blamed(self) -> Lease | None:
        """Take out the task that the death is put down to; None if it is none's fault."""
        if not self._given:
            return None
        self._startup_deaths += 1
        begun, _ = self._memory.begun()
        is_target = self._kill is None or self._kill.target in (None, begun)
        is_sure = self._first_index == begun and is_target and not self._blame_is_unsure
        if not is_sure and self._startup_deaths < STARTUP_DEATHS:
            return None
        self._startup_deaths = 0
        _, blamed = self._given.popleft()
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
            exit_code=exit_code if outcome is Outcome.EXIT else None,
        )
        is_interrupt = outcome is Outcome.EXIT and -exit_code in STOPPING_SIGNALS
        self._finished.add([finished], [blamed.key] if is_interrupt else [], now)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")
