"""Encode and decode a runner's report about each task.

A runner executes user code and is therefore not trusted: a record consists of a fixed header and texts, and nothing in it is evaluated.
Only this module knows the layout of a record.
"""

import json
import math
import mmap
import struct
from collections.abc import Mapping
from typing import NamedTuple

from taskfleet.tasks import Finished, Lease, Outcome
from taskfleet.worker.wire import as_named

#: mark, task index, outcome, started_at, elapsed_seconds, retry delay (NaN for none), exit code, whether it was an interrupt
_BEFORE_PEAK = "<4sQBdddi?"
#: the same, peak memory in MiB (0 for unknown), lengths of result, error and output (-1 for none)
_HEADER = struct.Struct(f"{_BEFORE_PEAK}dqii")
_PEAK = struct.Struct("<d")
_PEAK_AT = struct.calcsize(_BEFORE_PEAK)
_OUTPUT_LENGTH = struct.Struct("<i")
_OUTPUT_LENGTH_AT = _HEADER.size - _OUTPUT_LENGTH.size
#: Distinguishes records from data, such as zeros, that a task wrote into a descriptor that is not its own.
_MARK = b"\xf5rec"
_NONE = -1
_LAST_OUTCOME = int(max(Outcome))
_EXIT = int(Outcome.EXIT)
#: In place of an outcome: the record is not about a task; its result has hashes of code by the names of functions, as JSON.
CODES = 255


class Record(NamedTuple):
    """The runner's report about one task."""

    task_index: int
    """The position, from 0, among all tasks that the runner was assigned."""
    outcome: int
    started_at: float
    elapsed_seconds: float
    retry_delay_seconds: float = math.nan
    """NaN for none."""
    exit_code: int = 0
    """Defined for ``Outcome.EXIT`` only."""
    result: bytes | None = None
    error: bytes | None = None
    output: bytes | None = None
    peak_memory_mib: float = 0.0
    """0 for unknown."""
    is_interrupt: bool = False
    """Whether it ended by a stop signal, or by the ``KeyboardInterrupt`` that it raises."""

    def pack(self) -> bytes:
        """Encode the record."""
        result, error, output = self.result, self.error, self.output
        return b"".join(
            (
                _HEADER.pack(
                    _MARK,
                    self.task_index,
                    self.outcome,
                    self.started_at,
                    self.elapsed_seconds,
                    self.retry_delay_seconds,
                    self.exit_code,
                    self.is_interrupt,
                    self.peak_memory_mib,
                    _NONE if result is None else len(result),
                    _NONE if error is None else len(error),
                    _NONE if output is None else len(output),
                ),
                result or b"",
                error or b"",
                output or b"",
            )
        )

    def finished(self, lease: Lease) -> Finished:
        """Return the ``Finished`` of the attempt that the record is about."""
        _, outcome, started_at, elapsed, delay, exit_code, result, error, output, peak, _ = self
        values = (
            lease.seq,
            lease.attempt,
            outcome,
            started_at,
            elapsed,
            None if result is None else result.decode("utf-8", "replace"),
            None if error is None else error.decode("utf-8", "replace"),
            None if output is None else output.decode("utf-8", "replace"),
            None if delay != delay else delay,  # NaN equals nothing
            exit_code if outcome == _EXIT else None,
            peak or None,
        )
        return as_named(Finished, values)  # positional: keyword arguments take three times as long


def pack_success(task_index: int, started_at: float, elapsed_seconds: float, result: bytes) -> bytes:
    """Encode the record of a success; faster than creating a ``Record`` first."""
    return (
        _HEADER.pack(
            _MARK, task_index, 0, started_at, elapsed_seconds, math.nan, 0, False, 0.0, len(result), _NONE, _NONE
        )
        + result
    )


def pack_codes(task_index: int, codes: Mapping[str, str]) -> bytes:
    """Encode which code the functions have that were loaded for a task, before the record of the task."""
    result = json.dumps(codes).encode()
    return Record(task_index=task_index, outcome=CODES, started_at=0.0, elapsed_seconds=0.0, result=result).pack()


def codes_in(record: Record) -> dict[str, str]:
    """Return what ``pack_codes`` encoded; nothing if a task wrote it."""
    try:
        found = json.loads(record.result or b"")
    except (ValueError, RecursionError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {name: code for name, code in items if isinstance(code, str)}


def outcome_of(record: bytes) -> int:
    """Return the outcome in a packed record."""
    outcome: int = _HEADER.unpack_from(record)[2]
    return outcome


def amended(record: bytes, peak_memory_mib: float, output: bytes | None) -> bytes:
    """Return a packed record with its output and peak memory, which only the parent of the task's process knows.

    Args:
        record: A packed record without output.
        peak_memory_mib: The peak memory.
        output: The output.
    """
    changed = bytearray(record)
    put_peak(changed, 0, peak_memory_mib)
    _OUTPUT_LENGTH.pack_into(changed, _OUTPUT_LENGTH_AT, _NONE if output is None else len(output))
    return bytes(changed) + (output or b"")


def put_peak(buffer: bytearray | mmap.mmap, at: int, peak_memory_mib: float) -> None:
    """Set the peak memory of the packed record at an offset of a buffer."""
    _PEAK.pack_into(buffer, at + _PEAK_AT, peak_memory_mib)


class CorruptRecordError(Exception):
    """The runner sent something other than a record: user code wrote to the library's descriptors."""

    def __init__(self, records: list[Record], at: int) -> None:
        """Keep the complete records before it, and the offset of their end."""
        super().__init__(records, at)
        self.records = records
        self.at = at


def unpack(buffer: bytearray | bytes, last_index: int) -> tuple[list[Record], int]:
    """Decode the complete records at the start of a buffer.

    Args:
        buffer: The received bytes.
        last_index: The highest valid task index.

    Returns:
        The records, and the number of bytes they take.

    Raises:
        CorruptRecordError: The buffer contains something else.
    """
    records: list[Record] = []
    whole = b""  # the buffer as bytes, so that slices need no second copy; created when it contains a complete record
    start, size = 0, len(buffer)
    while size - start >= _HEADER.size:
        (mark, index, outcome, began, elapsed, delay, code, is_interrupt, peak, of_result, of_error, of_output) = (
            _HEADER.unpack_from(buffer, start)
        )
        is_record = mark == _MARK and index <= last_index and (outcome <= _LAST_OUTCOME or outcome == CODES)
        if not is_record or of_result < _NONE or of_error < _NONE or of_output < _NONE:
            raise CorruptRecordError(records, start)
        at = start + _HEADER.size
        to_error = at + of_result * (of_result > 0)
        to_output = to_error + of_error * (of_error > 0)
        end = to_output + of_output * (of_output > 0)
        if size < end:
            break
        whole = whole or bytes(buffer)
        result = None if of_result == _NONE else whole[at:to_error]
        error = None if of_error == _NONE else whole[to_error:to_output]
        output = None if of_output == _NONE else whole[to_output:end]
        values = (index, outcome, began, elapsed, delay, code, result, error, output, peak, is_interrupt)
        records.append(as_named(Record, values))  # positional, as in Record.finished
        start = end
    return records, start


def salvage(buffer: bytes, last_index: int) -> list[Record]:
    """Decode the complete records of a buffer with other data between them; as ``unpack``, but never raises."""
    records: list[Record] = []
    while True:
        try:
            return records + unpack(buffer, last_index)[0]
        except CorruptRecordError as error:
            records += error.records
            following = buffer.find(_MARK, error.at + 1)
            if following < 0:
                return records
            buffer = buffer[following:]
