"""Memory shared by a slot and its runner: the current task, instructions for the runner, and records that were not sent yet.

Records stay here until they are sent, so that a crash in the next task does not lose them.
"""

import mmap
import os

from taskfleet.worker.records import put_peak
from taskfleet.worker.shared_file import SharedFile

# The layout, in words of 8 bytes, which are written atomically (``struct`` writes zeros first, which the other side could read).
#: Flags shown to the tasks.
_FLAGS = 0
#: Index of the task started last.
_BEGUN = 1
#: Start times of the last task of even and of odd index.
_STARTS = 2
#: Range of tasks to skip: the first, and the one after the last.
_SKIP_FROM = 4
_SKIP_TO = 5
#: Bytes of records.
_USED = 6
#: Index of the task reported last.
_REPORTED = 7
#: How often the records were cleared.
_DROPPED = 8
#: Bytes of records that are final.
_SETTLED = 9
_RECORDS_AT = 8 * 10
_SIZE = 1 << 17
CAPACITY = _SIZE - _RECORDS_AT

#: The index before the first task.
NOTHING_BEGUN = (1 << 64) - 1


class SharedMemory:
    """The shared memory of a slot and its runner.

    Args:
        file: The backing file, for a runner that is not forked; None for anonymous memory.
        fresh: Whether to clear it, as the slot does.
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
        """Prepare it for a new runner; the flags stay."""
        self.begin(NOTHING_BEGUN, 0.0)
        self.skip(0, 0)
        self.report(NOTHING_BEGUN)
        self.clear_records()

    def flags(self) -> int:
        """Return the flags shown to the tasks."""
        return self._words[_FLAGS]

    def set_flags(self, flags: int) -> None:
        """Set the flags shown to the tasks."""
        self._words[_FLAGS] = flags

    def begin(self, index: int, monotonic: float) -> None:
        """Record which task starts, and the monotonic time."""
        self._times[_STARTS + (index & 1)] = monotonic
        self._words[_BEGUN] = index  # last, so that a reader never takes another task's start time

    def begun(self) -> tuple[int, float]:
        """Return the index of the task started last, ``NOTHING_BEGUN`` if none, and its start time."""
        words = self._words
        while True:
            index = words[_BEGUN]
            monotonic = self._times[_STARTS + (index & 1)]
            if index == words[_BEGUN]:  # otherwise the next one has just started
                return index, monotonic

    def skip(self, start: int, end: int) -> None:
        """Set the range of tasks that the runner skips; only safe while it is stopped."""
        self._words[_SKIP_FROM], self._words[_SKIP_TO] = start, end

    def is_skipped(self, index: int) -> bool:
        """Return whether the runner has to skip this task."""
        # check the end first: if this process is stopped between the two reads for a recall, its task is before the new range
        return index < self._words[_SKIP_TO] and index >= self._words[_SKIP_FROM]

    def append(self, used: int, record: bytes) -> int:
        """Append a record after ``used`` bytes of others; return the new number of used bytes."""
        end = used + len(record)
        self._memory[_RECORDS_AT + used : _RECORDS_AT + end] = record
        self._words[_USED] = self._words[_SETTLED] = end
        return end

    def settled_records(self) -> bytes:
        """Return the final records of a runner that keeps running; nothing if it has just sent them."""
        dropped, settled = self._words[_DROPPED], self._words[_SETTLED]
        records = self.records()[:settled]  # they are overwritten only after they were cleared
        return records if dropped == self._words[_DROPPED] else b""

    def records(self) -> bytes:
        """Return all records."""
        return self._memory[_RECORDS_AT : _RECORDS_AT + min(self._words[_USED], CAPACITY)]

    def take_last(self, used: int) -> bytes:
        """Remove and return the record after ``used`` bytes of others."""
        record = self.records()[used:]
        self._words[_USED] = used
        return record

    def settle(self, used: int, end: int, peak_memory_mib: float) -> None:
        """Set the peak memory of the record between ``used`` and ``end``; it is final then."""
        put_peak(self._memory, _RECORDS_AT + used, peak_memory_mib)
        self._words[_SETTLED] = end

    def append_and_report(self, used: int, record: bytes, index: int) -> None:
        """Append a record that is not final, and then mark its task as reported."""
        end = used + len(record)
        self._memory[_RECORDS_AT + used : _RECORDS_AT + end] = record
        words = self._words
        words[_USED] = end
        words[_REPORTED] = index

    def report(self, index: int) -> None:
        """Mark a task as reported: its record is complete."""
        self._words[_REPORTED] = index

    def reported(self) -> tuple[int, int]:
        """Return the index of the task reported last, and the number of used bytes."""
        return self._words[_REPORTED], self._words[_USED]

    def clear_records(self) -> None:
        """Remove all records, because they were sent."""
        words = self._words
        words[_DROPPED] += 1
        words[_SETTLED] = words[_USED] = 0
