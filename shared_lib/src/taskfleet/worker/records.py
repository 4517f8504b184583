"""What a runner says about each task it did, and the memory it shares with its slot.

A runner is a process that runs user code, so its word is checked: a record is a fixed header and texts, never anything that has to be
interpreted. Finished records stand in shared memory until they are sent, so that a crash in the next task loses none of them.
"""

import math
import mmap
import os
import struct
from typing import NamedTuple

from taskfleet.tasks import Outcome
from taskfleet.worker.shared_file import SharedFile

#: mark, index, outcome, started_at, elapsed_seconds, retry delay (NaN for none), exit code, peak memory in MiB (0 for unknown), lengths of
#: result, error and output (-1 for none)
_HEADER = struct.Struct("<4sQBdddidqii")
_PEAK = struct.Struct("<d")
_PEAK_AT = struct.calcsize("<4sQBdddi")
_OUTPUT_LENGTH = struct.Struct("<i")
_OUTPUT_LENGTH_AT = _HEADER.size - _OUTPUT_LENGTH.size
#: Tells records from what a task wrote into a descriptor that is not its own, zeros among it.
_MARK = b"\xf5rec"
_NONE = -1
_LAST_OUTCOME = max(Outcome)

#: Layout of the shared memory, in words of 8 bytes, each of which is written at once (``struct`` writes zeros first, which others see):
#: signs | index of the task begun last | when those of even and of odd index began | tasks to skip, from and to | bytes of records |
#: index of the task reported last | how often records were dropped | bytes of records that will not change any more | records
_SIGNS, _BEGUN, _STARTS, _SKIP_FROM, _SKIP_TO, _USED, _REPORTED, _DROPPED, _SETTLED, _RECORDS = (
    0,
    1,
    2,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
)
_RECORDS_AT = 8 * _RECORDS
_SIZE = 1 << 17
CAPACITY = _SIZE - _RECORDS_AT

#: The index before the first task.
NOTHING_BEGUN = (1 << 64) - 1


#: ``NamedTuple._make`` for a tuple of the right length, at a third of the cost.
as_named = tuple.__new__


