"""The supervisor: the loop that leases tasks, has the slots run them, and records what becomes of them. It never runs user code.

Nothing here is done per task where it can be done per batch; in a worker for millisecond tasks this loop is the bottleneck.
"""

import os
import selectors
import time
from collections.abc import Callable, Sequence

from taskfleet.errors import LedgerError
from taskfleet.machines.notice import Watcher
from taskfleet.processes.tree import adopt_orphans, children_of, kill_orphans
from taskfleet.queues import Queue
from taskfleet.tasks import LeaseLostError
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.lease_buffer import IDLE_SECONDS, LeaseBuffer
from taskfleet.worker.observers import Observer, Observers
from taskfleet.worker.options import SupervisorOptions
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.result_buffer import ResultBuffer
from taskfleet.worker.shutdown import Shutdown
from taskfleet.worker.slot_pool import SlotPool
from taskfleet.worker.stop_requests import StopRequests
from taskfleet.worker.warm_process import WarmProcess

LEDGER_PAUSE_SECONDS = 1.0
#: For this long after a slot has died its children may come to this process.
STRAY_SECONDS = 5.0
#: How long to wait for room to write, at most.
WRITE_SECONDS = 0.001


class Supervisor:
    """One worker at work. Use it once, from the main thread.

    Args:
        queue: Where tasks come from and outcomes go.
        config: What the processes below are told.
        options: What concerns this process alone.
        observers: Who shows or writes down what is done.
        watcher: Hears the notices of the machine's provider; None where there is none.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        queue: Queue,
        config: WorkerConfig,
        options: SupervisorOptions,
        *,
        observers: Sequence[Observer],
        watcher: Watcher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._n_slots = config.slots
        self._surplus_after_seconds = queue.surplus_after_seconds
        self._watcher = watcher
        self._clock = clock
        self._observers = everyone = Observers(observers)
        self._stop_requests = stops = StopRequests()
        self._selector = selector = selectors.DefaultSelector()
        prefetch = Prefetch(config.slots, config.tasks_per_process)
        self._warm = WarmProcess(
            config, options.exports, prefetch=prefetch, observers=everyone, is_stopped=lambda: stops.count > 0
        )
        self._leases = leases = LeaseBuffer(queue, prefetch, options, everyone, clock)
        self._results = results = ResultBuffer(queue, everyone, stops, clock)
        self._slots = SlotPool(
            self._warm, prefetch, leases=leases, results=results, selector=selector, observers=everyone, clock=clock
        )
        self._shutdown = Shutdown(options, stops, self._slots, observers=everyone, watcher=watcher, clock=clock)
        self._not_ours: frozenset[int] = frozenset()
        """Children that this process had before."""

    def run(self) -> None:
        """Work until all tasks are done, the limit is reached or somebody says stop.

        Raises:
            FunctionError: The user's module cannot be imported; nothing was leased.
        """
        with self._stop_requests.from_signals(self._selector):
            if self._watcher is not None:
                self._watcher.start()
            self._not_ours = frozenset(children_of(os.getpid()))
            adopt_orphans()
            try:
                if self._warm.start():
                    self._slots.start(self._n_slots)
                    while not self._is_over():
                        self._step()
                    self._slots.give_up()
                    self._results.record(at_once=True)
            finally:
                self._end_processes()
                adopt_orphans(False)

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stop_requests.count > 0

    @property
    def was_preempted(self) -> bool:
        """Whether a termination notice came."""
        return self._shutdown.was_preempted

    def stop(self) -> None:
        """Ask for an orderly end; asked again, running tasks are killed and handed back. Safe in a signal handler."""
        self._stop_requests.add()

    def _is_over(self) -> bool:
        if self._results or self._slots.busy or not self._leases.is_empty:
            return self._shutdown.is_overdue
        return not self._shutdown.is_working or self._leases.has_ended

    def _step(self) -> None:
        """Do one turn of the loop."""
        try:
            self._shutdown.heed()
            if self._shutdown.is_working:
                if self._are_slots_stuck():
                    self._slots.recall_surplus()
                else:
                    idle, busy = self._slots.idle, self._slots.busy
                    self._leases.fill(idle_slots=idle, is_idle=not busy and not self._results)
                    self._slots.assign()
            self._wait()
            self._give_back()
            if self._results.record():
                self._leases.ask_again()
            self._leases.renew()
            if self._slots.died_within(STRAY_SECONDS):  # a dying process leaves us its children after it closed its end
                self._end_strays()
            self._observers.tick(self._clock())
        except LeaseLostError:
            self._observers.say(
                "This worker's lease was lost (it was suspended, or somebody ran poe release). It goes on as a new worker."
            )
            self._leases.clear()
            self._slots.disown()
        except LedgerError as error:
            self._observers.say(f"{error} Trying again.")
            time.sleep(LEDGER_PAUSE_SECONDS)

    def _are_slots_stuck(self) -> bool:
        return self._slots.are_stuck(self._surplus_after_seconds)

    def _give_back(self) -> None:
        """Let other workers have what will not be begun here, or not soon."""
        is_stuck = self._are_slots_stuck()
        if is_stuck or not self._shutdown.is_working:
            self._leases.release()
        self._leases.give_back(and_stored=is_stuck)

    def _wait(self) -> None:
        """Wait until something happens or is due."""
        now = time.monotonic()
        wait = self._results.record_in(now) if self._results else IDLE_SECONDS
        if self._slots.wants_write:
            wait = min(wait, WRITE_SECONDS)
        for key, _ in self._selector.select(max(0.0, min(wait, self._leases.renew_in(now)))):
            handle: Callable[[], None] = key.data
            handle()
        self._slots.flush()

    def _end_processes(self) -> None:
        self._slots.close()
        self._warm.end()
        self._end_strays()
        self._selector.close()

    def _end_strays(self) -> None:
        """End what came to this process when a warm process or a slot died; slots that still work are left alone."""
        kill_orphans(spare=self._not_ours | self._slots.pids | self._warm.pids)
