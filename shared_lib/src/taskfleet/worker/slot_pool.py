"""Manage the slots of a worker: assign and recall tasks, and replace slots that die."""

import logging
import selectors
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from taskfleet.tasks import AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.lease_buffer import LeaseBuffer
from taskfleet.worker.messages import CANCELLED, Done, KillTask, Loaded, Returned, SetFlags, Started
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.result_buffer import ResultBuffer
from taskfleet.worker.slot_handle import SlotHandle
from taskfleet.worker.warm_process import WarmProcess

logger = logging.getLogger(__name__)

#: If a slot has made no progress for this long while others are idle, its queued tasks are recalled.
RECALL_AFTER_SECONDS = 0.2


class SlotPool:
    """Assign tasks of a ``LeaseBuffer`` to slots, and pass their results to a ``ResultBuffer``.

    Args:
        warm: Starts the slots.
        prefetch: The number of tasks per slot; records the durations of tasks.
        leases: Where tasks come from, and go back to.
        results: Where finished attempts go.
        selector: The supervisor's selector; each registered slot comes with a function that handles its messages.
        observers: Notified of slots that die.
        on_code: Receives the hash of the code of each function that a task of the job's graph called first, by its name.
    """

    def __init__(
        self,
        warm: WarmProcess,
        prefetch: Prefetch,
        *,
        leases: LeaseBuffer,
        results: ResultBuffer,
        selector: selectors.BaseSelector,
        observers: Observers,
        on_code: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._warm = warm
        self._prefetch = prefetch
        self._leases = leases
        self._results = results
        self._selector = selector
        self._observers = observers
        self._on_code = on_code
        self._slots: list[SlotHandle] = []
        self._replaces_dead = True
        self._died_at = -float("inf")
        self._poison_candidates: set[AttemptKey] = set()
        """Attempts that were in a slot when it died. Each is run in isolation to find out which of them caused it."""

    # --- state ---

    @property
    def busy(self) -> int:
        """The number of slots that have tasks."""
        return sum(1 for slot in self._slots if slot.load)

    @property
    def idle(self) -> int:
        """The number of slots for which there may be tasks; 0 while the next task needs more slots than are free."""
        free = self._free
        return free if free >= min(self._leases.next_width, len(self._slots)) else 0

    @property
    def _free(self) -> int:
        """The number of slots that no task takes."""
        return max(0, len(self._slots) - sum(slot.width for slot in self._slots))

    @property
    def leases(self) -> list[Lease]:
        """The leases of the tasks in all slots."""
        return [lease for slot in self._slots for lease in slot.leases]

    @property
    def pids(self) -> set[int]:
        """The known process ids of the slots."""
        return {slot.pid for slot in self._slots if slot.pid is not None}

    @property
    def wants_write(self) -> bool:
        """Whether any slot has unsent data."""
        return any(slot.wants_write for slot in self._slots)

    def are_stuck(self, seconds: float) -> bool:
        """Return whether no slot has made progress for this long, so that other workers would start the queued tasks earlier."""
        since = time.monotonic() - seconds
        loaded = [slot for slot in self._slots if slot.load]
        return bool(loaded) and not self.idle and all(slot.last_progress_at < since for slot in loaded)

    def died_within(self, seconds: float) -> bool:
        """Return whether a slot has died within the last ``seconds``."""
        return time.monotonic() < self._died_at + seconds

    # --- assigning and recalling tasks ---

    def start(self, n: int) -> None:
        """Start ``n`` slots.

        Raises:
            FunctionError: The warm process, which starts them, dies repeatedly.
        """
        for _ in range(n):
            self._start_slot()

    def _start_slot(self) -> None:
        sock = self._warm.open_slot()
        if sock is not None:
            slot = SlotHandle(sock)
            self._slots.append(slot)
            self._selector.register(slot, selectors.EVENT_READ, partial(self._handle_messages, slot))

    def assign(self) -> None:
        """Assign tasks to the slots, those with the fewest tasks first; all wait for one that needs more slots than are free."""
        most, free = self._prefetch.per_slot, self._free
        for slot in sorted(self._slots, key=lambda slot: slot.load):
            key, width = self._leases.next_key, self._leases.next_width
            if key is None:
                break
            if slot.load > most // 2 or slot.is_reserved or not (free or slot.load):
                continue
            if width > 1:
                width = min(width, len(self._slots))  # the task itself fails if it needs more
                if slot.load or width > free:
                    break
                free -= width
                [wide] = self._leases.take(1)
                slot.assign_alone(wide, width)
                continue
            free -= not slot.load
            if key not in self._poison_candidates:
                slot.assign(self._leases.take(most))
            elif not slot.load:
                [candidate] = self._leases.take(1)
                slot.assign_alone(candidate)
        if self._leases.next_key is None:
            self._recall_stuck()

    def _recall_stuck(self) -> None:
        """If a slot is idle, recall the tasks queued behind a long task of another."""
        if self.idle:
            now = time.monotonic()
            for slot in self._slots:
                if now - slot.last_progress_at > RECALL_AFTER_SECONDS:
                    slot.recall_queued()

    def recall_queued(self) -> None:
        """Recall the queued tasks of all slots."""
        for slot in self._slots:
            slot.recall_queued()

    def drain(self, flags: int) -> None:
        """Set the flags of the tasks, recall all tasks that have not started, and stop replacing dead slots."""
        self._replaces_dead = False
        self.set_flags(flags)
        for slot in self._slots:
            slot.recall()

    def set_flags(self, flags: int) -> None:
        """Set the flags of the tasks."""
        for slot in self._slots:
            slot.send(SetFlags(flags=flags))

    def kill_tasks(self, lifetime_seconds: float | None) -> None:
        """Have the slots kill their running tasks and return all; ``lifetime_seconds`` as in ``KillTask``."""
        for slot in self._slots:
            slot.send(KillTask(lifetime_seconds=lifetime_seconds))

    def cancel(self, keys: Collection[AttemptKey]) -> None:
        """Kill the tasks with these keys, as far as this worker has them. Repeating it is harmless."""
        self._give_up(self._leases.remove(keys), Outcome.KILLED, CANCELLED)
        for slot in self._slots:
            slot.cancel(keys)

    def mark_leases_lost(self) -> None:
        """Mark all leases as lost: tasks that have not started are dropped, and results of the others will count as duplicates."""
        for slot in self._slots:
            slot.mark_leases_lost()

    def flush(self) -> None:
        """Send as much unsent data as possible."""
        for slot in self._slots:
            if slot.wants_write:
                slot.flush()

    # --- receiving ---

    def _handle_messages(self, slot: SlotHandle) -> None:
        slot.flush()
        try:
            messages = slot.receive()
        except EOFError:
            self._handle_death(slot)
            return
        for message in messages:
            match message:
                case Done(finished=finished, interrupted=interrupted):
                    self._warm.reset_deaths()
                    self._results.add(slot.finish(finished), finished, interrupted)
                    if self._poison_candidates:
                        self._poison_candidates.difference_update(one.key for one in finished)
                    self._prefetch.measure([one.elapsed_seconds for one in finished if one.outcome != Outcome.KILLED])
                case Loaded(codes=codes):
                    self._on_code(codes)
                case Returned(keys=keys):
                    self._leases.put_back(slot.take_back(keys))
                case Started(pid=pid):
                    logger.debug("Slot %d has started", pid)
                    slot.set_pid(pid)

    def _handle_death(self, slot: SlotHandle) -> None:
        """Handle the death of a slot: its task is lost and may be the cause. If it had several, run each in isolation to find out."""
        self._selector.unregister(slot)
        slot.close()
        self._slots.remove(slot)
        self._died_at = time.monotonic()
        held = slot.leases
        logger.info("Slot %s died with %d tasks", slot.pid, len(held))
        if len(held) > 1:
            self._poison_candidates.update(lease.key for lease in held)
            self._leases.put_back(slot.take_all())
        else:
            self._give_up(held, Outcome.LOST, "The slot's process died")
        if self._replaces_dead:
            self._observers.say("A slot's process died. Starting another one.")
            self._start_slot()

    def give_up(self) -> None:
        """Report the tasks of unresponsive slots as interrupted."""
        self._give_up(self.leases, Outcome.INTERRUPTED, "The worker was stopped")

    def _give_up(self, leases: Sequence[Lease], outcome: Outcome, reason: str) -> None:
        now = time.time()
        self._results.add(
            leases,
            [
                Finished(
                    seq=lease.seq,
                    attempt=lease.attempt,
                    outcome=outcome,
                    started_at=now,
                    elapsed_seconds=0.0,
                    error=reason,
                )
                for lease in leases
            ],
        )

    def close(self) -> None:
        """Close the channels, which ends the slots and their children."""
        for slot in self._slots:
            slot.close()
        self._slots.clear()
