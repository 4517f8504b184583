"""The supervisor: the loop that leases tasks, has the slots run them, and records the results. It never runs user code.

Work is done per batch, not per task: in a worker with millisecond tasks, this loop is the bottleneck.
"""

import logging
import os
import selectors
import time
from collections.abc import Callable, Sequence
from functools import partial

from taskfleet.errors import LedgerError, UnusableLedgerError
from taskfleet.invocation import poe
from taskfleet.machines.notice import Watcher
from taskfleet.processes.tree import adopt_orphans, children_of, kill_orphans
from taskfleet.processes.waking import Waker
from taskfleet.queues import Queue
from taskfleet.settings import Configuration
from taskfleet.tasks import LeaseLostError
from taskfleet.worker.config import WorkerConfig, mpi_processes_of
from taskfleet.worker.lease_buffer import IDLE_SECONDS, LeaseBuffer
from taskfleet.worker.observers import Observer, Observers
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.result_buffer import ResultBuffer
from taskfleet.worker.shutdown import Shutdown
from taskfleet.worker.slot_pool import SlotPool
from taskfleet.worker.steering import Steering
from taskfleet.worker.stop_requests import StopRequests
from taskfleet.worker.warm_process import WarmProcess

logger = logging.getLogger(__name__)

LEDGER_PAUSE_SECONDS = 1.0
#: For this long after a slot has died, its children may be reparented to this process.
ORPHAN_SECONDS = 5.0
#: Maximum wait for a channel to become writable.
WRITE_SECONDS = 0.001


