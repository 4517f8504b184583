"""The encoding of a runner's records, and the shared memory that holds them."""

import math
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.tasks import Finished, Lease, Outcome
from taskfleet.worker.records import (
    CODES,
    CorruptRecordError,
    Record,
    amended,
    codes_in,
    pack_codes,
    salvage,
    unpack,
)
from taskfleet.worker.shared_memory import CAPACITY, NOTHING_BEGUN, SharedMemory

texts = st.none() | st.binary(max_size=200)
records = st.builds(
    Record,
    task_index=st.integers(0, 1000),
    outcome=st.sampled_from(Outcome).map(int),
    started_at=st.floats(0, 4e9),
    elapsed_seconds=st.floats(0, 1e9),
    retry_delay_seconds=st.floats(-1, 1e9) | st.just(math.nan),
    exit_code=st.integers(-(2**31), 2**31 - 1),
    result=texts,
    error=texts,
    output=texts,
    peak_memory_mib=st.floats(0, 1e6),
    is_interrupt=st.booleans(),
)


def same(one, other):
    """NaN, which equals nothing, means no delay."""
    return [tuple(map(repr, record)) for record in one] == [tuple(map(repr, record)) for record in other]


@given(st.lists(records, max_size=5), st.data())
def test_records_arrive_as_they_were_sent_however_the_stream_is_cut(sent, data):
    stream = b"".join(record.pack() for record in sent)
    received, buffer = [], bytearray()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        buffer += stream[:cut]
        stream = stream[cut:]
        some, used = unpack(buffer, 1000)
        del buffer[:used]
        received += some
    assert same(received, sent)
    assert not buffer


def test_code_comes_before_the_record_of_a_task():
    task = Record(task_index=3, outcome=0, started_at=1.0, elapsed_seconds=0.5, result=b"1")
    found, used = unpack(pack_codes(3, {"task:f": "abc"}) + task.pack(), 3)
    assert used
    assert [one.outcome for one in found] == [CODES, 0]
    assert codes_in(found[0]) == {"task:f": "abc"}
    assert same(found[1:], [task])


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'{"f": 7}', b"[" * 100_000, b"\xff", b'{"f": null}'])
def test_what_a_task_wrote_in_place_of_code_is_ignored(text):
    [found], _ = unpack(pack_codes(0, {}), 0)
    assert codes_in(found._replace(result=text)) == {}


def test_each_field_of_a_record_is_in_the_finished_attempt():
    record = Record(
        task_index=9,
        outcome=Outcome.EXIT,
        started_at=1.5,
        elapsed_seconds=2.5,
        retry_delay_seconds=3.5,
        exit_code=-15,
        result=b"result",
        error="é".encode(),
        output=b"half \xff",
        peak_memory_mib=4.5,
    )
    lease = Lease(seq=5, attempt=2, task_id="t", data="{}")
    assert record.finished(lease) == Finished(
        seq=5,
        attempt=2,
        outcome=Outcome.EXIT,
        started_at=1.5,
        elapsed_seconds=2.5,
        result="result",
        error="é",
        output="half \ufffd",
        retry_delay_seconds=3.5,
        exit_code=-15,
        peak_memory_mib=4.5,
    )
    bare = Record(task_index=0, outcome=Outcome.SUCCEEDED, started_at=1.5, elapsed_seconds=2.5)
    assert bare.finished(lease) == Finished(
        seq=5, attempt=2, outcome=Outcome.SUCCEEDED, started_at=1.5, elapsed_seconds=2.5
    )


@given(records, st.binary(min_size=70, max_size=200))
def test_garbage_after_a_record_is_detected_and_the_record_is_returned(record, garbage):
    with pytest.raises(CorruptRecordError) as caught:
        unpack(record.pack() + garbage, 1000)
    assert same(caught.value.records, [record])
    assert caught.value.at == len(record.pack())


@pytest.mark.parametrize(
    "garbage", [b"\0" * 100, b"\1" * 100, b"\xff" * 100, b"x" * 100, b"Traceback (most recent call last):\n" * 9]
)
def test_garbage_is_not_a_record(garbage):
    with pytest.raises(CorruptRecordError):
        unpack(garbage, 1000)
    assert salvage(garbage, 1000) == []


