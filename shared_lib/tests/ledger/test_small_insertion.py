"""A few tasks at once: beside insertions of tables, visible at once, whole or not at all."""

import random
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskfleet.errors import InsertError
from taskfleet.ledger import counters, insertion, leasing, moving, queries, recording, repair, sending
from taskfleet.ledger.database import create, open_ledger
from taskfleet.ledger.insertion import InsertReport
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.messages.events import Batch, Worker
from taskfleet.tasks import Finished, Outcome, State
from taskfleet.watch.dump import dump_tasks


class WaitsError(Exception):
    """Raised instead of waiting for the insertion of a table."""


def wait_not(_seconds):
    raise WaitsError


def few(job, ids, data=None, **more):
    more = {"clock": lambda: 0.0, "sleep": wait_not} | more
    return insert_few(job.database, ids, data or [f'"{name}"' for name in ids], **more)


def add(under_way, ids, data=None, derived=False):
    under_way.add(ids, data or [f'"{name}"' for name in ids], ids_are_derived=derived, now=0.0)


def names(leases):
    return [lease.task_id for lease in leases]


def everything(database):
    return [task_id for task_id, _, _ in queries.all_tasks(database)]


@pytest.fixture(params=[1, 250_000], ids=["ids entered at once", "ids entered at the end"])
def entering(request, monkeypatch):
    """Has the insertion of a table enter its ids row by row, or all at the end."""
    monkeypatch.setattr(insertion, "ENTER_ROWS", request.param)
    return request.param


# --- by itself ---


def test_a_few_tasks_are_there_at_once_and_leased_before_those_of_a_table(job):
    job.insert(["1", "2"], ["t1", "t2"])
    assert few(job, ["b", "a"]) == InsertReport(added=2, already_there=0, identical=0)
    assert job.counts() == {State.PENDING: 4}
    assert job.states() == dict.fromkeys([1, 2, 3, 4], State.PENDING)
    assert leasing.next_due_at(job.database, 0) == 0.0
    leases = job.lease(job.worker(), 3)
    assert [(one.task_id, one.data, one.attempt) for one in leases] == [
        ("b", '"b"', 1),
        ("a", '"a"', 1),
        ("t1", "1", 1),
    ]


def test_it_makes_no_segment_and_leaves_nothing_but_the_tasks(job):
    before = job.dump()
    few(job, ["a"])
    after = job.dump()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"task", "task_id", "state", "counter", "tally"}
    assert {name: len(after[name]) for name in ("task", "task_id", "state")} == {"task": 1, "task_id": 1, "state": 1}


def test_no_tasks_are_inserted_as_nothing(job):
    before = job.dump()
    assert few(job, []) == InsertReport(added=0, already_there=0, identical=0)
    assert job.dump() == before


def test_what_the_job_has_is_not_added_again(job):
    job.insert(["1"], ["t1"])
    few(job, ["a"])
    assert few(job, ["t1", "b", "a"], ["1", '"b"', '"a"']) == InsertReport(added=1, already_there=2, identical=0)
    assert few(job, ["t1", "b", "a"], ["1", '"b"', '"a"']) == InsertReport(added=0, already_there=3, identical=0)
    assert sorted(names(job.lease(job.worker(), 9))) == ["a", "b", "t1"]


def test_what_has_ended_is_not_begun_again(job, done):
    few(job, ["a"])
    worker_id = job.worker()
    job.finish(worker_id, *[done(lease) for lease in job.lease(worker_id)])
    assert few(job, ["a"]).added == 0
    assert job.counts() == {State.SUCCEEDED: 1}


@pytest.mark.parametrize(
    ("ids", "data", "message"),
    [
        (["a", "b", "a"], ["1", "2", "1"], r"task_id 'a' occurs twice in the table, the second time in row 3"),
        (["a", "t1"], ["1", "2"], r"task_id 't1' is in this job already with other data: 1 in the job, 2 in row 2\."),
        (["a", "old"], ["1", "2"], r"task_id 'old' is in this job already with other data"),
    ],
)
def test_a_fault_leaves_nothing(job, ids, data, message):
    job.insert(["1"], ["t1"])
    few(job, ["old"])
    before = job.dump()
    with pytest.raises(InsertError, match=message):
        few(job, ids, data)
    assert job.dump() == before
    assert few(job, ["c"]).added == 1


