"""Leases, and what becomes of the tasks under them."""

import itertools
import signal
from dataclasses import replace

import pytest
from taskfleet.ledger import counters, leasing, queries, repair
from taskfleet.ledger.database import open_ledger
from taskfleet.processes.identity import identity
from taskfleet.queues.embedded import REAP_SECONDS, EmbeddedQueue, retry_policy
from taskfleet.settings import Settings
from taskfleet.tasks import NO_RETRY, Finished, Outcome, RetryPolicy, State

UNSUCCESSFUL = [outcome for outcome in Outcome if outcome not in (Outcome.SUCCEEDED, Outcome.UPSTREAM, Outcome.KILLED)]


def seqs(leases):
    return [lease.seq for lease in leases]


def reap(job, policy, now=0.0):
    return leasing.reap(job.database, policy=policy, now=now)


def due(job, seq):
    return job.database.value("SELECT available_at FROM state WHERE seq = ?", (seq,))


# --- which tasks, in what order ---


def test_tasks_are_leased_in_the_order_of_the_table(job):
    job.insert(["c", "a", "b"])
    job.insert(["e", "d"])
    one, two = job.worker(), job.worker()
    assert seqs(job.lease(one, 2)) == [1, 2]
    assert seqs(job.lease(two, 2)) == [3, 4]
    assert [(lease.attempt, lease.task_id, lease.data) for lease in job.lease(one, 9)] == [(1, "id of d", "d")]
    assert job.lease(two, 9) == []
    assert job.counts() == {State.RUNNING: 5}


@pytest.mark.parametrize("most", [0, 1, 4, 5])
def test_at_most_so_many_are_leased(job, most):
    job.insert(5)
    assert len(job.lease(job.worker(), most)) == most
    assert job.counts() == {s: n for s, n in {State.PENDING: 5 - most, State.RUNNING: most}.items() if n}


def test_retries_that_are_due_come_before_new_tasks(job, done):
    job.insert(4)
    worker_id = job.worker()
    first, second = job.lease(worker_id, 2)
    job.finish(worker_id, done(first, Outcome.EXCEPTION), done(second, Outcome.RETRY, retry_delay_seconds=5.0), now=0.0)
    assert seqs(job.lease(worker_id, 1, now=4.9)) == [3]
    again = job.lease(worker_id, 9, now=10.0)
    assert (again[-1].seq, again[-1].attempt) == (4, 1)
    assert sorted((lease.seq, lease.attempt) for lease in again[:-1]) == [(1, 2), (2, 2)]


def test_of_two_retries_the_one_due_longer_comes_first(job, done):
    job.insert(2)
    worker_id = job.worker()
    first, second = job.lease(worker_id, 2)
    job.finish(
        worker_id,
        done(first, Outcome.RETRY, retry_delay_seconds=5.0),
        done(second, Outcome.RETRY, retry_delay_seconds=4.0),
    )
    assert job.lease(worker_id, 1, now=3.99) == []
    assert seqs(job.lease(worker_id, 1, now=9.0)) == [2]
    assert seqs(job.lease(worker_id, 1, now=9.0)) == [1]


@pytest.mark.parametrize("calls", list(itertools.permutations([(0, 2), (3, 2), (5, 3), (9, 1)])))
def test_a_worker_that_skips_leaves_the_first_tasks_to_others(job, calls):
    job.insert(5)
    job.insert(["f", "g", "h", "i", "j"])
    worker_id = job.worker()
    pending = list(range(1, 11))
    for skip, most in calls:
        expected = [seq for seq in pending if seq > skip][:most]
        assert seqs(job.lease(worker_id, most, skip=skip)) == expected
        pending = [seq for seq in pending if seq not in expected]
        assert leasing.has_leasable(job.database, skip) == any(seq > skip for seq in pending)
        job.check()
    assert seqs(job.lease(worker_id, 99)) == pending


def test_a_segment_that_is_used_up_is_gone(job):
    """So that leasing never has to pass over those that were used up, however many tables were inserted."""
    for n in range(4):
        job.insert([f"{n}.1", f"{n}.2"])
    worker_id = job.worker()
    job.lease(worker_id, 3, skip=1)
    assert job.database.rows("SELECT first_seq, next_seq, last_seq FROM segment") == [(1, 1, 1), (5, 5, 6), (7, 7, 8)]
    job.lease(worker_id, 2)
    assert job.database.rows("SELECT first_seq, next_seq, last_seq FROM segment") == [(5, 6, 6), (7, 7, 8)]
    repair.purge(job.database)
    assert job.database.rows("SELECT * FROM segment") == []
    assert len(job.states()) == 8
    assert job.insert(["4.1"]).added == 1
    assert seqs(job.lease(worker_id, 9)) == [9]


