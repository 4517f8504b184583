"""Batches of events, as a worker sends them to the ledger.

A batch is a line of JSON, the header, with the worker and the attempts that it leased or returned; then, for each attempt that ended,
a line with an array, and a line with its result if it has one.

As in messages of tasks, a reader ignores unknown keys of the header and additional elements at the end of an array.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskfleet.errors import QueueError
from taskfleet.messages.formats import FORMAT, check_format
from taskfleet.messages.tasks import carriable
from taskfleet.tasks import AttemptKey, Finished, WorkerEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The worker that reports."""

    source: str
    """Its permanent name, unique among the workers of the job."""
    hostname: str
    pid: int
    slots: int
    started_at: float
    """Seconds since the epoch."""
    machine: str | None = None
    """The provider's name of the pool machine on which it runs."""
    version: str = ""
    """The version of its library; empty if unknown."""


class EndedAttempt(NamedTuple):
    """An attempt that ended, and whether another one follows; a plain tuple, because there is one per task."""

    finished: Finished
    retry_delay_seconds: float | None
    """The delay of the next attempt; None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The events of a worker during about a second."""

    job_id: str
    ledger: str
    """As in ``TaskMessage``."""
    worker: Worker
    number: int
    """The number of this batch among those of its worker."""
    reported_at: float
    """Seconds since the epoch."""
    end_reason: WorkerEnd | None = None
    """How the worker ended; None while it is running."""
    leased: list[AttemptKey] = field(default_factory=list)
    """Attempts that it leased and did not report before."""
    returned: list[AttemptKey] = field(default_factory=list)
    """Attempts that it reported as leased and returned without beginning them."""
    ended: list[EndedAttempt] = field(default_factory=list)


def pack(batch: Batch) -> str:
    """Return a batch as text."""
    header: dict[str, object] = {
        "taskfleet": FORMAT,
        "job": batch.job_id,
        "ledger": batch.ledger,
        "worker": _encode_worker(batch.worker),
        "number": batch.number,
        "told_at": batch.reported_at,
        "end_reason": batch.end_reason or "",
        "leased": batch.leased,
        "returned": batch.returned,
    }
    if batch.worker.version:
        header["version"] = batch.worker.version
    lines = [json.dumps(header, separators=(",", ":"))]
    for finished, retry_delay_seconds in batch.ended:
        lines.append(json.dumps(_encode_ended(finished, retry_delay_seconds), separators=(",", ":")))
        if finished.result is not None:
            lines.append(finished.result)
    return carriable("\n".join(lines))


def unpack(body: str) -> Batch:
    """Return the batch in a text.

    Raises:
        NewerFormatError: It was written by a later version of the library.
        QueueError: It is not a message of this library.
    """
    try:
        lines = iter(body.split("\n"))
        header = json.loads(next(lines))
        check_format(header["taskfleet"])
        return Batch(
            job_id=header["job"],
            ledger=header["ledger"],
            worker=_decode_worker(header["worker"], header.get("version", "")),
            number=header["number"],
            reported_at=header["told_at"],
            end_reason=WorkerEnd.read(header["end_reason"]) if header["end_reason"] else None,
            leased=[(seq, attempt) for seq, attempt in header["leased"]],
            returned=[(seq, attempt) for seq, attempt in header["returned"]],
            ended=[_decode_ended(json.loads(line), lines) for line in lines],
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise QueueError(
            f"The event queue has a message that taskfleet did not write: {body[:80]!r}. Use a queue for this job alone."
        ) from error


def _encode_worker(worker: Worker) -> list[object]:
    return [worker.source, worker.hostname, worker.pid, worker.slots, worker.started_at, worker.machine]


def _decode_worker(fields: list[Any], version: str) -> Worker:
    source, hostname, pid, slots, started_at, machine, *_ = fields
    return Worker(
        source=source,
        hostname=hostname,
        pid=pid,
        slots=slots,
        started_at=started_at,
        machine=machine,
        version=version,
    )


def _encode_ended(finished: Finished, retry_delay_seconds: float | None) -> list[object]:
    """Return the array of an attempt: everything except its result."""
    return [
        finished.seq,
        finished.attempt,
        finished.outcome,
        finished.started_at,
        finished.elapsed_seconds,
        finished.result is not None,
        finished.error,
        finished.output,
        finished.retry_delay_seconds,
        finished.exit_code,
        finished.peak_memory_mib,
        retry_delay_seconds,
    ]


def _decode_ended(fields: list[Any], lines: Iterator[str]) -> EndedAttempt:
    """Return the attempt in an array and, if it has a result, in the line that follows."""
    seq, attempt, outcome, started_at, elapsed_seconds, has_result, error, output, *fields = fields
    asked_delay_seconds, exit_code, peak_memory_mib, retry_delay_seconds, *_ = fields
    finished = Finished(
        seq=seq,
        attempt=attempt,
        outcome=outcome,
        started_at=started_at,
        elapsed_seconds=elapsed_seconds,
        result=next(lines) if has_result else None,
        error=error,
        output=output,
        retry_delay_seconds=asked_delay_seconds,
        exit_code=exit_code,
        peak_memory_mib=peak_memory_mib,
    )
    return EndedAttempt(finished, retry_delay_seconds)
