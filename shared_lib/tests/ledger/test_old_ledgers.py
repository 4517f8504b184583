"""Ledgers that commit d7e5b3d wrote (as SQL text in ``data/``) are brought up to date, and everything goes on."""

import json
import sqlite3
from pathlib import Path

import pytest
from taskfleet.ledger import counters, insertion, leasing, moving, queries, recording, repair, sending
from taskfleet.ledger.database import open_ledger
from taskfleet.ledger.migrations import APPLICATION_ID, MIGRATIONS
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.messages.events import Batch, Worker
from taskfleet.tasks import Finished, Outcome, RetryPolicy, State

DATA = Path(__file__).parent / "data"
STATES = {
    "t1": "succeeded",
    "t2": "failed",
    "t3": "pending",
    "t4": "pending",
    "t5": "running",
    "t6": "pending",
    "t7": "pending",
    "t8": "pending",
    "t9": "running",
    "t10": "pending",
    "single1": "succeeded",
    "single2": "succeeded",
    "single3": "pending",
    "single4": "pending",
    "killed": "pending",
}


@pytest.fixture
def old(tmp_path):
    """Makes a ledger as it was: ``old("embedded")``; gives its path."""

    def make(name):
        path = tmp_path / f"{name}.db"
        connection = sqlite3.connect(path)
        connection.executescript((DATA / f"d7e5b3d-{name}.sql").read_text(encoding="utf-8"))
        connection.close()
        return path

    return make


@pytest.fixture
def opened(old):
    databases = []

    def open_one(name):
        databases.append(open_ledger(old(name), job_id="job"))
        return databases[-1]

    yield open_one
    for database in databases:
        database.close()


def states(database):
    return {row["task_id"]: row["state"] for row in queries.results(database)}


def counts(database):
    return {state: n for state, n in counters.by_state(database).items() if n}


def recounted(database):
    found = {}
    for word in states(database).values():
        found[State[word.upper()]] = found.get(State[word.upper()], 0) + 1
    return found


@pytest.mark.parametrize("read_only", [True, False])
def test_it_says_the_same_as_before(old, read_only):
    database = open_ledger(old("embedded"), job_id="job", read_only=read_only)
    assert database.value("PRAGMA user_version") == (3 if read_only else len(MIGRATIONS))
    assert states(database) == STATES
    assert list(states(database)) == list(STATES)
    assert counts(database) == recounted(database)
    assert {line.task_id: line.state.word for line in queries.list_tasks(database)} == STATES
    assert [queries.find_task(database, task_id).state.word for task_id in STATES] == list(STATES.values())
    assert queries.find_task(database, "never1") is None
    [failed] = queries.find_task(database, "t2").attempts
    assert (failed.number, failed.outcome, failed.error) == (1, Outcome.EXCEPTION, "ValueError: no\nTraceback")
    assert counters.durations(database).n == 3
    database.close()


def test_all_its_tasks_are_run_to_their_end(opened):
    database = opened("embedded")
    insert_few(database, ["few1", "t1"], ["{}", '{"x": "t1"}'])
    policy = RetryPolicy(retries={Outcome.LOST: 2})
    assert leasing.reap(database, policy=policy, now=2000.0) == 2
    worker_id = leasing.register(database, hostname="h", process="p", pid=1, slots=1, lease_seconds=1e9, now=2000.0)
    order = []
    while leases := leasing.lease(database, worker_id, 4, skip=0, lease_seconds=1e9, now=2000.0):
        order += [lease.task_id for lease in leases]
        done = [
            Finished(seq=one.seq, attempt=one.attempt, outcome=Outcome.SUCCEEDED, started_at=0.0, elapsed_seconds=1.0)
            for one in leases
        ]
        assert not leasing.finish(database, worker_id, done, policy=policy, now=2000.0).duplicates
    assert order == [*["t4", "t5", "t9", "few1", "t3", "t6", "t7", "t8", "t10", "single3", "single4", "killed"]]
    assert counts(database) == {State.SUCCEEDED: 15, State.FAILED: 1} == recounted(database)
    assert repair.retry(database, kinds=[Outcome.EXCEPTION]) == 1
    assert counts(database) == {State.SUCCEEDED: 15, State.PENDING: 1} == recounted(database)


def test_its_killed_insertion_is_cleared_and_the_same_table_adds_what_is_missing(opened):
    database = opened("embedded")
    insert_few(database, ["few1"], ["{}"])
    under_way = insertion.begin(database, source="t", clock=lambda: 2000.0)
    names = ["t1", "never1", "never2", "few1"]
    data = [json.dumps({"x": name}) if name != "few1" else "{}" for name in names]
    under_way.add(names, data, ids_are_derived=False, now=2000.0)
    report = under_way.accept(2000.0)
    assert (report.added, report.already_there) == (2, 2)
    assert list(states(database)) == [*STATES, "few1", "never1", "never2"]
    assert counts(database) == recounted(database)


def test_everything_can_be_killed_and_put_back(opened):
    database = opened("embedded")
    assert repair.purge(database) == 9
    assert (
        counts(database)
        == {State.SUCCEEDED: 3, State.FAILED: 1, State.RUNNING: 2, State.KILLED: 9}
        == recounted(database)
    )
    assert not leasing.has_leasable(database, 0)
    assert repair.retry(database, killed=True) == 9
    assert states(database) == STATES