def test_equal_rows_with_derived_ids_are_tasks_of_their_own(job):
    report = few(job, ["a", "b", "a", "a"], ids_are_derived=True)
    assert report == InsertReport(added=4, already_there=0, identical=2)
    assert names(job.lease(job.worker(), 9)) == ["a", "b", "a-2", "a-3"]
    assert few(job, ["a", "a"], ids_are_derived=True) == InsertReport(added=0, already_there=2, identical=1)


CALLS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcd"), max_size=5), st.booleans(), st.sampled_from(["", "", "", "x"])),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_ids_are_checked_as_for_a_table(tmp_path_factory, calls):
    """The same calls, as small insertions and as insertions of tables, end alike."""
    folder = tmp_path_factory.mktemp("ids")
    one, other = (create(folder / f"{name}.db", job_id="job", project=folder, now=0.0) for name in "ab")
    for ids, derived, suffix in calls:
        data = [f'"{name}{suffix}"' for name in ids]
        ends = []
        try:
            ends.append(insert_few(one, ids, data, ids_are_derived=derived))
        except InsertError as error:
            ends.append(str(error))
        under_way = insertion.begin(other, source="t")
        try:
            under_way.add(ids, data, ids_are_derived=derived, now=0.0)
            ends.append(under_way.accept(0.0))
        except InsertError as error:
            under_way.discard()
            ends.append(str(error))
        assert ends[0] == ends[1]
        assert list(queries.all_tasks(one)) == list(queries.all_tasks(other))
        assert counters.by_state(one) == counters.by_state(other)
        assert one.rows("SELECT id FROM task_id") == other.rows("SELECT id FROM task_id")
    one.close()
    other.close()


@pytest.mark.parametrize("level", [1, 2])
def test_accepted_tasks_are_synced_to_the_disk(job, level):
    database, statements = job.database, []
    database.execute(f"PRAGMA synchronous = {level}")
    database._connection.set_trace_callback(statements.append)
    few(job, ["a"])
    database._connection.set_trace_callback(None)
    outside = [text for text in statements if text.startswith(("PRAGMA", "BEGIN", "COMMIT", "ROLLBACK"))]
    assert outside == [
        "PRAGMA synchronous",
        "PRAGMA synchronous = FULL",
        "BEGIN IMMEDIATE",
        "COMMIT",
        f"PRAGMA synchronous = {level}",
    ]
    assert database.value("PRAGMA synchronous") == level


def test_a_ledger_that_hosts_share_takes_a_few_tasks_too(tmp_path):
    database = create(tmp_path / "a.db", job_id="job", project=tmp_path, now=0.0, shared=True)
    assert insert_few(database, ["a", "b"], ["1", "2"]).added == 2
    assert everything(database) == ["a", "b"]
    database.close()


# --- what can be done with them ---


def test_they_are_in_every_list(job, tmp_path):
    data = '{"x": 1}'
    job.insert([data], ["t1"])
    few(job, ["a", "b"], [data, data])
    under_way = insertion.begin(job.database, source="t")
    add(under_way, ["hidden"], [data])
    few(job, ["c"], [data])
    there = ["t1", "a", "b", "c"]
    assert everything(job.database) == there
    assert [row["task_id"] for row in queries.results(job.database)] == there
    assert [line.task_id for line in queries.list_tasks(job.database)] == there
    assert [line.task_id for line in queries.list_tasks(job.database, state=State.PENDING)] == there
    assert [task_id for task_id, _ in queries.sample(job.database, 10)] == there
    assert [parcel.task_id for parcels in sending.pending(job.database) for parcel in parcels] == there
    assert queries.find_task(job.database, "c").state is State.PENDING
    assert queries.find_task(job.database, "hidden") is None
    assert queries.one_pending(job.database) == ("a", data)
    assert dump_tasks(job.database, tmp_path, "job") == [(tmp_path / "job-pending.json", 4)]
    under_way.accept(0.0)
    assert everything(job.database) == ["t1", "a", "b", "hidden", "c"]


def test_a_worker_that_skips_leaves_them_to_others(job):
    few(job, ["a", "b", "c"])
    assert names(job.lease(job.worker(), 9, skip=2)) == ["c"]
    assert not leasing.has_leasable(job.database, 2)
    assert leasing.has_leasable(job.database, 1)
    assert names(job.lease(job.worker(), 9)) == ["a", "b"]


