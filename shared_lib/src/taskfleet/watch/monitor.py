"""Recording events from a service queue in the ledger."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from taskfleet.errors import UnreachableError
from taskfleet.events import EventFile, make_event, task_event
from taskfleet.events.stored import stored_events
from taskfleet.ledger import counters, recording, sending
from taskfleet.ledger.database import Database
from taskfleet.messages.events import Batch, unpack
from taskfleet.queues.sender import HEARTBEAT_SECONDS
from taskfleet.queues.transport import Transport
from taskfleet.settings import Configuration
from taskfleet.tasks import JSON, Lease, Outcome, State, WorkerEnd
from taskfleet.watch.progress import Progress

logger = logging.getLogger(__name__)

#: Messages received at a time; each has the events of a second or so, and up to a few hundred kilobytes.
MESSAGES = 50
WAIT_SECONDS = 1.0
#: Longer than recording takes; the messages of a monitor that was killed are delivered again only after it.
LEASE_SECONDS = 15.0
PAUSE_SECONDS = 1.0
#: A worker without a heartbeat for this long, of which it sends one each minute, counts as dead.
SILENT_SECONDS = 3.5 * HEARTBEAT_SECONDS


class Monitor:
    """Receives batches of events from a queue and records each once.

    Args:
        database: The job's ledger.
        configuration: The settings.
        transport: The queue of events.
        on_event: Called with each event after it is recorded.
    """

    def __init__(
        self,
        database: Database,
        configuration: Configuration,
        transport: Transport,
        *,
        on_event: Callable[[Mapping[str, JSON]], None] | None = None,
    ) -> None:
        settings = configuration.settings
        self._database = database
        self._transport = transport
        self._job_id = settings.job_id
        self._token = recording.token(database)
        self._on_event = on_event
        self._foreign = 0
        self._is_cut_off = False
        self._progress = Progress(database, every_seconds=settings.progress_seconds, verbose=False)
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
            try:
                received = self.step()
            except UnreachableError as error:
                if not self._is_cut_off:
                    self._progress.say(f"{error} Trying again.")
                self._is_cut_off = True
                time.sleep(PAUSE_SECONDS)
                continue
            if self._is_cut_off:
                self._is_cut_off = False
                self._progress.say("The queue is available again.")
            self._progress.tick(time.time())
            if auto_complete and not received and self._is_complete():
                return

    def step(self) -> int:
        """Record what is in the queue, waiting a moment for it; return the number of messages."""
        messages = self._transport.receive(MESSAGES, wait_seconds=WAIT_SECONDS, lease_seconds=LEASE_SECONDS)
        for message in messages:
            self._record(unpack(message.body))
        self._transport.acknowledge([message.receipt for message in messages])
        logger.debug("Recorded %d messages of events.", len(messages))
        if not messages:  # everything that was reported is recorded
            recording.end_silent(self._database, silent_seconds=SILENT_SECONDS, now=time.time())
        return len(messages)

    def close(self) -> None:
        """Show the progress a last time and close the event file."""
        self._progress.close(time.time())
        if self._file is not None:
            self._file.close()

    def _record(self, batch: Batch) -> None:
        if batch.job_id != self._job_id or batch.ledger not in ("", self._token):
            if not self._foreign:
                self._progress.say(
                    f"The queue holds events of another job, or of an earlier ledger of this one (job {batch.job_id!r}); they are dropped."
                )
            self._foreign += 1
            return
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
