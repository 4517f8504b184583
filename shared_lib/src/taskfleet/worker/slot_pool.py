"""The slots of a worker: who gets which task, what is taken back, what is done when one dies."""

import selectors
import time
from collections.abc import Callable, Sequence
from functools import partial

from taskfleet.tasks import AttemptKey, Finished, Lease, Outcome
from taskfleet.worker.lease_buffer import LeaseBuffer
from taskfleet.worker.messages import Done, KillTask, Returned, SetFlags, Started
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch
from taskfleet.worker.result_buffer import ResultBuffer
from taskfleet.worker.slot_handle import SlotHandle
from taskfleet.worker.warm_process import WarmProcess

#: A slot that has said nothing for this long while others are idle is asked for what it has not begun.
RECALL_AFTER_SECONDS = 0.2


class SlotPool:
    """Hands the tasks of a ``LeaseBuffer`` to slots, and what becomes of them to a ``ResultBuffer``.

    Args:
        warm: Starts the slots.
        prefetch: Says how many tasks a slot gets, and learns how long they take.
        leases: Where tasks come from, and go back to.
        results: Where outcomes go.
        selector: Waits for the slots, too; each comes with a function to call when it has said something.
        observers: Hear of slots that die.
        clock: Seconds since the epoch.
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
        clock: Callable[[], float],
    ) -> None:
        self._warm = warm
        self._prefetch = prefetch
        self._leases = leases
        self._results = results
        self._selector = selector
        self._observers = observers
        self._clock = clock
        self._slots: list[SlotHandle] = []
        self._replaces_dead = True
        self._died_at = -float("inf")
        self._poison_candidates: set[AttemptKey] = set()
        """Attempts that were in a slot when it died, and are tried alone to find out which of them did it."""

    # --- what they are at ---

    @property
    def busy(self) -> int:
        """How many slots have something to do."""
        return sum(1 for slot in self._slots if slot.load)

    @property
    def idle(self) -> int:
        """How many slots have nothing to do."""
        return len(self._slots) - self.busy

    @property
    def leases(self) -> list[Lease]:
        """The tasks in all slots."""
        return [lease for slot in self._slots for lease in slot.leases]

    @property
    def pids(self) -> set[int]:
        """The process ids of the slots, as far as they are known."""
        return {slot.pid for slot in self._slots if slot.pid is not None}

    @property
    def wants_write(self) -> bool:
        """Whether something could not be sent yet."""
        return any(slot.wants_write for slot in self._slots)

    def are_stuck(self, seconds: float) -> bool:
        """Whether all slots have been at long tasks for so long that what waits behind them is better off with other workers."""
        since = time.monotonic() - seconds
        return bool(self._slots) and all(slot.load and slot.moved_at < since for slot in self._slots)

    def died_within(self, seconds: float) -> bool:
        """Whether a slot has died in the last seconds."""
        return time.monotonic() < self._died_at + seconds

    # --- handing out and taking back ---

    def start(self, n: int) -> None:
        """Start some slots.

        Raises:
            FunctionError: The warm process, which starts them, dies again and again.
        """
        for _ in range(n):
            self._start_slot()

    def _start_slot(self) -> None:
        sock = self._warm.open_slot()
        if sock is not None:
            slot = SlotHandle(sock)
            self._slots.append(slot)
            self._selector.register(slot, selectors.EVENT_READ, partial(self._hear, slot))

    def assign(self) -> None:
        """Hand tasks to the slots, the emptiest first."""
        most = self._prefetch.per_slot
        for slot in sorted(self._slots, key=lambda slot: slot.load):
            key = self._leases.next_key
            if key is None:
                break
            if slot.load > most // 2 or slot.is_reserved:
                continue
            if key not in self._poison_candidates:
                slot.assign(self._leases.take(most))
            elif not slot.load:
                [candidate] = self._leases.take(1)
                slot.assign_alone(candidate)
        if self._leases.next_key is None:
            self._recall_stuck()

    def _recall_stuck(self) -> None:
        """When a slot is idle, take back what waits behind a long task in another."""
        if self.idle:
            now = time.monotonic()
            for slot in self._slots:
                if now - slot.moved_at > RECALL_AFTER_SECONDS:
                    slot.recall_surplus()

    def recall_surplus(self) -> None:
        """Take back what waits behind tasks in any slot."""
        for slot in self._slots:
            slot.recall_surplus()

    def wind_up(self, flags: int) -> None:
        """Show the tasks some flags and take back all that has not begun; slots that die are no longer replaced."""
        self._replaces_dead = False
        self.set_flags(flags)
        for slot in self._slots:
            slot.recall()

    def set_flags(self, flags: int) -> None:
        """Show the tasks some flags."""
        for slot in self._slots:
            slot.send(SetFlags(flags=flags))

    def kill_tasks(self) -> None:
        """Kill what runs; the slots hand it back."""
        for slot in self._slots:
            slot.send(KillTask())

    def disown(self) -> None:
        """The lease was lost: what has not begun belongs to others now; what comes of the rest will count as duplicates."""
        for slot in self._slots:
            slot.disown()

    def flush(self) -> None:
        """Send what could not be sent before."""
        for slot in self._slots:
            if slot.wants_write:
                slot.flush()

    # --- listening ---

    def _hear(self, slot: SlotHandle) -> None:
        slot.flush()
        try:
            messages = slot.receive()
        except EOFError:
            self._lose(slot)
            return
        for message in messages:
            match message:
                case Done(finished=finished, interrupted=interrupted):
                    self._warm.forget_deaths()
                    self._results.add(slot.finish(finished), finished, interrupted)
                    if self._poison_candidates:
                        self._poison_candidates.difference_update(one.key for one in finished)
                    self._prefetch.measure([one.elapsed_seconds for one in finished])
                case Returned(keys=keys):
                    self._leases.put_back(slot.take_back(keys))
                case Started(pid=pid):
                    slot.note_start(pid)

    def _lose(self, slot: SlotHandle) -> None:
        """A slot's process died: its task is lost, and maybe the reason. If it held several, each is tried alone to find out."""
        self._selector.unregister(slot)
        slot.close()
        self._slots.remove(slot)
        self._died_at = time.monotonic()
        held = slot.leases
        if len(held) > 1:
            self._poison_candidates.update(lease.key for lease in held)
            self._leases.put_back(slot.take_all())
        else:
            self._give_up(held, Outcome.LOST, "The slot's process died")
        if self._replaces_dead:
            self._observers.say("A slot's process died; another one takes its place.")
            self._start_slot()

    def give_up(self) -> None:
        """Report what slots that answer no more still hold as interrupted."""
        self._give_up(self.leases, Outcome.INTERRUPTED, "The worker was stopped")

    def _give_up(self, leases: Sequence[Lease], outcome: Outcome, reason: str) -> None:
        now = self._clock()
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
        """Close the channels; the slots end, and all below them."""
        for slot in self._slots:
            slot.close()
        self._slots.clear()
