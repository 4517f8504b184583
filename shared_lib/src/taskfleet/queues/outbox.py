"""The outbox of a worker: its decisions about tasks that the service does not have yet.

This is the transactional outbox pattern (https://microservices.io/patterns/data/transactional-outbox.html): the worker only records what
has to happen at the service, atomically, and a relay, ``Sender``, makes it happen, with as many retries as it takes. No transaction spans
a queue of tasks and a queue of events, so correctness relies on their order: first publish the successors of tasks, then report the
results, and only then acknowledge the messages. Whatever fails in between, each task is in some message or finished; the price is that it
may be run, or reported, twice.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.messages.events import EndedAttempt
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.tasks import AttemptKey, Finished, WorkerEnd

#: A delivery is due as soon as this many attempts have finished, regardless of the time of the last one.
FLUSH_AT = 1000


class TaskToSend(NamedTuple):
    """A task to publish again."""

    ledger: str
    """As in ``TaskMessage``."""
    task: QueuedTask
    delay_seconds: float
    is_isolated: bool
    """Whether it needs a message of its own."""


@dataclass(slots=True)
class Report:
    """Events to be reported to a ledger."""

    leased: dict[AttemptKey, None] = field(default_factory=dict)
    """Leased attempts, in order."""
    returned: list[AttemptKey] = field(default_factory=list)
    """Attempts that were leased and given back without being started."""
    ended: list[EndedAttempt] = field(default_factory=list)
    continued: dict[AttemptKey, tuple[int, int]] = field(default_factory=dict)
    """By attempts that ended, the tasks of chains that were sent after them, as in ``Batch``."""

    def __bool__(self) -> bool:
        """Return whether there is anything to report."""
        return bool(self.leased or self.returned or self.ended)

    def add(self, later: "Report") -> None:
        """Add later events; drop the lease of an attempt that has ended or was given back since."""
        for finished, _ in later.ended:
            self.leased.pop(finished.key, None)
        self.ended += later.ended
        self.continued |= later.continued
        self.returned += [key for key in later.returned if key not in self.leased]
        for key in later.returned:
            self.leased.pop(key, None)
        self.leased |= later.leased


@dataclass(slots=True)
class Delivery:
    """Work for the relay, in the order of its fields; the relay removes what is done."""

    messages: list[TaskMessage | str] = field(default_factory=list)
    """Messages of tasks to publish unchanged; as a text if this version of the library cannot read it."""
    tasks: list[TaskToSend] = field(default_factory=list)
    tasks_per_message: int = 1
    """The maximum number of these tasks per message."""
    is_urgent: bool = False
    """Whether a slot waits for a task that is published."""
    reports: dict[str, Report] = field(default_factory=dict)
    """Reports by ledger."""
    end: WorkerEnd | None = None
    """The end of the worker to report, if it has ended."""
    receipts: list[str] = field(default_factory=list)
    """Receipts of messages to acknowledge."""

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.has_tasks or any(self.reports.values()) or self.end or self.receipts)

    @property
    def has_tasks(self) -> bool:
        """Whether there are tasks to publish."""
        return bool(self.messages or self.tasks)

    @property
    def ended(self) -> int:
        """The number of finished attempts."""
        return sum(len(report.ended) for report in self.reports.values())

    @property
    def settles_tasks(self) -> bool:
        """Whether the delivery frees the worker of any task."""
        return bool(self.has_tasks or self.ended or self.receipts)

    def report_to(self, ledger: str) -> Report:
        """Return the report to a ledger; create it if there is none."""
        report = self.reports.get(ledger)
        if report is None:
            report = self.reports[ledger] = Report()
        return report

    def send_back(
        self, ledger: str, task: QueuedTask, *, delay_seconds: float = 0.0, is_isolated: bool = False
    ) -> None:
        """Publish a task again.

        Args:
            ledger: The task's ledger.
            task: Its current state.
            delay_seconds: The delay before it can be received.
            is_isolated: Whether it needs a message of its own.
        """
        self.tasks.append(TaskToSend(ledger, task, delay_seconds, is_isolated))

    def report_ended(self, ledger: str, finished: Finished, retry_delay_seconds: float | None) -> None:
        """Report that an attempt ended, with the delay before its retry; None if there is none."""
        self.report_to(ledger).ended.append(EndedAttempt(finished, retry_delay_seconds))

    def send_on(self, ledger: str, ended: AttemptKey, task: QueuedTask) -> None:
        """Publish the next task of a chain, after an attempt of the one above it has succeeded."""
        self.send_back(ledger, task)
        self.report_to(ledger).continued[ended] = (task.seq, task.chain.epoch)

    def acknowledge(self, receipt: str | None) -> None:
        """Acknowledge a message; None does nothing."""
        if receipt is not None:
            self.receipts.append(receipt)

    def add(self, later: "Delivery") -> None:
        """Add later decisions."""
        self.messages += later.messages
        self.tasks += later.tasks
        self.tasks_per_message = max(self.tasks_per_message, later.tasks_per_message)
        self.is_urgent |= later.is_urgent
        for ledger, report in later.reports.items():
            self.report_to(ledger).add(report)
        self.end = later.end or self.end
        self.receipts += later.receipts


class Outbox:
    """Written by the worker, emptied by the relay. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending = Delivery()
        self._codes: Mapping[str, str] = {}
        self._is_sending = False
        self._is_delivering = False
        self._is_closed = False

    # --- by the worker ---

    def add(self, decided: Delivery) -> None:
        """Add decisions, which reach the service completely; if this process dies first, no task is lost."""
        with self._changed:
            self._pending.add(decided)
            if self._is_due:
                self._changed.notify_all()

    def note_code(self, codes: Mapping[str, str]) -> None:
        """Add code that the worker has imported, to be named by the next events."""
        self._codes = {**self._codes, **codes}

    @property
    def codes(self) -> Mapping[str, str]:
        """The hashes of the code that the worker has imported, by the names of functions."""
        return self._codes

    @property
    def _is_due(self) -> bool:
        return self._is_closed or self._pending.is_urgent or self._pending.ended >= FLUSH_AT

    def close(self, end: WorkerEnd) -> None:
        """Report that the worker has ended, and accept nothing after that."""
        with self._changed:
            self._pending.end = end
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_sending(self) -> bool:
        """Whether any task has not yet been sent back to the service."""
        with self._changed:
            return self._is_sending or self._pending.has_tasks

    @property
    def is_flushed(self) -> bool:
        """Whether the service has all decisions: if this worker died now, only the tasks it holds would be run again."""
        with self._changed:
            return not (self._is_delivering or self._pending.settles_tasks)

    # --- by the relay ---

    def take(self, wait_seconds: float) -> Delivery | None:
        """Return all decisions, after ``wait_seconds`` or earlier if they are many or urgent; None if there are none and it is closed.

        The relay must complete a delivery before it takes the next one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_due, wait_seconds)
            taken = self._pending
            if self._is_closed and not taken:
                return None
            self._pending = Delivery(tasks_per_message=taken.tasks_per_message)
            self._is_sending = taken.has_tasks
            self._is_delivering = taken.settles_tasks
            return taken

    def sent(self) -> None:
        """Mark the tasks of the delivery as sent."""
        with self._changed:
            self._is_sending = False

    def delivered(self) -> None:
        """Mark the delivery as completed."""
        with self._changed:
            self._is_delivering = False

    def wait(self, seconds: float) -> None:
        """Wait, at most until the outbox is closed; for the relay, during an outage of the service."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)
