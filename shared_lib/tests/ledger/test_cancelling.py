"""Cancelled tasks: what was pending is killed at once, what runs is killed by its worker, and what succeeds before that stays so."""

import itertools

import pytest
from taskfleet import Job
from taskfleet.ledger import cancelling, checks, control, leasing, queries, recording, repair, sending
from taskfleet.ledger.cancelling import CancelReport, Selection
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.tasks import NO_RETRY, Outcome, RetryPolicy, State

ALL = Selection(states=cancelling.OPEN)
RETRIES = RetryPolicy(retries=dict.fromkeys((Outcome.EXCEPTION, Outcome.LOST, Outcome.KILLED), 9))


@pytest.fixture(autouse=True)
def _no_problems(job):
    yield
    assert not [one for one in checks.check(job.database) if not one.is_ok]


@pytest.fixture(params=[1, 3, 50_000])
def steps(request, monkeypatch):
    """Sets how many tasks are changed per transaction."""
    monkeypatch.setattr(cancelling, "STEP", request.param)


def ids(job, *seqs):
    return [task_id for (task_id,) in job.database.rows("SELECT id FROM task ORDER BY seq")][min(seqs) - 1 : max(seqs)]


def cancel(job, *seqs):
    names = dict(job.database.rows("SELECT seq, id FROM task"))
    return cancelling.cancel(job.database, Selection(ids=[names[seq] for seq in seqs]))


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("seqs", [s for n in range(1, 5) for s in itertools.combinations(range(1, 6), n)])
def test_any_tasks_of_a_segment(job, seqs):
    job.insert(5)
    worker_id = job.worker()
    leased = [one.seq for one in job.lease(worker_id, 1)]
    report = cancel(job, *seqs)
    assert report == CancelReport(pending=len(set(seqs) - {1}), running=int(1 in seqs))
    leased += [one.seq for one in job.lease(worker_id, 9)]
    assert leased == [seq for seq in range(1, 6) if seq == 1 or seq not in seqs]
    assert control.cancelled_of(job.database, worker_id) == [(1, 1)] * (1 in seqs)


@pytest.mark.usefixtures("steps")
def test_all_and_back(job, done):
    job.insert(9)
    worker_id = job.worker()
    ended, running, *_ = job.lease(worker_id, 2)
    job.finish(worker_id, done(ended))
    assert cancelling.count(job.database, ALL) == CancelReport(pending=7, running=1, ended=1)
    assert cancelling.cancel(job.database, ALL) == CancelReport(pending=7, running=1, ended=1)
    assert job.lease(worker_id, 9) == []
    assert cancelling.cancel(job.database, ALL) == CancelReport(running=1, ended=8)
    assert repair.retry(job.database, killed=True) == 8
    assert control.cancelled_of(job.database, worker_id) == []
    job.finish(worker_id, done(running))
    assert len(job.lease(worker_id, 9)) == 7


def test_unknown_ids_are_counted(job):
    job.insert(2)
    name = ids(job, 1)[0]
    assert cancelling.cancel(job.database, Selection(ids=[name, name, "?", "??"])) == CancelReport(pending=1, unknown=2)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCEEDED, State.SUCCEEDED),
        (Outcome.KILLED, State.KILLED),
        (Outcome.EXCEPTION, State.KILLED),  # it would be retried
        (Outcome.INTERRUPTED, State.KILLED),
        (Outcome.LOST, State.KILLED),
        (Outcome.TIMEOUT, State.FAILED),  # it would not
    ],
)
def test_what_a_cancelled_task_ends_with(job, done, outcome, state):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    cancel(job, 1)
    job.finish(worker_id, done(lease, outcome), policy=RETRIES)
    assert job.counts() == {state: 1}
    assert job.attempts(1) == [(1, outcome)]
    assert control.cancelled(job.database) == []