def test_two_workers_one_of_which_skips_share_all_tasks(job):
    job.insert(10)
    one, two = job.worker(), job.worker()
    assert seqs(job.lease(two, 2, skip=6)) == [7, 8]
    assert seqs(job.lease(one, 3)) == [1, 2, 3]
    assert seqs(job.lease(two, 9, skip=6)) == [9, 10]
    assert job.lease(two, 9, skip=6) == []
    assert seqs(job.lease(one, 9)) == [4, 5, 6]


def test_a_worker_that_skips_leaves_retries_too(job, done):
    job.insert(2)
    worker_id = job.worker()
    leases = job.lease(worker_id, 2)
    job.finish(worker_id, *[done(lease, Outcome.EXCEPTION) for lease in leases])
    assert seqs(job.lease(worker_id, 9, skip=1, now=99.0)) == [2]
    assert not leasing.has_leasable(job.database, 1)
    assert leasing.has_leasable(job.database, 0)


def test_skipping_everything_leases_nothing(job):
    job.insert(3)
    assert job.lease(job.worker(), 9, skip=3) == []
    assert not leasing.has_leasable(job.database, 3)
    assert seqs(job.lease(job.worker(), 9)) == [1, 2, 3]


def test_tasks_that_were_there_already_leave_no_hole_to_fall_into(job):
    job.insert(["b", "c", "d", "f"])
    job.insert(["a", "b", "c", "d", "e", "f"])
    worker_id = job.worker()
    assert [lease.data for lease in job.lease(worker_id, 5)] == ["b", "c", "d", "f", "a"]
    assert leasing.has_leasable(job.database, 0)
    assert [lease.data for lease in job.lease(worker_id, 1)] == ["e"]
    assert job.lease(worker_id, 1) == []
    assert not leasing.has_leasable(job.database, 0)


def test_a_large_hole_is_crossed_in_one_step(job):
    job.insert(5000)
    job.lease(job.worker(), 5000)
    job.insert([*[f'{{"x": {n}}}' for n in range(5000)], "new"])
    worker_id, statements = job.worker(), []
    job.database._connection.set_trace_callback(statements.append)
    assert [lease.data for lease in job.lease(worker_id, 1)] == ["new"]
    assert len(statements) < 30


# --- first success wins ---


def test_a_success_keeps_everything_of_its_attempt(job, done):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    report = job.finish(
        worker_id,
        done(lease, started_at=5.0, elapsed_seconds=2.5, result="[1]", output="words", peak_memory_mib=7.5),
        now=8.0,
    )
    assert report == leasing.FinishReport()
    record = queries.find_task(job.database, lease.task_id)
    assert (record.state, record.kind, record.hostname) == (State.SUCCEEDED, None, None)
    [attempt] = record.attempts
    assert attempt == queries.AttemptRecord(
        number=1,
        outcome=Outcome.SUCCEEDED,
        worker_id=worker_id,
        hostname="here",
        started_at=5.0,
        elapsed_seconds=2.5,
        result="[1]",
        error=None,
        output="words",
        exit_code=None,
        peak_memory_mib=7.5,
    )


@pytest.mark.parametrize("outcome", Outcome)
def test_a_late_finisher_changes_nothing_and_counts_as_a_duplicate(job, done, policy, outcome):
    job.insert(1)
    late, timely = job.worker(lease_seconds=30.0), job.worker(lease_seconds=1000.0)
    [old] = job.lease(late)
    assert reap(job, policy, now=31.0) == 1
    [new] = job.lease(timely, now=31.0)
    assert (new.seq, new.attempt) == (old.seq, 2)
    for _ in range(2):
        before = job.dump("tally")
        assert job.finish(late, done(old, outcome)).duplicates == {(1, 1)}
        assert job.dump("tally") == before
        assert job.finish(timely, done(new)).duplicates in (set(), {(1, 2)})
    assert job.attempts(1) == [(1, Outcome.LOST), (2, Outcome.SUCCEEDED)]
    assert counters.tallies(job.database)["duplicates"] == 3


