"""The supervisor: leases tasks, hands them to the slots, records what becomes of them. It never runs user code.

Nothing here is done per task where it can be done per batch; in a worker for millisecond tasks this loop is the bottleneck.
"""

import json
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from typing import Protocol

from taskfleet.context import SIGN_STOPPING, SIGN_TERMINATING
from taskfleet.errors import FunctionError, LedgerError
from taskfleet.processes.system import (
    adopt_orphans,
    children_of,
    end_orphans,
    kill_group,
    send_socket,
    start_arguments,
    start_values,
)
from taskfleet.queues import Queue
from taskfleet.tasks import AttemptKey, Finished, FinishReport, Lease, LeaseLostError, Outcome
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import STOPPING_SIGNALS
from taskfleet.worker.messages import Done, KillTask, Recall, Returned, Run, ShowSigns, Started, pack, unpack
from taskfleet.worker.notice import Notice, Watcher
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.wire import Channel

_key_of = attrgetter("seq", "attempt")
_elapsed_seconds_of = attrgetter("elapsed_seconds")

RECORD_AFTER_SECONDS = 0.03
RECORD_AT_ONCE = 1000
#: How often an idle worker looks for new tasks, and a stopping one at the clock.
IDLE_SECONDS = 0.2
#: A slot that has said nothing for so long while others are idle is asked for what it has not begun.
RECALL_AFTER_SECONDS = 0.2
#: How long the slots have to answer when their tasks are killed, before they are given up.
LAST_WORDS_SECONDS = 5.0
TROUBLE_PAUSE_SECONDS = 1.0
#: How often in a row the warm process may die before it has forked a slot that did anything.
WARM_DEATHS = 3


class Phase(Enum):
    """What the supervisor is about."""

    WORKING = "working"
    """Leasing and running."""
    STOPPING = "stopping"
    """Running what has begun to its end, within the grace period."""
    KILLING = "killing"
    """Waiting for the slots to hand back what was killed."""


class Observer(Protocol):
    """Whoever shows or writes down what a worker does."""

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Attempts were recorded: ``leases[i]`` belongs to ``finished[i]``."""

    def tick(self, now: float) -> None:
        """Called in every turn of the loop."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def noticed(self, now: float) -> None:
        """The machine is about to be taken away."""


class Display(Observer, Protocol):
    """An observer that shows the user how the worker gets on."""

    def close(self, now: float) -> None:
        """Leave the last state standing."""


@dataclass(slots=True)
class _SlotHandle:
    channel: Channel
    assigned: dict[AttemptKey, Lease] = field(default_factory=dict)
    moved_at: float = 0.0
    """When it last ended a task, or was given one while it had none."""
    recalled: bool = False
    pid: int = 0


