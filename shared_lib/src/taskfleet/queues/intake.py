"""What a worker does with the messages of tasks that come from a queue at a service.

A message that comes a second time was held by a worker that died: its tasks are shared out to several messages, until the one that kills
its workers is alone and runs out of its tries. As in the ledger, a task's first such loss is free.
"""

import math
import time
from collections.abc import Sequence

from taskfleet.errors import QueueError
from taskfleet.messages.formats import NewerFormatError
from taskfleet.messages.grouping import chunks
from taskfleet.messages.tasks import QueuedTask, TaskMessage, unpack
from taskfleet.queues.in_flight import InFlightMessage, InFlightMessages, is_suspect
from taskfleet.queues.outbox import Delivery, Outbox
from taskfleet.queues.receiver import Arrival
from taskfleet.tasks import Finished, Lease, Outcome, RetryPolicy

#: A message that came back is shared out to this many.
PIECES = 10
#: A task that may kill its worker, and has to wait until others that may are done with, comes again after this long.
SUSPECT_DELAY_SECONDS = 2.0
#: For how long a worker that met such a task leases less ahead.
CAREFUL_SECONDS = 10.0


class Intake:
    """Looks into messages and decides about their tasks; used by the worker's own thread.

    Args:
        job_id: The job; tasks of another one are refused.
        policy: Which tasks get another try.
        in_flight: Holds the tasks that this worker is to do.
        outbox: Takes those that it is not to do, and the deaths of other workers.
    """

    def __init__(self, *, job_id: str, policy: RetryPolicy, in_flight: InFlightMessages, outbox: Outbox) -> None:
        self._job_id = job_id
        self._policy = policy
        self._in_flight = in_flight
        self._outbox = outbox
        self._careful_until = 0.0
        self._tasks_per_message = 1.0

    @property
    def tasks_per_message(self) -> float:
        """How many tasks the messages of late have had, on the average."""
        return self._tasks_per_message

    @property
    def is_careful(self) -> bool:
        """Whether few tasks should be held at a time, so that few are lost with this worker, should one of them kill it."""
        return time.monotonic() < self._careful_until

    def be_careful(self) -> None:
        """Be careful for a while: a task may kill this worker."""
        self._careful_until = time.monotonic() + CAREFUL_SECONDS

    def open(self, arrival: Arrival, now: float) -> list[Lease]:
        """Look into a message; return leases on those of its tasks that this worker is to do and did not hold before.

        Args:
            arrival: The message.
            now: Seconds since the epoch.

        Raises:
            NewerFormatError: A later version of the library wrote it; it is given back as it is.
            QueueError: It is of another job, or not one of ours.
        """
        try:
            message = unpack(arrival.message.body)
        except NewerFormatError:
            self._give_back(arrival)
            raise
        if message.job_id != self._job_id:
            raise QueueError(
                f"The queue has tasks of job {message.job_id!r}, and this worker is of job {self._job_id!r}. Each job needs a queue "
                "of its own: change QUEUE_URL or JOB_ID."
            )
        held, decided = arrival.in_flight, Delivery()
        lost = max(arrival.message.deliveries - 1, 0)
        leases: list[Lease] = []
        if message.claimed_by and self._in_flight.take_back(message.claimed_by, held):
            pass  # its tasks have leases already
        elif message.claimed_by and message.claimed_until > now:
            self._in_flight.leave(held)  # the other one gets it next, or a worker after the claim
        else:
            leases = self._sort(held, message, 1 if message.claimed_by else lost, now, decided)
        decided.acknowledge(self._in_flight.release(held))
        self._outbox.add(decided)
        return leases

    def _give_back(self, arrival: Arrival) -> None:
        """Publish a message again as it is, as a new one: it does not count as lost with this worker."""
        decided = Delivery(messages=[arrival.message.body])
        decided.acknowledge(self._in_flight.release(arrival.in_flight))
        self._outbox.add(decided)

    def _sort(
        self, held: InFlightMessage, message: TaskMessage, lost: int, now: float, decided: Delivery
    ) -> list[Lease]:
        """Decide about the tasks of a message that was lost this often with a worker."""
        tasks = message.tasks
        if message.not_before > now + 1:
            for task in tasks:
                decided.send_back(message.ledger, task, delay_seconds=message.not_before - now)
            return []
        if len(tasks) > 1 and lost and self._policy.retries.get(Outcome.LOST, 0):
            if lost > 1 or tasks[0].count_of(Outcome.LOST):
                decided.messages.extend(self._shared_out(message, lost))
                return []
            # Most machines that die are not killed by a task.
            tasks, lost = [task.after(task.attempt + lost) for task in tasks], 0
        return self._take_in(held, message.ledger, tasks, lost, now, decided)

    def _take_in(
        self,
        held: InFlightMessage,
        ledger: str,
        tasks: Sequence[QueuedTask],
        lost: int,
        now: float,
        decided: Delivery,
    ) -> list[Lease]:
        leases: list[Lease] = []
        for task in tasks:
            if lost:
                task = task.after(task.attempt + lost, Outcome.LOST, lost)
                earlier = task.count_of(Outcome.LOST) - 1
                death = Finished(task.seq, task.attempt, Outcome.LOST, now, 0.0, error="The worker or its machine died")
                delay_seconds = self._policy.delay_after(death, earlier, has_begun=False)
                decided.report_ended(ledger, death, delay_seconds)
                if delay_seconds is None:
                    continue
            if is_suspect(task):
                self.be_careful()
                if self._in_flight.has_suspect:
                    decided.send_back(ledger, task, delay_seconds=SUSPECT_DELAY_SECONDS, is_alone=True)
                    continue
            if self._in_flight.put(held, task, ledger=ledger):
                leases.append(Lease(task.seq, task.next_attempt, task.task_id, task.data))
        decided.tasks_per_message = len(tasks)
        self._tasks_per_message += 0.2 * (len(tasks) - self._tasks_per_message)
        return leases

    def _shared_out(self, message: TaskMessage, lost: int) -> list[TaskMessage]:
        """Return the tasks of a message whose worker died in several, so that the one that may have killed it is found."""
        pieces = chunks(message.tasks, math.ceil(len(message.tasks) / PIECES))
        return [TaskMessage(job_id=self._job_id, ledger=message.ledger, tasks=_lost(piece, lost)) for piece in pieces]


def _lost(tasks: Sequence[QueuedTask], times: int) -> list[QueuedTask]:
    """Return tasks as they are after their message was lost with this many workers; the loss counts once, as each may be innocent."""
    return [task.after(task.attempt + times, Outcome.LOST, 0 if task.count_of(Outcome.LOST) else 1) for task in tasks]