class Record(NamedTuple):
    """How one task went, in the words of its runner."""

    place: int
    """The task's place among all that its runner was given, from 0."""
    outcome: int
    started_at: float
    elapsed_seconds: float
    retry_delay_seconds: float
    """NaN for none."""
    exit_code: int
    result: bytes | None = None
    error: bytes | None = None
    output: bytes | None = None
    peak_memory_mib: float = 0.0
    """0 for unknown."""

    def pack(self) -> bytes:
        """Give the record as bytes."""
        result, error, output = self.result, self.error, self.output
        return b"".join(
            (
                _HEADER.pack(
                    _MARK,
                    self.place,
                    self.outcome,
                    self.started_at,
                    self.elapsed_seconds,
                    self.retry_delay_seconds,
                    self.exit_code,
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


def pack_success(index: int, started_at: float, elapsed_seconds: float, result: bytes) -> bytes:
    """Give the record of a success as bytes; quicker than to make a ``Record`` first."""
    return (
        _HEADER.pack(_MARK, index, 0, started_at, elapsed_seconds, math.nan, 0, 0.0, len(result), _NONE, _NONE) + result
    )


def amended(record: bytes, peak_memory_mib: float, output: bytes | None) -> bytes:
    """Give a packed record without output those two facts, which only the parent of the task's process knows."""
    changed = bytearray(record)
    _PEAK.pack_into(changed, _PEAK_AT, peak_memory_mib)
    _OUTPUT_LENGTH.pack_into(changed, _OUTPUT_LENGTH_AT, _NONE if output is None else len(output))
    return bytes(changed) + (output or b"")


class CorruptRecordError(Exception):
    """What came from the runner is not a record: user code wrote to our descriptors."""

    def __init__(self, records: list[Record], at: int) -> None:
        """Keep the whole records that came before, and where they end."""
        super().__init__(records, at)
        self.records = records
        self.at = at


def unpack(buffer: bytearray | bytes, last_index: int) -> tuple[list[Record], int]:
    """Take whole records from the start of a buffer.

    Args:
        buffer: What was received.
        last_index: The highest index that makes sense.

    Returns:
        The records, and how many bytes they took.

    Raises:
        CorruptRecordError: There is something else in it.
    """
    records: list[Record] = []
    start, size = 0, len(buffer)
    while size - start >= _HEADER.size:
        mark, index, outcome, began, elapsed, delay, code, peak, *lengths = _HEADER.unpack_from(buffer, start)
        of_result, of_error, of_output = lengths
        if mark != _MARK or index > last_index or outcome > _LAST_OUTCOME or min(lengths) < _NONE:
            raise CorruptRecordError(records, start)
        at = start + _HEADER.size
        to_error = at + of_result * (of_result > 0)
        to_output = to_error + of_error * (of_error > 0)
        end = to_output + of_output * (of_output > 0)
        if size < end:
            break
        result = None if of_result == _NONE else bytes(buffer[at:to_error])
        error = None if of_error == _NONE else bytes(buffer[to_error:to_output])
        output = None if of_output == _NONE else bytes(buffer[to_output:end])
        records.append(as_named(Record, (index, outcome, began, elapsed, delay, code, result, error, output, peak)))
        start = end
    return records, start


def salvage(buffer: bytes, last_index: int) -> list[Record]:
    """Take the whole records out of what may have something else in between; as ``unpack``, but never raises."""
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


class SharedMemory:
    """What a slot and its runner see of each other.

    Args:
        file: Where it is kept, for a runner that is not forked; None for nowhere.
        fresh: Whether it begins empty, as the slot's does, and not with what is there.
    """

    def __init__(self, file: SharedFile | None = None, *, fresh: bool = True) -> None:
        self.file = file
        if file is not None and fresh:
            os.ftruncate(file.fd, _SIZE)
        self._memory = mmap.mmap(-1 if file is None else file.fd, _SIZE)
        view = memoryview(self._memory)
        self._words, self._times = view.cast("Q"), view.cast("d")
        if fresh:
            self.reset()

    def reset(self) -> None:
        """Make it ready for a new runner; the signs stay."""
        self.begin(NOTHING_BEGUN, 0.0)
        self.skip(0, 0)
        self.report(NOTHING_BEGUN)
        self.forget()

    def signs(self) -> int:
        """Give the signs shown to the tasks."""
        return self._words[_SIGNS]

    def show(self, signs: int) -> None:
        """Show signs to the tasks."""
        self._words[_SIGNS] = signs

    def begin(self, index: int, monotonic: float) -> None:
        """Say which task begins, and when on the monotonic clock."""
        self._times[_STARTS + (index & 1)] = monotonic
        self._words[_BEGUN] = index  # last: nobody takes the start of another task for its

    def begun(self) -> tuple[int, float]:
        """Give the task begun last, ``NOTHING_BEGUN`` if none, and when."""
        words = self._words
        while True:
            index = words[_BEGUN]
            monotonic = self._times[_STARTS + (index & 1)]
            if index == words[_BEGUN]:  # else the next one has begun meanwhile
                return index, monotonic

    def skip(self, start: int, end: int) -> None:
        """Tell the runner to leave these tasks out; only safe while it is stopped."""
        self._words[_SKIP_FROM], self._words[_SKIP_TO] = start, end

    def is_skipped(self, index: int) -> bool:
        """Whether the runner is to leave this task out."""
        # the end first: should this process be stopped for a recall just here, its task lies before the new beginning
        return index < self._words[_SKIP_TO] and index >= self._words[_SKIP_FROM]

    def keep(self, used: int, record: bytes) -> int:
        """Put a record after ``used`` bytes of others; return how many bytes are used then."""
        end = used + len(record)
        self._memory[_RECORDS_AT + used : _RECORDS_AT + end] = record
        self._words[_USED] = self._words[_SETTLED] = end
        return end

    def kept_now(self) -> bytes:
        """Give the records that are kept by a runner that goes on meanwhile; nothing if it has just sent them."""
        dropped, settled = self._words[_DROPPED], self._words[_SETTLED]
        records = self.kept()[:settled]  # others are only ever written over them after these were dropped
        return records if dropped == self._words[_DROPPED] else b""

    def kept(self) -> bytes:
        """Give the records that are kept."""
        return self._memory[_RECORDS_AT : _RECORDS_AT + min(self._words[_USED], CAPACITY)]

    def take_last(self, used: int) -> bytes:
        """Take the record that stands after ``used`` bytes of others out again."""
        record = self.kept()[used:]
        self._words[_USED] = used
        return record

    def settle(self, used: int, end: int, peak_memory_mib: float) -> None:
        """Enter the peak memory into the record that stands from ``used`` to ``end``; it is complete now."""
        _PEAK.pack_into(self._memory, _RECORDS_AT + used + _PEAK_AT, peak_memory_mib)
        self._words[_SETTLED] = end

    def keep_and_report(self, used: int, record: bytes, index: int) -> None:
        """Keep a record that is still to be completed, and then say that it is whole so far, as ``report`` does."""
        end = used + len(record)
        self._memory[_RECORDS_AT + used : _RECORDS_AT + end] = record
        words = self._words
        words[_USED] = end
        words[_REPORTED] = index

    def report(self, index: int) -> None:
        """Say that the record of this task is whole."""
        self._words[_REPORTED] = index

    def reported(self) -> tuple[int, int]:
        """Give the task whose record was said to be whole last, and how many bytes of records are kept."""
        return self._words[_REPORTED], self._words[_USED]

    def forget(self) -> None:
        """Drop the records, because they were sent."""
        words = self._words
        words[_DROPPED] += 1
        words[_SETTLED] = words[_USED] = 0
