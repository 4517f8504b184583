"""Batches of events on their way from a worker to the ledger.

A batch is a line of JSON about the worker and what it has leased and returned, and then for each attempt that ended a line, followed by a
line with its result as it stands, if it has one.
"""

import json
from dataclasses import dataclass, field

from taskfleet.errors import QueueError
from taskfleet.messages.tasks import FORMAT, carriable
from taskfleet.tasks import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Who tells."""

    source: str
    """Its name among all workers of the job, for good."""
    hostname: str
    pid: int
    slots: int
    started_at: float
    """Seconds since the epoch."""
    machine: str | None = None
    """The provider's name of the machine of the pool it is on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a worker did in a second or so."""

    job_id: str
    ledger: str
    """As in ``Envelope``."""
    worker: Worker
    number: int
    """Of this batch among its worker's."""
    told_at: float
    end_reason: str = ""
    """If the worker has ended: 'stopped' or 'preempted'."""
    leased: list[tuple[int, int]] = field(default_factory=list)
    """(seq, attempt) of tasks that it holds now and has not told of."""
    returned: list[tuple[int, int]] = field(default_factory=list)
    """(seq, attempt) of tasks that it told of as leased and gave back without beginning them."""
    ended: list[tuple[Finished, float | None]] = field(default_factory=list)
    """Attempts, and after how many seconds the task gets another try; None if it does not."""


def pack(batch: Batch) -> str:
    """Write a batch."""
    worker = batch.worker
    header = {
        "taskfleet": FORMAT,
        "job": batch.job_id,
        "ledger": batch.ledger,
        "worker": [worker.source, worker.hostname, worker.pid, worker.slots, worker.started_at, worker.machine],
        "number": batch.number,
        "told_at": batch.told_at,
        "end_reason": batch.end_reason,
        "leased": batch.leased,
        "returned": batch.returned,
    }
    lines = [json.dumps(header, separators=(",", ":"))]
    for finished, retry_seconds in batch.ended:
        lines.append(ended_line(finished, retry_seconds))
        if finished.result is not None:
            lines.append(finished.result)
    return carriable("\n".join(lines))


def ended_line(finished: Finished, retry_seconds: float | None) -> str:
    """Write what became of an attempt, but for its result."""
    fields = [*finished]
    fields[5] = finished.result is not None
    return json.dumps([*fields, retry_seconds], separators=(",", ":"))


def unpack(body: str) -> Batch:
    """Read a batch.

    Raises:
        QueueError: It is not one of ours.
    """
    try:
        lines = iter(body.split("\n"))
        header = json.loads(next(lines))
        if header["taskfleet"] != FORMAT:
            raise ValueError(header["taskfleet"])
        ended: list[tuple[Finished, float | None]] = []
        for line in lines:
            *fields, retry_seconds = json.loads(line)
            fields[5] = next(lines) if fields[5] else None
            ended.append((Finished(*fields), retry_seconds))
        source, hostname, pid, slots, started_at, machine = header["worker"]
        return Batch(
            job_id=header["job"],
            ledger=header["ledger"],
            worker=Worker(
                source=source, hostname=hostname, pid=pid, slots=slots, started_at=started_at, machine=machine
            ),
            number=header["number"],
            told_at=header["told_at"],
            end_reason=header["end_reason"],
            leased=[(seq, attempt) for seq, attempt in header["leased"]],
            returned=[(seq, attempt) for seq, attempt in header["returned"]],
            ended=ended,
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise QueueError(f"A message in the event queue is not one of taskfleet's: {body[:80]!r}.") from error
