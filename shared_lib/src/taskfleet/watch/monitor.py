"""Recording events from a service queue in the ledger."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from taskfleet.errors import StoreError
from taskfleet.events import EventFile, make_event, task_event
from taskfleet.events.stored import stored_events
from taskfleet.ledger import counters, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.events import Batch, unpack
from taskfleet.messages.formats import ForeignMessageError, MisdirectedMessageError
from taskfleet.queues.addresses import redact_url
from taskfleet.queues.job import JobQueues
from taskfleet.queues.sender import HEARTBEAT_SECONDS
from taskfleet.queues.set_aside import SetAside, set_aside_path
from taskfleet.settings import Configuration
from taskfleet.tasks import JSON, Lease, Outcome, State, WorkerEnd
from taskfleet.watch.progress import Progress

logger = logging.getLogger(__name__)

#: Messages received at a time; each has the events of a second or so, and up to a few hundred kilobytes.
MESSAGES = 50
WAIT_SECONDS = 1.0
#: Longer than recording takes; the messages of a monitor that was killed are delivered again only after it.
LEASE_SECONDS = 15.0
#: A worker without a heartbeat for this long, of which it sends one each minute, counts as dead.
SILENT_SECONDS = 3.5 * HEARTBEAT_SECONDS


class Monitor:
    """Receives batches of events from a queue, records each once, and sends the tasks of graphs that they release.

    Args:
        database: The job's ledger.
        configuration: The settings.
        queues: The queues of the job.
        on_event: Called with each event after it is recorded.
        sends: Whether to send tasks; False if they may be in another queue than these.
    """

    def __init__(
        self,
        database: Database,
        configuration: Configuration,
        queues: JobQueues,
        *,
        on_event: Callable[[Mapping[str, JSON]], None] | None = None,
        sends: bool = True,
    ) -> None:
        settings = configuration.settings
        self._database = database
        self._queues = queues
        self._transport = queues.events
        self._sends = sends
        self._send_error = ""
        """The error that is being retried; it is printed once."""
        self._job_id = settings.job_id
        self._token = recording.token(database)
        self._on_event = on_event
        self._progress = Progress(database, every_seconds=settings.progress_seconds, verbose=False)
        self._set_aside = SetAside(set_aside_path(configuration.ledger_path), self._progress.say)
        self._file: EventFile | None = None
        if settings.event_file:
            path = configuration.project / Path(settings.event_file).expanduser()
            is_new = not path.exists()
            self._file = EventFile(path)
            if is_new:
                for event in stored_events(database):
                    self._file.write(event)

    def run(self, *, auto_complete: bool) -> None:
        """Record events until all tasks are done, or for ever without ``auto_complete``."""
        while True:
            received = self.step()
            self._progress.tick(time.time())
            if auto_complete and not received and self._is_complete():
                return

    def step(self, wait_seconds: float = WAIT_SECONDS) -> int:
        """Record what is in the queue, waiting a moment for it, and send what is released; return the number of messages.

        Raises:
            MisdirectedMessageError: A message is for another version of the library; it stays in the queue.
        """
        messages = self._transport.receive(MESSAGES, wait_seconds=wait_seconds, lease_seconds=LEASE_SECONDS)
        processed, misdirected = [], {}
        for message in messages:
            try:
                self._record(unpack(message.body))
            except ForeignMessageError as error:
                self._set_aside.keep("events", message.body, str(error))
            except MisdirectedMessageError as error:
                misdirected[message.receipt] = error
                continue
            processed.append(message.receipt)
        self._transport.acknowledge(processed)
        if self._sends:
            self._queues.publish(self._database)
        self._send()
        if misdirected:
            self._transport.extend(list(misdirected), 0)
            raise next(iter(misdirected.values()))
        logger.debug("Recorded %d messages of events.", len(messages))
        if not messages:  # everything that was reported is recorded
            recording.end_silent(self._database, silent_seconds=SILENT_SECONDS, now=time.time())
        return len(messages)

    def close(self) -> None:
        """Show the progress a last time and close the event file."""
        self._progress.close(time.time())
        if self._file is not None:
            self._file.close()

    def _send(self) -> None:
        """Send tasks that were released, unless another process is sending, the queue is being purged, or the tasks were moved."""
        if not self._sends or not sending.is_abandoned(self._database):
            return
        place = self._database.value("SELECT queue_url FROM job")
        if sending.held_back_until(self._database) > time.time() or place != redact_url(self._queues.queue_url):
            return
        try:
            n = self._queues.send_unsent(self._database)
        except StoreError as error:
            if str(error) != self._send_error:
                self._progress.say(f"{error}. Until then, tasks that have such values are not sent.")
            self._send_error = str(error)
        else:
            self._send_error = ""
            logger.debug("Sent %d tasks that were released.", n)

    def _record(self, batch: Batch) -> None:
        if batch.job_id != self._job_id or batch.ledger not in ("", self._token):
            raise ForeignMessageError(
                f"The queue holds events of another job, or of an earlier ledger of this one (job {batch.job_id!r})."
            )
        recorded = recording.record(self._database, batch, now=time.time())
        if self._file is None and self._on_event is None:
            return
        for event in self._events(batch, recorded):
            if self._file is not None:
                self._file.write(event)
            if self._on_event is not None:
                self._on_event(event)

    def _events(self, batch: Batch, recorded: recording.Recorded) -> Iterator[dict[str, JSON]]:
        host = batch.worker.hostname
        for finished, retry_seconds in recorded.ended:
            if finished.outcome == Outcome.INTERRUPTED:
                continue
            task_id = self._database.value("SELECT id FROM task WHERE seq = ?", (finished.seq,))
            lease = Lease(seq=finished.seq, attempt=finished.attempt, task_id=task_id, data="")
            yield task_event(lease, finished, retry=retry_seconds is not None, host=host)
        if batch.end_reason is WorkerEnd.PREEMPTED and not recorded.is_known:
            yield make_event("spot_termination", batch.reported_at, host=host, instance_id=host)

    def _is_complete(self) -> bool:
        counts = counters.by_state(self._database)
        left = counts[State.PENDING] + counts[State.RUNNING] + counts[State.WAITING]
        return not left and not sending.count_unsent(self._database)