def test_a_finisher_whose_lease_ran_out_unnoticed_still_counts(job, done, policy):
    job.insert(1)
    worker_id = job.worker(lease_seconds=1.0)
    [lease] = job.lease(worker_id, lease_seconds=1.0)
    assert job.finish(worker_id, done(lease), now=99.0) == leasing.FinishReport()
    assert reap(job, policy, now=100.0) == 0
    assert job.counts() == {State.SUCCEEDED: 1}


@pytest.mark.parametrize(
    "wrong", [{"attempt": 2}, {"attempt": 0}, {"seq": 2}], ids=["a later attempt", "no attempt", "another task"]
)
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.INTERRUPTED])
def test_an_attempt_is_fenced_by_its_number_and_its_task(job, done, wrong, outcome):
    job.insert(2)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    before = job.dump("tally")
    assert len(job.finish(worker_id, done(lease, outcome)._replace(**wrong)).duplicates) == 1
    assert job.dump("tally") == before


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.INTERRUPTED])
def test_an_attempt_is_fenced_by_its_worker(job, done, outcome):
    job.insert(1)
    [lease] = job.lease(job.worker())
    before = job.dump("tally", "worker")
    assert job.finish(job.worker(), done(lease, outcome)).duplicates == {(1, 1)}
    assert job.dump("tally", "worker") == before


def test_finishing_the_same_batch_again_changes_nothing(job, done):
    job.insert(5)
    worker_id = job.worker()
    leases = job.lease(worker_id, 5)
    outcomes = [Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.MEMORY, Outcome.INTERRUPTED, Outcome.SUCCEEDED]
    batch = [done(lease, outcome) for lease, outcome in zip(leases, outcomes, strict=True)]
    job.finish(worker_id, *batch, now=1.0)
    before = job.dump("tally")
    again = job.finish(worker_id, *batch, now=2.0)
    assert again == leasing.FinishReport(duplicates={(seq, 1) for seq in (1, 2, 3, 4, 5)})
    assert job.dump("tally") == before
    assert counters.tallies(job.database) == {"inserted": 5, "duplicates": 5, "retries": 1, "lost": 0}


def test_one_task_twice_in_a_batch_succeeds_once(job, done):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    job.finish(worker_id, done(lease, result='"first"'), done(lease, result='"second"'))
    assert job.attempts(1) == [(1, Outcome.SUCCEEDED)]
    assert queries.find_task(job.database, lease.task_id).attempts[0].result == '"first"'
    assert counters.durations(job.database).n == 1


def test_a_mixed_batch_is_recorded_each_to_its_own(job, done):
    job.insert(8)
    worker_id = job.worker()
    leases = job.lease(worker_id, 8)
    outcomes = [*UNSUCCESSFUL, Outcome.SUCCEEDED]
    stale = Finished(8, 7, int(Outcome.SUCCEEDED), 0.0, 1.0)
    report = job.finish(worker_id, stale, *[done(*pair) for pair in zip(leases, outcomes, strict=True)], now=100.0)
    by_outcome = dict(zip(outcomes, range(1, 9), strict=True))
    assert report.duplicates == {(8, 7)}
    assert report.retry_delay_seconds == {
        (by_outcome[Outcome.EXCEPTION], 1): 10.0,
        (by_outcome[Outcome.TIMEOUT], 1): 10.0,
        (by_outcome[Outcome.EXIT], 1): 10.0,
        (by_outcome[Outcome.LOST], 1): 0.0,
        (by_outcome[Outcome.RETRY], 1): 10.0,
    }
    assert job.counts() == {State.PENDING: 6, State.FAILED: 1, State.SUCCEEDED: 1}
    assert job.states()[by_outcome[Outcome.MEMORY]] is State.FAILED
    assert [job.attempts(seq) for seq in range(1, 9)] == [[(1, outcome)] for outcome in outcomes]
    assert job.database.rows("SELECT * FROM throughput") == [(100, 2)]


def test_an_empty_batch_changes_nothing(job):
    job.insert(1)
    worker_id = job.worker()
    before = job.dump()
    assert job.finish(worker_id) == leasing.FinishReport()
    leasing.give_back(job.database, worker_id, [])
    assert job.dump() == before


# --- giving back ---


def test_giving_back_leaves_no_trace(job, done):
    job.insert(3)
    worker_id = job.worker()
    leases = job.lease(worker_id, 2)
    leasing.give_back(job.database, worker_id, leases)
    assert job.counts() == {State.PENDING: 3}
    assert job.database.value("SELECT count(*) FROM attempt") == 0
    assert job.lease(worker_id, 2) == leases
    job.finish(worker_id, done(leases[0], Outcome.EXCEPTION))
    [again] = [lease for lease in job.lease(worker_id, 9, now=99.0) if lease.seq == 1]
    leasing.give_back(job.database, worker_id, [again])
    assert job.attempts(1) == [(1, Outcome.EXCEPTION)]
    assert again.attempt == 2
    assert job.lease(worker_id, 1) == [again]