def test_what_was_not_sent_is_sent_and_events_are_recorded(opened):
    database = opened("remote")
    assert sending.count_unsent(database) == 4
    insert_few(database, ["few1"], ["{}"])
    sent = []
    assert sending.send_all(database, sent.extend) == 5
    assert sorted((one.task_id, one.attempt) for one in sent) == [
        ("few1", 0),
        ("single1", 0),
        ("t2", 1),
        ("t5", 0),
        ("t6", 0),
    ]
    assert sending.count_unsent(database) == 0
    worker = Worker(source="worker|b", hostname="h", pid=1, slots=1, started_at=0.0)
    ended = [(Finished(one.seq, one.attempt + 1, Outcome.SUCCEEDED, 0.0, 1.0), None) for one in sent]
    batch = Batch(job_id="job", ledger="", worker=worker, number=0, reported_at=2000.0, ended=ended)
    assert recording.record(database, batch, now=2000.0).duplicates == 0
    assert counts(database) == {State.SUCCEEDED: 6, State.RUNNING: 1, State.PENDING: 1} == recounted(database)


def test_a_job_at_a_service_is_moved_into_the_ledger_and_back(opened):
    database = opened("remote")
    before = states(database)
    moving.move(database, None)
    assert states(database) == before | {"t3": "pending"}
    worker_id = leasing.register(database, hostname="h", process="p", pid=1, slots=1, lease_seconds=1e9, now=2000.0)
    leases = leasing.lease(database, worker_id, 9, skip=0, lease_seconds=1e9, now=2000.0)
    assert [lease.task_id for lease in leases] == ["t2", "t3", "t4", "t5", "t6", "single1"]
    leasing.give_back(database, worker_id, leases)
    moving.move(database, "sqs://other")
    sent = []
    assert sending.send_all(database, sent.extend) == 6
    assert counts(database) == recounted(database)


@pytest.fixture
def one_task_segments(tmp_path):
    """Makes a ledger of version 3 in which each of so many tasks was an insertion of its own: ``one_task_segments(n, used_up=n)``."""

    def make(n, *, used_up, sent=0):
        connection = sqlite3.connect(tmp_path / f"{n}-{used_up}.db")
        for migration in MIGRATIONS[:3]:
            connection.executescript(migration.script())
        connection.execute("INSERT INTO job VALUES ('job', 'p', 0, NULL)")
        seqs = range(1, n + 1)
        connection.executemany("INSERT INTO insertion VALUES (NULL, 't', 'p', 0, ?, 0, 1)", [(seq,) for seq in seqs])
        connection.executemany("INSERT INTO task VALUES (?, ?, '{}')", [(seq, f"t{seq}") for seq in seqs])
        connection.executemany("INSERT INTO task_id VALUES (?, ?)", [(f"t{seq}", seq) for seq in seqs])
        connection.executemany(
            "INSERT INTO segment VALUES (?, ?, ?, ?)",
            [(seq, seq + (seq <= used_up), seq, seq if seq <= sent else 0) for seq in seqs],
        )
        connection.executemany(
            "INSERT INTO state (seq, state, attempt) VALUES (?, 3, 1)", [(seq,) for seq in seqs[:used_up]]
        )
        connection.execute("INSERT INTO counter VALUES (3, 0, ?), (1, 0, ?)", (used_up, n - used_up))
        connection.execute("INSERT INTO tally VALUES ('inserted', ?)", (n,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()
        connection.close()
        return open_ledger(tmp_path / f"{n}-{used_up}.db", job_id="job")

    return make


@pytest.mark.parametrize("skip", [0, 700])
@pytest.mark.parametrize("used_up", [0, 990])
def test_a_lease_among_many_segments_of_one_task_costs_what_it_does_among_few(
    one_task_segments, vm_steps, used_up, skip
):
    """In steps of SQLite's machine, which do not depend on how busy the computer is."""

    steps = []
    for n in (1000, 4000):
        database = one_task_segments(n, used_up=used_up * n // 1000)
        used_up_here, skip_here = used_up * n // 1000, skip * n // 1000
        worker_id = leasing.register(database, hostname="h", process="p", pid=1, slots=1, lease_seconds=9.0, now=0.0)
        expected = max(used_up_here, skip_here) + 1

        def lease(database=database, worker_id=worker_id, skip=skip_here, expected=expected):
            leases = leasing.lease(database, worker_id, 1, skip=skip, lease_seconds=30.0, now=0.0)
            assert [one.seq for one in leases] == [expected]
            assert leasing.has_leasable(database, skip)

        steps.append(vm_steps(database, lease))
        database.close()
    assert steps[0] == steps[1]


def test_what_is_left_to_send_among_many_segments_is_found_at_once(one_task_segments, vm_steps):
    steps = []
    for n in (1000, 4000):
        database = one_task_segments(n, used_up=0, sent=n - 3)
        steps.append(
            vm_steps(database, lambda database=database: sending.count_unsent(database) == 3 or pytest.fail("not 3"))
        )
        database.close()
    assert steps[0] == steps[1]