@pytest.mark.parametrize("how", ["given back", "worker ended", "worker dead", "released"])
def test_a_cancelled_task_that_comes_back_is_killed(job, how):
    job.insert(2)
    worker_id = job.worker()
    leases = job.lease(worker_id, 2)
    cancel(job, 2)
    if how == "given back":
        leasing.give_back(job.database, worker_id, leases)
    elif how == "worker ended":
        leasing.end_worker(job.database, worker_id, now=1.0)
    elif how == "worker dead":
        leasing.reap(job.database, policy=RETRIES, now=1e9)
    else:
        leasing.release(job.database, now=1.0)
    assert job.states() == {1: State.PENDING, 2: State.KILLED}
    assert control.cancelled(job.database) == []
    assert repair.retry(job.database, killed=True) == 1
    assert job.counts() == {State.PENDING: 2}


def test_a_task_that_is_killed_after_the_user_has_taken_it_back_runs_again(job, done):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    cancel(job, 1)
    assert repair.retry(job.database, ids=[lease.task_id]) == 1
    job.finish(worker_id, done(lease, Outcome.KILLED), policy=RetryPolicy(retries={}))
    assert [one.attempt for one in job.lease(worker_id)] == [2]


def test_each_cancellation_of_a_running_task_raises_the_version(job):
    job.insert(3)
    job.lease(job.worker(), 2)
    versions = [control.version(job.database)]
    for seqs in ((3,), (1,), (1,), (2,)):
        cancel(job, *seqs)
        versions.append(control.version(job.database))
    assert versions == [0, 0, 1, 1, 2]


def test_a_paused_job_leases_nothing_and_keeps_its_workers_leases(job):
    job.insert(3)
    worker_id = job.worker(lease_seconds=10.0)
    job.lease(worker_id, 1)
    assert control.set_paused(job.database, True)
    assert not control.set_paused(job.database, True)
    assert job.lease(worker_id, 9, now=9.0, lease_seconds=10.0) == []
    assert leasing.reap(job.database, policy=RETRIES, now=18.0) == 0
    assert control.set_paused(job.database, False)
    assert len(job.lease(worker_id, 9, now=18.0)) == 2


def _told(job, number, **what):
    worker = Worker(source="worker|w", hostname="h", pid=1, slots=1, started_at=0.0)
    token = recording.token(job.database)
    batch = Batch(job_id="job", ledger=token, number=number, reported_at=5.0, worker=worker, **what)
    return recording.record(job.database, batch, now=5.0)


@pytest.fixture
def remote_job(job):
    """Six tasks: the first three were sent to a service, and the first of them runs there."""
    job.database.execute("UPDATE job SET queue_url = 'sqs://one'")
    job.insert(3)
    sent = []
    sending.send_all(job.database, sent.extend)
    job.insert(['{"y":1}', '{"y":2}', '{"y":3}'])
    _told(job, 1, leased=[(1, 1)])
    assert [one.seq for one in sent] == [1, 2, 3]
    return job


@pytest.mark.usefixtures("steps")
def test_what_was_sent_to_a_service_is_noted_and_the_rest_is_not_sent(remote_job):
    assert cancelling.cancel(remote_job.database, ALL) == CancelReport(pending=5, running=1)
    assert control.cancelled(remote_job.database) == [1, 2, 3]
    sent = []
    sending.send_all(remote_job.database, sent.extend)
    assert sent == []


@pytest.mark.parametrize(
    ("outcome", "retry_seconds", "state", "noted"),
    [
        (Outcome.KILLED, None, State.KILLED, [2]),
        (Outcome.SUCCEEDED, None, State.SUCCEEDED, [2]),
        (Outcome.EXCEPTION, None, State.FAILED, [2]),
        (Outcome.EXCEPTION, 1.0, State.KILLED, [1, 2]),  # the message of its next attempt was sent
        (Outcome.INTERRUPTED, None, State.KILLED, [1, 2]),
    ],
)
def test_events_of_cancelled_tasks(remote_job, done, outcome, retry_seconds, state, noted):
    job = remote_job
    cancel(job, 1, 2)
    finished = done(queries_lease(job, 1), outcome)
    _told(job, 2, ended=[EndedAttempt(finished, retry_seconds)])
    assert job.states()[1] is state
    assert control.cancelled(job.database) == noted
    _told(job, 3, ended=[EndedAttempt(done(queries_lease(job, 2), Outcome.KILLED), None)])
    assert job.states()[2] is State.KILLED
    assert control.cancelled(job.database) == [seq for seq in noted if seq != 2]


