"""The memory that a slot and its runner share: what the runner is at, what it is to know at once, and the records it has not sent.

Finished records stand here until they are sent, so that a crash in the next task loses none of them.
"""

import mmap
import os

from taskfleet.worker.records import put_peak
from taskfleet.worker.shared_file import SharedFile

# The layout, in words of 8 bytes, each of which is written at once (``struct`` writes zeros first, which others see).
#: The flags shown to the tasks.
_FLAGS = 0
#: Index of the task begun last.
_BEGUN = 1
#: When those of even and of odd index began.
_STARTS = 2
#: Tasks to skip: the first, and the first behind them.
_SKIP_FROM = 4
_SKIP_TO = 5
#: Bytes of records.
_USED = 6
#: Index of the task reported last.
_REPORTED = 7
#: How often records were dropped.
_DROPPED = 8
#: Bytes of records that will not change any more.
_SETTLED = 9
_RECORDS_AT = 8 * 10
_SIZE = 1 << 17
CAPACITY = _SIZE - _RECORDS_AT

#: The index before the first task.
NOTHING_BEGUN = (1 << 64) - 1


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
        """Make it ready for a new runner; the flags stay."""
        self.begin(NOTHING_BEGUN, 0.0)
        self.skip(0, 0)
        self.report(NOTHING_BEGUN)
        self.forget()

    def flags(self) -> int:
        """Return the flags shown to the tasks."""
        return self._words[_FLAGS]

    def show(self, flags: int) -> None:
        """Show flags to the tasks."""
        self._words[_FLAGS] = flags

    def begin(self, index: int, monotonic: float) -> None:
        """Note which task begins, and when on the monotonic clock."""
        self._times[_STARTS + (index & 1)] = monotonic
        self._words[_BEGUN] = index  # last: nobody takes the start of another task for its

    def begun(self) -> tuple[int, float]:
        """Return the task begun last, ``NOTHING_BEGUN`` if none, and when."""
        words = self._words
        while True:
            index = words[_BEGUN]
            monotonic = self._times[_STARTS + (index & 1)]
            if index == words[_BEGUN]:  # else the next one has begun meanwhile
                return index, monotonic

    def skip(self, start: int, end: int) -> None:
        """Have the runner leave these tasks out; only safe while it is stopped."""
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
        """Return the records that are kept by a runner that goes on meanwhile; nothing if it has just sent them."""
        dropped, settled = self._words[_DROPPED], self._words[_SETTLED]
        records = self.kept()[:settled]  # others are only ever written over them after these were dropped
        return records if dropped == self._words[_DROPPED] else b""

    def kept(self) -> bytes:
        """Return the records that are kept."""
        return self._memory[_RECORDS_AT : _RECORDS_AT + min(self._words[_USED], CAPACITY)]

    def take_last(self, used: int) -> bytes:
        """Take the record that stands after ``used`` bytes of others out again."""
        record = self.kept()[used:]
        self._words[_USED] = used
        return record

    def settle(self, used: int, end: int, peak_memory_mib: float) -> None:
        """Enter the peak memory into the record that stands from ``used`` to ``end``; it is complete now."""
        put_peak(self._memory, _RECORDS_AT + used, peak_memory_mib)
        self._words[_SETTLED] = end

    def keep_and_report(self, used: int, record: bytes, index: int) -> None:
        """Keep a record that is still to be completed, and then note that it is whole so far, as ``report`` does."""
        end = used + len(record)
        self._memory[_RECORDS_AT + used : _RECORDS_AT + end] = record
        words = self._words
        words[_USED] = end
        words[_REPORTED] = index

    def report(self, index: int) -> None:
        """Note that the record of this task is whole."""
        self._words[_REPORTED] = index

    def reported(self) -> tuple[int, int]:
        """Return the task whose record was whole last, and how many bytes of records are kept."""
        return self._words[_REPORTED], self._words[_USED]

    def forget(self) -> None:
        """Drop the records, because they were sent."""
        words = self._words
        words[_DROPPED] += 1
        words[_SETTLED] = words[_USED] = 0
