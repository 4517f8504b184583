"""Process the messages that a worker receives from a service queue.

A message that is delivered a second time was held by a worker that died. Its tasks are split into several messages, until the one that
kills its workers is alone and has used its attempts. As in the ledger, the first loss of a task does not count.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence

from taskfleet.messages.formats import ForeignMessageError, MisdirectedMessageError
from taskfleet.messages.grouping import chunks
from taskfleet.messages.tasks import QueuedTask, TaskMessage, unpack
from taskfleet.queues.in_flight import InFlightMessage, InFlightMessages, is_suspect
from taskfleet.queues.outbox import Delivery, Outbox
from taskfleet.queues.receiver import Arrival
from taskfleet.queues.set_aside import SetAside
from taskfleet.tasks import LAST_ATTEMPT, Finished, Lease, Outcome, RetryPolicy

logger = logging.getLogger(__name__)

#: A redelivered message is split into this many.
PIECES = 10
#: Delay of a task that may kill its worker while the worker holds another such task.
SUSPECT_DELAY_SECONDS = 2.0
#: How long a worker prefetches less after it received such a task.
CAREFUL_SECONDS = 10.0


class Intake:
    """Decode messages and decide about their tasks. Used by the worker's own thread.

    Args:
        job_id: The job; tasks of another job are rejected.
        policy: Decides on retries.
        in_flight: Holds the tasks that this worker runs.
        outbox: Takes the tasks that it does not run, and the deaths of other workers.
        set_aside: Keeps foreign messages.
        is_cancelled: Whether a task, by its ledger and number, was cancelled.
    """

    def __init__(
        self,
        *,
        job_id: str,
        policy: RetryPolicy,
        in_flight: InFlightMessages,
        outbox: Outbox,
        set_aside: SetAside,
        is_cancelled: Callable[[str, int], bool] = lambda _ledger, _seq: False,
    ) -> None:
        self._job_id = job_id
        self._policy = policy
        self._in_flight = in_flight
        self._outbox = outbox
        self._set_aside = set_aside
        self._is_cancelled = is_cancelled
        self._careful_until = 0.0
        self._tasks_per_message = 1.0

    @property
    def tasks_per_message(self) -> float:
        """The moving average of tasks per message."""
        return self._tasks_per_message

    @property
    def is_careful(self) -> bool:
        """Whether to hold only few tasks, so that few are lost if one of them kills this worker."""
        return time.monotonic() < self._careful_until

    def be_careful(self) -> None:
        """Hold only few tasks for a while: a task may kill this worker."""
        self._careful_until = time.monotonic() + CAREFUL_SECONDS

    def open(self, arrival: Arrival, now: float) -> list[Lease]:
        """Decode a message; return leases on the tasks that this worker runs and did not hold before.

        Args:
            arrival: The message.
            now: Seconds since the epoch.

        Raises:
            MisdirectedMessageError: It is for another version of the library or another job; it is given back unchanged.
        """
        try:
            message = self._unpack(arrival)
        except MisdirectedMessageError:
            self._replace(arrival, [arrival.message.body])
            raise
        except ForeignMessageError as error:
            self._set_aside.keep("tasks", arrival.message.body, str(error))
            self._replace(arrival, [])
            return []
        held, decided = arrival.in_flight, Delivery()
        lost = max(arrival.message.deliveries - 1, 0)
        leases: list[Lease] = []
        if message.claimed_by and self._in_flight.take_back(message.claimed_by, held):
            pass  # its tasks already have leases
        elif message.claimed_by and message.claimed_until > now:
            self._in_flight.stop_renewing(held)  # the claiming worker receives it next, or any worker after the claim
        else:
            leases = self._triage(held, message, 1 if message.claimed_by else lost, now, decided)
        decided.acknowledge(self._in_flight.release(held))
        self._outbox.add(decided)
        return leases

    def _unpack(self, arrival: Arrival) -> TaskMessage:
        message = unpack(arrival.message.body)
        if message.job_id != self._job_id:
            raise MisdirectedMessageError(
                f"The queue has tasks of job {message.job_id!r}, but this worker is for job {self._job_id!r}. Each job needs its own "
                "queue: change QUEUE_URL or JOB_ID."
            )
        return message

    def _replace(self, arrival: Arrival, bodies: list[TaskMessage | str]) -> None:
        """Delete a message after others were sent instead of it: the same one as a new one does not count as lost with this worker."""
        decided = Delivery(messages=bodies)
        decided.acknowledge(self._in_flight.release(arrival.in_flight))
        self._outbox.add(decided)

    def _triage(
        self, held: InFlightMessage, message: TaskMessage, lost: int, now: float, decided: Delivery
    ) -> list[Lease]:
        """Decide about the tasks of a message that was lost with ``lost`` workers."""
        tasks = message.tasks
        if message.not_before > now + 1:
            for task in tasks:
                decided.send_back(message.ledger, task, delay_seconds=message.not_before - now)
            return []
        if len(tasks) > 1 and lost and self._policy.retries.get(Outcome.LOST, 0):
            for task in tasks:
                _report_losses(message.ledger, task, task.attempt + lost, now, decided)
            if lost > 1 or tasks[0].count_of(Outcome.LOST):
                logger.info("A message with %d tasks was lost with its worker again and is split", len(tasks))
                decided.messages.extend(self._split(message, lost))
                return []
            # Most machine failures are not caused by a task.
            tasks, lost = [task.after(task.attempt + lost) for task in tasks], 0
        return self._accept(held, message.ledger, tasks, lost, now, decided)

    def _accept(
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
            if self._is_cancelled(ledger, task.seq):
                decided.report_ended(ledger, cancelled(task.seq, task.next_attempt, now), None)
                continue
            if lost:
                before, task = task, task.after(task.attempt + lost, Outcome.LOST, lost)
                _report_losses(ledger, before, task.attempt - 1, now, decided)
                earlier = task.count_of(Outcome.LOST) - 1
                logger.info("Attempt %d of task %s was lost with its worker", task.attempt, task.task_id)
                death = _death(task.seq, task.attempt, now)
                delay_seconds = self._policy.delay_after(death, earlier, has_begun=False)
                decided.report_ended(ledger, death, delay_seconds)
                if delay_seconds is None:
                    continue
            if is_suspect(task):
                logger.info("Task %s was lost with several workers and is run in isolation", task.task_id)
                self.be_careful()
                if self._in_flight.has_suspect:
                    decided.send_back(ledger, task, delay_seconds=SUSPECT_DELAY_SECONDS, is_isolated=True)
                    continue
            if self._in_flight.put(held, task, ledger=ledger):
                leases.append(Lease(task.seq, task.next_attempt, task.task_id, task.data, task.function))
        decided.tasks_per_message = len(tasks)
        self._tasks_per_message += 0.2 * (len(tasks) - self._tasks_per_message)
        return leases

    def _split(self, message: TaskMessage, lost: int) -> list[TaskMessage]:
        """Split a message whose worker died, to find the task that may have killed it."""
        pieces = chunks(message.tasks, math.ceil(len(message.tasks) / PIECES))
        return [TaskMessage(job_id=self._job_id, ledger=message.ledger, tasks=_lost(piece, lost)) for piece in pieces]


def cancelled(seq: int, attempt: int, now: float) -> Finished:
    """Return the attempt of a task that was cancelled before it started."""
    return Finished(seq, attempt, Outcome.KILLED, now, 0.0, error="Killed: the task was cancelled")


def _death(seq: int, attempt: int, now: float) -> Finished:
    return Finished(seq, attempt, Outcome.LOST, now, 0.0, error="The worker or its machine died")


def _report_losses(ledger: str, task: QueuedTask, last: int, now: float, decided: Delivery) -> None:
    """Report the next attempts of a task, up to a number, as lost with their workers. The ledger knows which of them had ended before."""
    for attempt in range(task.next_attempt, min(last, LAST_ATTEMPT) + 1):
        decided.report_ended(ledger, _death(task.seq, attempt, now), 0.0)


def _lost(tasks: Sequence[QueuedTask], times: int) -> list[QueuedTask]:
    """Return tasks after their message was lost with ``times`` workers; it counts as one loss, as each may be innocent."""
    return [task.after(task.attempt + times, Outcome.LOST, 0 if task.count_of(Outcome.LOST) else 1) for task in tasks]