def test_a_kill_that_came_too_late_has_the_task_sent_again(remote_job, done):
    job = remote_job
    cancel(job, 1, 2)
    assert repair.retry(job.database, killed=True) == 2
    version = control.version(job.database)
    sent = []
    sending.send_all(job.database, sent.extend)
    assert [one.seq for one in sent] == [2, 4, 5, 6]
    ended = [EndedAttempt(done(queries_lease(job, seq), Outcome.KILLED), None) for seq in (1, 2)]
    _told(job, 2, ended=ended)
    assert job.counts() == {State.PENDING: 6}
    sending.send_all(job.database, sent.extend)
    assert [(one.seq, one.attempt) for one in sent[4:]] == [(1, 1), (2, 1)]
    assert control.version(job.database) == version


def test_a_late_success_stands(remote_job, done):
    job = remote_job
    cancel(job, 1)
    _told(job, 2, ended=[EndedAttempt(done(queries_lease(job, 1), Outcome.KILLED), None)])
    _told(job, 3, ended=[EndedAttempt(done(queries_lease(job, 1)), None)])
    assert job.states()[1] is State.SUCCEEDED
    assert [outcome for _, outcome in job.attempts(1)] == [Outcome.KILLED, Outcome.SUCCEEDED]


def test_a_purge_forgets_the_messages(remote_job):
    cancel(remote_job, 1, 2, 3)
    repair.purge(remote_job.database)
    assert control.cancelled(remote_job.database) == [1]


def queries_lease(job, seq):
    task_id = ids(job, seq)[0]
    return leasing.Lease(seq=seq, attempt=1, task_id=task_id, data="{}")


def test_the_task_is_shown_with_its_outcome(job, done):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    cancel(job, 1)
    job.finish(worker_id, done(lease, Outcome.KILLED))
    task = queries.find_task(job.database, lease.task_id)
    assert (task.state, task.kind, task.attempts[0].outcome) == (State.KILLED, None, Outcome.KILLED)


def test_a_job_is_cancelled_paused_and_resumed_from_python(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "task.env").write_text("JOB_ID=job\n")
    (tmp_path / "tasks.json").write_text('[{"n": 1}, {"n": 2}, {"n": 3}]')
    (tmp_path / "task.py").write_text("def run_task(n): return n\n")
    one = Job.open(project=tmp_path, task_table=str(tmp_path / "tasks.json"))
    one.insert()
    assert (one.pause(), one.pause(), one.status().is_paused) == (True, False, True)
    assert (one.resume(), one.resume(), one.status().is_paused) == (True, False, False)
    assert one.cancel(one.tasks()[0].task_id) == CancelReport(pending=1)
    assert one.cancel(state="pending") == CancelReport(pending=2)
    assert one.cancel(all_tasks=True) == CancelReport(ended=3)
    assert one.retry(killed=True) == 3


@pytest.mark.parametrize("route", ["leased", "told"])
def test_a_task_that_its_worker_killed_for_good_is_killed_though_nobody_cancelled_it(job, done, route):
    """As at the time limit of a machine, see ON_TIME_LIMIT."""
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id, 1)
    killed = done(lease, Outcome.KILLED)._replace(retry_delay_seconds=NO_RETRY)
    if route == "leased":
        job.finish(worker_id, killed, policy=RETRIES)
    else:
        _told(job, 1, ended=[EndedAttempt(killed, None)])
    assert job.states()[1] is State.KILLED
    assert repair.retry(job.database, killed=True) == 1
    assert job.states()[1] is State.PENDING
