"""A job's queues at a service: made and deleted with the job, and filled from its ledger."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from taskfleet.errors import QueueError
from taskfleet.ledger import counters, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.tasks import QueuedTask, TaskMessage, group, overhead_bytes, pack
from taskfleet.processes.identity import identity
from taskfleet.queues.addresses import is_remote, open_transport, redact_url
from taskfleet.queues.transport import Outgoing, Transport
from taskfleet.settings import Configuration

#: What a message of tasks should be worth, if how long they take is known; beyond it, what a dying worker held is dear.
WORK_SECONDS = 10.0
MOST_TASKS = 1000
MOST_BYTES = 200_000
#: So many durations have to be known.
ENOUGH_DURATIONS = 20
#: Into so many messages a job is shared out at least, while nothing is known.
SHARES = 1000
MOST_UNKNOWN_TASKS = 100


class SendingProgress:
    """Hears how the sending of a job's tasks gets on; this one keeps it to itself."""

    def sent(self, tasks: int, total: int) -> None:
        """Take note that this many tasks were sent so far, of so many that had to be sent."""

    def waits_for(self, process: str) -> None:
        """Take note that another process sends tasks of this job, and has to end first; called once, with its identity."""


#: What the names of workers at a service begin with.
_WORKER = "worker|"

#: For those who do not want to know.
NO_PROGRESS = SendingProgress()


class JobQueues:
    """The queue of a job's tasks and that of its events."""

    def __init__(self, configuration: Configuration, queue_url: str | None = None) -> None:
        settings = configuration.settings
        self.queue_url = queue_url or settings.queue_url
        self._job_id = settings.job_id
        self._project = configuration.project.name
        self._tasks_per_message = settings.tasks_per_message
        self.tasks = open_transport(self.queue_url, self._job_id)
        self.events = open_transport(self.queue_url, self._job_id, of_events=True)

    def __enter__(self) -> Self:
        """Use it in a ``with`` statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of connections."""
        self.tasks.close()
        self.events.close()

    @property
    def both(self) -> tuple[Transport, Transport]:
        """Tasks and events."""
        return self.tasks, self.events

    def create(self) -> None:
        """Make both queues if they are not there."""
        for what, transport in zip(("tasks", "events"), self.both, strict=True):
            transport.create(
                tags={"taskfleet-job": self._job_id, "taskfleet-project": self._project, "taskfleet-queue": what}
            )

    def require(self) -> None:
        """See that both queues are there.

        Raises:
            QueueError: They are not.
        """
        for transport in self.both:
            if not transport.exists():
                raise QueueError(
                    f"The queue {redact_url(transport.address)} of job {self._job_id!r} does not exist. Insert tasks first, from where the "
                    "ledger is: poe insert_tasks. If the queue was deleted: poe release makes it again, with all that is not done."
                )

    def delete(self) -> None:
        """Delete both queues."""
        for transport in self.both:
            transport.delete()

    def size_error(self, task_id: str, data: str) -> str | None:
        """Say what is wrong with a task that no message can carry."""
        size = overhead_bytes(QueuedTask(0, task_id, data)) + 1000
        if size <= self.tasks.most_message_bytes:
            return None
        return (
            f"the task's data take up to {size / 2**20:.2f} MiB in a message, and the queue takes "
            f"{self.tasks.most_message_bytes / 2**20:g} MiB. Put the data into a file and the file's address into the table"
        )

    def send_unsent(self, database: Database, progress: SendingProgress = NO_PROGRESS) -> int:
        """Send all tasks of the ledger that are not on their way; gone on with by the next call if it is interrupted.

        Args:
            database: The job's ledger.
            progress: Hears how it gets on.

        Returns:
            How many tasks were sent.
        """
        total = sending.count_unsent(database)
        return sending.send_all(
            database,
            self._sender(database),
            on_progress=lambda tasks: progress.sent(tasks, total),
            on_wait=progress.waits_for,
        )

    def send(self, database: Database, steps: Iterable[list[QueuedTask]]) -> int:
        """Send tasks, without the ledger taking note of it; return how many."""
        send = self._sender(database)
        total = 0
        for tasks in steps:
            send(tasks)
            total += len(tasks)
        return total

    def _sender(self, database: Database) -> Callable[[list[QueuedTask]], None]:
        most = self._tasks_per_message or self._fitting_number(database)
        ledger = recording.token(database)

        def send(tasks: list[QueuedTask]) -> None:
            self.tasks.send(
                [
                    Outgoing(pack(TaskMessage(job_id=self._job_id, ledger=ledger, tasks=chunk)))
                    for chunk in group(tasks, most=most, most_bytes=MOST_BYTES)
                ]
            )

        return send

    def _fitting_number(self, database: Database) -> int:
        """Say how many tasks a message should have."""
        durations = counters.durations(database)
        if durations is not None and durations.n >= ENOUGH_DURATIONS:
            return max(1, min(int(WORK_SECONDS / max(durations.mean, 1e-6)), MOST_TASKS))
        total = sum(counters.by_state(database).values())
        return max(1, min(total // SHARES, MOST_UNKNOWN_TASKS))


def record_queue(database: Database, configuration: Configuration) -> None:
    """Note at a job's first insertion where its tasks travel.

    Raises:
        QueueError: They travel elsewhere.
    """
    queue_url = configuration.settings.queue_url
    with database.transaction():
        known = database.value("SELECT queue_url FROM job")
        if known is None and is_remote(queue_url) and not counters.tallies(database)["inserted"]:
            database.execute("UPDATE job SET queue_url = ?", (redact_url(queue_url),))
    check_queue(database, configuration)


def check_queue(database: Database, configuration: Configuration) -> None:
    """See that the settings and the ledger mean the same queue.

    Raises:
        QueueError: They do not.
    """
    known = database.value("SELECT queue_url FROM job") or "ledger"
    given = redact_url(configuration.settings.queue_url) if is_remote(configuration.settings.queue_url) else "ledger"
    if known != given:
        raise QueueError(
            f"The tasks of job {configuration.settings.job_id!r} travel by {known}, and QUEUE_URL says {given}. Set QUEUE_URL={known}, "
            f"or have them moved: poe move_queue --to {given}"
        )


def send_if_remote(database: Database, configuration: Configuration, progress: SendingProgress = NO_PROGRESS) -> int:
    """Send what the ledger has to send, if the tasks travel by a service; return how many."""
    if not is_remote(configuration.settings.queue_url):
        return 0
    with JobQueues(configuration) as queues:
        queues.require()
        return queues.send_unsent(database, progress)


def source_name() -> str:
    """Name this process as a worker, as no other is ever named."""
    return f"{_WORKER}{identity()}"


def process_of(source: str) -> str:
    """Return the identity of a worker's process, by the worker's name."""
    return source.removeprefix(_WORKER)