def test_only_the_holder_can_give_back(job, policy):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    leasing.give_back(job.database, job.worker(), [lease])
    assert job.counts() == {State.RUNNING: 1}
    reap(job, policy, now=31.0)
    other = job.worker(now=31.0)
    job.lease(other, now=31.0)
    leasing.give_back(job.database, worker_id, [lease])
    assert job.counts() == {State.RUNNING: 1}
    assert job.attempts(1) == [(1, Outcome.LOST)]


# --- the end of leases ---


def test_an_expired_lease_goes_to_another_worker(job, policy):
    job.insert(2)
    worker_id = job.worker(lease_seconds=30.0)
    job.lease(worker_id, 2, now=5.0, lease_seconds=30.0)
    assert reap(job, policy, now=35.0) == 0
    assert reap(job, policy, now=35.01) == 2
    assert job.attempts(1) == [(1, Outcome.LOST)]
    assert [lease[:2] for lease in job.lease(job.worker(now=35.0), 9, now=35.01)] == [(1, 2), (2, 2)]
    assert counters.tallies(job.database) == {"inserted": 2, "duplicates": 0, "retries": 2, "lost": 2}
    [(ended_at, reason)] = job.database.rows(
        "SELECT ended_at, end_reason FROM worker WHERE worker_id = ?", (worker_id,)
    )
    assert (ended_at, reason) == (35.01, "lost")
    assert reap(job, policy, now=36.0) == 0


def test_renewing_keeps_the_lease(job, policy):
    job.insert(1)
    worker_id = job.worker()
    job.lease(worker_id)
    for now in (29.0, 58.0, 87.0):
        leasing.renew(job.database, worker_id, lease_seconds=30.0, now=now)
        assert reap(job, policy, now=now + 30.0) == 0
    assert reap(job, policy, now=117.5) == 1


def test_leasing_renews_too(job, policy):
    job.insert(1)
    worker_id = job.worker()
    job.lease(worker_id)
    assert job.lease(worker_id, now=29.0) == []
    assert reap(job, policy, now=59.0) == 0


def test_a_dead_process_loses_its_tasks_at_once(job, fork, die, policy):
    job.insert(3)
    job.close()

    def lease_and_die():
        database = open_ledger(job.path, job_id="job")
        worker_id = leasing.register(
            database, hostname="here", process=identity(), pid=1, slots=1, lease_seconds=1000.0, now=0.0
        )
        leasing.lease(database, worker_id, 2, skip=0, lease_seconds=1000.0, now=0.0)
        die()

    assert fork(lambda _tell: lease_and_die()).wait() == -signal.SIGKILL
    assert job.counts() == {State.PENDING: 1, State.RUNNING: 2}
    assert reap(job, policy, now=0.0) == 2
    assert [lease[:2] for lease in job.lease(job.worker(), 9)] == [(1, 2), (2, 2), (3, 1)]


def test_a_live_process_keeps_its_tasks(job, fork, live_on, policy):
    job.insert(1)
    job.close()

    def lease_and_live(tell):
        database = open_ledger(job.path, job_id="job")
        queue = EmbeddedQueue(database, Settings(), slots=1, now=0.0)
        assert len(queue.lease(1, 0.0)) == 1
        tell()
        live_on()

    child = fork(lease_and_live)
    assert child.told()
    assert reap(job, policy, now=30.0) == 0
    child.kill()
    assert reap(job, policy, now=30.0) == 1


def test_a_worker_elsewhere_is_given_its_lease_time(job, policy):
    job.insert(1)
    worker_id = leasing.register(
        job.database, hostname="far", process="elsewhere|1|1", pid=1, slots=1, lease_seconds=30.0, now=0.0
    )
    job.lease(worker_id)
    assert reap(job, policy, now=30.0) == 0
    assert reap(job, policy, now=30.1) == 1


