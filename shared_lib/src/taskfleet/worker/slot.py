"""A slot: the process that starts one runner after another to run user code, and enforces the limits on them.

It is forked from the warm process and runs no user code itself, so it always responds to its supervisor; see ``messages``.
"""

import gc
import os
import selectors
import time
from collections import deque
from collections.abc import Iterable

from taskfleet.functions import TaskFunction
from taskfleet.processes.tree import adopt_orphans, kill_orphans
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.finished_batch import FinishedBatch
from taskfleet.worker.limits import Limits
from taskfleet.worker.messages import KillTask, Recall, Returned, Run, SetFlags, Started, pack, unpack
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
                case KillTask():
                    unstarted = self._runner.recall()
                    if self._runner.is_busy:
                        self._runner.kill(Outcome.INTERRUPTED, "The worker was stopped")
                        unstarted = [*self._runner.reap(), *unstarted]
                    self._return([*unstarted, *self._take_pending()])
                case SetFlags(flags=flags):
                    self._memory.set_flags(flags)

    def _take_pending(self) -> list[Lease]:
        taken = list(self._pending)
        self._pending.clear()
        return taken

    def _return(self, leases: Iterable[Lease]) -> None:
        self._send_finished(at_once=True)
        self._channel.send(pack(Returned(keys=[lease.key for lease in leases])))

    def _assign_pending(self) -> None:
        """Assign as many pending tasks to the runner as it has room for."""
        if self._pending:
            n = min(self._runner.room, len(self._pending))
            if n > 0:
                self._runner.give([self._pending.popleft() for _ in range(n)])

    def _reap(self) -> None:
        self._pending.extendleft(reversed(self._runner.reap()))

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
        """Send finished attempts, in batches."""
        if self._finished:
            is_idle = not self._pending and not self._runner.is_busy
            if at_once or is_idle or time.monotonic() - self._finished.began_at >= SEND_AFTER_SECONDS:
                self._channel.send(pack(self._finished.take()))
        if self._channel.wants_write != self._selects_for_write:
            self._selects_for_write = self._channel.wants_write
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._selects_for_write else 0)
            self._selector.modify(self._channel, events)


def _make_starter(channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> RunnerStarter:
    if config.start_method == "fork":
        assert function is not None
        return Forker(channel, function, config)
    from taskfleet.worker.launching import Launcher  # imports many modules that fork does not need

    return Launcher(config)