class Supervisor:
    """One worker. Use it once, from the main thread.

    Args:
        queue: Where tasks come from and results go.
        config: The configuration of the child processes.
        configuration: The settings, and environment variables for the user's code.
        observers: Notified of the progress.
        watcher: Watches for termination notices of the provider; None if it has none.
    """

    def __init__(
        self,
        queue: Queue,
        config: WorkerConfig,
        configuration: Configuration,
        *,
        observers: Sequence[Observer],
        watcher: Watcher | None = None,
    ) -> None:
        self._n_slots = config.slots
        self._return_excess_after_seconds = queue.return_excess_after_seconds
        self._watcher = watcher
        self._observers = everyone = Observers(observers)
        self._stop_requests = stops = StopRequests()
        self._selector = selector = selectors.DefaultSelector()
        prefetch = Prefetch(config.slots, config.tasks_per_process)
        self._warm = WarmProcess(
            config,
            configuration.exports,
            prefetch=prefetch,
            observers=everyone,
            is_stopped=lambda: stops.count > 0,
            on_code=queue.note_code,
        )
        self._leases = leases = LeaseBuffer(
            queue,
            prefetch,
            configuration.settings,
            everyone,
            width_of=lambda lease: mpi_processes_of(lease.function, config) or 1,
        )
        self._results = results = ResultBuffer(queue, everyone, stops)
        self._slots = SlotPool(
            self._warm,
            prefetch,
            leases=leases,
            results=results,
            selector=selector,
            observers=everyone,
            on_code=queue.note_code,
        )
        if queue.arrivals is not None:
            selector.register(queue.arrivals, selectors.EVENT_READ, partial(self._arrived, queue.arrivals))
        self._steering = Steering(queue, leases, self._slots)
        self._shutdown = Shutdown(
            configuration.settings, stops, self._slots, prefetch=prefetch, observers=everyone, watcher=watcher
        )
        self._ledger_error = ""
        """The error that is being retried; it is printed once."""
        self._earlier_children: frozenset[int] = frozenset()
        """Children that this process had before."""

    def run(self) -> None:
        """Run tasks until all are done, the maximum number is reached or the worker is stopped.

        Raises:
            FunctionError: The user's module cannot be imported; no task was leased.
            UnusableLedgerError: The ledger is damaged, or was deleted or replaced.
        """
        with self._stop_requests.from_signals(self._selector):
            if self._watcher is not None:
                self._watcher.start()
            self._earlier_children = frozenset(children_of(os.getpid()))
            adopt_orphans()
            try:
                if self._warm.start():
                    self._slots.start(self._n_slots)
                    while not self._is_done():
                        self._step()
                    self._slots.give_up()
                    self._results.record(at_once=True)
            finally:
                self._end_processes()
                adopt_orphans(False)

    @property
    def was_stopped(self) -> bool:
        """Whether a stop was requested."""
        return self._stop_requests.count > 0

    @property
    def was_preempted(self) -> bool:
        """Whether a termination notice was received."""
        return self._shutdown.was_preempted

    def stop(self) -> None:
        """Request an orderly stop; a second request kills running tasks and returns them to the queue. Safe in a signal handler."""
        self._stop_requests.add()

    def _is_done(self) -> bool:
        if self._results or self._slots.busy or not self._leases.is_empty:
            return self._shutdown.is_overdue
        return not self._shutdown.is_working or self._leases.has_ended

    def _step(self) -> None:
        """Run one iteration of the loop."""
        try:
            self._shutdown.update()
            self._steering.update()
            if self._shutdown.is_working:
                if self._are_slots_stuck():
                    self._slots.recall_queued()
                else:
                    idle, busy = self._slots.idle, self._slots.busy
                    self._leases.fill(idle_slots=idle, is_idle=not busy and not self._results)
                    self._slots.assign()
            self._wait()
            self._give_back()
            # What is recorded may release others; but a task that was lost with its slot is not given to the next one at once.
            is_short_of_tasks = (
                self._slots.idle > 0 and self._leases.is_empty and not self._slots.died_within(ORPHAN_SECONDS)
            )
            if self._results.record(at_once=is_short_of_tasks):
                self._leases.ask_again()
            self._leases.renew()
            if self._slots.died_within(ORPHAN_SECONDS):  # children are reparented after the channel was closed
                self._kill_orphans()
            self._observers.tick(time.time())
        except LeaseLostError:
            self._observers.say(
                f"This worker's lease was lost: it was suspended, or {poe('release')} was run. It continues as a new worker."
            )
            self._leases.clear()
            self._slots.mark_leases_lost()
        except UnusableLedgerError:
            raise
        except LedgerError as error:
            if str(error) != self._ledger_error:
                self._observers.say(f"{error} Retrying.")
            self._ledger_error = str(error)
            time.sleep(LEDGER_PAUSE_SECONDS)
        else:
            if self._ledger_error:
                self._observers.say("The ledger is available again.")
            self._ledger_error = ""

    def _are_slots_stuck(self) -> bool:
        return self._slots.are_stuck(self._return_excess_after_seconds)

    def _give_back(self) -> None:
        """Give back the tasks that this worker will not start soon."""
        is_stuck = self._are_slots_stuck()
        if is_stuck or not self._shutdown.is_working:
            self._leases.release()
        self._leases.give_back(and_stored=is_stuck)

    def _wait(self) -> None:
        """Wait until a slot reports something or an action is due."""
        now = time.monotonic()
        wait = self._results.record_in(now) if self._results else IDLE_SECONDS
        if self._slots.wants_write:
            wait = min(wait, WRITE_SECONDS)
        for key, _ in self._selector.select(max(0.0, min(wait, self._leases.renew_in(now)))):
            handle: Callable[[], None] = key.data
            handle()
        self._slots.flush()

    def _arrived(self, arrivals: Waker) -> None:
        arrivals.clear()
        self._leases.ask_again()

    def _end_processes(self) -> None:
        self._slots.close()
        self._warm.end()
        self._kill_orphans()
        self._selector.close()

    def _kill_orphans(self) -> None:
        """Kill orphans of a dead warm process or slot; leave running slots alone."""
        kill_orphans(spare=self._earlier_children | self._slots.pids | self._warm.pids)
