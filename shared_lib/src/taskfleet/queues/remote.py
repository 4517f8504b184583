"""The worker's interface to a service queue: tasks arrive in messages, and results are sent as events to the job's ledger.

It works without access to the ledger, and without any other process running. The worker's own thread never waits for the service: a
``Receiver`` fetches messages, ``Intake`` decodes them, ``InFlightMessages`` holds them, and decisions go through the ``Outbox``, which a
``Sender`` empties. Each of them has its own lock, and none is held while another is called.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import UnreachableError
from taskfleet.messages.events import Worker
from taskfleet.messages.formats import MisdirectedMessageError
from taskfleet.messages.tasks import TaskMessage
from taskfleet.processes.waking import Waker
from taskfleet.queues import Depth, Orders
from taskfleet.queues.continuing import successor
from taskfleet.queues.control import ControlChannel, ControlReader
from taskfleet.queues.health import ServiceHealth
from taskfleet.queues.in_flight import HeldTask, InFlightMessages, is_suspect
from taskfleet.queues.intake import Intake, cancelled
from taskfleet.queues.outbox import Delivery, Outbox
from taskfleet.queues.receiver import Receiver
from taskfleet.queues.sender import Sender
from taskfleet.queues.set_aside import SetAside
from taskfleet.queues.transport import Transport
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome, RetryPolicy, WorkerEnd

#: A message is handed over this long before the maximum lease time of the service; its worker then has a claim for this long.
HAND_OVER_SECONDS = 600.0
CLAIM_SECONDS = 3600.0
#: Time limit for emptying the outbox at the end.
CLOSE_SECONDS = 60.0


class RemoteQueue:
    """One worker's access to a service queue. Results passed to ``finish`` are sent asynchronously, at the latest by ``close``."""

    counts_exactly: ClassVar[bool] = False
    return_excess_after_seconds: ClassVar[float] = 20.0

    def __init__(
        self,
        open_tasks: Callable[[Outages], Transport],
        open_events: Callable[[Outages], Transport],
        *,
        job_id: str,
        worker: Worker,
        policy: RetryPolicy,
        lease_seconds: float,
        idle_seconds: float,
        most_message_bytes: int,
        set_aside: Path,
        say: Callable[[str], None],
        open_control: Callable[[Outages], ControlChannel],
    ) -> None:
        """Start the background threads.

        Args:
            open_tasks: Opens the queue of tasks, whose calls are observed; called in several threads. The transport's patience has to be
                shorter than a lease, or leases are not renewed while another call is repeated.
            open_events: Opens the queue of events, in the same way.
            job_id: The job; tasks of another job are rejected.
            worker: The worker, as events name it.
            policy: Decides on retries.
            lease_seconds: The duration of a message's lease.
            idle_seconds: A queue without an exact size counts as empty if nothing was received for this long.
            most_message_bytes: The maximum size of a message of tasks.
            set_aside: The file for foreign messages.
            say: Shows messages to the user; called in this thread.
            open_control: Opens the channel of the job's control document.
        """
        self._job_id = job_id
        self._policy = policy
        self._idle_seconds = idle_seconds
        self._most_message_bytes = most_message_bytes
        self._slots = worker.slots
        self._say = say
        self._backlog: deque[Lease] = deque()
        """Leases that were not returned by ``lease`` yet."""
        self._misdirected: MisdirectedMessageError | None = None
        """Raised once the tasks that this worker holds have ended: there are messages that are not for it."""
        self._has_failed = False
        """Whether the failure has been raised."""
        self._health = ServiceHealth()
        self._control = ControlReader(partial(open_control, self._health.outages), job_id=job_id, health=self._health)
        self._in_flight = InFlightMessages(worker.source, lease_seconds=lease_seconds)
        self._outbox = Outbox()
        self._intake = Intake(
            job_id=job_id,
            policy=policy,
            in_flight=self._in_flight,
            outbox=self._outbox,
            set_aside=SetAside(set_aside, say),
            is_cancelled=self._is_cancelled,
        )
        outages = self._health.outages
        self.arrivals = Waker()
        self._receiver = Receiver(
            partial(open_tasks, outages),
            in_flight=self._in_flight,
            health=self._health,
            lease_seconds=lease_seconds,
            on_arrival=self.arrivals.wake,
        )
        self._sender = Sender(
            partial(open_tasks, outages),
            partial(open_events, outages),
            job_id=job_id,
            worker=worker,
            outbox=self._outbox,
            in_flight=self._in_flight,
            health=self._health,
            lease_seconds=lease_seconds,
            on_sent=self._receiver.reset_snapshot,
        )

    def lease(self, most: int, now: float) -> list[Lease]:
        """See ``Queue.lease``.

        Raises:
            MisdirectedMessageError: The queue has messages for another version or job; the tasks that this worker held have ended.
        """
        self._sender.start_heartbeats()
        self._raise_failure()
        if not self._control.has_looked or self.orders().is_paused:
            return []
        self._process_arrivals(now)
        leases = self._next(most)
        if self._misdirected is not None and not self._in_flight.has_tasks:
            raise self._misdirected
        missing = math.ceil((most - len(leases) - len(self._backlog)) / self._intake.tasks_per_message)
        is_careful = self._intake.is_careful
        if is_careful:
            missing = 0 if self._in_flight.has_suspect else min(missing, 1)
        if self._misdirected is not None:
            missing = 0
        self._receiver.request(max(missing, 1 if self._in_flight.has_claims else 0), is_careful=is_careful)
        return leases

    def note_code(self, codes: Mapping[str, str]) -> None:
        """See ``Queue.note_code``; the next events have it."""
        self._outbox.note_code(codes)

    def renew(self, now: float) -> None:
        """Hand over the messages near their maximum lease time; leases are extended in the background."""
        self._raise_failure()
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
        self._raise_failure()
        report, decided = FinishReport(), Delivery()
        is_continued = False
        for one in finished:
            held, receipt = self._in_flight.remove(one.key)
            outcome = Outcome(one.outcome)
            delay_seconds = self._policy.delay_after(one, held.task.count_of(outcome))
            if delay_seconds is not None and not held.is_lost:
                is_free = outcome is Outcome.INTERRUPTED
                task = held.task.after(one.attempt, None if is_free else outcome)
                decided.send_back(held.ledger, task, delay_seconds=math.ceil(delay_seconds))
                if not is_free:
                    report.retry_delay_seconds[one.key] = delay_seconds
            may_go_on = not held.is_lost and not self._has_ended(held)
            following = successor(held.task, one, self._most_message_bytes) if may_go_on else None
            if following is not None:
                decided.send_on(held.ledger, one.key, following)
                is_continued = True
            decided.report_ended(held.ledger, one, delay_seconds)
            decided.acknowledge(receipt)
        decided.is_urgent = is_continued and self._in_flight.n_tasks < self._slots
        self._outbox.add(decided)
        return report

    def give_back(self, leases: Sequence[Lease]) -> None:
        """See ``Queue.give_back``; tasks that were not leased by the worker yet are given back too."""
        self._receiver.request(0)
        self._process_arrivals(time.time())
        decided = Delivery()
        for lease in leases:
            held = self._send_back(lease, decided)
            decided.report_to(held.ledger).returned.append(lease.key)
        for lease in self._backlog:
            self._send_back(lease, decided)
        self._backlog.clear()
        self._outbox.add(decided)

    def orders(self) -> Orders:
        """See ``Queue.orders``."""
        document = self._control.document
        if document is None:
            return Orders()
        self._kill_backlog()
        return Orders(is_paused=document.is_paused, cancelled=self._in_flight.keys(document.has_cancelled))

    def count(self) -> Depth:
        """See ``Queue.count``; approximate, as the service's counts are."""
        self._raise_failure()
        # The order matters: once everything is sent, the receiver has discarded the state from before.
        is_sending = self._outbox.is_sending
        seen = self._receiver.snapshot()
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
            UnreachableError: The last results could not be sent; their tasks will run again.
            ProviderError: The same, after a permanent error, unless an earlier call raised it.
        """
        self._control.stop()
        self._receiver.stop()
        self.arrivals.close()
        if self._health.failure is None:
            self.give_back([])
        self._outbox.close(reason)
        is_done = self._sender.join(CLOSE_SECONDS)
        self._report_news()
        if not is_done:
            raise UnreachableError(
                "The results of the last tasks could not be sent to the queue's service. These tasks are not lost: they will run again."
            )
        if not self._has_failed:
            self._raise_failure()

    def _raise_failure(self) -> None:
        """Show messages to the user; raise a permanent error."""
        self._report_news()
        failure = self._health.failure
        if failure is not None:
            self._has_failed = True
            raise failure

    def _report_news(self) -> None:
        for text in self._health.take_news():
            self._say(text)

    def _process_arrivals(self, now: float) -> None:
        for arrival in self._receiver.take_arrivals():
            try:
                self._backlog += self._intake.open(arrival, now)
            except MisdirectedMessageError as error:
                self._misdirected = error

    def _next(self, most: int) -> list[Lease]:
        """Take up to ``most`` leases out of the backlog; one that may kill this worker only if no other task is at risk."""
        leases: list[Lease] = []
        decided = Delivery()
        while self._backlog and len(leases) < most:
            held = self._in_flight.find(self._backlog[0].key)
            if held.is_lost:
                self._in_flight.remove(self._backlog.popleft().key)
                continue
            if is_suspect(held.task):
                if leases or not self._outbox.is_flushed:
                    break
                self._intake.be_careful()
            leases.append(self._backlog.popleft())
            decided.report_to(held.ledger).leased[leases[-1].key] = None
        self._outbox.add(decided)
        return leases

    def _is_cancelled(self, ledger: str, seq: int) -> bool:
        document = self._control.document
        return document is not None and document.has_cancelled(ledger, seq)

    def _has_ended(self, held: HeldTask) -> bool:
        """Return whether the chain of a task does not go on: the queue was purged, or the tasks are in another one."""
        document = self._control.document
        return document is not None and document.has_ended(held.ledger, held.task.chain.epoch)

    def _kill_backlog(self) -> None:
        """Report the cancelled tasks that the worker has not leased yet."""
        killed: list[Lease] = []
        kept: deque[Lease] = deque()
        for lease in self._backlog:
            ledger = self._in_flight.find(lease.key).ledger
            (killed if self._is_cancelled(ledger, lease.seq) else kept).append(lease)
        if not killed:
            return
        decided = Delivery()
        for lease in killed:
            held, receipt = self._in_flight.remove(lease.key)
            decided.report_ended(held.ledger, cancelled(lease.seq, lease.attempt, time.time()), None)
            decided.acknowledge(receipt)
        self._backlog = kept
        self._outbox.add(decided)

    def _send_back(self, lease: Lease, decided: Delivery) -> HeldTask:
        """Send a task back unchanged."""
        held, receipt = self._in_flight.remove(lease.key)
        if not held.is_lost:
            decided.send_back(held.ledger, held.task)
        decided.acknowledge(receipt)
        return held
