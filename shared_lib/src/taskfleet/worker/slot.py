"""A slot: the process that has user code run in runners, one after the other, and holds them to their limits.

It is forked from the warm process, runs no user code itself and so always answers its supervisor; see ``messages``.
"""

import gc
import os
import time
from collections import deque
from collections.abc import Iterable

from taskfleet.functions import TaskFunction
from taskfleet.processes.polling import POLLIN, POLLOUT, make_poll
from taskfleet.processes.tree import adopt_orphans, kill_orphans
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.finished_batch import FinishedBatch
from taskfleet.worker.limits import Limits
from taskfleet.worker.messages import KillTask, Recall, Returned, Run, SetFlags, Started, pack, unpack
from taskfleet.worker.runner_process import SILENT_SECONDS, RunnerProcess
from taskfleet.worker.runner_starters import Forker, RunnerStarter
from taskfleet.worker.wire import Channel

HAND_OVER_AFTER_SECONDS = 0.02
OUTPUT_CHECK_SECONDS = 0.5
#: How often a runner is looked at for its end, where the system does not tell of it.
END_CHECK_SECONDS = 0.01


class Slot:
    """Runs tasks one at a time. With another start method than fork it has no function: runners import it themselves."""

    def __init__(self, channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> None:
        starter = _make_starter(channel, function, config)
        self._channel = channel
        self._memory = starter.memory
        self._output = starter.output
        self._poll = make_poll()
        self._finished = FinishedBatch()
        self._runner = RunnerProcess(starter, config, self._poll, self._finished)
        self._limits = Limits(config, self._runner.memory_bytes)
        self._waiting: deque[Lease] = deque()
        """Tasks that no runner was given yet."""
        self._waits_to_write = False

    def serve(self) -> None:
        """Work until the supervisor is gone."""
        adopt_orphans()
        gc.freeze()
        self._output.redirect()
        self._poll.register(self._channel.fileno(), POLLIN)
        self._channel.send(pack(Started(pid=os.getpid())))
        try:
            while True:
                self._feed()
                self._hand_over()
                for fd, _ in self._poll.poll(self._wait_ms()):
                    if fd == self._channel.fileno():
                        self._obey()
                    elif self._runner.handle(fd):
                        self._reap()
                if self._runner.is_busy:
                    self._runner.accept_kept()
                if self._runner.is_busy:
                    self._enforce_limits()
        except EOFError:  # the supervisor is gone: so is the right to go on
            self._runner.kill(Outcome.INTERRUPTED, "The worker ended")
            kill_orphans()  # helpers too

    def _obey(self) -> None:
        """Do what the supervisor says."""
        self._channel.flush()
        for message in map(unpack, self._channel.receive()):
            match message:
                case Run(leases=leases):
                    self._waiting.extend(leases)
                case Recall():
                    self._return([*self._runner.recall(), *self._take_waiting()])
                case KillTask():
                    unstarted = self._runner.recall()
                    if self._runner.is_busy:
                        self._runner.kill(Outcome.INTERRUPTED, "The worker was stopped")
                        unstarted = [*self._runner.reap(), *unstarted]
                    self._return([*unstarted, *self._take_waiting()])
                case SetFlags(flags=flags):
                    self._memory.show(flags)

    def _take_waiting(self) -> list[Lease]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _return(self, leases: Iterable[Lease]) -> None:
        self._hand_over(at_once=True)
        self._channel.send(pack(Returned(keys=[lease.key for lease in leases])))

    def _feed(self) -> None:
        """Give the runner as many of the waiting tasks as it has room for."""
        if self._waiting:
            n = min(self._runner.room, len(self._waiting))
            if n > 0:
                self._runner.give([self._waiting.popleft() for _ in range(n)])

    def _reap(self) -> None:
        self._waiting.extendleft(reversed(self._runner.reap()))

    def _enforce_limits(self) -> None:
        index, began_at = self._runner.at_hand()
        violation = self._limits.violation(began_at)
        if violation is None:
            self._output.bound()
        else:
            self._runner.kill(violation.outcome, violation.reason, index)
            self._reap()

    def _wait_ms(self) -> float | None:
        """Return for how long nothing needs to be looked at; None for ever."""
        runner = self._runner
        now = time.monotonic()
        waits = []
        if self._finished:
            waits.append(self._finished.began_at + HAND_OVER_AFTER_SECONDS - now)
        if runner.is_alive and not runner.tells_its_end:
            if runner.has_ended():
                self._reap()
                return 0.0
            waits.append(END_CHECK_SECONDS if runner.is_busy or self._waiting else OUTPUT_CHECK_SECONDS)
        if runner.is_busy:
            waits.append(OUTPUT_CHECK_SECONDS)
            _, began_at = runner.at_hand()
            if began_at is None:
                waits.append(SILENT_SECONDS)
            until_limit = self._limits.wait_seconds(began_at, now)
            if until_limit is not None:
                waits.append(until_limit)
        return max(0.0, min(waits)) * 1000 if waits else None

    def _hand_over(self, *, at_once: bool = False) -> None:
        """Send what is finished, in batches."""
        if self._finished:
            is_idle = not self._waiting and not self._runner.is_busy
            if at_once or is_idle or time.monotonic() - self._finished.began_at >= HAND_OVER_AFTER_SECONDS:
                self._channel.send(pack(self._finished.take()))
        if self._channel.wants_write != self._waits_to_write:
            self._waits_to_write = self._channel.wants_write
            self._poll.modify(self._channel.fileno(), POLLIN | (POLLOUT if self._waits_to_write else 0))


def _make_starter(channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> RunnerStarter:
    if config.start_method == "fork":
        assert function is not None
        return Forker(channel, function, config)
    from taskfleet.worker.launching import Launcher  # which imports much that a fork does without

    return Launcher(config)