@pytest.mark.parametrize("how", ["expired", "released", "stopped"])
def test_a_worker_without_lease_is_told_so(job, policy, how):
    job.insert(2)
    worker_id = job.worker()
    job.lease(worker_id)
    if how == "expired":
        reap(job, policy, now=31.0)
    elif how == "released":
        leasing.release(job.database, now=1.0)
    else:
        leasing.end_worker(job.database, worker_id, now=1.0)
    before = job.dump()
    with pytest.raises(leasing.LeaseLostError):
        job.lease(worker_id, 9, now=32.0)
    with pytest.raises(leasing.LeaseLostError):
        leasing.renew(job.database, worker_id, lease_seconds=30.0, now=32.0)
    assert job.dump() == before


def test_an_ended_workers_tasks_go_back_without_costing_a_try(job, done):
    job.insert(2)
    worker_id, other = job.worker(), job.worker()
    [lease, kept] = [*job.lease(worker_id), *job.lease(other)]
    leasing.end_worker(job.database, worker_id, now=7.0)
    assert job.states() == {1: State.PENDING, 2: State.RUNNING}
    assert job.attempts(1) == []
    rows = "SELECT ended_at, end_reason FROM worker ORDER BY worker_id"
    assert job.database.rows(rows) == [(7.0, "stopped"), (None, None)]
    assert job.finish(worker_id, done(lease)).duplicates == {(1, 1)}
    assert job.finish(other, done(kept)).duplicates == set()
    leasing.end_worker(job.database, worker_id, now=9.0)
    assert job.database.rows(rows)[0] == (7.0, "stopped")


def test_a_worker_that_was_lost_does_not_become_stopped(job, policy):
    worker_id = job.worker()
    reap(job, policy, now=31.0)
    leasing.end_worker(job.database, worker_id, now=32.0)
    assert job.database.row("SELECT ended_at, end_reason FROM worker") == (31.0, "lost")


# --- tries ---


@pytest.mark.parametrize(
    ("outcome", "tries"),
    [
        (Outcome.EXCEPTION, 3),
        (Outcome.TIMEOUT, 2),
        (Outcome.EXIT, 2),
        (Outcome.MEMORY, 1),
        (Outcome.LOST, 3),
        (Outcome.RETRY, 4),
    ],
)
def test_each_kind_of_failure_has_its_own_tries(job, outcome, tries):
    job.insert(1)
    now = 0.0
    for number in range(1, tries + 1):
        report = job.try_once(outcome, now=now)
        assert set(report.retry_delay_seconds) == ({(1, number)} if number < tries else set())
        now += 1000.0
    assert job.states() == {1: State.FAILED}
    assert job.attempts(1) == [(number, outcome) for number in range(1, tries + 1)]
    kind = Outcome.EXCEPTION if outcome is Outcome.RETRY else outcome
    assert {k: n for k, n in counters.by_failure_kind(job.database).items() if n} == {kind: 1}
    assert counters.tallies(job.database)["retries"] == tries - 1
    assert job.lease(job.worker(now=now), 9, now=now) == []


def test_failures_of_different_kinds_do_not_add_up(job):
    job.insert(1)
    now = 0.0
    for outcome in (Outcome.EXCEPTION, Outcome.TIMEOUT, Outcome.EXIT, Outcome.EXCEPTION, Outcome.LOST, Outcome.RETRY):
        assert job.try_once(outcome, now=now).retry_delay_seconds
        now += 1000.0
    assert not job.try_once(Outcome.TIMEOUT, now=now).retry_delay_seconds
    assert counters.by_failure_kind(job.database)[Outcome.TIMEOUT] == 1


def test_being_lost_too_often_is_a_failure(job, policy):
    job.insert(1)
    for number in range(1, 5):
        assert job.states() in ({}, {1: State.PENDING})
        job.lease(job.worker(now=number * 100.0), now=number * 100.0)
        assert reap(job, policy, now=number * 100.0 + 50.0) == 1
    assert job.states() == {1: State.FAILED}
    assert counters.by_failure_kind(job.database)[Outcome.LOST] == 1
    assert counters.tallies(job.database)["lost"] == 4
    assert job.database.rows("SELECT * FROM throughput") == [(450, 1)]


def succeeded(lease):
    return Finished(lease.seq, lease.attempt, int(Outcome.SUCCEEDED), 0.0, 1.0, "null")


def test_where_no_loss_is_allowed_the_first_is_the_end(job):
    job.insert(1)
    job.lease(job.worker(), 1)
    assert reap(job, RetryPolicy(retries={}), now=100.0) == 1
    assert job.states() == {1: State.FAILED}


