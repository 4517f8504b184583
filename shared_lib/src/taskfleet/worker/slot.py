"""A slot: the process that starts one runner after another to run user code, and enforces the limits on them.

It is forked from the warm process and runs no user code itself, so it always responds to its supervisor; see ``messages``.
"""

import gc
import os
import selectors
import time
from collections import deque
from collections.abc import Collection, Iterable

from taskfleet.context import STOPPING_FLAG
from taskfleet.functions import TaskFunction
from taskfleet.processes.tree import adopt_orphans, kill_orphans
from taskfleet.tasks import AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.finished_batch import FinishedBatch
from taskfleet.worker.limits import Limits, stopped_by
from taskfleet.worker.messages import (
    CANCELLED,
    Cancel,
    KillTask,
    Loaded,
    Recall,
    Returned,
    Run,
    SetFlags,
    Started,
    pack,
    unpack,
)
from taskfleet.worker.runner_process import SILENT_SECONDS, RunnerProcess
from taskfleet.worker.runner_starters import Forker, RunnerStarter
from taskfleet.worker.wire import Channel

SEND_AFTER_SECONDS = 0.02
OUTPUT_CHECK_SECONDS = 0.5
#: How often to check whether the runner has exited, where no descriptor reports it.
END_CHECK_SECONDS = 0.01


