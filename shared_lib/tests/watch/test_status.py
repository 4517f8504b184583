"""What a status says about a job at one instant."""

import json

import pytest
from taskfleet.ledger import insertion, leasing
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Market
from taskfleet.machines import LaunchRequest
from taskfleet.machines.choosing import Offer
from taskfleet.pool import control, updates
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


OFFER = Offer(
    instance_type="c7i.large",
    zone="us-east-1a",
    market=Market.SPOT,
    usd_per_slot_hour=0.01,
    usd_per_hour=0.02,
    machine_usd_per_hour=0.02,
    slots=2,
    boot_disk_type="gp3",
    boot_disk_gib=20,
    cpus=2,
    memory_gib=4.0,
)


def launch(ledger, number, now=T0, *, can_queue=False):
    """Record a launch request, and that its machines exist."""
    request = LaunchRequest(token="job-1", number=number, offers=(OFFER,), lifetime_seconds=3600.0)
    updates.add_request(ledger, request, provider="aws", now=now, can_queue=can_queue)
    for token in request.tokens:
        updates.mark_started(ledger, token, f"i-{token}", OFFER, now + 1, None if can_queue else now + 1)


def test_machines_that_boot_are_part_of_the_status_with_or_without_a_controller(ledger):
    insert(ledger, 10)
    assert gather(ledger, T0).booting is None
    launch(ledger, 2)
    control.acquire(ledger, "me|1|1", T0)
    found = gather(ledger, T0 + 61).booting
    assert (found.machines, found.queued, found.has_controller) == (2, 0, True)
    assert found.describe(T0 + 61) == "2 machines have been booting for 1m 00s."
    control.release(ledger, "me|1|1")
    assert gather(ledger, T0 + 61).booting.describe(T0 + 61) == (
        "2 machines have been booting for 1m 00s. The pool has no controller: a machine that fails is not replaced."
    )


def test_queued_machines_are_part_of_the_status(ledger):
    insert(ledger, 10)
    launch(ledger, 1, can_queue=True)
    control.acquire(ledger, "me|1|1", T0)
    assert gather(ledger, T0 + 61).booting.describe(T0 + 61) == "1 machine is in the provider's queue."


def test_a_machine_with_a_worker_no_longer_boots(ledger):
    insert(ledger, 10)
    launch(ledger, 1)
    hello = {"hostname": "host", "process": "elsewhere|1|1", "pid": 17, "slots": 2, "lease_seconds": 30, "now": T0 + 5}
    leasing.register(ledger, machine="i-job-1-1", **hello)
    assert gather(ledger, T0 + 6).booting is None


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
    assert [(one.kind, one.n, one.task_id, one.reason) for one in status.causes] == [
        (Outcome.EXCEPTION, 2, "t20", "ValueError: first")
    ]
    assert status.retries == 1
    assert status.rate_per_second == pytest.approx(22 / 12)  # the first began two seconds before it ended
    assert status.eta_seconds == pytest.approx(78 * 12 / 22)
    assert status.durations.n == 20
    assert status.durations.mean == status.durations.median == 2.0
    (alive,) = status.workers
    assert (alive.pid, alive.leased, alive.running, alive.slots, alive.hostname) == (17, 27, 2, 2, "host")
    assert status.ended_at is None
    assert status.began_at == T0
    text = status_report(status, T0 + 12)
    assert "host (pid 17): 2 slots, 2 running, 25 prefetched, last heartbeat " in text


def test_the_object_for_programs(ledger):
    insert(ledger, 3)
    worker, leases = begin(ledger, 3)
    finish(ledger, worker, leases[:1], Outcome.SUCCEEDED, T0 + 2, result="1")
    finish(ledger, worker, leases[:1], Outcome.SUCCEEDED, T0 + 3, result="1")
    found = json.loads(json.dumps(gather(ledger, T0 + 4).to_json(), allow_nan=False))
    assert found["job_id"] == "job"
    assert found["total"] == 3
    assert found["counts"] == {"waiting": 0, "pending": 0, "running": 2, "prefetched": 0} | {
        "succeeded": 1,
        "failed": 0,
        "killed": 0,
    }
    assert (found["failure_causes"], found["began_at"], found["ended_at"]) == ([], T0, None)
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
    assert status.rate_per_second == pytest.approx(2 / 3)  # from the start to the end, whenever one asks
    assert status.workers == []
    assert (status.began_at, status.ended_at) == (T0, T0 + 3)


