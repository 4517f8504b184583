"""The service queues of a job: create and delete them, and send tasks from the ledger."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import QueueError, SettingsError, TaskfleetError
from taskfleet.invocation import poe
from taskfleet.ledger import control, counters, managers, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.chains import Chain
from taskfleet.messages.tasks import QueuedTask, TaskMessage, group, overhead_bytes, pack
from taskfleet.processes.identity import identity
from taskfleet.queues.addresses import is_remote, open_transport, redact_url, with_folder
from taskfleet.queues.continuing import HEADER_BYTES
from taskfleet.queues.control import ControlChannel, is_of_earlier_ledger, publish
from taskfleet.queues.control_channels import open_channel
from taskfleet.queues.transport import Outgoing, Transport
from taskfleet.references import Store, as_file
from taskfleet.settings import Configuration, command_for
from taskfleet.text import counted, duration

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
#: The tasks of a graph that are sent together may take much longer than those that have ended: split them into at least as many messages.
MIN_MESSAGES_OF_LEVEL = 50


class SendingProgress:
    """Receives progress of sending a job's tasks; this one ignores it."""

    def sent(self, tasks: int, total: int) -> None:
        """``tasks`` of ``total`` tasks have been sent."""

    def waits_for(self, process: str) -> None:
        """Another process, with this identity, is sending tasks of the job, and is waited for; called once."""

    def say(self, text: str) -> None:
        """Show a message to the user."""


#: The prefix of names of workers of a service queue.
_WORKER = "worker|"

#: Ignores progress.
NO_PROGRESS = SendingProgress()