def test_a_task_that_kills_its_workers_takes_no_other_along(job):
    policy = RetryPolicy(retries={Outcome.LOST: 1})
    job.insert(500)
    now = 0.0
    for _ in range(3):  # each has what comes first, and dies with task 7 running
        now += 100.0
        worker_id = job.worker(now=now)
        held = job.lease(worker_id, 100, now=now)
        while 7 not in {lease.seq for lease in held}:
            job.finish(worker_id, *map(succeeded, held), now=now)
            held = job.lease(worker_id, 100, now=now)
        now += 100.0
        assert reap(job, policy, now=now) == len(held)
    worker_id = job.worker(now=now)
    while held := job.lease(worker_id, 100, now=now):
        job.finish(worker_id, *map(succeeded, held), now=now)
    assert job.counts() == {State.SUCCEEDED: 499, State.FAILED: 1}
    assert job.states()[7] is State.FAILED


def test_tasks_that_were_lost_twice_are_held_one_at_a_time(job):
    policy = RetryPolicy(retries={Outcome.LOST: 5})
    job.insert(12)
    for now in (0.0, 200.0):
        assert len(job.lease(job.worker(now=now), 5, now=now)) == 5
        reap(job, policy, now=now + 100.0)
    first, second = job.worker(now=300.0), job.worker(now=300.0)
    assert [lease.seq for lease in job.lease(first, 9, now=300.0)] == [1, *range(6, 13)]
    assert job.lease(first, 9, now=300.0) == []
    [suspect] = job.lease(second, 9, now=300.0)
    assert suspect[:2] == (2, 3)
    job.finish(second, succeeded(suspect), now=300.0)
    assert [lease.seq for lease in job.lease(second, 9, now=300.0)] == [3]


def test_back_off_doubles_up_to_its_cap(job):
    policy = RetryPolicy(retries={Outcome.EXCEPTION: 9}, delay_seconds=10.0, max_delay_seconds=65.0)
    job.insert(1)
    now, delays = 0.0, []
    for _ in range(6):
        worker_id = job.worker(now=now)
        [lease] = job.lease(worker_id, now=now)
        ended = Finished(1, lease.attempt, int(Outcome.EXCEPTION), now, 1.0)
        [delay] = job.finish(worker_id, ended, policy=policy, now=now).retry_delay_seconds.values()
        assert due(job, 1) == now + delay
        assert job.lease(worker_id, now=now + delay - 0.01) == []
        delays.append(delay)
        now += delay
    assert delays == [10.0, 20.0, 40.0, 65.0, 65.0, 65.0]


def test_each_kind_may_have_its_own_back_off():
    settings = Settings(
        retry_delay_seconds=2.0, retry_delays=(("exit", 10.0, 25.0), ("timeout", 60.0, None), ("lost", 3.0, None))
    )
    policy = replace(retry_policy(settings), retries=dict.fromkeys(Outcome, 9))
    kinds = (Outcome.EXCEPTION, Outcome.EXIT, Outcome.TIMEOUT, Outcome.LOST)
    assert [[policy.delay_before_retry(kind, n) for n in (0, 1, 2, 8)] for kind in kinds] == [
        [2.0, 4.0, 8.0, 300.0],
        [10.0, 20.0, 25.0, 25.0],
        [60.0, 120.0, 240.0, 300.0],
        [3.0, 6.0, 12.0, 300.0],
    ]


@pytest.mark.parametrize(
    ("outcome", "attempt", "asked", "earlier", "has_begun", "delay"),
    [
        (Outcome.SUCCEEDED, 1, None, 0, True, None),
        (Outcome.EXCEPTION, 1, None, 0, True, 10.0),
        (Outcome.EXCEPTION, 2, None, 1, True, 20.0),
        (Outcome.EXCEPTION, 3, None, 2, True, None),
        (Outcome.EXCEPTION, 1, NO_RETRY, 0, True, None),
        (Outcome.RETRY, 1, 3.5, 0, True, 3.5),
        (Outcome.RETRY, 4, 3.5, 3, True, None),
        (Outcome.EXCEPTION, 999, None, 0, True, None),
        (Outcome.INTERRUPTED, 999, None, 900, True, 0.0),
        (Outcome.LOST, 3, None, 2, True, None),
        (Outcome.LOST, 3, None, 2, False, 0.0),
        (Outcome.LOST, 4, None, 3, False, None),
    ],
)
def test_one_function_decides_on_another_try(policy, outcome, attempt, asked, earlier, has_begun, delay):
    finished = Finished(1, attempt, int(outcome), 0.0, 1.0, retry_delay_seconds=asked)
    assert policy.delay_after(finished, earlier, has_begun=has_begun) == delay


