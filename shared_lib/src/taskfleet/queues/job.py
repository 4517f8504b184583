"""The service queues of a job: create and delete them, and send tasks from the ledger."""

import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from taskfleet.errors import QueueError
from taskfleet.invocation import poe
from taskfleet.ledger import counters, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.tasks import QueuedTask, TaskMessage, group, overhead_bytes, pack
from taskfleet.processes.identity import identity
from taskfleet.queues.addresses import is_remote, open_transport, redact_url
from taskfleet.queues.transport import Outgoing, Transport
from taskfleet.settings import Configuration

logger = logging.getLogger(__name__)

#: Target work per message if the duration of tasks is known; larger messages make the death of a worker expensive.
WORK_SECONDS = 10.0
MAX_TASKS = 1000
MAX_BYTES = 200_000
#: The duration counts as known after this many tasks.
MIN_DURATIONS = 20
#: Otherwise, split the job into at least this many messages.
MIN_MESSAGES = 1000
MAX_TASKS_UNMEASURED = 100


class SendingProgress:
    """Receives progress of sending a job's tasks; this one ignores it."""

    def sent(self, tasks: int, total: int) -> None:
        """``tasks`` of ``total`` tasks have been sent."""

    def waits_for(self, process: str) -> None:
        """Another process, with this identity, is sending tasks of the job, and is waited for; called once."""


#: The prefix of names of workers of a service queue.
_WORKER = "worker|"

#: Ignores progress.
NO_PROGRESS = SendingProgress()


class JobQueues:
    """The queues of a job's tasks and of its events."""

    def __init__(self, configuration: Configuration, queue_url: str | None = None) -> None:
        settings = configuration.settings
        self.queue_url = queue_url or settings.queue_url
        self._job_id = settings.job_id
        self._project = configuration.project.name
        self._tasks_per_message = settings.tasks_per_message
        self.tasks = open_transport(self.queue_url, self._job_id)
        self.events = open_transport(self.queue_url, self._job_id, of_events=True)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close connections."""
        self.tasks.close()
        self.events.close()

    @property
    def both(self) -> tuple[Transport, Transport]:
        """The queues of tasks and of events."""
        return self.tasks, self.events

    def create(self) -> None:
        """Create the queues that do not exist."""
        for what, transport in zip(("tasks", "events"), self.both, strict=True):
            logger.info("Creating the queue %s if it does not exist", redact_url(transport.address))
            transport.create(
                tags={"taskfleet-job": self._job_id, "taskfleet-project": self._project, "taskfleet-queue": what}
            )

    def require(self) -> None:
        """Check that both queues exist.

        Raises:
            QueueError: One does not exist.
        """
        for transport in self.both:
            if not transport.exists():
                raise QueueError(
                    f"The queue {redact_url(transport.address)} of job {self._job_id!r} does not exist. Insert tasks first, on the machine "
                    f"with the ledger: {poe('insert_tasks')}. If the queue was deleted, {poe('release')} creates it again and sends all "
                    "unfinished tasks."
                )

    def delete(self) -> None:
        """Delete both queues."""
        for transport in self.both:
            logger.info("Deleting the queue %s", redact_url(transport.address))
            transport.delete()

    def size_error(self, task_id: str, data: str) -> str | None:
        """Return an error message if a task is too large for a message; None otherwise."""
        size = overhead_bytes(QueuedTask(0, task_id, data)) + 1000
        if size <= self.tasks.most_message_bytes:
            return None
        return (
            f"the task's data take up to {size / 2**20:.2f} MiB in a message, and the maximum of the queue is "
            f"{self.tasks.most_message_bytes / 2**20:g} MiB. Put the data into a file and the file's path or URL into the table"
        )

    def send_unsent(self, database: Database, progress: SendingProgress = NO_PROGRESS) -> int:
        """Send all tasks of the ledger that were not sent yet; after an interruption, the next call continues.

        Args:
            database: The job's ledger.
            progress: Receives the progress.

        Returns:
            The number of tasks sent.
        """
        total = sending.count_unsent(database)
        return sending.send_all(
            database,
            self._sender(database),
            on_progress=lambda tasks: progress.sent(tasks, total),
            on_wait=progress.waits_for,
        )

    def send(self, database: Database, steps: Iterable[list[QueuedTask]]) -> int:
        """Send tasks without recording that in the ledger; return their number."""
        send = self._sender(database)
        total = 0
        for tasks in steps:
            send(tasks)
            total += len(tasks)
        return total

    def _sender(self, database: Database) -> Callable[[list[QueuedTask]], None]:
        most = self._tasks_per_message or self._choose_tasks_per_message(database)
        ledger = recording.token(database)

        def send(tasks: list[QueuedTask]) -> None:
            self.tasks.send(
                [
                    Outgoing(pack(TaskMessage(job_id=self._job_id, ledger=ledger, tasks=chunk)))
                    for chunk in group(tasks, most=most, most_bytes=MAX_BYTES)
                ]
            )

        return send

    def _choose_tasks_per_message(self, database: Database) -> int:
        """Return the number of tasks per message."""
        durations = counters.durations(database)
        if durations is not None and durations.n >= MIN_DURATIONS:
            return max(1, min(int(WORK_SECONDS / max(durations.mean, 1e-6)), MAX_TASKS))
        total = sum(counters.by_state(database).values())
        return max(1, min(total // MIN_MESSAGES, MAX_TASKS_UNMEASURED))


def record_queue(database: Database, configuration: Configuration) -> None:
    """Record the queue URL in the ledger, at the job's first insertion.

    Raises:
        QueueError: The job uses another queue.
    """
    queue_url = configuration.settings.queue_url
    with database.transaction():
        known = database.value("SELECT queue_url FROM job")
        if known is None and is_remote(queue_url) and not counters.tallies(database)["inserted"]:
            database.execute("UPDATE job SET queue_url = ?", (redact_url(queue_url),))
    check_queue(database, configuration)


def check_queue(database: Database, configuration: Configuration) -> None:
    """Check that the settings and the ledger have the same queue URL.

    Raises:
        QueueError: They differ.
    """
    known = database.value("SELECT queue_url FROM job") or "ledger"
    given = redact_url(configuration.settings.queue_url) if is_remote(configuration.settings.queue_url) else "ledger"
    if known != given:
        raise QueueError(
            f"The queue of job {configuration.settings.job_id!r} is {known}, but QUEUE_URL is {given}. Set QUEUE_URL={known}, "
            f"or move the tasks: {poe(f'move_queue --to {given}')}"
        )


def send_if_remote(database: Database, configuration: Configuration, progress: SendingProgress = NO_PROGRESS) -> int:
    """Send the ledger's unsent tasks, if the job uses a service queue; return their number."""
    if not is_remote(configuration.settings.queue_url):
        return 0
    with JobQueues(configuration) as queues:
        queues.require()
        return queues.send_unsent(database, progress)


def source_name() -> str:
    """Return a unique name of this process as a worker."""
    return f"{_WORKER}{identity()}"


def process_of(source: str) -> str:
    """Return the identity of the process of a worker with this name."""
    return source.removeprefix(_WORKER)