def test_they_are_killed_and_put_back(job):
    job.insert(["1"], ["t1"])
    few(job, ["a", "b"])
    assert repair.purge(job.database) == 3
    assert job.counts() == {State.KILLED: 3}
    assert few(job, ["a", "c"]).added == 1
    assert repair.retry(job.database, killed=True) == 3
    assert sorted(names(job.lease(job.worker(), 9))) == ["a", "b", "c", "t1"]


def test_by_a_queue_at_a_service_each_is_sent_once(job):
    job.database.execute("UPDATE job SET queue_url = 'sqs://job'")
    job.insert(["1"], ["t1"])
    few(job, ["a", "b"])
    assert sending.count_unsent(job.database) == 3
    sent = []
    assert sending.send_all(job.database, sent.extend) == 3
    assert [(one.task_id, one.data, one.attempt) for one in sent] == [("a", '"a"', 0), ("b", '"b"', 0), ("t1", "1", 0)]
    assert few(job, ["a", "c"]).added == 1
    assert sending.send_all(job.database, sent.extend) == 1
    assert sent[-1].task_id == "c"
    worker = Worker(source="worker|1", hostname="h", pid=1, slots=1, started_at=0.0)
    ended = [(Finished(one.seq, 1, int(Outcome.SUCCEEDED), 0.0, 1.0), None) for one in sent]
    batch = Batch(job_id="job", ledger="", worker=worker, number=0, reported_at=1.0, ended=ended)
    recording.record(job.database, batch, now=1.0)
    assert job.counts() == {State.SUCCEEDED: 4}


def test_they_move_to_another_queue_and_back(job):
    few(job, ["a", "b"])
    [lease] = job.lease(job.worker())
    moving.move(job.database, "sqs://job")
    few(job, ["c"])
    sent = []
    sending.send_all(job.database, sent.extend)
    assert [(one.task_id, one.attempt) for one in sent] == [("a", 1), ("b", 0), ("c", 0)]
    moving.move(job.database, None)
    assert sending.count_unsent(job.database) == 0
    assert [(one.task_id, one.attempt) for one in job.lease(job.worker(), 9)] == [("a", 2), ("b", 1), ("c", 1)]
    assert lease.task_id == "a"


# --- beside the insertion of a table ---


@pytest.mark.usefixtures("entering")
def test_a_few_tasks_between_the_batches_of_a_table(job):
    under_way = insertion.begin(job.database, source="t")
    elsewhere = job.connect()
    for n in range(3):
        add(under_way, [f"t{n}", f"u{n}"])
        insert_few(elsewhere, [f"f{n}"], ["1"])
        assert job.counts() == {State.PENDING: n + 1}
    add(under_way, ["t3"])
    add(under_way, ["t4"])
    assert names(job.lease(job.worker(), 9)) == ["f0", "f1", "f2"]
    assert under_way.rows == 8
    assert under_way.accept(0.0) == InsertReport(added=8, already_there=0, identical=0)
    assert job.database.rows("SELECT first_seq, last_seq FROM segment") == [(1, 2), (4, 5), (7, 8), (10, 11)]
    assert names(job.lease(job.worker(), 99)) == ["t0", "u0", "t1", "u1", "t2", "u2", "t3", "t4"]
    assert everything(job.database) == ["t0", "u0", "f0", "t1", "u1", "f1", "t2", "u2", "f2", "t3", "t4"]


@pytest.mark.usefixtures("entering")
def test_numbers_of_rows_that_were_dropped_are_given_to_nobody_while_the_insertion_is_under_way(job):
    job.insert(["1", "2"], ["known1", "known2"])
    under_way = insertion.begin(job.database, source="t")
    add(under_way, ["new", "known1", "known2"], ["0", "1", "2"])
    few(job, ["f"])
    add(under_way, ["known1", "last"], ["1", "3"])
    report = under_way.accept(0.0)
    assert report == InsertReport(added=2, already_there=3, identical=0)
    assert names(job.lease(job.worker(), 9)) == ["f", "known1", "known2", "new", "last"]
    assert job.lease(job.worker(), 9) == []


@pytest.mark.usefixtures("entering")
def test_a_task_that_was_inserted_singly_meanwhile_is_already_there_for_the_table(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, ["a"])
    few(job, ["b"])
    add(under_way, ["b", "c"])
    assert under_way.accept(0.0) == InsertReport(added=2, already_there=1, identical=0)
    assert names(job.lease(job.worker(), 9)) == ["b", "a", "c"]


