"""A queue at a service: tasks come in messages, and what becomes of them goes back as events to the job's ledger, wherever that is.

Nothing here depends on the ledger, or on anybody else being up. A try that failed is followed by a new message for the next one, and only
then the old one is dropped. A message that comes a second time was held by a worker that died: its tasks are shared out to several
messages, until the one that kills its workers is alone and runs out of its tries. As in the ledger, a task's first such loss is free.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from taskfleet.errors import QueueError, UnreachableError
from taskfleet.messages.events import Worker
from taskfleet.messages.tasks import Envelope, Parcel, unpack
from taskfleet.queues import Depth
from taskfleet.queues.courier import Courier, Held
from taskfleet.queues.transport import Message, Transport
from taskfleet.tasks import NO_RETRY, SUSPECT_LOSSES, Finished, FinishReport, Lease, Outcome, RetryPolicy

#: A message that came back is shared out to so many.
PIECES = 10
#: A task that may kill its worker, and has to wait until others that may are done with, comes again after so long.
SUSPECT_DELAY_SECONDS = 2.0
#: A worker that was given one leases less ahead for so long.
CAREFUL_SECONDS = 10.0
#: A message that a service lets nobody hold for longer is handed over so long before the end; and belongs to its worker for so long.
HAND_OVER_SECONDS = 600.0
CLAIM_SECONDS = 3600.0
#: How long what is left to tell at the end may take to be told.
CLOSE_SECONDS = 60.0


class RemoteQueue:
    """One worker's view of a queue at a service. What ``finish`` takes is on its way when it returns, and there when ``close`` does."""

    counts_exactly: ClassVar[bool] = False
    surplus_after_seconds: ClassVar[float] = 20.0

    def __init__(
        self,
        open_tasks: Callable[[], Transport],
        open_events: Callable[[], Transport],
        *,
        job_id: str,
        worker: Worker,
        policy: RetryPolicy,
        lease_seconds: float,
        idle_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """Start to work.

        Args:
            open_tasks: Opens the queue of tasks; called in several threads.
            open_events: Opens the queue of events.
            job_id: The job; tasks of another one are refused.
            worker: Who works.
            policy: Which tasks get another try.
            lease_seconds: How long a message is leased at a time.
            idle_seconds: A service that cannot say exactly what it has is taken for empty when it has given nothing for so long.
            say: Tells the user something; called in this thread.
        """
        self._job_id = job_id
        self._me = worker.source
        self._policy = policy
        self._idle_seconds = idle_seconds
        self._say = say
        self._courier = Courier(open_tasks, open_events, job_id=job_id, worker=worker, lease_seconds=lease_seconds)
        self._backlog: deque[tuple[Lease, Held]] = deque()
        self._held: dict[tuple[int, int], Held] = {}
        """Of the tasks in the backlog and of those that were handed out, by (seq, attempt)."""
        self._claims: dict[str, Held] = {}
        self._claim_count = 0
        self._careful_until = 0.0
        self._tasks_per_message = 1.0

    def lease(self, most: int, now: float) -> list[Lease]:
        """See ``Queue.lease``."""
        self._courier.is_at_work = True
        self._attend()
        self._open_arrived(now)
        leases: list[Lease] = []
        while self._backlog and len(leases) < most:
            lease, held = self._backlog[0]
            if held.is_lost:
                del self._held[lease[:2]]
            elif not _is_suspect(held.parcels[lease[:2]]):
                leases.append(lease)
            elif leases or not self._courier.has_told():
                break  # should it kill this worker, nothing that is done is to be done again
            else:
                leases.append(lease)
                self._careful_until = time.monotonic() + CAREFUL_SECONDS
            self._backlog.popleft()
        with self._courier.lock:
            for lease in leases:
                self._courier.errand.leased[lease[:2]] = self._held[lease[:2]].ledger
        missing = math.ceil((most - len(leases) - len(self._backlog)) / self._tasks_per_message)
        is_careful = time.monotonic() < self._careful_until
        if is_careful:  # so that few are lost with this worker, should one of them kill it
            missing = 0 if self._holds_suspect() else min(missing, 1)
        self._courier.want(max(missing, 1 if self._claims else 0), may_die=is_careful)
        return leases

    def renew(self, now: float) -> None:
        """Hand over what can be held no longer; leases are extended without being asked."""
        self._attend()
        soon = time.monotonic() + HAND_OVER_SECONDS
        with self._courier.lock:
            for held in [held for held in self._courier.held.values() if held.ends_at < soon and held.parcels]:
                self._hand_over(held, now)

    def finish(self, finished: Sequence[Finished], now: float) -> FinishReport:  # noqa: ARG002
        """See ``Queue.finish``."""
        self._attend()
        report = FinishReport()
        with self._courier.lock:
            errand = self._courier.errand
            for one in finished:
                key = one[:2]
                held = self._held.pop(key)
                delay = self._delay(held.parcels[key], one)
                errand.leased.pop(key, None)
                errand.ended.append((held.ledger, one, delay))
                if delay is not None and not held.is_lost:
                    outcome = Outcome(one.outcome)
                    parcel = held.parcels[key].after(one.attempt, None if outcome is Outcome.INTERRUPTED else outcome)
                    errand.parcels.append((held.ledger, math.ceil(delay), False, parcel))
                    if outcome is not Outcome.INTERRUPTED:
                        report.retry_delay_seconds[key] = delay
                self._settle(held, key)
        return report

    def give_back(self, leases: Sequence[Lease]) -> None:
        """See ``Queue.give_back``; what the worker has not asked for yet goes with it."""
        self._courier.want(0)
        self._open_arrived(time.time())
        with self._courier.lock:
            errand = self._courier.errand
            for lease in leases:
                key = lease[:2]
                held = self._held.pop(key)
                if errand.leased.pop(key, None) is None:
                    errand.returned.append((held.ledger, *key))
                self._return(held, key)
            for lease, held in self._backlog:
                del self._held[lease[:2]]
                self._return(held, lease[:2])
        self._backlog.clear()

    def _return(self, held: Held, key: tuple[int, int]) -> None:
        """Send a task back as it came."""
        if not held.is_lost:
            self._courier.errand.parcels.append((held.ledger, 0.0, False, held.parcels[key]))
        self._settle(held, key)

    def count(self) -> Depth:
        """See ``Queue.count``; as far as the service can say."""
        self._attend()
        with self._courier.lock:
            courier, errand = self._courier, self._courier.errand
            size, idle_seconds = courier.size, time.monotonic() - courier.received_at
            is_sending = courier.is_sending or errand.parcels or errand.envelopes
            mine = bool(courier.inbox or self._held or is_sending)
        leased = 0 if size is None else size.leased or 0
        if mine or size is None:
            leasable = True
        elif size.is_exact:
            leasable = bool(size.ready or size.delayed)
        else:
            leasable = bool(size.ready or size.delayed) or idle_seconds < self._idle_seconds
        return Depth(leasable=leasable, next_due_at=None, running=leased)

    def close(self, now: float, reason: str = "stopped") -> None:  # noqa: ARG002
        """See ``Queue.close``.

        Raises:
            UnreachableError: The service cannot be told what is left to tell; those tasks will be run again.
        """
        courier = self._courier
        courier.stop_receiving()
        if courier.failure is None:
            self.give_back([])
        with courier.lock:
            courier.errand.end_reason = reason
        is_told = courier.end(CLOSE_SECONDS)
        self._tell_user()
        if not is_told:
            raise UnreachableError(
                "The queue's service could not be told what became of the last tasks. They are not lost: they will be run again."
            )

    # --- in and out ---

    def _attend(self) -> None:
        """Tell the user what there is to tell; raise what cannot be mended."""
        self._tell_user()
        if self._courier.failure is not None:
            raise self._courier.failure

    def _tell_user(self) -> None:
        with self._courier.lock:
            said, self._courier.said = self._courier.said, []
        for text in said:
            self._say(text)

    def _open_arrived(self, now: float) -> None:
        with self._courier.lock:
            arrived = list(self._courier.inbox)
            self._courier.inbox.clear()
        for held, message in arrived:
            self._open(held, message, now)

    def _open(self, held: Held, message: Message, now: float) -> None:
        """Take the tasks out of a message."""
        envelope = unpack(message.body)
        if envelope.job_id != self._job_id:
            raise QueueError(
                f"The queue has tasks of job {envelope.job_id!r}, and this worker is of job {self._job_id!r}. Each job needs a queue "
                "of its own: change QUEUE_URL or JOB_ID."
            )
        held.ledger = envelope.ledger
        lost = max(message.deliveries - 1, 0)
        with self._courier.lock:
            if envelope.claimed_by:
                if self._is_claimed(held, envelope, now):
                    return
                lost = 1
            if envelope.not_before > now + 1:
                for parcel in envelope.parcels:
                    self._send_back(held, parcel, envelope.not_before - now, is_alone=False)
            elif len(envelope.parcels) > 1 and lost and self._policy.retries.get(Outcome.LOST, 0):
                if lost > 1 or envelope.parcels[0].tries_of(Outcome.LOST):
                    self._share_out(held, envelope.parcels, lost)
                else:  # most machines that die are not killed by a task
                    self._take_in(held, [parcel.after(parcel.attempt + lost) for parcel in envelope.parcels], 0, now)
            else:
                self._take_in(held, envelope.parcels, lost, now)
            if not held.parcels:
                self._drop(held)

    def _take_in(self, held: Held, parcels: Sequence[Parcel], lost: int, now: float) -> None:
        for parcel in parcels:
            if lost:
                parcel = parcel.after(parcel.attempt + lost, Outcome.LOST, lost)
                delay = self._policy.delay_before_loss(parcel.tries_of(Outcome.LOST) - 1)
                death = Finished(
                    parcel.seq, parcel.attempt, Outcome.LOST, now, 0.0, error="The worker or its machine died"
                )
                self._courier.errand.ended.append((held.ledger, death, delay))
                if delay is None:
                    continue
            if _is_suspect(parcel):
                self._careful_until = time.monotonic() + CAREFUL_SECONDS
                if self._holds_suspect():
                    self._send_back(held, parcel, SUSPECT_DELAY_SECONDS, is_alone=True)
                    continue
            self._put(held, parcel)
        self._courier.most_per_message = max(self._courier.most_per_message, len(parcels))
        self._tasks_per_message += 0.2 * (len(parcels) - self._tasks_per_message)

    def _put(self, held: Held, parcel: Parcel) -> None:
        """Have a task wait for a slot, unless it is here already: some messages come twice, and some tasks are sent twice."""
        lease = Lease(parcel.seq, parcel.attempt + 1, parcel.task_id, parcel.data)
        key = lease[:2]
        known = self._held.get(key)
        if known is not None and not known.is_lost:
            return
        held.parcels[key] = parcel
        self._held[key] = held
        if known is None:
            self._backlog.append((lease, held))
            return
        del known.parcels[key]  # this is the message whose lease was lost, come again
        for index, waiting in enumerate(self._backlog):
            if waiting[0][:2] == key:
                self._backlog[index] = (lease, held)

    def _holds_suspect(self) -> bool:
        """Whether this worker has a task already that may be why others died: no other one is to be lost with it again."""
        return any(_is_suspect(parcel) for held in self._courier.held.values() for parcel in held.parcels.values())

    def _share_out(self, held: Held, parcels: Sequence[Parcel], lost: int) -> None:
        """Send the tasks of a message whose worker died back in several, so that the one that may have killed it is found."""
        size = math.ceil(len(parcels) / PIECES)
        for start in range(0, len(parcels), size):
            piece = [
                parcel.after(parcel.attempt + lost, Outcome.LOST, 0 if parcel.tries_of(Outcome.LOST) else 1)
                for parcel in parcels[start : start + size]
            ]
            self._courier.errand.envelopes.append(Envelope(job_id=self._job_id, ledger=held.ledger, parcels=piece))

    def _send_back(self, held: Held, parcel: Parcel, delay_seconds: float, *, is_alone: bool) -> None:
        self._courier.errand.parcels.append((held.ledger, delay_seconds, is_alone, parcel))

    def _settle(self, held: Held, key: tuple[int, int]) -> None:
        """Forget a task of a message, and drop the message if that was the last."""
        del held.parcels[key]
        if not held.parcels:
            self._drop(held)

    def _drop(self, held: Held) -> None:
        if not held.claim and not held.is_lost:
            self._courier.held.pop(held.receipt, None)
            self._courier.errand.receipts.append(held.receipt)

    def _delay(self, parcel: Parcel, finished: Finished) -> float | None:
        """Say after how many seconds the task gets another try; None if it does not."""
        outcome = Outcome(finished.outcome)
        if outcome is Outcome.SUCCEEDED or finished.retry_delay_seconds == NO_RETRY:
            return None
        delay = self._policy.delay_before_retry(outcome, parcel.tries_of(outcome))
        if delay is not None and finished.retry_delay_seconds is not None:
            return finished.retry_delay_seconds
        return delay

    # --- what is held for longer than a service allows ---

    def _hand_over(self, held: Held, now: float) -> None:
        """Send what is left of a message again, under a claim, and drop it; when the new one comes round, this worker holds it."""
        self._claim_count += 1
        held.claim = f"{self._me}/{self._claim_count}"
        self._claims[held.claim] = held
        self._courier.errand.envelopes.append(
            Envelope(
                job_id=self._job_id,
                ledger=held.ledger,
                parcels=[parcel.after(attempt - 1) for (_, attempt), parcel in held.parcels.items()],
                claimed_by=held.claim,
                claimed_until=now + CLAIM_SECONDS,
            )
        )
        self._courier.held.pop(held.receipt, None)
        self._courier.errand.receipts.append(held.receipt)

    def _is_claimed(self, fresh: Held, envelope: Envelope, now: float) -> bool:
        """Whether a message that was handed over belongs to a worker still; if to this one, take it."""
        mine = self._claims.pop(envelope.claimed_by, None)
        if mine is not None:
            self._courier.held.pop(fresh.receipt, None)
            mine.receipt, mine.renew_at, mine.ends_at, mine.claim = fresh.receipt, fresh.renew_at, fresh.ends_at, ""
            if mine.parcels:
                self._courier.held[mine.receipt] = mine
            else:
                self._courier.errand.receipts.append(mine.receipt)
            return True
        if envelope.claimed_until <= now:
            return False
        fresh.claim = (
            envelope.claimed_by
        )  # its lease is left to end: the other one gets it next, or a worker after the claim
        self._courier.held.pop(fresh.receipt, None)
        return True


def _is_suspect(parcel: Parcel) -> bool:
    """Whether it may be what its workers died of."""
    return parcel.tries_of(Outcome.LOST) >= SUSPECT_LOSSES
