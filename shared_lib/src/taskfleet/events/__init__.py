"""Events as JSON objects, with the names and fields that rms-cloud-tasks uses.

Every event has ``timestamp`` (ISO 8601, UTC), ``hostname`` and ``event_type``. Events of a task have ``task_id``, ``attempt``, ``retry``
(whether another attempt follows) and ``elapsed_time`` in seconds. By type: ``task_completed`` has ``result``, or the reason if the task
requested another attempt and gets it; ``task_exception`` has ``exception`` (the traceback), also if a task that requested another attempt
has none left; ``task_exited`` has ``exit_code``; ``task_timed_out`` and ``task_memory_exceeded`` have ``exception`` (the reason).
``non_fatal_exception`` and ``fatal_exception`` (of the worker itself) have ``exception``.
"""

import errno
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from taskfleet.files import make_private_folder, open_private
from taskfleet.ledger.stored_json import read_json
from taskfleet.processes.identity import hostname
from taskfleet.tasks import JSON, Finished, FinishReport, Lease, Outcome
from taskfleet.text import harmless_json

logger = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
TYPES = {
    Outcome.SUCCEEDED: "task_completed",
    Outcome.RETRY: "task_completed",
    Outcome.EXCEPTION: "task_exception",
    Outcome.TIMEOUT: "task_timed_out",
    Outcome.EXIT: "task_exited",
    Outcome.MEMORY: "task_memory_exceeded",
    Outcome.LOST: "task_exited",
    Outcome.KILLED: "task_killed",
}


def make_event(event_type: str, now: float, *, host: str = "", **fields: JSON) -> dict[str, JSON]:
    """Return an event, of this host unless another one is given."""
    timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"timestamp": timestamp, "hostname": host or hostname(), "event_type": event_type, **fields}


def task_event(lease: Lease, finished: Finished, *, retry: bool, host: str = "") -> dict[str, JSON]:
    """Return the event of an attempt that ended."""
    outcome = Outcome(finished.outcome)
    event = make_event(
        TYPES[outcome] if retry or outcome is not Outcome.RETRY else TYPES[Outcome.EXCEPTION],
        finished.started_at + finished.elapsed_seconds,
        host=host,
        task_id=lease.task_id,
        attempt=finished.attempt,
        retry=retry,
        elapsed_time=finished.elapsed_seconds,
    )
    if outcome is Outcome.SUCCEEDED:
        event["result"] = read_json(finished.result or "null", f"result of task {lease.task_id!r}")
    elif outcome is Outcome.RETRY and retry:
        event["result"] = (finished.error or "").partition("\n")[0]
    elif outcome in (Outcome.EXIT, Outcome.LOST):
        event["exit_code"] = finished.exit_code
    else:
        event["exception"] = finished.error
    return event


class EventFile:
    """Appends events to a file, one JSON object per line. Several workers on one machine may share it."""

    def __init__(self, path: Path) -> None:
        make_private_folder(path.parent)
        self._fd = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._is_full = False
        self._unwritten = b""
        """Events for which the disk had no space. They are written later; the worker goes on meanwhile."""

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Write one event for each attempt that was recorded and not interrupted."""
        lines = [
            harmless_json(task_event(lease, outcome, retry=outcome.key in report.retry_delay_seconds)) + "\n"
            for lease, outcome in zip(leases, finished, strict=True)
            if outcome.key not in report.duplicates and outcome.outcome != Outcome.INTERRUPTED
        ]
        self._append("".join(lines))

    def write(self, event: dict[str, JSON]) -> None:
        """Write an event."""
        self._append(harmless_json(event) + "\n")

    def tick(self, now: float) -> None:  # noqa: ARG002
        """Write the events for which there was no space before."""
        if self._unwritten:
            self._append("")

    def say(self, text: str) -> None:
        """Do nothing."""

    def termination_noticed(self, now: float) -> None:
        """Write the event of a termination notice."""
        self.write(make_event("spot_termination", now, instance_id=hostname()))

    def close(self) -> None:
        """Close the file."""
        self._append("")
        os.close(self._fd)

    def _append(self, text: str) -> None:
        self._unwritten += text.encode()
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._fd, self._unwritten) :]
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            if not self._is_full:
                logger.warning("The disk has no space for events; they are written when there is some: %s", error)
            self._is_full = True
        else:
            self._is_full = False