@pytest.mark.usefixtures("entering")
def test_a_task_that_was_inserted_singly_meanwhile_with_other_data_has_the_table_refused(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, ["a"])
    few(job, ["b"])

    def add_the_rest():
        add(under_way, ["b"], ['"other"'])
        under_way.accept(0.0)

    with pytest.raises(InsertError, match=r"task_id 'b' is in this job already with other data: \"b\" in the job"):
        add_the_rest()
    under_way.discard()
    assert names(job.lease(job.worker(), 9)) == ["b"]
    assert queries.find_task(job.database, "a") is None


def test_equal_rows_of_a_table_are_numbered_whatever_comes_between(job, monkeypatch):
    monkeypatch.setattr(insertion, "ENTER_ROWS", 1)
    under_way = insertion.begin(job.database, source="t")
    for _ in range(3):
        add(under_way, ["a"], derived=True)
        few(job, ["x", "x"], ids_are_derived=True)  # on the same connection
    assert under_way.accept(0.0) == InsertReport(added=3, already_there=0, identical=2)
    assert names(job.lease(job.worker(), 9)) == ["x", "x-2", "a", "a-2", "a-3"]


@pytest.fixture
def held(job, monkeypatch):
    """The insertion of a table that has entered its ids: a, b and the second b."""
    monkeypatch.setattr(insertion, "ENTER_ROWS", 1)
    under_way = insertion.begin(job.connect(), source="t", clock=lambda: 0.0)
    add(under_way, ["a", "b", "b"], derived=True)
    return under_way


@pytest.mark.parametrize(("ids", "derived"), [(["x", "a"], False), (["a"], True), (["b", "x"], True)])
def test_an_id_of_an_insertion_under_way_is_waited_for(job, held, ids, derived):
    waited, who = [], []

    def sleep(seconds):
        assert job.counts() == {}
        waited.append(seconds)
        if len(waited) == 3:
            held.accept(0.0)

    report = few(job, ids, ids_are_derived=derived, sleep=sleep, on_wait=who.append)
    assert report == InsertReport(added=len(ids) - 1, already_there=1, identical=0)
    assert (waited, len(who)) == ([insertion.POLL_SECONDS] * 3, 1)


def test_a_numbered_id_of_an_insertion_under_way_is_waited_for(job, monkeypatch):
    monkeypatch.setattr(insertion, "ENTER_ROWS", 1)
    few(job, ["b"])
    under_way = insertion.begin(job.connect(), source="t", clock=lambda: 0.0)
    add(under_way, ["b", "b"], derived=True)
    assert few(job, ["b"], ids_are_derived=True).already_there == 1
    with pytest.raises(WaitsError):
        few(job, ["b", "b"], ids_are_derived=True)
    under_way.discard()
    assert few(job, ["b", "b"], ids_are_derived=True) == InsertReport(added=1, already_there=1, identical=1)


@pytest.mark.parametrize("end", ["accepted", "discarded"])
def test_what_becomes_of_the_table_decides_about_the_same_id_with_other_data(job, held, end):
    def sleep(_seconds):
        held.accept(0.0) if end == "accepted" else held.discard()

    if end == "accepted":
        with pytest.raises(InsertError, match="is in this job already with other data"):
            few(job, ["a"], ['"mine"'], sleep=sleep)
    else:
        assert few(job, ["a"], ['"mine"'], sleep=sleep).added == 1
        assert queries.find_task(job.database, "a").data == '"mine"'


def test_an_insertion_that_is_taken_for_dead_is_cleared_where_it_holds_an_id(job, held):
    assert few(job, ["x"], clock=lambda: 601.0).added == 1
    assert job.database.value("SELECT count(*) FROM insertion WHERE accepted_at IS NULL") == 1
    assert few(job, ["a"], clock=lambda: 601.0).added == 1
    assert job.database.value("SELECT count(*) FROM insertion WHERE accepted_at IS NULL") == 0
    with pytest.raises(InsertError, match="as dead"):
        held.accept(602.0)
    assert sorted(names(job.lease(job.worker(), 9))) == ["a", "x"]


