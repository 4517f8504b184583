"""Messages of tasks and of events carry what they were given."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.errors import QueueError
from taskfleet.messages import events as batches
from taskfleet.messages import tasks as envelopes
from taskfleet.messages.events import Batch, Worker
from taskfleet.messages.tasks import Envelope, Parcel, group, overhead_bytes
from taskfleet.tasks import Finished, Outcome

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DATA = st.dictionaries(st.text(max_size=8), JSONS, max_size=3).map(lambda row: json.dumps(row, ensure_ascii=False))
TRIES = st.dictionaries(st.sampled_from([1, 2, 3, 5]), st.integers(1, 900), max_size=3).map(
    lambda tries: tuple(sorted(tries.items()))
)
PARCELS = st.builds(Parcel, st.integers(1, 1 << 40), st.text(min_size=1, max_size=30), DATA, st.integers(0, 999), TRIES)
SAFE = "\t\n\r"


@given(st.lists(PARCELS, min_size=1, max_size=10), st.floats(0, 2e9), st.text(max_size=5))
def test_a_message_of_tasks_comes_out_as_it_went_in(parcels, not_before, claimed_by):
    sent = Envelope(
        job_id="job",
        ledger="1.5",
        parcels=parcels,
        not_before=not_before,
        claimed_by=claimed_by,
        claimed_until=5.0 if claimed_by else 0.0,
    )
    body = envelopes.pack(sent)
    found = envelopes.unpack(body)
    assert [one._replace(data="") for one in found.parcels] == [one._replace(data="") for one in parcels]
    assert [json.loads(one.data) for one in found.parcels] == [json.loads(one.data) for one in parcels]
    assert (found.job_id, found.ledger, found.not_before, found.claimed_by) == ("job", "1.5", not_before, claimed_by)
    body.encode()  # whatever stood in the data, the message is proper Unicode ...
    assert not [c for c in body if (ord(c) < 32 and c not in SAFE) or c in "\ufffe\uffff"]  # ... and XML can carry it


@given(
    st.lists(st.text(max_size=200).map(lambda text: Parcel(7, "t", text)), max_size=20),
    st.integers(1, 7),
    st.integers(300, 2000),
)
def test_messages_are_filled_up_to_their_limits_in_order(parcels, most, most_bytes):
    groups = list(group(parcels, most=most, most_bytes=most_bytes))
    assert [one for chunk in groups for one in chunk] == parcels
    for chunk, following in zip(groups, [*groups[1:], None], strict=False):
        size = sum(map(overhead_bytes, chunk))
        assert 0 < len(chunk) <= most
        assert size <= most_bytes or len(chunk) == 1
        if following:
            assert len(chunk) == most or size + overhead_bytes(following[0]) > most_bytes
        assert len(envelopes.pack(Envelope(job_id="job", ledger="1", parcels=chunk)).encode()) <= size + 100


FINISHED = st.builds(
    Finished,
    st.integers(1, 1 << 40),
    st.integers(1, 999),
    st.sampled_from([int(outcome) for outcome in Outcome]),
    st.floats(0, 2e9),
    st.floats(0, 1e6),
    st.none() | DATA,
    st.none() | st.text(max_size=30),
    st.none() | st.text(max_size=30),
    st.none() | st.floats(0, 1000),
    st.none() | st.integers(-64, 255),
    st.none() | st.floats(0, 1e6),
)
KEYS = st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(1, 999)), max_size=5)


@given(st.lists(st.tuples(FINISHED, st.none() | st.floats(0, 1000)), max_size=5), KEYS, KEYS)
def test_a_batch_of_events_comes_out_as_it_went_in(ended, leased, returned):
    worker = Worker(source="w|1", hostname="höst", pid=7, slots=2, started_at=1.5)
    sent = Batch(
        job_id="job", ledger="1.5", worker=worker, number=3, told_at=2.5, leased=leased, returned=returned, ended=ended
    )
    body = batches.pack(sent)
    found = batches.unpack(body)
    body.encode()
    plain = [(one._replace(result=None), retry) for one, retry in found.ended]
    assert plain == [(one._replace(result=None), retry) for one, retry in ended]
    for (one, _), (other, _) in zip(found.ended, ended, strict=True):
        assert (one.result is None) == (other.result is None)
        assert one.result is None or json.loads(one.result) == json.loads(other.result)
    assert (found.worker, found.number, found.leased, found.returned) == (worker, 3, leased, returned)


@pytest.mark.parametrize("body", ["", "x", "{}", "[]", "null", '{"taskfleet": 1}', '{"taskfleet": 1, "tasks": [[1]]}'])
def test_what_is_no_message_of_ours_is_said(body):
    with pytest.raises(QueueError, match="not one of taskfleet's"):
        envelopes.unpack(body)
    with pytest.raises(QueueError, match="not one of taskfleet's"):
        batches.unpack(body)


def test_a_message_of_another_version_is_said():
    with pytest.raises(QueueError, match=r"another version of taskfleet \(format 2, this one reads 1\)"):
        envelopes.unpack('{"taskfleet": 2}')
