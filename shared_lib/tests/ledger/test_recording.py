"""What workers at a service tell is recorded once, in whatever order and however often it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskfleet.ledger import counters, insertion, moving, queries, recording, repair, sending
from taskfleet.ledger.database import create
from taskfleet.messages.events import Batch, Worker
from taskfleet.messages.formats import ForeignMessageError
from taskfleet.tasks import Finished, Outcome, State

TASKS = 4


@pytest.fixture
def database(tmp_path):
    database = new_ledger(tmp_path / "a.db", tmp_path)
    yield database
    database.close()


def new_ledger(path, project):
    database = create(path, job_id="job", project=project, now=0.0)
    under_way = insertion.begin(database, source="test")
    under_way.add([f"t{n}" for n in range(1, TASKS + 1)], ["{}"] * TASKS, ids_are_derived=False, now=0.0)
    under_way.accept(0.0)
    return database


def batch(number, *, source="w1", reported_at=None, end_reason="", leased=(), returned=(), ended=()):
    worker = Worker(source=source, hostname="h", pid=1, slots=1, started_at=0.0)
    return Batch(
        job_id="job",
        ledger="",
        worker=worker,
        number=number,
        reported_at=float(number) if reported_at is None else reported_at,
        end_reason=end_reason,
        leased=list(leased),
        returned=list(returned),
        ended=list(ended),
    )


def attempt(seq, number, outcome=Outcome.SUCCEEDED, result='"x"'):
    good = outcome is Outcome.SUCCEEDED
    return Finished(seq, number, int(outcome), 0.0, 1.0, result if good else None, None if good else "why")


def check(database):
    """Every task is in one state, the counts are those of the table, and none succeeded twice."""
    rows = dict(database.rows("SELECT state, count(*) FROM state GROUP BY state"))
    rows[1] = rows.get(1, 0) + TASKS - sum(rows.values())
    counts = {int(state): n for state, n in counters.by_state(database).items() if n}
    assert {state: n for state, n in rows.items() if n} == counts
    successes = database.rows("SELECT key / 1000, count(*) FROM attempt WHERE outcome = 0 GROUP BY 1")
    assert all(n == 1 for _, n in successes)
    assert {seq for seq, _ in successes} == {seq for (seq,) in database.rows("SELECT seq FROM state WHERE state = 3")}
    assert sum(counters.by_failure_kind(database).values()) == counts.get(int(State.FAILED), 0)


def states(database):
    return [queries.find_task(database, f"t{n}").state for n in range(1, TASKS + 1)]


def test_what_happens_in_order(database):
    recording.record(database, batch(0, leased=[(1, 1), (2, 1), (3, 1)]), now=0.0)
    assert counters.by_state(database)[State.RUNNING] == 3
    recording.record(database, batch(1, returned=[(3, 1)], ended=[(attempt(1, 1), None)]), now=1.0)
    recording.record(database, batch(2, ended=[(attempt(2, 1, Outcome.EXIT), 5.0)], end_reason="stopped"), now=2.0)
    assert states(database) == [State.SUCCEEDED, State.PENDING, State.PENDING, State.PENDING]
    assert queries.workers(database) == []
    check(database)


def test_the_same_batch_twice_changes_nothing(database):
    told = batch(0, ended=[(attempt(1, 1), None), (attempt(2, 1, Outcome.EXIT), None)])
    assert len(recording.record(database, told, now=0.0).ended) == 2
    again = recording.record(database, told, now=0.0)
    assert again.is_known
    assert again.ended == []
    assert counters.tallies(database)["duplicates"] == 0
    check(database)


def test_a_second_success_is_a_duplicate_and_the_first_stands(database):
    recording.record(database, batch(0, ended=[(attempt(1, 1, result='"a"'), None)]), now=0.0)
    recording.record(database, batch(0, source="w2", ended=[(attempt(1, 1, result='"b"'), None)]), now=0.0)
    recording.record(database, batch(1, source="w2", ended=[(attempt(1, 2, result='"c"'), None)]), now=0.0)
    assert counters.tallies(database)["duplicates"] == 2
    assert [one.result for one in queries.find_task(database, "t1").attempts] == ['"a"']
    check(database)


def test_a_success_after_a_failure_for_good_wins(database):
    recording.record(database, batch(0, ended=[(attempt(1, 1, Outcome.EXIT), None)]), now=0.0)
    assert states(database)[0] is State.FAILED
    recording.record(database, batch(0, source="w2", ended=[(attempt(1, 1), None)]), now=0.0)
    assert states(database)[0] is State.SUCCEEDED
    assert database.value("SELECT sum(n) FROM throughput") == 1
    check(database)


def test_a_silent_worker_counts_as_dead_until_it_tells_something_again(database):
    recording.record(database, batch(0, leased=[(1, 1)], reported_at=10.0), now=10.0)
    assert recording.end_silent(database, silent_seconds=100, now=105.0) == 0
    assert recording.end_silent(database, silent_seconds=100, now=111.0) == 1
    assert queries.workers(database) == []
    assert states(database)[0] is State.PENDING
    check(database)
    recording.record(database, batch(1, ended=[(attempt(1, 1), None)], reported_at=120.0), now=120.0)
    assert len(queries.workers(database)) == 1
    assert states(database)[0] is State.SUCCEEDED
    check(database)


@pytest.fixture
def purged(database):
    """Of t1 to t4, which are at a service, the first three ran when everything was purged."""
    database.execute("UPDATE job SET queue_url = 'sqs://job'")
    recording.record(database, batch(0, leased=[(1, 1), (2, 1), (3, 1)]), now=0.0)
    assert repair.purge(database) == 1
    return database


def test_what_ran_when_the_queue_was_purged_gets_no_other_try(purged):
    told = batch(1, returned=[(2, 1)], ended=[(attempt(1, 1, Outcome.EXIT), 5.0), (attempt(3, 1), None)])
    recording.record(purged, told, now=1.0)
    assert states(purged) == [State.KILLED, State.KILLED, State.SUCCEEDED, State.KILLED]
    check(purged)
    assert repair.retry(purged, killed=True) == 3
    recording.record(purged, batch(2, leased=[(1, 2)], ended=[(attempt(1, 2, Outcome.EXIT), 5.0)]), now=2.0)
    assert states(purged)[0] is State.PENDING
    check(purged)


def test_what_ran_with_a_dead_worker_when_the_queue_was_purged_does_not_wait_for_ever(purged):
    assert recording.end_silent(purged, silent_seconds=100, now=200.0) == 1
    assert counters.by_state(purged)[State.KILLED] == TASKS
    check(purged)


@pytest.mark.parametrize(
    "put_back", [moving.send_again, lambda database: moving.move(database, "sqs://other")], ids=["released", "moved"]
)
def test_what_ran_when_the_queue_was_purged_is_not_sent_again_when_all_leases_are_revoked(purged, put_back):
    put_back(purged)
    assert states(purged) == [State.KILLED] * TASKS
    assert sending.count_unsent(purged) == 0
    check(purged)


def test_what_runs_is_sent_again_when_all_leases_are_revoked(database):
    database.execute("UPDATE job SET queue_url = 'sqs://job'")
    sending.send_all(database, lambda _parcels: None)
    recording.record(database, batch(0, leased=[(1, 1), (3, 1)]), now=0.0)
    assert moving.send_again(database) == 2
    sent = []
    assert sending.send_all(database, sent.extend) == 2
    assert [(one.seq, one.attempt) for one in sent] == [(1, 1), (3, 1)]
    check(database)


def test_the_success_of_what_was_killed_counts(purged):
    recording.record(purged, batch(1, leased=[(4, 1)], ended=[(attempt(4, 1), None)]), now=1.0)
    assert states(purged)[3] is State.SUCCEEDED
    assert purged.value("SELECT sum(n) FROM throughput") == 1
    check(purged)


OUTCOMES = st.sampled_from([Outcome.SUCCEEDED, Outcome.EXIT, Outcome.EXCEPTION, Outcome.LOST, Outcome.INTERRUPTED])
SEQS = st.integers(1, TASKS)
ENDS = st.tuples(SEQS, st.integers(1, 4), OUTCOMES, st.booleans())
BATCHES = st.lists(
    st.tuples(
        st.sampled_from(["w1", "w2", "w3"]),
        st.lists(st.tuples(SEQS, st.integers(1, 4)), max_size=3),
        st.lists(st.tuples(SEQS, st.integers(1, 4)), max_size=2),
        st.lists(ENDS, max_size=4),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.randoms(use_true_random=False))
def test_whatever_is_told_in_whatever_order_and_twice_the_counts_add_up(tmp_path_factory, told, chance):
    numbers = {"w1": 0, "w2": 0, "w3": 0}
    sent = []
    for source, leased, returned, ends in told:
        ended = [
            (attempt(seq, number, outcome), None if outcome is Outcome.SUCCEEDED or is_final else 0.0)
            for seq, number, outcome, is_final in ends
        ]
        sent.append(batch(numbers[source], source=source, leased=leased, returned=returned, ended=ended))
        numbers[source] += 1
    delivered = sent + chance.sample(sent, len(sent) // 2)
    chance.shuffle(delivered)
    folder = tmp_path_factory.mktemp("recording")
    database = new_ledger(folder / "a.db", folder)
    try:
        for one in delivered:
            recording.record(database, one, now=one.reported_at)
            check(database)
        succeeded = {f.seq for one in sent for f, _ in one.ended if f.outcome == Outcome.SUCCEEDED}
        assert {n for n, state in enumerate(states(database), 1) if state is State.SUCCEEDED} == succeeded
    finally:
        database.close()


@pytest.mark.parametrize(
    "told",
    [
        {"leased": [(1, 1), (99, 1)]},
        {"returned": [(99, 1)]},
        {"ended": [(attempt(1, 1), None), (attempt(99, 1), None)]},
    ],
    ids=["leased", "returned", "ended"],
)
def test_events_of_a_task_that_the_job_does_not_have_are_refused_as_a_whole(database, told):
    before = states(database)
    with pytest.raises(ForeignMessageError, match="task number 99, which the job does not have"):
        recording.record(database, batch(0, **told), now=0.0)
    assert states(database) == before
    assert database.value("SELECT (SELECT count(*) FROM worker) + (SELECT count(*) FROM event_batch)") == 0
    check(database)


def test_an_interrupted_attempt_never_fails_its_task(database):
    recording.record(database, batch(0, ended=[(attempt(1, 1, Outcome.INTERRUPTED), None)]), now=0.0)
    assert states(database)[0] is State.PENDING
    check(database)


def test_what_a_task_printed_is_stored_even_if_it_is_not_proper_unicode(database):
    printed = attempt(1, 1, Outcome.EXIT)._replace(error="\ud800é", output="\x00\udfff")
    recording.record(database, batch(0, ended=[(printed, None)]), now=0.0)
    [found] = queries.find_task(database, "t1").attempts
    assert (found.error, found.output) == ("\\ud800é", "\x00\\udfff")
