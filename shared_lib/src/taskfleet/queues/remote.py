"""A queue at a service: tasks come in messages, and what becomes of them goes back as events to the job's ledger, wherever that is.

Nothing here depends on the ledger, or on anybody else being up. The worker's own thread never waits for the service: a ``Receiver`` fetches
messages, ``Intake`` looks into them, ``InFlightMessages`` holds them, and what is decided goes through the ``Outbox``, which a ``Sender``
empties. Each of them has its own lock, and none is held while another is asked.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from taskfleet.errors import UnreachableError
from taskfleet.messages.events import Worker
from taskfleet.messages.formats import NewerFormatError
from taskfleet.messages.tasks import TaskMessage
from taskfleet.queues import Depth
from taskfleet.queues.health import ServiceHealth
from taskfleet.queues.in_flight import HeldTask, InFlightMessages, is_suspect
from taskfleet.queues.intake import Intake
from taskfleet.queues.outbox import Delivery, Outbox
from taskfleet.queues.receiver import Receiver
from taskfleet.queues.sender import Sender
from taskfleet.queues.transport import Transport
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome, RetryPolicy, WorkerEnd

#: A message that a service lets nobody hold for longer is handed over this long before the end; and belongs to its worker for this long.
HAND_OVER_SECONDS = 600.0
CLAIM_SECONDS = 3600.0
#: How long what is left to do at the service may take at the end.
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
            idle_seconds: A service that cannot say exactly what it has counts as empty when it has given nothing for this long.
            say: Given what the user should know; called in this thread.
        """
        self._job_id = job_id
        self._policy = policy
        self._idle_seconds = idle_seconds
        self._say = say
        self._backlog: deque[Lease] = deque()
        """Tasks in flight that were not handed out yet."""
        self._unreadable: NewerFormatError | None = None
        """Raised once the tasks that this worker holds have ended: there are messages that it cannot read."""
        self._has_failed = False
        """Whether the user of this object knows of the failure."""
        self._health = ServiceHealth()
        self._in_flight = InFlightMessages(worker.source, lease_seconds=lease_seconds)
        self._outbox = Outbox()
        self._intake = Intake(job_id=job_id, policy=policy, in_flight=self._in_flight, outbox=self._outbox)
        self._receiver = Receiver(
            open_tasks, in_flight=self._in_flight, health=self._health, lease_seconds=lease_seconds
        )
        self._sender = Sender(
            open_tasks,
            open_events,
            job_id=job_id,
            worker=worker,
            outbox=self._outbox,
            in_flight=self._in_flight,
            health=self._health,
            lease_seconds=lease_seconds,
            on_sent=self._receiver.note_sent,
        )

    def lease(self, most: int, now: float) -> list[Lease]:
        """See ``Queue.lease``.

        Raises:
            NewerFormatError: The queue has messages of a later version; this worker has ended the tasks that it held.
        """
        self._sender.begin_heartbeats()
        self._attend()
        self._open_arrivals(now)
        leases = self._next(most)
        if self._unreadable is not None and not self._in_flight.has_tasks:
            raise self._unreadable
        missing = math.ceil((most - len(leases) - len(self._backlog)) / self._intake.tasks_per_message)
        is_careful = self._intake.is_careful
        if is_careful:
            missing = 0 if self._in_flight.has_suspect else min(missing, 1)
        if self._unreadable is not None:
            missing = 0
        self._receiver.want(max(missing, 1 if self._in_flight.has_claims else 0), may_die=is_careful)
        return leases

    def renew(self, now: float) -> None:
        """Hand over what can be held no longer; leases are extended without being asked."""
        self._attend()
        decided = Delivery()
        for one in self._in_flight.hand_over(time.monotonic() + HAND_OVER_SECONDS):
            decided.messages.append(
                TaskMessage(
                    job_id=self._job_id,
                    ledger=one.ledger,
                    tasks=one.tasks,
                    claimed_by=one.claim,
                    claimed_until=now + CLAIM_SECONDS,
                )
            )
            decided.acknowledge(one.receipt)
        self._outbox.add(decided)

    def finish(self, finished: Sequence[Finished], now: float) -> FinishReport:  # noqa: ARG002
        """See ``Queue.finish``."""
        self._attend()
        report, decided = FinishReport(), Delivery()
        for one in finished:
            held, receipt = self._in_flight.settle(one.key)
            outcome = Outcome(one.outcome)
            delay_seconds = self._policy.delay_after(one, held.task.count_of(outcome))
            if delay_seconds is not None and not held.is_lost:
                is_free = outcome is Outcome.INTERRUPTED
                task = held.task.after(one.attempt, None if is_free else outcome)
                decided.send_back(held.ledger, task, delay_seconds=math.ceil(delay_seconds))
                if not is_free:
                    report.retry_delay_seconds[one.key] = delay_seconds
            decided.report_ended(held.ledger, one, delay_seconds)
            decided.acknowledge(receipt)
        self._outbox.add(decided)
        return report

    def give_back(self, leases: Sequence[Lease]) -> None:
        """See ``Queue.give_back``; what the worker has not asked for yet goes with it."""
        self._receiver.want(0)
        self._open_arrivals(time.time())
        decided = Delivery()
        for lease in leases:
            held = self._send_back(lease, decided)
            decided.report_to(held.ledger).returned.append(lease.key)
        for lease in self._backlog:
            self._send_back(lease, decided)
        self._backlog.clear()
        self._outbox.add(decided)

    def count(self) -> Depth:
        """See ``Queue.count``; as far as the service can say."""
        self._attend()
        # In this order: once nothing is on its way any more, the receiver has forgotten what it saw before that was sent.
        is_sending = self._outbox.is_sending
        seen = self._receiver.sighting()
        if is_sending or seen.has_arrivals or self._in_flight.has_tasks or seen.size is None:
            leasable = True
        else:
            leasable = bool(seen.size.ready or seen.size.delayed)
            if not seen.size.is_exact:
                leasable = leasable or seen.idle_seconds < self._idle_seconds
        leased = 0 if seen.size is None else seen.size.leased or 0
        return Depth(leasable=leasable, running=leased)

    def close(self, now: float, reason: WorkerEnd = WorkerEnd.STOPPED) -> None:  # noqa: ARG002
        """See ``Queue.close``.

        Raises:
            UnreachableError: The service cannot be told what is left to tell; those tasks will be run again.
            ProviderError: The same, for a reason that trying again does not cure, unless an earlier call raised it.
        """
        self._receiver.stop()
        if self._health.failure is None:
            self.give_back([])
        self._outbox.close(reason)
        is_done = self._sender.join(CLOSE_SECONDS)
        self._tell_user()
        if not is_done:
            raise UnreachableError(
                "The queue's service could not be told what became of the last tasks. They are not lost: they will be run again."
            )
        if not self._has_failed:
            self._attend()

    def _attend(self) -> None:
        """Say what the user should know; raise what trying again does not cure."""
        self._tell_user()
        failure = self._health.failure
        if failure is not None:
            self._has_failed = True
            raise failure

    def _tell_user(self) -> None:
        for text in self._health.take_news():
            self._say(text)

    def _open_arrivals(self, now: float) -> None:
        for arrival in self._receiver.take_arrivals():
            try:
                self._backlog += self._intake.open(arrival, now)
            except NewerFormatError as error:
                self._unreadable = error

    def _next(self, most: int) -> list[Lease]:
        """Take up to ``most`` leases out of the backlog: a task that may kill this worker only when there is nothing else to be lost."""
        leases: list[Lease] = []
        decided = Delivery()
        while self._backlog and len(leases) < most:
            held = self._in_flight.find(self._backlog[0].key)
            if held.is_lost:
                self._in_flight.settle(self._backlog.popleft().key)
                continue
            if is_suspect(held.task):
                if leases or not self._outbox.has_settled:
                    break
                self._intake.be_careful()
            leases.append(self._backlog.popleft())
            decided.report_to(held.ledger).leased[leases[-1].key] = None
        self._outbox.add(decided)
        return leases

    def _send_back(self, lease: Lease, decided: Delivery) -> HeldTask:
        """Give a task back as it came."""
        held, receipt = self._in_flight.settle(lease.key)
        if not held.is_lost:
            decided.send_back(held.ledger, held.task)
        decided.acknowledge(receipt)
        return held