@pytest.mark.parametrize("clear_rows", [1, 2, 100_000])
@pytest.mark.parametrize("enter_rows", [1, 3, 250_000])
def test_clearing_up_after_a_killed_insertion_spares_what_was_inserted_singly(
    job, fork, die, monkeypatch, clear_rows, enter_rows
):
    monkeypatch.setattr(insertion, "CLEAR_ROWS", clear_rows)
    monkeypatch.setattr(insertion, "ENTER_ROWS", enter_rows)
    job.close()

    def insert_half():
        database = open_ledger(job.path, job_id="job")
        under_way = insertion.begin(database, source="t")
        for n in range(3):
            insert_few(open_ledger(job.path, job_id="job"), [f"f{n}"], ["1"])
            under_way.add([f"t{n}", f"f{n}"], ["1", "1"], ids_are_derived=False, now=0.0)
        die()

    assert fork(lambda _tell: insert_half()).wait() == -signal.SIGKILL
    assert job.counts() == {State.PENDING: 3}
    assert few(job, ["t1"]).added == 1
    under_way = insertion.begin(job.database, source="t", sleep=wait_not)
    assert under_way.accept(0.0).added == 0
    rows = job.database.rows("SELECT id FROM task ORDER BY id")
    assert rows == job.database.rows("SELECT id FROM task_id ORDER BY id")
    assert rows == [("f0",), ("f1",), ("f2",), ("t1",)]
    assert names(job.lease(job.worker(), 9)) == ["f0", "f1", "f2", "t1"]


# --- several at once, and death ---


def insert_for_ever(path, seed):
    """Insert a few tasks and tables, in turns, with ids that overlap."""
    chance = random.Random(seed)
    database = open_ledger(path, job_id="job")
    while True:
        ids = [f"t{n}" for n in chance.sample(range(400), 3)]
        data = [f'"{name}"' for name in ids]
        if chance.random() < 0.7:
            insert_few(database, ids, data)
            continue
        under_way = insertion.begin(database, source="t")
        for name in ids:
            under_way.add([name], [f'"{name}"'], ids_are_derived=False, now=time.time())  # long ago would be abandoned
        if chance.random() < 0.7:
            under_way.accept(time.time())
        else:
            under_way.discard()


@pytest.mark.parametrize("steps", [7, 50, 300, 1000, 3000])
def test_an_inserter_killed_within_a_statement_leaves_whole_insertions(job, fork, die, monkeypatch, steps):
    """The child dies after so many steps of SQLite's machine, in the midst of a statement."""
    monkeypatch.setattr(insertion, "ENTER_ROWS", 2)
    monkeypatch.setattr(insertion, "CLEAR_ROWS", 2)
    job.close()
    for seed in range(8):

        def insert_until_dead(_tell, seed=seed):
            real = insertion.next_seq

            def next_seq(database):  # the clock begins with the first insertion
                database._connection.set_progress_handler(die, steps + 5 * seed)
                return real(database)

            monkeypatch.setattr(insertion, "next_seq", next_seq)
            monkeypatch.setattr("taskfleet.ledger.small_insertion.next_seq", next_seq)
            insert_for_ever(job.path, seed)

        assert fork(insert_until_dead).wait() == -signal.SIGKILL
        assert job.database.value("PRAGMA integrity_check") == "ok"
        job.check()
        assert_ids_are_right(job)
        job.close()
    insertion.begin(job.database, source="t").discard()
    assert_ids_are_right(job, is_cleared=True)


def assert_ids_are_right(job, is_cleared=False):
    """Each id leads to the task that has it; each accepted task has one; and what was killed is gone when it was cleared."""
    database, accepted = job.database, job.states()
    ids = dict(database.rows("SELECT seq, id FROM task"))
    entered = dict(database.rows("SELECT seq, id FROM task_id"))
    assert all(ids[seq] == task_id for seq, task_id in entered.items())
    assert accepted.keys() <= entered.keys() <= ids.keys()
    assert not database.rows(
        "SELECT 1 FROM segment AS one JOIN segment AS other ON one.first_seq < other.first_seq AND one.last_seq >= other.first_seq"
    )
    if is_cleared:
        assert ids == entered
        assert ids.keys() == accepted.keys()