def test_tasks_of_a_lost_worker_are_counted(ledger):
    insert(ledger, 2)
    begin(ledger, 2)
    leasing.reap(ledger, policy=POLICY, now=T0 + 100)
    status = gather(ledger, T0 + 100)
    assert (status.lost, status.retries) == (2, 2)
    assert status.counts[State.PENDING] == 2
    assert status.workers == []


def test_the_time_left_of_long_tasks_is_that_of_their_rounds(ledger):
    """Twelve tasks of ten seconds on two slots."""
    insert(ledger, 12)
    worker = leasing.register(ledger, hostname="host", process="p|1|1", pid=17, slots=2, lease_seconds=30, now=T0)
    assert gather(ledger, T0 + 9).eta_seconds is None
    for n in range(6):
        at = T0 + 10 * (n + 1)
        leases = leasing.lease(ledger, worker, 2, skip=0, lease_seconds=30, now=at - 10)
        finished = [
            Finished(lease.seq, lease.attempt, Outcome.SUCCEEDED, at - 10, 10.0, result="1") for lease in leases
        ]
        leasing.finish(ledger, worker, finished, policy=POLICY, now=at)
        left = 50 - 10 * n
        assert gather(ledger, at).eta_seconds == left
        if left:
            assert gather(ledger, at + 5).eta_seconds == pytest.approx(left - 5, abs=1)
    assert gather(ledger, T0 + 50).rate_per_second == pytest.approx(12 / 61)


def test_the_last_long_task_has_no_known_end_when_it_takes_longer_than_others(ledger):
    insert(ledger, 3)
    worker, leases = begin(ledger, 3)
    finished = [Finished(lease.seq, lease.attempt, Outcome.SUCCEEDED, T0, 100.0, result="1") for lease in leases[:2]]
    leasing.finish(ledger, worker, finished, policy=POLICY, now=T0 + 100)
    assert gather(ledger, T0 + 150).eta_seconds == pytest.approx(50, abs=1)
    assert gather(ledger, T0 + 300).eta_seconds is None


def test_a_job_that_is_continued_has_the_pace_of_today(ledger):
    """Yesterday's pace and the night do not count."""
    insert(ledger, 1000)
    worker, leases = begin(ledger, 100)
    finished = [Finished(lease.seq, lease.attempt, Outcome.SUCCEEDED, T0, 0.5, result="1") for lease in leases]
    leasing.finish(ledger, worker, finished, policy=POLICY, now=T0 + 1)
    leasing.end_worker(ledger, worker, now=T0 + 2)
    assert gather(ledger, T0 + 80_000).eta_seconds is None
    worker, leases = begin(ledger, 20, now=T0 + 80_000, process="elsewhere|2|2")
    finished = [Finished(lease.seq, lease.attempt, Outcome.SUCCEEDED, T0, 0.5, result="1") for lease in leases]
    leasing.finish(ledger, worker, finished, policy=POLICY, now=T0 + 80_001)
    status = gather(ledger, T0 + 80_002.5)
    assert status.rate_per_second == pytest.approx(20 / 2)
    assert status.eta_seconds == pytest.approx(880 / 10)


@pytest.mark.parametrize(
    ("outcome", "errors", "causes"),
    [
        (Outcome.EXCEPTION, ["ValueError: row 1", "ValueError: row 17", "KeyError: 'a'", "KeyError: 'b'"], [2, 2]),
        (Outcome.EXCEPTION, ["E: at 0x7f12", "E: at 0x7f99", "E: 1.5", "E: -27", "F: 1"], [2, 2, 1]),
        (Outcome.EXIT, ["Exit: code 1", "Exit: code 2", "Exit: code 2"], [2, 1]),
        (Outcome.TIMEOUT, ["Timeout: after 1 s", "Timeout: after 2 s"], [2]),
        (Outcome.MEMORY, ["Memory: 1.25 GiB", "Memory: 2 GiB"], [2]),
    ],
)
def test_errors_that_differ_only_in_figures_or_names_have_one_cause(ledger, outcome, errors, causes):
    insert(ledger, len(errors))
    worker, leases = begin(ledger, len(errors))
    for lease, error in zip(leases, errors, strict=True):
        finished = [Finished(lease.seq, lease.attempt, outcome, T0, 1.0, error=f"{error}\nTraceback")]
        leasing.finish(ledger, worker, finished, policy=RetryPolicy(retries={}), now=T0 + 1)
    status = gather(ledger, T0 + 2)
    assert [cause.n for cause in status.causes] == causes
    assert {cause.reason for cause in status.causes} <= set(errors)
