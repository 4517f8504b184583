"""A job's queues at a service: made and deleted with the job, and filled from its ledger."""

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from taskfleet.errors import QueueError
from taskfleet.ledger import counters, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.tasks import Envelope, Parcel, group, overhead_bytes, pack
from taskfleet.processes.identity import identity
from taskfleet.queues.addresses import is_remote, open_transport, public
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
                    f"The queue {public(transport.address)} of job {self._job_id!r} does not exist. Insert tasks first, from where the "
                    "ledger is: poe insert_tasks. If the queue was deleted: poe release makes it again, with all that is not done."
                )

    def delete(self) -> None:
        """Delete both queues."""
        for transport in self.both:
            transport.delete()

    def fault_of_size(self, task_id: str, data: str) -> str | None:
        """Say what is wrong with a task that no message can carry."""
        size = overhead_bytes(Parcel(0, task_id, data)) + 1000
        if size <= self.tasks.most_message_bytes:
            return None
        return (
            f"the task's data take up to {size / 2**20:.2f} MiB in a message, and the queue takes "
            f"{self.tasks.most_message_bytes / 2**20:g} MiB. Put the data into a file and the file's address into the table"
        )

    def send_unsent(self, database: Database, *, say: Callable[[str], None]) -> int:
        """Send all tasks of the ledger that are not on their way, with a progress bar on a terminal; gone on with if interrupted.

        Returns:
            How many tasks were sent.
        """
        unsent = sending.count_unsent(database)
        send = self._sender(database)
        bar = _Bar(unsent)
        try:
            return sending.send_all(
                database,
                send,
                on_progress=bar.show,
                on_wait=lambda process: say(
                    f"Waiting for another process to send its tasks ({process.split('|')[1]})."
                ),
            )
        finally:
            bar.close()

    def send(self, database: Database, steps: Iterable[list[Parcel]]) -> int:
        """Send tasks, without the ledger taking note of it; return how many."""
        send = self._sender(database)
        total = 0
        for parcels in steps:
            send(parcels)
            total += len(parcels)
        return total

    def _sender(self, database: Database) -> Callable[[list[Parcel]], None]:
        most = self._tasks_per_message or self._fitting_number(database)
        ledger = recording.token(database)

        def send(parcels: list[Parcel]) -> None:
            self.tasks.send(
                [
                    Outgoing(pack(Envelope(job_id=self._job_id, ledger=ledger, parcels=chunk)))
                    for chunk in group(parcels, most=most, most_bytes=MOST_BYTES)
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


def settle_queue(database: Database, configuration: Configuration) -> None:
    """Note at a job's first insertion where its tasks travel.

    Raises:
        QueueError: They travel elsewhere.
    """
    queue_url = configuration.settings.queue_url
    with database.transaction():
        known = database.value("SELECT queue_url FROM job")
        if known is None and is_remote(queue_url) and not counters.tallies(database)["inserted"]:
            database.execute("UPDATE job SET queue_url = ?", (public(queue_url),))
    check_queue(database, configuration)


def check_queue(database: Database, configuration: Configuration) -> None:
    """See that the settings and the ledger mean the same queue.

    Raises:
        QueueError: They do not.
    """
    known = database.value("SELECT queue_url FROM job") or "ledger"
    given = public(configuration.settings.queue_url) if is_remote(configuration.settings.queue_url) else "ledger"
    if known != given:
        raise QueueError(
            f"The tasks of job {configuration.settings.job_id!r} travel by {known}, and QUEUE_URL says {given}. Set QUEUE_URL={known}, "
            f"or have them moved: poe move_queue --to {given}"
        )


def send_if_remote(database: Database, configuration: Configuration) -> int:
    """Send what the ledger has to send, if the tasks travel by a service; return how many."""
    if not is_remote(configuration.settings.queue_url):
        return 0
    with JobQueues(configuration) as queues:
        queues.require()
        return queues.send_unsent(database, say=lambda text: print(text, file=sys.stderr))


class _Bar:
    """Tasks sent so far and the time left, on a terminal; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None

    def show(self, n: int) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, unit="task", unit_scale=True, desc="Sending", dynamic_ncols=True, leave=False
            )
        self._bar.update(n - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def source_name() -> str:
    """Name this process as a worker, as no other is ever named."""
    return f"worker|{identity()}"