class Slot:
    """Run tasks one at a time. With a start method other than fork, ``function`` is None and the runners import it."""

    def __init__(self, channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> None:
        starter = _make_starter(channel, function, config)
        self._channel = channel
        self._memory = starter.memory
        self._output = starter.output
        # not the default, epoll, whose descriptor user code would inherit
        self._selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
        self._finished = FinishedBatch()
        self._runner = RunnerProcess(starter, config, self._selector, self._finished)
        self._limits = Limits(config, self._runner.memory_bytes)
        self._pending: deque[Lease] = deque()
        """The tasks that are not assigned to a runner yet."""
        self._selects_for_write = False
        self._flags = 0
        self._kills_at_time_limit = config.kills_at_time_limit
        self._cancel_grace_seconds = config.cancel_grace_seconds
        self._cancelling: tuple[int, float] | None = None
        """The index of the running task that was cancelled, and when it is killed unless it ends before, in monotonic time."""

    def serve(self) -> None:
        """Run tasks until the supervisor closes the channel."""
        adopt_orphans()
        gc.freeze()
        self._output.redirect()
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._channel.send(pack(Started(pid=os.getpid())))
        try:
            while True:
                self._assign_pending()
                self._send_finished()
                for key, _ in self._selector.select(self._wait_seconds()):
                    if key.fileobj is self._channel:
                        self._handle_messages()
                    elif self._runner.handle(key.fd):
                        self._reap()
                if self._runner.is_busy:
                    self._runner.accept_unsent()
                if self._runner.is_busy:
                    self._enforce_limits()
        except EOFError:  # the supervisor has exited, so the leases are no longer renewed
            self._runner.kill(Outcome.INTERRUPTED, "The worker ended")
            kill_orphans()  # including helpers

    def _handle_messages(self) -> None:
        """Handle the supervisor's messages."""
        self._channel.flush()
        for message in map(unpack, self._channel.receive()):
            match message:
                case Run(leases=leases):
                    self._pending.extend(leases)
                case Recall():
                    self._return([*self._runner.recall(), *self._take_pending()])
                case KillTask(lifetime_seconds=lifetime_seconds):
                    unstarted = self._runner.recall()
                    if self._runner.is_busy:
                        _, began_at = self._runner.current_task()
                        outcome, reason = stopped_by(began_at, lifetime_seconds, kills=self._kills_at_time_limit)
                        self._runner.kill(outcome, reason, is_final=outcome is Outcome.KILLED)
                        unstarted = [*self._runner.reap(), *unstarted]
                    self._return([*unstarted, *self._take_pending()])
                case Cancel(keys=keys):
                    self._cancel(frozenset(keys))
                case SetFlags(flags=flags):
                    self._flags = flags
                    self._show_flags()

    def _cancel(self, keys: Collection[AttemptKey]) -> None:
        """Kill tasks, those that have not started and the running one."""
        if self._cancelling is None and self._runner.holds(keys):
            self._pending.extendleft(reversed(self._runner.recall()))  # the others go on in a new process
            index = self._runner.index_of(keys)
            if index is not None:
                self._cancelling = (index, time.monotonic() + self._cancel_grace_seconds)
                self._show_flags()
                self._kill_cancelled()
        waiting = [lease for lease in self._pending if lease.key in keys]
        if waiting:
            self._pending = deque(lease for lease in self._pending if lease.key not in keys)
            self._send_finished(at_once=True)
            self._finished.add([_killed(lease) for lease in waiting], [], time.monotonic())
            self._send_finished(at_once=True)  # alone: output that comes later belongs to a task that ran

    def _kill_cancelled(self) -> None:
        """Kill the cancelled task if its time is over; if it has ended, let the next ones start."""
        if self._cancelling is None:
            return
        index, deadline = self._cancelling
        if not self._runner.has(index):
            self._cancelling = None
            self._show_flags()
        elif time.monotonic() >= deadline:
            self._runner.kill(Outcome.KILLED, CANCELLED, index)
            self._reap()

    def _show_flags(self) -> None:
        self._memory.set_flags(self._flags | (0 if self._cancelling is None else STOPPING_FLAG))

    def _take_pending(self) -> list[Lease]:
        taken = list(self._pending)
        self._pending.clear()
        return taken

    def _return(self, leases: Iterable[Lease]) -> None:
        self._send_finished(at_once=True)
        self._channel.send(pack(Returned(keys=[lease.key for lease in leases])))

    def _assign_pending(self) -> None:
        """Assign as many pending tasks to the runner as it has room for."""
        self._kill_cancelled()
        if self._pending and self._cancelling is None:
            n = min(self._runner.room, len(self._pending))
            if n > 0:
                self._runner.give([self._pending.popleft() for _ in range(n)])

    def _reap(self) -> None:
        self._pending.extendleft(reversed(self._runner.reap()))
        if self._cancelling is not None:
            self._cancelling = None
            self._show_flags()

    def _enforce_limits(self) -> None:
        index, began_at = self._runner.current_task()
        violation = self._limits.violation(began_at)
        if violation is None:
            self._output.bound()
        else:
            self._runner.kill(violation.outcome, violation.reason, index)
            self._reap()

    def _wait_seconds(self) -> float | None:
        """Return the seconds until the next check is due; None if there is none."""
        runner = self._runner
        now = time.monotonic()
        waits = []
        if self._finished:
            waits.append(self._finished.began_at + SEND_AFTER_SECONDS - now)
        if runner.is_alive and not runner.reports_exit:
            if runner.has_ended():
                self._reap()
                return 0.0
            waits.append(END_CHECK_SECONDS if runner.is_busy or self._pending else OUTPUT_CHECK_SECONDS)
        if self._cancelling is not None:
            waits.append(self._cancelling[1] - now)
        if runner.is_busy:
            waits.append(OUTPUT_CHECK_SECONDS)
            _, began_at = runner.current_task()
            if began_at is None:
                waits.append(SILENT_SECONDS)
            until_limit = self._limits.wait_seconds(began_at, now)
            if until_limit is not None:
                waits.append(until_limit)
        return max(0.0, min(waits)) if waits else None

    def _send_finished(self, *, at_once: bool = False) -> None:
        """Send finished attempts, in batches; before them, the code of the functions that they called."""
        codes = self._runner.take_codes()
        if codes:
            self._channel.send(pack(Loaded(codes=codes)))
        if self._finished:
            is_idle = not self._pending and not self._runner.is_busy
            if at_once or is_idle or time.monotonic() - self._finished.began_at >= SEND_AFTER_SECONDS:
                self._channel.send(pack(self._finished.take()))
        if self._channel.wants_write != self._selects_for_write:
            self._selects_for_write = self._channel.wants_write
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._selects_for_write else 0)
            self._selector.modify(self._channel, events)


def _killed(lease: Lease) -> Finished:
    """Return the attempt of a task that was cancelled before it started."""
    return Finished(
        seq=lease.seq,
        attempt=lease.attempt,
        outcome=int(Outcome.KILLED),
        started_at=time.time(),
        elapsed_seconds=0.0,
        error=CANCELLED,
    )


def _make_starter(channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> RunnerStarter:
    if config.start_method == "fork":
        assert function is not None
        return Forker(channel, function, config)
    from taskfleet.worker.launching import Launcher  # imports many modules that fork does not need

    return Launcher(config)