@pytest.mark.slow
def test_processes_that_insert_at_once_and_are_killed_lose_and_double_nothing(job, fork, done):
    """Some insert, one works, and all are killed at some moment; then all that is there is run."""
    chance = random.Random(1)

    def work_for_ever(_tell):
        database = open_ledger(job.path, job_id="job")
        worker_id = leasing.register(
            database, hostname="h", process="elsewhere|1|1|1", pid=1, slots=1, lease_seconds=1e9, now=0.0
        )
        while True:
            leases = leasing.lease(database, worker_id, 3, skip=0, lease_seconds=1e9, now=0.0)
            leasing.finish(database, worker_id, [done(one) for one in leases], policy=None, now=0.0)

    for turn in range(15):
        job.close()
        children = [
            fork(lambda tell, seed=seed: (tell(), insert_for_ever(job.path, seed))) for seed in (turn, 100 + turn)
        ]
        worker = fork(work_for_ever)
        assert all(child.told() for child in children)
        size = chance.randint(1, 12)
        while (
            job.database.value("SELECT coalesce(max(seq), 0) FROM task") < turn * 12 + size and len(job.states()) < 350
        ):
            pass
        for child in [*children, worker]:
            child.kill()
        assert job.database.value("PRAGMA integrity_check") == "ok"
        job.check()
        assert_ids_are_right(job)
    insertion.begin(job.database, source="t").discard()
    assert_ids_are_right(job, is_cleared=True)
    leasing.release(job.database, now=0.0)
    worker_id = job.worker()
    while leases := job.lease(worker_id, 50):
        job.finish(worker_id, *[done(one) for one in leases])
    found = everything(job.database)
    assert len(found) == len(set(found)) > 12
    assert job.counts() == {State.SUCCEEDED: len(found)}


# --- what it costs ---


def test_a_lease_among_many_single_insertions_costs_what_it_does_in_a_fresh_ledger(new_job, done, vm_steps):
    """In steps of SQLite's machine, which do not depend on how busy the computer is."""
    steps = {}
    for n in (50, 2000):
        for ended in (0, n - 10):
            job = new_job()
            for start in range(0, n, 100):
                few(job, [f"t{k}" for k in range(start, min(start + 100, n))])
            worker_id = job.worker()
            job.finish(worker_id, *[done(one) for one in job.lease(worker_id, ended)])

            def work(job=job, worker_id=worker_id):
                leases = job.lease(worker_id, 5)
                assert len(leases) == 5
                assert leasing.has_leasable(job.database, 0)
                assert leasing.next_due_at(job.database, 0) == 0.0

            steps[n, ended > 0] = vm_steps(job.database, work)
    assert steps[50, False] == steps[2000, False]
    assert steps[50, True] == steps[2000, True]


def test_leaving_many_single_insertions_to_others_costs_nothing(new_job, vm_steps):
    steps = []
    for n in (50, 2000):
        job = new_job()
        few(job, [f"t{k}" for k in range(n)])
        worker_id = job.worker()

        def work(job=job, worker_id=worker_id, skip=n - 10):
            assert [one.seq for one in job.lease(worker_id, 2, skip=skip)] == [skip + 1, skip + 2]
            assert leasing.has_leasable(job.database, skip)

        steps.append(vm_steps(job.database, work))
    assert steps[0] == steps[1]


def test_a_lease_with_nothing_left_costs_the_same_however_many_tasks_have_ended(new_job, done, vm_steps):
    steps = []
    for n in (50, 2000):
        job = new_job()
        few(job, [f"t{k}" for k in range(n)])
        worker_id = job.worker()
        job.finish(worker_id, *[done(one) for one in job.lease(worker_id, n)])

        def look(job=job, worker_id=worker_id):
            for skip in (0, 20):
                assert job.lease(worker_id, 5, skip=skip) == []
                assert not leasing.has_leasable(job.database, skip)
                assert leasing.next_due_at(job.database, skip) is None

        steps.append(vm_steps(job.database, look))
    assert steps[0] == steps[1]


def test_inserting_costs_the_same_however_many_single_insertions_there_were(new_job, vm_steps):
    steps = []
    for n in (50, 2000):
        job = new_job()
        few(job, [f"t{k}" for k in range(n)])
        job.database.execute_many(
            "INSERT INTO insertion (source, process, touched_at, first_seq, accepted_at) VALUES ('t', 'p', 0, ?, 0)",
            [(k,) for k in range(n)],
        )
        steps.append(vm_steps(job.database, lambda job=job: few(job, ["one", "two"])))
    assert steps[0] == steps[1]
