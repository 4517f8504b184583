"""A slot: the process that has user code run in runners, one after the other, and holds them to their limits.

It is forked from the warm process, runs no user code itself and so always answers its supervisor. Its messages::

    to it:    ("run", leases)  ("recall",)  ("kill",)  ("signs", number)
    from it:  ("hello", pid)  ("done", finished attempts)  ("returned", [(seq, attempt), ...])
"""

import gc
import marshal
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from taskfleet.functions import TaskFunction
from taskfleet.processes.system import (
    CAN_DIE_WITH_PARENT,
    POLLIN,
    POLLOUT,
    adopt_orphans,
    die_with,
    end_orphans,
    kill_group,
    make_poll,
    memory_bytes,
)
from taskfleet.tasks import Finished, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import fork
from taskfleet.worker.output import OutputFile
from taskfleet.worker.process_per_task import ForkingRunner
from taskfleet.worker.records import NOTHING_BEGUN, CorruptRecordError, Record, SharedMemory, salvage, unpack
from taskfleet.worker.runner import CHUNK_HEADER, Runner, exit_reason
from taskfleet.worker.wire import Channel

if TYPE_CHECKING:
    from taskfleet.worker.launching import Launcher

#: A lease as plain values: seq, attempt, id, data.
PlainLease = tuple[int, int, str, str]

OUTPUT = Finished._fields.index("output")

HAND_OVER_AFTER_SECONDS = 0.02
MEMORY_CHECK_SECONDS = 0.05
#: However long it takes, a twentieth of the time or not.
LONGEST_MEMORY_CHECK_SECONDS = 2.0
OUTPUT_CHECK_SECONDS = 0.5
#: A runner that is at a later task than the slot knows of, and silent for so long, has something to tell and is busy.
SILENT_SECONDS = 0.05

#: A runner that dies so often in a row without beginning a task makes the task at hand fail.
BARREN_DEATHS = 3