def test_back_off_stays_finite_after_hundreds_of_retries():
    policy = RetryPolicy(retries={Outcome.EXIT: 900}, delay_seconds=1e-3)
    assert policy.delay_before_retry(Outcome.EXIT, 899) == 300.0
    assert policy.delay_before_retry(Outcome.EXIT, 900) is None


def test_what_is_not_the_tasks_fault_is_tried_again_at_once(job):
    job.insert(1)
    assert job.try_once(Outcome.LOST, now=5.0).retry_delay_seconds == {(1, 1): 0.0}
    assert job.try_once(Outcome.INTERRUPTED, now=5.0) == leasing.FinishReport()
    assert job.try_once(Outcome.SUCCEEDED, now=5.0) == leasing.FinishReport()


@pytest.mark.parametrize("outcome", [Outcome.EXCEPTION, Outcome.RETRY, Outcome.EXIT])
def test_fail_forbids_another_try(job, outcome):
    job.insert(1)
    assert not job.try_once(outcome, retry_delay_seconds=NO_RETRY).retry_delay_seconds
    assert job.states() == {1: State.FAILED}


@pytest.mark.parametrize("delay", [0.0, 0.5, 1e6])
def test_the_delay_that_was_asked_for_is_respected(job, delay):
    job.insert(1)
    assert job.try_once(Outcome.RETRY, now=7.0, retry_delay_seconds=delay).retry_delay_seconds == {(1, 1): delay}
    assert due(job, 1) == (7.0 + delay if delay else 0.0)
    worker_id = job.worker(now=7.0, lease_seconds=1e9)
    if delay:
        assert job.lease(worker_id, now=7.0 + delay - 0.01) == []
    assert len(job.lease(worker_id, now=7.0 + delay)) == 1


def test_a_delay_that_was_asked_for_does_not_lift_the_cap(job):
    job.insert(1)
    for _ in range(3):
        assert job.try_once(Outcome.RETRY, retry_delay_seconds=0.0).retry_delay_seconds
    assert not job.try_once(Outcome.RETRY, retry_delay_seconds=0.0).retry_delay_seconds
    assert job.states() == {1: State.FAILED}


def test_being_interrupted_never_costs_a_try(job):
    job.insert(1)
    for outcome in [Outcome.INTERRUPTED, Outcome.EXCEPTION] * 2 + [Outcome.INTERRUPTED] * 50:
        job.try_once(outcome, now=due(job, 1) or 0.0)
    assert job.states() == {1: State.PENDING}
    assert counters.tallies(job.database)["retries"] == 2
    job.try_once(Outcome.EXCEPTION, now=100.0)
    assert job.states() == {1: State.FAILED}


def test_the_last_attempt_number_ends_the_retries(job):
    endless = RetryPolicy(retries={Outcome.EXIT: 5000}, delay_seconds=0.0)
    job.insert(2)
    worker_id = job.worker()
    for number in range(1, 1000):
        [lease] = job.lease(worker_id)
        assert (lease.seq, lease.attempt) == (1, number)
        report = job.finish(worker_id, Finished(1, number, int(Outcome.EXIT), 0.0, 0.0), policy=endless)
        assert bool(report.retry_delay_seconds) == (number < 999)
    assert job.states() == {1: State.FAILED, 2: State.PENDING}
    assert len(job.attempts(1)) == 999
    assert job.attempts(2) == []


@pytest.mark.parametrize("how", ["interrupted", "released", "stopped", "retry"])
def test_a_task_at_its_last_attempt_number_can_still_be_run(job, done, how):
    job.insert(2)
    job.try_once(Outcome.EXCEPTION)
    job.database.execute("UPDATE state SET attempt = 998, available_at = 0")
    for _ in range(2):
        worker_id = job.worker()
        [lease] = job.lease(worker_id)
        assert lease.seq == 1
        if how == "interrupted":
            job.finish(worker_id, done(lease, Outcome.INTERRUPTED))
        elif how == "released":
            leasing.release(job.database, now=0.0)
        elif how == "stopped":
            leasing.end_worker(job.database, worker_id, now=0.0)
        else:
            job.finish(worker_id, done(lease, Outcome.EXCEPTION))
            assert repair.retry(job.database, kinds=[Outcome.EXCEPTION]) == 1
        assert job.states()[1] is State.PENDING
    job.try_once(Outcome.SUCCEEDED)
    job.try_once(Outcome.SUCCEEDED)
    assert job.states() == {1: State.SUCCEEDED, 2: State.SUCCEEDED}
    assert job.attempts(2) == [(1, Outcome.SUCCEEDED)]
    assert [lines["result"] for lines in queries.results(job.database)] == [1, 1]