class JobQueues:
    """The queues of a job's tasks, one for each manager, and of its events.

    Args:
        configuration: The settings; ``tasks`` is the queue of their manager.
        queue_url: The address; None for QUEUE_URL.
        say: Receives messages for the user about waiting for the service.
        waits: Whether an outage is waited out, however long it lasts, once the service has answered a call.
        patience_seconds: How long a call is repeated otherwise.
    """

    def __init__(
        self,
        configuration: Configuration,
        queue_url: str | None = None,
        *,
        say: Callable[[str], None] | None = None,
        waits: bool = True,
        patience_seconds: float = 60.0,
    ) -> None:
        settings = configuration.settings
        self.queue_url = with_folder(queue_url or settings.queue_url, configuration)
        self._job_id = settings.job_id
        self._project = configuration.project.name
        self._store = Store(configuration.results_path)
        self.outages = Outages(say, waits=waits)
        self._options: dict[str, Any] = {"outages": self.outages, "patience_seconds": patience_seconds}
        self._of_managers: dict[str, Transport] = {}
        self.tasks = self.of_manager(configuration.manager)
        self.events = open_transport(self.queue_url, self._job_id, of_events=True, **self._options)
        self._configuration = configuration
        self._control: ControlChannel | None = None
        self._published = 0
        self._has_looked = False
        self._n_left_out = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close connections."""
        for transport in (*self._of_managers.values(), self.events):
            transport.close()
        if self._control is not None:
            self._control.close()

    @property
    def both(self) -> tuple[Transport, Transport]:
        """The queues of tasks and of events."""
        return self.tasks, self.events

    def of_manager(self, name: str) -> Transport:
        """Return the queue of the tasks of a manager; empty for the default one."""
        if name not in self._of_managers:
            self._of_managers[name] = open_transport(self.queue_url, self._job_id, manager=name, **self._options)
        return self._of_managers[name]

    def of_tasks(self, database: Database | None) -> list[Transport]:
        """Return the queues of the tasks of all managers that the job has had; without its ledger, the one that is known."""
        names = () if database is None else managers.names(database).values()
        return [self.tasks, *(self.of_manager(name) for name in names)]

    def create(self, database: Database | None = None) -> None:
        """Create the queues that do not exist: of events, and of the tasks of all managers in the ledger."""
        for transport in (*self.of_tasks(database), self.events):
            what = "events" if transport is self.events else "tasks"
            logger.info("Creating the queue %s if it does not exist", redact_url(transport.address))
            transport.create(
                tags={"taskfleet-job": self._job_id, "taskfleet-project": self._project, "taskfleet-queue": what}
            )

    def require(self) -> None:
        """Check that the queues of tasks and of events exist.

        Raises:
            QueueError: One does not exist.
        """
        manager = self._configuration.manager
        for transport in self.both:
            if not transport.exists():
                whose, command = f"job {self._job_id!r}", "insert_tasks"
                if manager and transport is self.tasks:
                    whose, command = f"{whose}, manager {manager!r},", "flow"
                raise QueueError(
                    f"The queue {redact_url(transport.address)} of {whose} does not exist. Insert tasks first, on the machine "
                    f"with the ledger: {poe(command)}. If the queue was deleted, {poe('release')} creates it again and sends all "
                    "unfinished tasks."
                )

    def delete(self, database: Database | None) -> None:
        """Delete the queues of events, and of the tasks of all managers in the ledger."""
        for transport in (*self.of_tasks(database), self.events):
            logger.info("Deleting the queue %s", redact_url(transport.address))
            transport.delete()
        channel = self._open_control()
        if not channel.is_part_of_queue:
            channel.delete()

    def publish(self, database: Database) -> None:
        """Tell workers what changed in the ledger's control document, if it has changed, or if they see that of an earlier ledger."""
        if control.version(database) == self._published and not self._shows_earlier_ledger(database):
            return
        had_left_out = self._n_left_out
        self._published, self._n_left_out = publish(database, self._open_control(), self._job_id)
        if self._n_left_out and not had_left_out and self.outages.say is not None:
            self.outages.say(
                f"The queue service has no room for the numbers of {counted(self._n_left_out, 'more cancelled task')}: those that run, or "
                "are in messages, may still be done. Set BUCKET, also for workers, to cancel so many."
            )

    def _shows_earlier_ledger(self, database: Database) -> bool:
        """Return whether workers see the document of an earlier ledger of the job; looks once, while this ledger has published none."""
        if self._published or self._has_looked:
            return False
        self._has_looked = True
        with suppress(TaskfleetError):  # such as a missing permission, which other jobs do not need
            return is_of_earlier_ledger(database, self._open_control(), self._job_id)
        return False

    def _open_control(self) -> ControlChannel:
        if self._control is None:
            self._control = open_channel(self._configuration, self.outages, queue_url=self.queue_url)
        return self._control

    def size_error(self, task_id: str, data: str) -> str | None:
        """Return an error message if a task is too large for a message; None otherwise."""
        size = overhead_bytes(QueuedTask(0, task_id, data)) + HEADER_BYTES
        if size <= self.tasks.most_message_bytes:
            return None
        return (
            f"the task's data take up to {size / 2**20:.2f} MiB in a message, and the maximum of the queue is "
            f"{self.tasks.most_message_bytes / 2**20:g} MiB. Put the data into a file and the file's path or URL into the table"
        )

    def purge(self, database: Database) -> None:
        """Delete all messages of tasks, and stop chains; ``send_unsent`` then waits until the service deletes no more."""
        sending.hold_back(database, time.time() + self.tasks.purge_seconds)  # this process may die during the purge
        try:
            self.publish(database)
        finally:
            for transport in self.of_tasks(database):
                transport.purge()
        sending.hold_back(database, time.time() + self.tasks.purge_seconds)

    def send_unsent(self, database: Database, progress: SendingProgress = NO_PROGRESS) -> int:
        """Send all tasks of the ledger that were not sent yet; after an interruption, the next call continues.

        Args:
            database: The job's ledger.
            progress: Receives the progress.

        Returns:
            The number of tasks sent.
        """
        total = sending.count_unsent(database)
        send = self._sender(database)

        def send_later(tasks: list[QueuedTask]) -> None:
            self._await_purge(database)
            send(tasks)

        return sending.send_all(
            database,
            send_later,
            on_progress=lambda tasks: progress.sent(tasks, total),
            on_wait=progress.waits_for,
            queue_url=redact_url(self.queue_url),
        )

    def send(self, database: Database, steps: Iterable[list[QueuedTask]]) -> int:
        """Send tasks without recording that in the ledger; return their number."""
        send = self._sender(database)
        total = 0
        for tasks in steps:
            send(tasks)
            total += len(tasks)
        return total

    def _await_purge(self, database: Database) -> None:
        left = min(sending.held_back_until(database) - time.time(), self.tasks.purge_seconds)
        if left > 0:
            if self.outages.say is not None:
                self.outages.say(
                    f"The queue was purged less than {duration(self.tasks.purge_seconds)} ago, and the service may delete what is sent "
                    f"now. Sending in {duration(left)}."
                )
            time.sleep(left)

    def _sender(self, database: Database) -> Callable[[list[QueuedTask]], None]:
        chosen = self._choose_tasks_per_message(database)
        ledger = recording.token(database)

        def send(tasks: list[QueuedTask]) -> None:
            names = managers.names_by_function(database)
            shares: dict[str, list[QueuedTask]] = {}
            for one in tasks:
                shares.setdefault(names.get(one.function, ""), []).append(one)
            for name, share in shares.items():
                most = self._tasks_per_message(name)
                if most is None:
                    is_level = any(one.function for one in share)
                    most = min(chosen, math.ceil(len(share) / MIN_MESSAGES_OF_LEVEL)) if is_level else chosen
                self.of_manager(name).send(
                    [
                        Outgoing(pack(TaskMessage(job_id=self._job_id, ledger=ledger, tasks=chunk)))
                        for chunk in group(self._fitting(share), most=most, most_bytes=MAX_BYTES)
                    ]
                )

        return send

    def _tasks_per_message(self, manager: str) -> int | None:
        """Return the number of tasks per message that is set; None if it is to be chosen, or the manager's file is missing."""
        configuration = self._configuration
        if manager != configuration.manager:
            with suppress(SettingsError):
                configuration = configuration.of_manager(manager)
        return configuration.settings.tasks_per_message

    def _fitting(self, tasks: Sequence[QueuedTask]) -> list[QueuedTask]:
        """Return tasks, those of graphs with data in files of RESULTS_PATH that are too large for a message, and chains cut to fit.

        Raises:
            StoreError: A file cannot be written, or there is no place for it.
        """
        most = self.tasks.most_message_bytes - HEADER_BYTES
        fitting = []
        for task in tasks:
            if task.function and overhead_bytes(task._replace(chain=Chain())) > most:
                task = task._replace(data=as_file(task.data.encode(), self._store).decode())
            fitting.append(task.fitting(most))
        return fitting

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
            f"or move the tasks: {command_for(configuration, f'move_queue --queue-url {known} --to {given}')}"
        )


def send_if_remote(database: Database, configuration: Configuration, progress: SendingProgress = NO_PROGRESS) -> int:
    """Send the ledger's unsent tasks, if the job uses a service queue; return their number."""
    if not is_remote(configuration.settings.queue_url):
        return 0
    with JobQueues(configuration, say=progress.say) as queues:
        queues.require()
        return queues.send_unsent(database, progress)


def source_name() -> str:
    """Return a unique name of this process as a worker."""
    return f"{_WORKER}{identity()}"


def process_of(source: str) -> str:
    """Return the identity of the process of a worker with this name."""
    return source.removeprefix(_WORKER)
