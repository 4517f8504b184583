"""The way of a job's control document from its ledger to workers at a service."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from taskfleet.errors import ProviderError, QueueError, UnreachableError
from taskfleet.ledger import chaining, control, recording
from taskfleet.ledger.database import Database
from taskfleet.messages.control import ControlDocument, as_runs, pack, unpack
from taskfleet.messages.formats import ForeignMessageError, MisdirectedMessageError
from taskfleet.queues.health import ServiceHealth

logger = logging.getLogger(__name__)

#: How long the end of a worker waits for a look in progress.
STOP_SECONDS = 5.0


class DocumentTooLargeError(QueueError):
    """A channel has no room for a text."""

    def __init__(self) -> None:
        super().__init__(
            "The control document of the job is too large for the queue service. Set BUCKET, also for workers."
        )


class ControlChannel(Protocol):
    """Keeps one text for a job. A channel object belongs to one thread.

    Raises:
        ProviderError: From every method: a permanent error.
        UnreachableError: From every method: the service is unavailable.
    """

    look_seconds: float
    """How often a worker looks."""
    is_part_of_queue: bool
    """Whether the text is deleted with the queue of the tasks."""

    def read(self) -> str | None:
        """Return the text; None if this object has returned the same before, or there is none."""

    def write(self, text: str) -> None:
        """Replace the text.

        Raises:
            DocumentTooLargeError: It is too long; nothing was changed.
        """

    def delete(self) -> None:
        """Delete the text, if there is one."""

    def close(self) -> None:
        """Close connections."""


class ControlReader:
    """The thread of a worker that looks at the control document. Thread-safe.

    Args:
        open_channel: Opens the channel; called in the thread.
        job_id: The job; documents of other jobs are ignored.
        health: Takes messages for the user.
    """

    def __init__(self, open_channel: Callable[[], ControlChannel], *, job_id: str, health: ServiceHealth) -> None:
        self._open_channel = open_channel
        self._job_id = job_id
        self._health = health
        self._document: ControlDocument | None = None
        self._has_looked = threading.Event()
        self._is_stopping = threading.Event()
        self._thread = health.start_thread("control", self._look)

    @property
    def document(self) -> ControlDocument | None:
        """The newest document; None if there is none."""
        return self._document

    @property
    def has_looked(self) -> bool:
        """Whether the first look is over, successful or not."""
        return self._has_looked.is_set()

    def stop(self) -> None:
        """Stop looking."""
        self._is_stopping.set()
        self._thread.join(STOP_SECONDS)

    def _look(self) -> None:
        try:
            channel = self._open_channel()
            while not self._is_stopping.is_set():
                try:
                    self._take(channel.read())
                except UnreachableError as error:
                    logger.info("No look at the control document: %s", error)
                self._has_looked.set()
                self._is_stopping.wait(channel.look_seconds)
            channel.close()
        except ProviderError as error:
            self._health.say(f"Tasks that are cancelled, and a pause of the job, do not reach this worker: {error}")
        finally:
            self._has_looked.set()

    def _take(self, text: str | None) -> None:
        if text is None:
            return
        try:
            found = unpack(text)
        except (ForeignMessageError, MisdirectedMessageError) as error:
            self._health.say(f"The control document of the job is ignored: {error}")
            return
        known = self._document
        is_old = known is not None and found.ledger == known.ledger and found.version < known.version
        if found.job_id == self._job_id and not is_old:
            logger.info("Control document %d: paused %s, %s", found.version, found.is_paused, found.cancelled)
            self._document = found


def publish(database: Database, channel: ControlChannel, job_id: str) -> tuple[int, int]:
    """Write the control document of a ledger; return its version, and the number of cancelled tasks that it has no room for.

    Each writer checks afterwards whether its document is still the newest, so the last of several writers has written the newest.
    """
    while True:
        with database.snapshot():
            document = ControlDocument(
                job_id=job_id,
                ledger=recording.token(database),
                version=control.version(database),
                is_paused=control.is_paused(database),
                cancelled=as_runs(control.cancelled(database)),
                chain_epoch=chaining.current_epoch(database),
            )
        n_left_out = _write(channel, document)
        if control.version(database) == document.version:
            return document.version, n_left_out


def is_of_earlier_ledger(database: Database, channel: ControlChannel, job_id: str) -> bool:
    """Return whether the document of a job is not of this ledger: workers follow it until this one has written its own."""
    text = channel.read()
    try:
        found = None if text is None else unpack(text)
    except (ForeignMessageError, MisdirectedMessageError):  # workers ignore it
        return False
    return found is not None and found.job_id == job_id and found.ledger != recording.token(database)


def _write(channel: ControlChannel, document: ControlDocument) -> int:
    """Write a document with as many cancelled tasks as the channel has room for; return the number of the others."""
    runs = document.cancelled
    n = len(runs)
    while True:
        try:
            channel.write(pack(replace(document, cancelled=runs[:n])))
        except DocumentTooLargeError:
            if not n:
                raise
            n //= 2
        else:
            return sum(last - first + 1 for first, last in runs[n:])