class Slot:
    """Runs tasks one at a time. With another start method than fork it has no function: runners import it themselves."""

    def __init__(self, channel: Channel, function: TaskFunction | None, config: WorkerConfig) -> None:
        self._channel = channel
        self._function = function
        self._config = config
        self._launcher = _make_launcher(config)
        # where a child that outlives its runner could not be found, the slot itself forks, a runner for each task
        self._forks_per_task = config.tasks_per_process == 1 and self._launcher is None and CAN_DIE_WITH_PARENT
        self._most = 0 if self._forks_per_task else config.tasks_per_process
        """How many tasks a runner is given in its life; one that forks for each lives as long as the slot."""
        self._memory = SharedMemory() if self._launcher is None else self._launcher.memory
        self._output = OutputFile(config.output_tail_bytes) if self._launcher is None else self._launcher.output
        self._poll = make_poll()
        self._waiting: deque[PlainLease] = deque()
        self._done: list[tuple[object, ...]] = []  # of Finished
        self._accepted_place = -1  # of what this runner's latest record is about
        self._done_since = 0.0
        self._barren_deaths = 0
        self._waits_to_write = False
        self._measure_at = 0.0
        self._heard_at = 0.0
        # Of the runner:
        self._pid = 0
        self._pidfd = -1
        self._socket: socket.socket | None = None
        self._runners_socket: socket.socket | None = None
        self._runner: Runner | None = None
        self._given: deque[tuple[int, PlainLease]] = deque()  # with the index the runner knows it by
        self._next_index = 0
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._runner_is_full = False
        self._kill_reason: tuple[Outcome, str] | None = None
        self._condemned: int | None = None
        self._culprit_is_unsure = False

    def serve(self) -> None:
        """Work until the supervisor is gone."""
        adopt_orphans()
        gc.freeze()
        self._output.redirect()
        self._poll.register(self._channel.fileno(), POLLIN)
        self._channel.send(("hello", os.getpid()))
        try:
            while True:
                self._feed()
                self._hand_over()
                ready = self._poll.poll(self._patience_ms())
                for fd, _ in ready:
                    if fd == self._channel.fileno():
                        self._obey()
                    elif fd == self._pidfd:
                        self._bury()
                    elif self._socket is not None and fd == self._socket.fileno():
                        self._flush_to_runner()
                        self._receive_records()
                if self._pid and self._given:
                    self._look_for_kept()
                if self._pid and self._given:
                    self._enforce_limits()
        except EOFError:  # the supervisor is gone: so is the right to go on
            self._kill(Outcome.INTERRUPTED, "The worker ended")
            end_orphans()  # helpers too

    # --- what the supervisor says ---

    def _obey(self) -> None:
        self._channel.flush()
        for message in self._channel.receive():
            match message:
                case ("run", leases):
                    self._waiting.extend(leases)
                case ("recall",):
                    self._return(self._recall())
                case ("kill",):
                    unstarted = self._recall()
                    if self._pid and self._given:
                        self._kill(Outcome.INTERRUPTED, "The worker was stopped")
                        self._bury()
                    self._return(self._recall() + unstarted)
                case ("signs", signs):
                    self._memory.show(signs)

    def _return(self, leases: list[PlainLease]) -> None:
        self._hand_over(at_once=True)
        self._channel.send(("returned", [(seq, attempt) for seq, attempt, *_ in leases]))

    def _recall(self) -> list[PlainLease]:
        """Take back what has not begun and is not about to."""
        unstarted = list(self._waiting)
        self._waiting.clear()
        if not self._given or not self._pid:
            return unstarted
        if self._launcher is not None:  # which has one task at a time, not to be stopped and asked
            return unstarted
        os.kill(self._pid, signal.SIGSTOP)  # while it stands still, what it has begun cannot change
        _, status = os.waitpid(self._pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self._bury(status)
            unstarted = list(self._waiting) + unstarted
            self._waiting.clear()
            return unstarted
        begun, _ = self._memory.begun()
        first = self._given[0][0]
        keep = 1 + (first if begun == NOTHING_BEGUN else max(first, begun))
        taken = [lease for index, lease in self._given if index >= keep]
        self._given = deque((index, lease) for index, lease in self._given if index < keep)
        self._memory.skip(keep, self._next_index)
        os.kill(self._pid, signal.SIGCONT)
        return taken + unstarted

    # --- the runner ---

    def _feed(self) -> None:
        """Give waiting tasks to the runner, starting one if there is none."""
        if not self._waiting:
            return
        most = self._most
        if self._pid:
            room = len(self._waiting) if most == 0 else most - self._next_index
            if self._launcher is not None:
                room = min(room, 1 - len(self._given))
            if room > 0:
                self._give(room)
            return
        if self._launcher is not None:
            self._launch_runner(self._launcher)
            return
        chunk = self._take(most or len(self._waiting))
        self._start_runner([(task_id, attempt, data) for _, attempt, task_id, data in chunk])

    def _take(self, most: int) -> list[PlainLease]:
        chunk = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        for lease in chunk:
            self._given.append((self._next_index, lease))
            self._next_index += 1
        return chunk

    def _give(self, most: int) -> None:
        body = marshal.dumps([(task_id, attempt, data) for _, attempt, task_id, data in self._take(most)])
        self._outgoing += CHUNK_HEADER.pack(len(body)) + body
        self._flush_to_runner()

    def _flush_to_runner(self) -> None:
        if self._socket is None:
            return
        while self._outgoing:
            try:
                sent = self._socket.send(memoryview(self._outgoing)[: 1 << 20])
            except BlockingIOError:
                break
            except OSError:  # it died; the burial sorts things out
                self._outgoing.clear()
                break
            del self._outgoing[:sent]
        if bool(self._outgoing) != self._runner_is_full:
            self._runner_is_full = bool(self._outgoing)
            self._poll.modify(self._socket.fileno(), POLLIN | (POLLOUT if self._outgoing else 0))

    def _start_runner(self, chunk: list[tuple[str, int, str]]) -> None:
        runners_socket = self._connect()
        if self._runner is None:
            assert self._function is not None
            runner_type = ForkingRunner if self._forks_per_task else Runner
            self._runner = runner_type(self._function, self._config, self._memory, self._output, runners_socket)
        slot = os.getpid()
        self._pid = fork()
        if self._pid == 0:
            self._be_runner(chunk, slot)
        self._watch_runner()

    def _launch_runner(self, launcher: "Launcher") -> None:
        """Start a runner that is no child by fork; its first task follows through the socket, and waits there for the import."""
        self._pid = launcher.start(self._connect())
        self._watch_runner()
        self._give(1)

    def _connect(self) -> socket.socket:
        """Give the runners' end of the channel to them, which lasts until one of them dies with something in it."""
        if self._socket is None or self._runners_socket is None:
            self._socket, self._runners_socket = socket.socketpair()
            self._socket.setblocking(False)
            self._poll.register(self._socket.fileno(), POLLIN)
        return self._runners_socket

    def _watch_runner(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(ProcessLookupError):  # a fork server has buried it already
                self._pidfd = os.pidfd_open(self._pid)
                self._poll.register(self._pidfd, POLLIN)

    def _be_runner(self, chunk: list[tuple[str, int, str]], slot: int) -> None:
        """Never returns: this is the forked child of the slot with that process id."""
        code = 1
        try:
            assert self._socket is not None
            assert self._runner is not None
            die_with(slot)
            os.setsid()
            self._channel.close()
            self._socket.close()
            self._runner.serve(chunk)
            code = 0
        finally:
            os._exit(code)

    def _receive_records(self) -> None:
        assert self._socket is not None
        while True:
            try:
                part = self._socket.recv(1 << 20)
            except BlockingIOError:
                break
            if not part:
                break
            self._incoming += part
            if len(part) < 1 << 16:
                break
        try:
            records, used = unpack(self._incoming, self._last_index)
        except CorruptRecordError:
            self._culprit_is_unsure = self._next_index > 1  # it may have come to its end before we saw what it wrote
            self._kill(Outcome.EXIT, "Exit: the task wrote into a file descriptor that is not its own")
            self._bury()
            return
        del self._incoming[:used]
        self._accept(records)
        self._heard_at = time.monotonic()
        most = self._most
        if self._pid and most and self._next_index >= most and not self._given and not self._outgoing:
            self._bury()  # it has done all it was made for, has heard what was taken back from it, and is leaving

    def _look_for_kept(self) -> None:
        """Take the records that a runner has not sent yet because it is busy with a long task."""
        now = time.monotonic()
        if now - self._heard_at < SILENT_SECONDS or self._at_task() == self._given[0][0]:
            return
        self._heard_at = now
        self._accept(salvage(self._memory.kept_now(), self._last_index))

    def _at_task(self) -> int:
        return self._memory.begun()[0]

    @property
    def _last_index(self) -> int:
        return max(self._next_index - 1, 0)

    def _accept(self, records: Iterable[Record]) -> None:
        given, done = self._given, self._done
        if not done:
            self._done_since = time.monotonic()
        for record in records:
            if not given or record[0] != given[0][0]:
                continue  # known already: it was sent and kept; or those between were lost to a task that wrote into our channel
            lease = given.popleft()[1]
            _, outcome, started_at, elapsed, delay, exit_code, result, error, output, peak = record
            done.append(
                (
                    lease[0],
                    lease[1],
                    outcome,
                    started_at,
                    elapsed,
                    None if result is None else result.decode("utf-8", "replace"),
                    None if error is None else error.decode("utf-8", "replace"),
                    None if output is None else output.decode("utf-8", "replace"),
                    None if delay != delay else delay,
                    exit_code if outcome == Outcome.EXIT else None,
                    peak or None,
                )
            )
            self._accepted_place = record[0]
            self._barren_deaths = 0

    def _finish(self, finished: Finished) -> None:
        if not self._done:
            self._done_since = time.monotonic()
        self._done.append(tuple(finished))

    def _kill(self, outcome: Outcome, reason: str, condemned: int | None = None) -> None:
        """Kill the runner; if it is for what one task did, and that has just ended, the next one is not to blame."""
        if not self._pid:
            return
        self._kill_reason = self._kill_reason or (outcome, reason)
        self._condemned = condemned
        kill_group(self._pid)

    def _bury(self, status: int | None = None) -> None:
        """Take leave of a runner that has died or is about to: its last words, its orphans, its cause of death."""
        if self._launcher is not None:
            status = self._launcher.wait()
        elif status is None:
            _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        if self._pidfd >= 0:
            self._poll.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._end_orphans()
        if self._socket is not None:
            self._hear_last_words()
        output = self._output.take()
        if self._given or self._outgoing or self._incoming:
            self._explain_death(status, output)
            self._drop_sockets()
        self._kill_reason = self._condemned = None
        self._culprit_is_unsure = False
        self._next_index = 0
        self._accepted_place = -1
        self._memory.reset()

    def _end_orphans(self) -> None:
        end_orphans() if self._launcher is None else end_orphans(spare=self._launcher.helpers)

    def _hear_last_words(self) -> None:
        """Take the records that were sent or kept before the end; what the last of them printed may not have been added to it."""
        assert self._socket is not None
        with suppress(OSError):
            while part := self._socket.recv(1 << 20):
                self._incoming += part
        for source in (bytes(self._incoming), self._memory.kept()):
            self._accept(salvage(source, self._last_index))
        if self._done and self._done[-1][OUTPUT] is None and self._accepted_place == self._at_task():
            self._done[-1] = (*self._done[-1][:OUTPUT], _text(self._output.take()), *self._done[-1][OUTPUT + 1 :])

    def _explain_death(self, status: int, output: bytes | None) -> None:
        """Put the death down to the task that had begun, and let the others wait for the next runner."""
        begun, began_at = self._memory.begun()
        culprit = None
        if self._given:
            self._barren_deaths += 1
            is_sure = self._given[0][0] == begun and not self._culprit_is_unsure and self._condemned in (None, begun)
            if is_sure or self._barren_deaths >= BARREN_DEATHS:
                _, culprit = self._given.popleft()
                self._barren_deaths = 0
        self._waiting.extendleft(lease for _, lease in reversed(self._given))
        self._given.clear()
        if culprit is None:
            return
        outcome, reason = self._kill_reason or (Outcome.EXIT, "")
        exit_code = os.waitstatus_to_exitcode(status)
        elapsed = max(0.0, time.monotonic() - began_at) if began_at else 0.0
        self._finish(
            Finished(
                culprit[0],
                culprit[1],
                int(outcome),
                time.time() - elapsed,
                elapsed,
                None,
                reason or exit_reason(exit_code),
                _text(output),
                None,
                exit_code if outcome is Outcome.EXIT else None,
            )
        )

    def _drop_sockets(self) -> None:
        assert self._socket is not None
        assert self._runners_socket is not None
        self._poll.unregister(self._socket.fileno())
        self._socket.close()
        self._runners_socket.close()
        self._socket = self._runners_socket = self._runner = None
        self._incoming.clear()
        self._outgoing.clear()
        self._runner_is_full = False

    # --- limits and time ---

    def _enforce_limits(self) -> None:
        config = self._config
        begun, began_at = self._memory.begun()
        is_running = begun == self._given[0][0]
        limit = config.max_runtime_seconds
        if limit is not None and is_running and time.monotonic() - began_at > limit:
            self._kill(Outcome.TIMEOUT, f"Timeout: it ran longer than MAX_RUNTIME_SECONDS={limit:g}", begun)
        elif config.memory_limit_bytes is not None and (used := self._memory_used()) > config.memory_limit_bytes:
            self._kill(
                Outcome.MEMORY,
                f"Memory: it held {used / 2**30:.2f} GiB; MEMORY_LIMIT_GIB allows {config.memory_limit_bytes / 2**30:g}",
                begun,
            )
        else:
            self._output.bound()
            return
        self._bury()

    def _memory_used(self) -> int:
        """Measure what the runner and all it has started hold, not more often than is cheap; 0 if it is not time yet."""
        now = time.monotonic()
        if now < self._measure_at:
            return 0
        helpers = frozenset[int]() if self._launcher is None else self._launcher.helpers
        parent = self._pid if self._forks_per_task else os.getpid()
        used = memory_bytes(parent, enough=self._config.memory_limit_bytes or 0, spare=helpers)
        cost = time.monotonic() - now
        self._measure_at = now + min(max(MEMORY_CHECK_SECONDS, 20 * cost), LONGEST_MEMORY_CHECK_SECONDS)
        return used

    def _patience_ms(self) -> float | None:
        """Say how long nothing needs to be looked at."""
        now = time.monotonic()
        waits = []
        if self._done:
            waits.append(self._done_since + HAND_OVER_AFTER_SECONDS - now)
        if self._pid and self._pidfd < 0:
            if self._bury_if_dead():
                return 0.0
            waits.append(0.01 if self._given or self._waiting else OUTPUT_CHECK_SECONDS)
        if self._pid and self._given:
            waits.append(OUTPUT_CHECK_SECONDS)
            begun, began_at = self._memory.begun()
            is_running = begun == self._given[0][0]
            if not is_running:
                waits.append(SILENT_SECONDS)
            if self._config.memory_limit_bytes is not None:
                waits.append(self._measure_at - now)
            if self._config.max_runtime_seconds is not None and is_running:
                waits.append(began_at + self._config.max_runtime_seconds - now + 0.001)
        return max(0.0, min(waits)) * 1000 if waits else None

    def _bury_if_dead(self) -> bool:
        """Look whether the runner has died, where the system does not tell."""
        status, has_ended = None, False
        if self._launcher is not None:
            has_ended = self._launcher.has_ended()
        else:
            with suppress(ChildProcessError):
                if hasattr(os, "waitid"):
                    has_ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
                else:  # macOS before Python 3.13
                    pid, status = os.waitpid(self._pid, os.WNOHANG)
                    has_ended = pid != 0
        if has_ended:
            self._bury(status)
        return has_ended

    def _hand_over(self, *, at_once: bool = False) -> None:
        """Send what is finished, in batches."""
        idle = not self._waiting and not self._given
        if self._done and (at_once or idle or time.monotonic() - self._done_since >= HAND_OVER_AFTER_SECONDS):
            self._channel.send(("done", self._done))
            self._done.clear()
        if self._channel.wants_write != self._waits_to_write:
            self._waits_to_write = self._channel.wants_write
            self._poll.modify(self._channel.fileno(), POLLIN | (POLLOUT if self._waits_to_write else 0))


def _make_launcher(config: WorkerConfig) -> "Launcher | None":
    if config.start_method == "fork":
        return None
    from taskfleet.worker.launching import Launcher  # which imports much that a fork does without

    return Launcher(config)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", errors="replace")