# --- as a queue ---


def test_the_queue_goes_on_as_a_new_worker(job, done):
    job.insert(3)
    queue = EmbeddedQueue(job.database, Settings(), slots=1, now=0.0)
    first = queue.worker_id
    [old] = queue.lease(1, 0.0)
    leasing.release(job.database, now=1.0)
    with pytest.raises(leasing.LeaseLostError):
        queue.renew(2.0)
    second = queue.worker_id
    assert second != first
    [new] = queue.lease(1, 2.0)
    assert (new.seq, new.attempt) == (old.seq, 2)
    leasing.release(job.database, now=3.0)
    with pytest.raises(leasing.LeaseLostError):
        queue.lease(1, 4.0)
    assert queue.worker_id not in (first, second)
    queue.renew(4.0)
    [newest] = queue.lease(1, 4.0)
    report = queue.finish([done(old), done(new), done(newest)], 5.0)
    assert report.duplicates == {(1, 1), (1, 2)}
    assert job.attempts(1) == [(3, Outcome.SUCCEEDED)]


def test_an_idle_queue_takes_over_from_the_dead_and_a_busy_one_now_and_then(job):
    job.insert(4)
    dead = EmbeddedQueue(job.database, Settings(lease_seconds=30.0), slots=1, now=0.0)
    assert seqs(dead.lease(1, 0.0)) == [1]
    queue = EmbeddedQueue(job.connect(), Settings(lease_seconds=30.0), slots=1, now=29.0)
    assert seqs(queue.lease(1, 29.5)) == [2]
    assert seqs(queue.lease(1, 31.0)) == [3]  # it looked for dead ones less than REAP_SECONDS ago
    assert [lease[:2] for lease in queue.lease(1, 29.5 + REAP_SECONDS)] == [(1, 2)]
    assert seqs(queue.lease(1, 31.6)) == [4]
    assert queue.lease(1, 31.7) == []


def test_an_idle_queue_finds_the_dead_without_delay(job):
    job.insert(1)
    EmbeddedQueue(job.database, Settings(), slots=1, now=0.0).lease(1, 0.0)
    queue = EmbeddedQueue(job.connect(), Settings(), slots=1, now=30.0)
    assert queue.lease(1, 30.0) == []
    assert [lease[:2] for lease in queue.lease(1, 30.1)] == [(1, 2)]


def test_the_queue_says_what_is_left_for_its_worker(job, done):
    job.insert(3)
    queue = EmbeddedQueue(job.database, Settings(skip_tasks=2), slots=1, now=0.0)
    other = EmbeddedQueue(job.connect(), Settings(), slots=1, now=0.0)

    def depth(of):
        found = of.count()
        due_at = leasing.next_due_at(job.database, 2 if of is queue else 0)
        return found.leasable, due_at, found.running

    assert depth(queue) == (True, None, 0)
    [third] = queue.lease(9, 0.0)
    assert depth(queue) == (False, None, 1)
    assert depth(other) == (True, None, 1)
    first, second = other.lease(9, 0.0)
    other.finish([done(first, Outcome.RETRY, retry_delay_seconds=5.0)], 0.0)
    assert depth(other) == (True, 5.0, 2)
    assert depth(queue) == (False, None, 2)
    queue.finish([done(third, Outcome.RETRY, retry_delay_seconds=7.0)], 0.0)
    assert depth(queue) == (True, 7.0, 1)
    other.give_back([second])
    assert depth(other) == (True, 0.0, 0)
    other.close(1.0)
    assert [worker.worker_id for worker in queries.workers(job.database)] == [queue.worker_id]


def test_the_caps_come_from_the_settings():
    names = ["exception", "timeout", "exit", "memory", "lost", "request"]
    settings = Settings(
        retry_delay_seconds=4.5,
        retry_delay_max_seconds=9.0,
        **{f"retries_on_{name}": n for n, name in enumerate(names, 10)},
    )
    policy = retry_policy(settings)
    assert policy.delay_seconds == 4.5
    assert policy.max_delay_seconds == 9.0
    assert policy.retries == {
        Outcome.EXCEPTION: 10,
        Outcome.TIMEOUT: 11,
        Outcome.EXIT: 12,
        Outcome.MEMORY: 13,
        Outcome.LOST: 14,
        Outcome.RETRY: 15,
    }
