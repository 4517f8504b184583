"""The outbox of a worker: what it has decided about its tasks, until a queue at a service knows it.

This is the transactional outbox pattern (https://microservices.io/patterns/data/transactional-outbox.html): the worker only writes down
what has to happen at the service, all that belongs together at once, and a relay, ``Sender``, makes it happen, as often as it takes. No
transaction spans a queue of tasks and a queue of events, so their order has to do: first the successors of tasks are published, then what
became of the tasks is reported, and only then the messages they came in are acknowledged. Whatever dies in between, each task is in some
message or has come to its end, at the price that it may be run, or reported, twice.
"""

import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.messages.events import EndedAttempt
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.tasks import AttemptKey, Finished, WorkerEnd

#: A delivery is due as soon as this many attempts have ended, however long ago the last one was.
FLUSH_AT = 1000


class TaskToSend(NamedTuple):
    """A task to publish again."""

    ledger: str
    """As in ``TaskMessage``."""
    task: QueuedTask
    delay_seconds: float
    is_alone: bool
    """Whether no other task may share its message."""


@dataclass(slots=True)
class Report:
    """What a ledger has to hear of."""

    leased: dict[AttemptKey, None] = field(default_factory=dict)
    """Attempts, in the order in which they were leased."""
    returned: list[AttemptKey] = field(default_factory=list)
    """Attempts that were leased and given back without beginning them."""
    ended: list[EndedAttempt] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.leased or self.returned or self.ended)

    def add(self, later: "Report") -> None:
        """Add what happened later; that an attempt was leased is not worth a word if it has ended or was given back since."""
        for finished, _ in later.ended:
            self.leased.pop(finished.key, None)
        self.ended += later.ended
        self.returned += [key for key in later.returned if key not in self.leased]
        for key in later.returned:
            self.leased.pop(key, None)
        self.leased |= later.leased


@dataclass(slots=True)
class Delivery:
    """What is to be done at the service, in the order of its fields; the relay takes out what is done."""

    messages: list[TaskMessage | str] = field(default_factory=list)
    """Messages of tasks, to be published as they are; as a text if this version of the library cannot read it."""
    tasks: list[TaskToSend] = field(default_factory=list)
    tasks_per_message: int = 1
    """How many of these tasks may share a message."""
    reports: dict[str, Report] = field(default_factory=dict)
    """By the ledger they are for."""
    end: WorkerEnd | None = None
    """To be reported, if the worker has ended."""
    receipts: list[str] = field(default_factory=list)
    """Of messages to acknowledge."""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.has_tasks or any(self.reports.values()) or self.end or self.receipts)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks have to be published."""
        return bool(self.messages or self.tasks)

    @property
    def ended(self) -> int:
        """The number of attempts that have ended."""
        return sum(len(report.ended) for report in self.reports.values())

    @property
    def settles(self) -> bool:
        """Whether the worker is rid of some task, once this is done."""
        return bool(self.has_tasks or self.ended or self.receipts)

    def report_to(self, ledger: str) -> Report:
        """Return the report to a ledger, a new one if there is none yet."""
        report = self.reports.get(ledger)
        if report is None:
            report = self.reports[ledger] = Report()
        return report

    def send_back(self, ledger: str, task: QueuedTask, *, delay_seconds: float = 0.0, is_alone: bool = False) -> None:
        """Publish a task again.

        Args:
            ledger: Whose task it is.
            task: As it is now.
            delay_seconds: It is not handed out before.
            is_alone: Have no other task share its message.
        """
        self.tasks.append(TaskToSend(ledger, task, delay_seconds, is_alone))

    def report_ended(self, ledger: str, finished: Finished, retry_delay_seconds: float | None) -> None:
        """Report that an attempt ended, and after how many seconds the task gets another try, None if it does not."""
        self.report_to(ledger).ended.append(EndedAttempt(finished, retry_delay_seconds))

    def acknowledge(self, receipt: str | None) -> None:
        """Drop a message at the service; None stands for no message."""
        if receipt is not None:
            self.receipts.append(receipt)

    def add(self, later: "Delivery") -> None:
        """Add what was decided later."""
        self.messages += later.messages
        self.tasks += later.tasks
        self.tasks_per_message = max(self.tasks_per_message, later.tasks_per_message)
        for ledger, report in later.reports.items():
            self.report_to(ledger).add(report)
        self.end = later.end or self.end
        self.receipts += later.receipts


class Outbox:
    """Written by the worker, emptied by the relay; may be used by both at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = Delivery()
        self._is_sending = False
        self._is_settling = False
        self._is_closed = False

    # --- by the worker ---

    def add(self, decided: Delivery) -> None:
        """Have the service know what was decided: all of it, or, should this process die, nothing is lost by it."""
        with self._changed:
            self._waiting.add(decided)
            if self._waiting.ended >= FLUSH_AT:
                self._changed.notify_all()

    def close(self, end: WorkerEnd) -> None:
        """Report that the worker has ended; nothing comes after it."""
        with self._changed:
            self._waiting.end = end
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_sending(self) -> bool:
        """Whether any task is still on its way back to the service."""
        with self._changed:
            return self._is_sending or self._waiting.has_tasks

    @property
    def has_settled(self) -> bool:
        """Whether the service knows all that was decided: should this worker die now, only what it still holds would be done again."""
        with self._changed:
            return not (self._is_settling or self._waiting.settles)

    # --- by the relay ---

    def take(self, wait_seconds: float) -> Delivery | None:
        """Return all that is waiting, after ``wait_seconds`` unless it is much; None if it is nothing and nothing more comes.

        The next delivery must not be begun before all of this one is done.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting.ended >= FLUSH_AT, wait_seconds)
            taken = self._waiting
            if self._is_closed and not taken:
                return None
            self._waiting = Delivery(tasks_per_message=taken.tasks_per_message)
            self._is_sending = taken.has_tasks
            self._is_settling = taken.settles
            return taken

    def sent(self) -> None:
        """Take note that the service has the tasks of the delivery."""
        with self._changed:
            self._is_sending = False

    def delivered(self) -> None:
        """Take note that all of the delivery is done."""
        with self._changed:
            self._is_settling = False

    def wait(self, seconds: float) -> None:
        """Wait, unless or until the outbox is closed: for the relay, when the service does not answer."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)
