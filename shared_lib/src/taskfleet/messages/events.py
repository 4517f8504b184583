"""Batches of events, as a worker sends them to the ledger.

A batch is a line of JSON, the header, with the worker and the attempts that it leased or returned; then, for each attempt that ended,
a line with an array, and a line with its result if it has one.

As in messages of tasks, a reader ignores unknown keys of the header and additional elements at the end of an array.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from taskfleet.messages import fields
from taskfleet.messages.formats import FIRST_FORMAT, check_format, foreign
from taskfleet.messages.tasks import carriable
from taskfleet.tasks import NO_RETRY, AttemptKey, Finished, Outcome, WorkerEnd

#: Code in one batch: the number of functions, and the lengths of their names and of the hashes.
MOST_CODES = 1000
LONGEST_NAME = 1000
LONGEST_CODE = 200
#: Packages in one batch: their number, and the lengths of their names and versions.
MOST_PACKAGES = 1000
LONGEST_PACKAGE = 100


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
    manager: str = ""
    """The manager whose tasks it runs; empty for the default one."""


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
    codes: Mapping[str, str] = field(default_factory=dict)
    """Code that the worker has imported and did not report before: its hash by the name of the function."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """The versions of Python and of the worker's packages, by name; in its first batch for a ledger."""
    continued: list[tuple[int, int]] = field(default_factory=list)
    """Tasks of chains that it sent because the tasks above them succeeded: (number, epoch of the chain)."""


