"""Taking events from a queue into the ledger."""

import json
import time
from collections.abc import Iterator
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

#: Messages fetched at a time; each has the events of a second or so, and up to a few hundred kilobytes.
MESSAGES = 50


WAIT_SECONDS = 1.0


#: Longer than recording takes; what a monitor that was killed had fetched is seen again only after it.
LEASE_SECONDS = 15.0


PAUSE_SECONDS = 1.0


#: A worker that has not given a sign of life for so long, of which it gives one each minute, counts as dead.
SILENT_SECONDS = 3.5 * HEARTBEAT_SECONDS


class Monitor:
    """Takes batches of events out of a queue and records them, each once."""

    def __init__(self, database: Database, configuration: Configuration, transport: Transport, *, prints: bool) -> None:
        settings = configuration.settings
        self._database = database
        self._transport = transport
        self._job_id = settings.job_id
        self._token = recording.token(database)
        self._prints = prints
        self._strays = 0
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
        """Take events until all tasks are done."""
        while True:
            try:
                taken = self.step()
            except UnreachableError as error:
                if not self._is_cut_off:
                    self._progress.say(f"{error} Trying again.")
                self._is_cut_off = True
                time.sleep(PAUSE_SECONDS)
                continue
            if self._is_cut_off:
                self._is_cut_off = False
                self._progress.say("The queue answers again.")
            self._progress.tick(time.time())
            if auto_complete and not taken and self._is_complete():
                return

    def step(self) -> int:
        """Take what there is, waiting a moment for it; return the number of messages."""
        messages = self._transport.receive(MESSAGES, wait_seconds=WAIT_SECONDS, lease_seconds=LEASE_SECONDS)
        for message in messages:
            self._record(unpack(message.body))
        self._transport.acknowledge([message.receipt for message in messages])
        if not messages:  # all that was told is known
            recording.end_silent(self._database, silent_seconds=SILENT_SECONDS, now=time.time())
        return len(messages)

    def close(self) -> None:
        """Leave the last state standing."""
        self._progress.close(time.time())
        if self._file is not None:
            self._file.close()

    def _record(self, batch: Batch) -> None:
        if batch.job_id != self._job_id or batch.ledger not in ("", self._token):
            if not self._strays:
                self._progress.say(
                    f"Events of another job or of an earlier ledger of this one are in the queue (job {batch.job_id!r}); they are dropped."
                )
            self._strays += 1
            return
        recorded = recording.record(self._database, batch, now=time.time())
        if self._file is None and not self._prints:
            return
        for event in self._events(batch, recorded):
            if self._file is not None:
                self._file.write(event)
            if self._prints:
                print(json.dumps(event, ensure_ascii=False), flush=True)

    def _events(self, batch: Batch, recorded: recording.Recorded) -> Iterator[dict[str, JSON]]:
        host = batch.worker.hostname
        for finished, retry_seconds in recorded.ended:
            if finished.outcome == Outcome.INTERRUPTED:
                continue
            task_id = self._database.value("SELECT id FROM task WHERE seq = ?", (finished.seq,))
            lease = Lease(seq=finished.seq, attempt=finished.attempt, task_id=task_id, data="")
            yield task_event(lease, finished, retry=retry_seconds is not None, host=host)
        if batch.end_reason is WorkerEnd.PREEMPTED and not recorded.is_known:
            yield make_event("spot_termination", batch.told_at, host=host, instance_id=host)

    def _is_complete(self) -> bool:
        counts = counters.by_state(self._database)
        left = counts[State.PENDING] + counts[State.RUNNING] + counts[State.WAITING]
        return not left and not sending.count_unsent(self._database)