def test_a_record_of_a_task_that_was_never_assigned_is_corrupt():
    record = Record(task_index=7, outcome=Outcome.SUCCEEDED, started_at=0.0, elapsed_seconds=0.0)
    assert unpack(record.pack(), 7)[0]
    with pytest.raises(CorruptRecordError):
        unpack(record.pack(), 6)
    with pytest.raises(CorruptRecordError):
        unpack(record._replace(outcome=max(Outcome) + 1).pack(), 7)


@given(st.lists(records, min_size=1, max_size=4), st.lists(st.binary(max_size=80), min_size=5, max_size=5))
def test_whole_records_are_found_between_garbage(sent, garbage):
    stream = garbage[0] + b"".join(record.pack() + noise for record, noise in zip(sent, garbage[1:], strict=False))
    assert same(salvage(stream, 1000), sent)


def test_the_start_that_is_read_while_tasks_begin_is_that_of_the_task():
    """Taken for another's, or for none, a task would seem to have run for ever and be killed for it."""
    memory = SharedMemory()
    memory.begin(0, 0.5)
    pid = os.fork()
    if pid == 0:
        index = 0
        while True:
            index += 1
            memory.begin(index, index + 0.5)
    try:
        seen, began = set(), time.monotonic()
        while len(seen) <= 100 or time.monotonic() < began + 0.2:  # until the other process has had its turn
            assert time.monotonic() < began + 60
            seen |= {memory.begun() for _ in range(10_000)}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert len(seen) > 100
    assert {monotonic - index for index, monotonic in seen} == {0.5}


def test_records_stay_in_shared_memory_until_they_are_sent():
    memory = SharedMemory()
    assert memory.begun() == (NOTHING_BEGUN, 0.0)
    assert memory.records() == memory.settled_records() == b""
    memory.begin(3, 1.5)
    used = memory.append(0, b"abc")
    memory.append(used, b"def")
    assert memory.begun() == (3, 1.5)
    assert memory.records() == memory.settled_records() == b"abcdef"
    memory.clear_records()
    assert memory.records() == b""
    memory.append(0, b"x" * CAPACITY)
    assert memory.records() == b"x" * CAPACITY


def test_records_are_not_read_while_they_are_replaced(monkeypatch):
    memory = SharedMemory()
    memory.append(0, b"abc")
    read = SharedMemory.records

    def read_meanwhile(self):
        self.clear_records()
        self.append(0, b"xyz")
        return read(self)

    monkeypatch.setattr(SharedMemory, "records", read_meanwhile)
    assert memory.settled_records() == b""


def test_signs_outlast_a_runner_and_skipped_tasks_do_not():
    memory = SharedMemory()
    memory.set_flags(3)
    memory.skip(2, 4)
    assert [memory.is_skipped(index) for index in range(6)] == [False, False, True, True, False, False]
    memory.reset()
    assert memory.flags() == 3
    assert not any(memory.is_skipped(index) for index in range(6))


def test_a_record_that_is_still_to_be_completed_is_not_taken_from_a_runner_that_goes_on():
    memory = SharedMemory()
    first, second = (
        Record(
            task_index=n, outcome=Outcome.SUCCEEDED, started_at=n + 1.0, elapsed_seconds=0.5, result=b"%d" % n
        ).pack()
        for n in (0, 1)
    )
    memory.append_and_report(0, first, 0)
    assert memory.settled_records() == b""
    assert memory.records() == first  # of a runner that died, better this than nothing
    memory.settle(0, len(first), 7.5)
    memory.append_and_report(len(first), second, 1)
    [complete] = salvage(memory.settled_records(), 1)
    assert (complete.task_index, complete.peak_memory_mib) == (0, 7.5)
    assert len(salvage(memory.records(), 1)) == 2
    memory.take_last(len(first))
    memory.append(len(first), amended(second, 1.5, b"printed"))
    assert [record.output for record in salvage(memory.settled_records(), 1)] == [None, b"printed"]
    memory.clear_records()
    assert memory.settled_records() == memory.records() == b""