def pack(batch: Batch) -> str:
    """Return a batch as text."""
    header: dict[str, object] = {
        "taskfleet": FIRST_FORMAT,
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
    if batch.worker.manager:
        header["manager"] = batch.worker.manager
    if batch.codes:
        header["codes"] = batch.codes
    if batch.packages:
        header["packages"] = batch.packages
    if batch.ended:
        header["ended"] = len(batch.ended)
    if batch.continued:
        header["continued"] = batch.continued
    lines = [json.dumps(header, separators=(",", ":"))]
    for finished, retry_delay_seconds in batch.ended:
        lines.append(json.dumps(_encode_ended(finished, retry_delay_seconds), separators=(",", ":")))
        if finished.result is not None:
            lines.append(finished.result)
    return carriable("\n".join(lines))


def unpack(body: str) -> Batch:
    """Return the batch in a text.

    Raises:
        MisdirectedMessageError: It was written by a version of the library whose messages this one does not read.
        ForeignMessageError: It is not a message of this library, or is damaged.
    """
    try:
        lines = iter(body.split("\n"))
        header = fields.mapping(fields.decode(next(lines)), "the header")
        check_format(header["taskfleet"])
        end_reason = fields.string(header["end_reason"], "end_reason")
        batch = Batch(
            job_id=fields.string(header["job"], "job", least=1),
            ledger=fields.string(header["ledger"], "ledger"),
            worker=_decode_worker(header["worker"], header.get("version", ""), header.get("manager", "")),
            number=fields.whole(header["number"], "number"),
            reported_at=fields.number(header["told_at"], "told_at", fields.LATEST_TIME),
            end_reason=WorkerEnd.read(end_reason) if end_reason else None,
            leased=list(map(_decode_key, fields.listed(header["leased"], "leased"))),
            returned=list(map(_decode_key, fields.listed(header["returned"], "returned"))),
            ended=[_decode_ended(fields.decode(line), lines) for line in lines],
            codes=_decode_codes(header.get("codes", {})),
            packages=_decode_packages(header.get("packages", {})),
            continued=list(map(_decode_continued, fields.listed(header.get("continued", []), "continued"))),
        )
        if len(batch.ended) != header.get("ended", len(batch.ended)):
            raise ValueError(f"its header has {header['ended']} attempts, and {len(batch.ended)} follow")
        return batch
    except (ValueError, KeyError, RecursionError) as error:
        raise foreign(body, error) from error


def _encode_worker(worker: Worker) -> list[object]:
    return [worker.source, worker.hostname, worker.pid, worker.slots, worker.started_at, worker.machine]


def _decode_worker(values: Any, version: Any, manager: Any) -> Worker:
    source, hostname, pid, slots, started_at, machine, *_ = fields.listed(values, "worker", 6)
    return Worker(
        source=fields.string(source, "the name of the worker", least=1),
        hostname=fields.string(hostname, "the host of the worker"),
        pid=fields.whole(pid, "the pid of the worker"),
        slots=fields.whole(slots, "the slots of the worker"),
        started_at=fields.number(started_at, "the start of the worker", fields.LATEST_TIME),
        machine=None if machine is None else fields.string(machine, "the machine of the worker"),
        version=fields.string(version, "version"),
        manager=fields.string(manager, "manager"),
    )


def _decode_codes(values: Any) -> dict[str, str]:
    codes = fields.mapping(values, "codes")
    if len(codes) > MOST_CODES:
        raise fields.wrong("the number of codes", len(codes), f"at most {MOST_CODES}")
    for name, code in codes.items():
        _check_code(name, code)
    return codes


def _decode_packages(values: Any) -> dict[str, str]:
    packages = fields.mapping(values, "packages")
    if len(packages) > MOST_PACKAGES:
        raise fields.wrong("the number of packages", len(packages), f"at most {MOST_PACKAGES}")
    for name, version in packages.items():
        fields.string(name, "the name of a package", least=1, most=LONGEST_PACKAGE)
        fields.string(version, "the version of a package", least=1, most=LONGEST_PACKAGE)
    return packages


def fitting_packages(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the packages that a batch may name."""
    short = {name: one for name, one in packages.items() if max(len(name), len(one)) <= LONGEST_PACKAGE}
    return dict(islice(short.items(), MOST_PACKAGES))


def is_code(name: str, code: str) -> bool:
    """Return whether a batch may have this name of a function and this hash of its code."""
    try:
        _check_code(name, code)
    except ValueError:
        return False
    return True


def _check_code(name: Any, code: Any) -> None:
    fields.string(name, "the name of a function", least=1, most=LONGEST_NAME)
    fields.string(code, "the hash of a function's code", least=1, most=LONGEST_CODE)


def _decode_key(values: Any) -> AttemptKey:
    seq, attempt, *_ = fields.listed(values, "an attempt", 2)
    return fields.seq(seq), fields.attempt(attempt)


def _decode_continued(values: Any) -> tuple[int, int]:
    seq, epoch, *_ = fields.listed(values, "a task of a chain", 2)
    return fields.seq(seq), fields.whole(epoch, "the epoch of a chain")


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
        None if finished.retry_delay_seconds is None else min(finished.retry_delay_seconds, fields.LONGEST_SECONDS),
        finished.exit_code,
        finished.peak_memory_mib,
        retry_delay_seconds,
    ]


def _decode_ended(values: Any, lines: Iterator[str]) -> EndedAttempt:
    """Return the attempt in an array and, if it has a result, in the line that follows."""
    seq, attempt, outcome, started_at, elapsed_seconds, has_result, error, output, *more = fields.listed(
        values, "an attempt", 12
    )
    asked_delay_seconds, exit_code, peak_memory_mib, retry_delay_seconds, *_ = more
    if type(has_result) is not bool:
        raise fields.wrong("whether an attempt has a result", has_result, "true or false")
    if outcome == Outcome.SUCCEEDED and not has_result:
        raise ValueError("a successful attempt has no result")
    result = None
    if has_result:
        result = next(lines, None)
        if result is None:
            raise ValueError("the line of a result is missing")
        fields.json_text(result, "a result")
    finished = Finished(
        seq=fields.seq(seq),
        attempt=fields.attempt(attempt),
        outcome=fields.outcome(outcome),
        started_at=fields.number(started_at, "the start of an attempt", fields.LATEST_TIME),
        elapsed_seconds=fields.number(elapsed_seconds, "the duration of an attempt", fields.LONGEST_SECONDS),
        result=result,
        error=fields.printed(error, "the error of an attempt"),
        output=fields.printed(output, "the output of an attempt"),
        retry_delay_seconds=_optional(asked_delay_seconds, "the requested delay", least=NO_RETRY),
        exit_code=None if exit_code is None else fields.whole(exit_code, "an exit code", -(2**31), 2**32),
        peak_memory_mib=_optional(peak_memory_mib, "the memory of an attempt"),
    )
    return EndedAttempt(finished, _optional(retry_delay_seconds, "the delay of the next attempt"))


def _optional(value: Any, name: str, least: float = 0.0) -> float | None:
    return None if value is None else fields.number(value, name, fields.LONGEST_SECONDS, least)
