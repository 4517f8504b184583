"""What a status says about a job at one instant."""

import json

import pytest
from taskfleet.ledger import insertion, leasing
from taskfleet.ledger.database import create
from taskfleet.tasks import Finished, Outcome, RetryPolicy, State
from taskfleet.watch.status import gather
from taskfleet.watch.text import status_report

T0 = 1_700_000_000.0
POLICY = RetryPolicy(retries={Outcome.EXIT: 1, Outcome.LOST: 1})


@pytest.fixture
def ledger(tmp_path):
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=T0)
    yield database
    database.close()


def insert(ledger, n):
    under_way = insertion.begin(ledger, source="test")
    under_way.add([f"t{index}" for index in range(n)], ["{}"] * n, ids_are_derived=False, now=T0)
    under_way.accept(T0)


def begin(ledger, n, now=T0, process="elsewhere|1|1"):
    """Register a worker and lease so many tasks."""
    worker = leasing.register(ledger, hostname="host", process=process, pid=17, slots=2, lease_seconds=30, now=now)
    return worker, leasing.lease(ledger, worker, n, skip=0, lease_seconds=30, now=now)


def finish(ledger, worker, leases, outcome, now, **fields):
    finished = [Finished(lease.seq, lease.attempt, outcome, now - 2, 2.0, **fields) for lease in leases]
    leasing.finish(ledger, worker, finished, policy=POLICY, now=now)


def test_a_job_without_tasks(ledger):
    status = gather(ledger, T0)
    assert (status.total, status.ended, status.rate_per_second, status.eta_seconds) == (0, 0, None, 0.0)
    assert status.durations is None
    assert status.workers == []
    assert status.began_at is None
    assert set(status.counts) == set(State)
    json.dumps(status.to_json())


def test_a_job_that_nobody_works_on_has_no_end_in_sight(ledger):
    insert(ledger, 10)
    status = gather(ledger, T0)
    assert status.counts[State.PENDING] == status.total == 10
    assert status.eta_seconds is None


def test_a_job_under_way(ledger):
    insert(ledger, 100)
    worker, leases = begin(ledger, 50)
    finish(ledger, worker, leases[:20], Outcome.SUCCEEDED, T0 + 2, result="1")
    finish(ledger, worker, leases[20:22], Outcome.EXCEPTION, T0 + 4, error="ValueError: first\nTraceback")
    finish(ledger, worker, leases[22:23], Outcome.EXIT, T0 + 6, error="Exit: x")
    status = gather(ledger, T0 + 12)
    assert status.counts == dict.fromkeys(State, 0) | {
        State.SUCCEEDED: 20,
        State.FAILED: 2,
        State.RUNNING: 27,
        State.PENDING: 51,
    }
    assert status.ended == 22
    assert status.failures[Outcome.EXCEPTION] == 2
    assert sum(status.failures.values()) == 2
    assert status.examples == {Outcome.EXCEPTION: ("t20", "ValueError: first")}
    assert status.retries == 1
    assert status.rate_per_second == pytest.approx(22 / 10)
    assert status.eta_seconds == pytest.approx(78 / 2.2)
    assert status.durations.n == 20
    assert status.durations.mean == status.durations.median == 2.0
    (alive,) = status.workers
    assert (alive.pid, alive.running, alive.slots, alive.hostname) == (17, 27, 2, "host")
    assert status.began_at == T0
    text = status_report(status, T0 + 12)
    assert "host (pid 17): 27 tasks leased, 2 slots, last heartbeat " in text


def test_the_object_for_programs(ledger):
    insert(ledger, 3)
    worker, leases = begin(ledger, 3)
    finish(ledger, worker, leases[:1], Outcome.SUCCEEDED, T0 + 2, result="1")
    finish(ledger, worker, leases[:1], Outcome.SUCCEEDED, T0 + 3, result="1")
    found = json.loads(json.dumps(gather(ledger, T0 + 4).to_json(), allow_nan=False))
    assert found["job_id"] == "job"
    assert found["total"] == 3
    assert found["counts"] == {"waiting": 0, "pending": 0, "running": 2, "succeeded": 1, "failed": 0, "killed": 0}
    assert found["failures"] == dict.fromkeys(("exception", "timeout", "exit", "memory", "lost", "upstream"), 0)
    assert found["durations_seconds"]["n"] == 1
    assert found["workers"][0]["running"] == 2
    assert found["duplicates"] == 1
    assert found["retries"] == found["lost"] == 0


def test_a_job_that_is_done_has_nothing_left_and_a_last_moment(ledger):
    insert(ledger, 2)
    worker, leases = begin(ledger, 2)
    finish(ledger, worker, leases, Outcome.SUCCEEDED, T0 + 2.5, result="1")
    leasing.end_worker(ledger, worker, now=T0 + 3)
    status = gather(ledger, T0 + 1000)
    assert status.eta_seconds == 0.0
    assert status.rate_per_second is None  # nothing ended in the last minute
    assert status.workers == []
    assert status.last_end_at == T0 + 3


def test_tasks_of_a_lost_worker_are_counted(ledger):
    insert(ledger, 2)
    begin(ledger, 2)
    leasing.reap(ledger, policy=POLICY, now=T0 + 100)
    status = gather(ledger, T0 + 100)
    assert (status.lost, status.retries) == (2, 2)
    assert status.counts[State.PENDING] == 2
    assert status.workers == []