class Supervisor:
    """One worker at work. Use it once, from the main thread."""

    def __init__(
        self,
        queue: Queue,
        config: WorkerConfig,
        *,
        observers: Sequence[Observer],
        lease_seconds: float,
        grace_seconds: float,
        keep_waiting: bool = False,
        max_tasks: int | None = None,
        notice_after_seconds: float | None = None,
        notice_seconds: float = 0.0,
        watcher: Watcher | None = None,
        exports: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._config = config
        self._observers = observers
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._keep_waiting = keep_waiting
        self._tasks_left = max_tasks
        self._notice_at = math.inf if notice_after_seconds is None else time.monotonic() + notice_after_seconds
        self._simulated = Notice(notice_seconds, "Spot termination notice (simulated)")
        self._watcher = watcher
        self._signals_to_kill = 0
        self.was_preempted = False
        """Whether a termination notice came."""
        self._exports = dict(exports or {})
        self._clock = clock
        self._prefetch = Prefetch(config.slots, config.tasks_per_process == 1)
        self._phase = Phase.WORKING
        self._selector = selectors.DefaultSelector()
        self._slots: list[_SlotHandle] = []
        self._buffer: deque[Lease] = deque()
        self._unwanted: list[Lease] = []
        self._finished: list[tuple[Lease, Finished]] = []
        self._finished_since = 0.0
        self._interrupted: set[AttemptKey] = set()
        self._ask_again_at = 0.0
        self._renew_at = 0.0
        self._deadline = 0.0
        self._drained = False
        self._signals = 0
        self._warm: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._warm_deaths = 0
        self._waiting_said = False
        self._suspects: set[AttemptKey] = set()
        self._not_ours: frozenset[int] = frozenset()
        self._strays_until = 0.0

    def run(self) -> None:
        """Work until all tasks are done, the limit is reached or somebody says stop.

        Raises:
            FunctionError: The user's module cannot be imported; nothing was leased.
        """
        restore = self._catch_signals()
        if self._watcher is not None:
            self._watcher.start()
        self._not_ours = frozenset(children_of(os.getpid()))
        adopt_orphans()
        try:
            if not self._start_warm():
                return
            for _ in range(self._config.slots):
                self._start_slot()
            while not self._is_over():
                self._step()
            self._say_goodbye()
        finally:
            self._end_processes()
            adopt_orphans(False)
            restore()

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self._signals > 0

    def stop(self) -> None:
        """Ask for an orderly end; asked again, running tasks are killed and handed back. Safe in a signal handler."""
        self._signals += 1

    # --- one turn ---

    def _step(self) -> None:
        try:
            self._heed_signals()
            if self._phase is Phase.WORKING:
                if self._is_stuck():
                    self._share_surplus()
                else:
                    self._lease()
                    self._assign()
            self._wait()
            self._give_back()
            self._record()
            self._keep_lease()
            if time.monotonic() < self._strays_until:  # a dying process leaves us its children after it closed its end
                self._end_strays()
            now = self._clock()
            for observer in self._observers:
                observer.tick(now)
        except LeaseLostError:
            self._lose_all()
        except LedgerError as error:
            self._say(f"{error} Trying again.")
            time.sleep(TROUBLE_PAUSE_SECONDS)

    def _is_over(self) -> bool:
        busy = self._finished or self._unwanted or any(slot.assigned for slot in self._slots)
        if self._phase is Phase.WORKING:
            return not busy and not self._buffer and (self._drained or self._tasks_left == 0)
        return not busy or (self._phase is Phase.KILLING and time.monotonic() > self._deadline)

    def _lease(self) -> None:
        """Keep the buffer filled; find out when nothing is left."""
        now = time.monotonic()
        free = sum(self._prefetch.per_slot for slot in self._slots if not slot.assigned)
        wanted = max(self._prefetch.size, free)
        if len(self._buffer) > wanted // 2 or not wanted or now < self._ask_again_at:
            return
        wanted -= len(self._buffer)
        if self._tasks_left is not None:
            wanted = min(wanted, self._tasks_left)
        if not wanted:
            return
        leases = self._queue.lease(wanted, self._clock())
        self._renew_at = now + self._lease_seconds / 3
        if leases:
            self._waiting_said = False
            self._buffer.extend(leases)
            self._prefetch.measure_bytes([len(lease.data) for lease in leases])
            if self._tasks_left is not None:
                self._tasks_left -= len(leases)
        else:
            self._ask_again_at = now + IDLE_SECONDS
            if not any(slot.assigned for slot in self._slots) and not self._finished:
                self._look_what_is_left()

    def _look_what_is_left(self) -> None:
        depth = self._queue.count()
        if self._keep_waiting:
            return
        self._drained = not depth.leasable and not depth.running
        if not self._drained and not self._waiting_said:
            self._waiting_said = True
            if depth.running:
                self._say(f"Waiting for tasks that other workers are running: {depth.running:,}.")

    def _assign(self) -> None:
        """Hand tasks to the slots, the emptiest first."""
        most = self._prefetch.per_slot
        for slot in sorted(self._slots, key=lambda slot: len(slot.assigned)):
            if not self._buffer:
                break
            if len(slot.assigned) > most // 2:
                continue
            if self._buffer[0].key in self._suspects:  # it runs alone: should the slot die again, it was this one
                if slot.assigned:
                    continue
                chunk = [self._buffer.popleft()]
            else:
                chunk = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
            if not slot.assigned:
                slot.moved_at = time.monotonic()
            slot.assigned.update((lease.key, lease) for lease in chunk)
            slot.channel.send(pack(Run(leases=chunk)))
        if not self._buffer:
            self._recall_stuck()

    def _recall_stuck(self) -> None:
        """When a slot is idle, take back what waits behind a long task in another."""
        if all(slot.assigned for slot in self._slots):
            return
        now = time.monotonic()
        for slot in self._slots:
            if now - slot.moved_at > RECALL_AFTER_SECONDS:
                self._recall(slot)

    def _recall(self, slot: _SlotHandle) -> None:
        if len(slot.assigned) > 1 and not slot.recalled:
            slot.recalled = True
            slot.channel.send(pack(Recall()))

    def _is_stuck(self) -> bool:
        """Whether all slots have been at long tasks for so long that what waits here is better off with other workers."""
        since = time.monotonic() - self._queue.surplus_after_seconds
        return bool(self._slots) and all(slot.assigned and slot.moved_at < since for slot in self._slots)

    def _share_surplus(self) -> None:
        """Let other workers have what waits here."""
        for slot in self._slots:
            self._recall(slot)
        self._unwanted += self._buffer
        self._buffer.clear()

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._patience_seconds()):
            handler, argument = key.data
            handler(argument)
        for slot in self._slots:
            if slot.channel.wants_write:
                slot.channel.flush()

    def _patience_seconds(self) -> float:
        now = time.monotonic()
        wait = IDLE_SECONDS
        if self._finished:
            wait = self._finished_since + RECORD_AFTER_SECONDS - now
        if any(slot.channel.wants_write for slot in self._slots):
            wait = min(wait, 0.001)
        return max(0.0, min(wait, self._renew_at - now))

    def _record(self, *, at_once: bool = False) -> None:
        """Write finished attempts down, in batches."""
        if not self._finished:
            return
        old = time.monotonic() - self._finished_since >= RECORD_AFTER_SECONDS
        if not (old or at_once or len(self._finished) >= RECORD_AT_ONCE):
            return
        batch = self._finished
        leases, finished = [lease for lease, _ in batch], [outcome for _, outcome in batch]
        if self._signals:
            finished = [_excused(one) if one.key in self._interrupted else one for one in finished]
        report = self._queue.finish(finished, self._clock())
        self._finished = []
        self._interrupted.clear()
        self._ask_again_at = 0.0  # a retry may be due, or this was the last
        for observer in self._observers:
            observer.recorded(leases, finished, report)

    def _keep_lease(self) -> None:
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + self._lease_seconds / 3
            self._queue.renew(self._clock())

    def _lose_all(self) -> None:
        """The lease ran out: what has not begun belongs to others now; what comes of the rest will count as duplicates."""
        self._say(
            "This worker's lease was lost (it was suspended, or somebody ran poe release). It goes on as a new worker."
        )
        self._buffer.clear()
        self._unwanted.clear()
        for slot in self._slots:
            slot.channel.send(pack(Recall()))
            slot.recalled = True
            for key in slot.assigned:
                slot.assigned[key] = slot.assigned[key]._replace(task_id="")  # no longer ours to give back

    # --- the slots ---

    def _start_slot(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._send_socket(theirs)
        except OSError:
            if not self._restart_warm():  # somebody said stop meanwhile
                ours.close()
                theirs.close()
                return
            self._send_socket(theirs)
        theirs.close()
        slot = _SlotHandle(Channel(ours), moved_at=time.monotonic())
        self._slots.append(slot)
        self._selector.register(ours, selectors.EVENT_READ, (self._hear, slot))

    def _send_socket(self, theirs: socket.socket) -> None:
        assert self._control is not None
        assert self._warm is not None
        send_socket(self._control, theirs, self._warm.pid)

    def _hear(self, slot: _SlotHandle) -> None:
        slot.channel.flush()
        try:
            messages = slot.channel.receive()
        except EOFError:
            self._lose_slot(slot)
            return
        for message in map(unpack, messages):
            match message:
                case Done(finished=finished, interrupted=interrupted):
                    slot.moved_at = time.monotonic()
                    self._warm_deaths = 0
                    self._take(slot, finished)
                    self._interrupted.update(interrupted)
                case Returned(keys=keys):
                    slot.recalled = False
                    self._take_back([slot.assigned.pop(key) for key in keys if key in slot.assigned])
                case Started(pid=pid):
                    slot.pid = pid

    def _take(self, slot: _SlotHandle, attempts: Sequence[Finished]) -> None:
        if not self._finished:
            self._finished_since = time.monotonic()
        keys = list(map(_key_of, attempts))
        self._finished += zip(map(slot.assigned.pop, keys), attempts, strict=True)
        if self._suspects:
            self._suspects.difference_update(keys)
        self._prefetch.measure(list(map(_elapsed_seconds_of, attempts)))

    def _take_back(self, leases: list[Lease]) -> None:
        leases = [lease for lease in leases if lease.task_id]
        if self._phase is Phase.WORKING and not self._is_stuck():
            self._buffer.extendleft(reversed(leases))
        else:
            self._unwanted += leases

    def _give_back(self) -> None:
        """Return what will not be begun; after a failure of the queue the next turn tries again."""
        if self._unwanted or self._is_stuck():
            self._queue.give_back(self._unwanted)
            if self._tasks_left is not None:
                self._tasks_left += len(self._unwanted)
            self._unwanted = []

    def _lose_slot(self, slot: _SlotHandle) -> None:
        """A slot's process died: its task is lost, and maybe the reason. If it held several, each is tried alone to find out."""
        self._selector.unregister(slot.channel.fileno())
        slot.channel.close()
        self._slots.remove(slot)
        held = list(slot.assigned.values())
        self._strays_until = time.monotonic() + LAST_WORDS_SECONDS
        if len(held) > 1:
            self._suspects.update(lease.key for lease in held)
            self._take_back(held)
        elif held:
            now = self._clock()
            lost = Finished(held[0].seq, held[0].attempt, Outcome.LOST, now, 0.0, None, "The slot's process died")
            if not self._finished:
                self._finished_since = time.monotonic()
            self._finished.append((held[0], lost))
        if self._phase is Phase.WORKING:
            self._say("A slot's process died; another one takes its place.")
            self._start_slot()

    # --- the warm process ---

    def _start_warm(self) -> bool:
        """Have the user's module imported; False if somebody said stop meanwhile."""
        self._control, theirs = socket.socketpair()
        environment = {**self._exports, **os.environ}
        argument, descriptors = start_arguments(theirs)
        self._warm = subprocess.Popen(
            [sys.executable, "-m", "taskfleet.worker.warm", argument],
            stdin=subprocess.PIPE,
            pass_fds=descriptors,
            cwd=self._config.project,
            env=environment,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        values = self._config.pack() | start_values(theirs, self._warm.pid)
        theirs.close()
        assert self._warm.stdin is not None
        self._warm.stdin.write(json.dumps(values).encode() + b"\n")
        self._warm.stdin.close()
        line = self._read_answer()
        if line is None:
            return False
        answer = json.loads(line or b'{"error": "The process that imports the task function died while importing it."}')
        if "error" in answer:
            raise FunctionError(answer["error"])
        if self._config.tasks_per_process:
            self._prefetch.start_seconds = answer.get("start_seconds", 0.0) / self._config.tasks_per_process
        return True

    def _read_answer(self) -> bytes | None:
        """Wait for the warm process's line: empty if it died, None if somebody said stop (a module may import for minutes)."""
        assert self._control is not None
        self._control.settimeout(IDLE_SECONDS)
        line = b""
        while not line.endswith(b"\n"):
            try:
                part = self._control.recv(1 << 16)
            except TimeoutError:
                if self._signals:
                    self._kill_warm()
                    return None
                continue
            if not part:
                return None if self._signals else b""
            line += part
        self._control.settimeout(None)
        return line

    def _restart_warm(self) -> bool:
        self._warm_deaths += 1
        if self._warm_deaths > WARM_DEATHS:
            raise FunctionError(
                "The process that imports the task function dies again and again; look for what kills it (memory?)."
            )
        self._say("The warm process died; another one takes its place.")
        self._end_warm()
        return self._start_warm()

    # --- the end ---

    def _heed_signals(self) -> None:
        now = time.monotonic()
        if self._phase is Phase.WORKING and self._signals:
            self._wind_up(
                SIGN_STOPPING,
                self._grace_seconds,
                "Stopping: {} running tasks have {:g} s to finish. Ctrl-C again hands them back at once.",
            )
        notice = None if self.was_preempted else self._heed_notice(now)
        if notice is not None:
            self.was_preempted = True
            for observer in self._observers:
                observer.noticed(self._clock())
            if self._phase is Phase.WORKING:
                text = notice.text + ": {} running tasks have {:g} s to finish."
                self._wind_up(SIGN_TERMINATING, notice.seconds, text)
            elif self._phase is Phase.STOPPING:
                self._say(f"{notice.text}: {notice.seconds:g} s are left at most.")
                self._deadline = min(self._deadline, now + notice.seconds)
                for slot in self._slots:
                    slot.channel.send(pack(ShowSigns(signs=SIGN_STOPPING | SIGN_TERMINATING)))
        if self._phase is Phase.STOPPING and (self._signals >= self._signals_to_kill or now > self._deadline):
            self._phase = Phase.KILLING
            self._deadline = now + LAST_WORDS_SECONDS
            for slot in self._slots:
                slot.channel.send(pack(KillTask()))

    def _heed_notice(self, now: float) -> Notice | None:
        """Hear what the machine's provider says, or pretends to."""
        if self._watcher is not None:
            while self._watcher.said:
                self._say(self._watcher.said.popleft())
            if self._watcher.notice is not None:
                return self._watcher.notice
        return self._simulated if now >= self._notice_at else None

    def _wind_up(self, sign: int, seconds: float, text: str) -> None:
        """Lease no more, show the tasks a sign, hand back what has not begun; the rest has some time to finish."""
        self._phase = Phase.STOPPING
        self._deadline = time.monotonic() + seconds
        self._signals_to_kill = self._signals + 1
        running = sum(1 for slot in self._slots if slot.assigned)
        for slot in self._slots:
            slot.channel.send(pack(ShowSigns(signs=sign)))
            slot.channel.send(pack(Recall()))
        if running:
            self._say(text.format(running, seconds))
        self._unwanted += self._buffer
        self._buffer.clear()

    def _say_goodbye(self) -> None:
        """Hand back what unresponsive slots hold."""
        now = self._clock()
        for slot in self._slots:
            for lease in slot.assigned.values():
                given_up = Finished(
                    lease.seq, lease.attempt, Outcome.INTERRUPTED, now, 0.0, None, "The worker was stopped"
                )
                self._finished.append((lease, given_up))
        self._record(at_once=True)

    def _end_processes(self) -> None:
        for slot in self._slots:
            slot.channel.close()
        self._end_warm()
        self._slots.clear()
        self._end_strays()
        self._selector.close()

    def _end_strays(self) -> None:
        """End what came to this process when a warm process or a slot died; slots that still work are left alone."""
        slots = {slot.pid for slot in self._slots}
        warm = set() if self._warm is None or self._warm.returncode is not None else {self._warm.pid}
        end_orphans(spare=self._not_ours | slots | warm)

    def _end_warm(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._warm is not None:
            try:
                self._warm.wait(LAST_WORDS_SECONDS + 1)
            except subprocess.TimeoutExpired:
                self._kill_warm()
                self._warm.wait()

    def _kill_warm(self) -> None:
        """Kill the warm process and what the user's module has started in its group."""
        assert self._warm is not None
        kill_group(self._warm.pid)

    def _catch_signals(self) -> Callable[[], None]:
        """Let signals ask for the end; returns what undoes it."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, (_drain, reader))
        known = [
            number for number in STOPPING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
        ]  # nohup ignores one
        handlers = {number: signal.signal(number, lambda *_: self.stop()) for number in known}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def restore() -> None:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            reader.close()
            writer.close()

        return restore

    def _say(self, text: str) -> None:
        for observer in self._observers:
            observer.say(text)


def _excused(finished: Finished) -> Finished:
    """Do not hold it against a task that the signal which stopped the worker was sent to its process as well."""
    return finished._replace(outcome=Outcome.INTERRUPTED, error="The worker was stopped")


def _drain(reader: socket.socket) -> None:
    try:
        while reader.recv(4096):
            pass
    except BlockingIOError:
        pass
