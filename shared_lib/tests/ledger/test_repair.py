"""What people do by hand: retry, purge, release."""

import pytest
from taskfleet.ledger import counters, leasing, repair
from taskfleet.ledger.database import Database
from taskfleet.tasks import NO_RETRY, Finished, Outcome, State


@pytest.fixture(params=[1, 2, 50_000])
def steps(request, monkeypatch):
    """Sets how many tasks are changed per transaction."""
    monkeypatch.setattr(repair, "STEP", request.param)


@pytest.fixture
def failed_job(job, done):
    """Tasks 1 to 6: two MEMORY, two EXCEPTION after all their tries, one KILLED, one SUCCEEDED."""
    job.insert(4)
    worker_id = job.worker(lease_seconds=1e9)
    now = 0.0
    for lease in job.lease(worker_id, 2):
        job.finish(worker_id, done(lease, Outcome.MEMORY))
    while any(state is State.PENDING for state in job.states().values()):
        for lease in job.lease(worker_id, 2, now=now, lease_seconds=1e9):
            job.finish(worker_id, done(lease, Outcome.EXCEPTION), now=now)
        now += 100.0
    job.insert(["5", "6"])
    [fifth, sixth] = job.lease(worker_id, 2)
    job.finish(worker_id, done(sixth))
    leasing.give_back(job.database, worker_id, [fifth])
    repair.purge(job.database)
    assert job.counts() == {State.FAILED: 4, State.KILLED: 1, State.SUCCEEDED: 1}
    return job


def pending(job):
    return [seq for seq, state in job.states().items() if state is State.PENDING]


@pytest.mark.usefixtures("steps")
def test_retry_by_kind_puts_back_what_failed_so(failed_job):
    assert repair.retry(failed_job.database, kinds=[Outcome.MEMORY]) == 2
    assert pending(failed_job) == [1, 2]
    assert counters.by_failure_kind(failed_job.database)[Outcome.EXCEPTION] == 2
    assert repair.retry(failed_job.database, kinds=[Outcome.MEMORY, Outcome.EXCEPTION, Outcome.EXIT]) == 2
    assert pending(failed_job) == [1, 2, 3, 4]
    assert counters.tallies(failed_job.database)["inserted"] == 6


def test_retry_without_a_graph_notes_nothing_for_descendants(failed_job):
    repair.retry(failed_job.database, kinds=[Outcome.MEMORY, Outcome.EXCEPTION], killed=True)
    assert failed_job.database.value("SELECT count(*) FROM state WHERE reuse <> 0") == 0


@pytest.mark.usefixtures("steps")
def test_retry_of_what_was_killed(failed_job):
    assert repair.retry(failed_job.database, killed=True) == 1
    assert pending(failed_job) == [5]
    assert repair.retry(failed_job.database, killed=True) == 0


@pytest.mark.usefixtures("steps")
def test_retry_by_id_leaves_unknown_and_unfailed_tasks_alone(failed_job):
    names = [task_id for (task_id,) in failed_job.database.rows("SELECT id FROM task ORDER BY seq")]
    wanted = [names[0], names[4], names[5], "unknown", names[0]]
    assert repair.retry(failed_job.database, ids=wanted) == 2
    assert pending(failed_job) == [1, 5]


def test_retry_of_nothing_changes_nothing(failed_job):
    before = failed_job.dump()
    assert repair.retry(failed_job.database) == 0
    assert failed_job.dump() == before


def test_retry_leaves_fresh_tasks_alone(job):
    job.insert(["a", "b"])
    assert repair.retry(job.database, ids=["id of a"], kinds=list(Outcome), killed=True) == 0
    assert job.counts() == {State.PENDING: 2}


@pytest.mark.parametrize("way", ["kinds", "ids"])
def test_retry_gives_all_tries_back(failed_job, way):
    chosen = {"kinds": [Outcome.EXCEPTION]} if way == "kinds" else {"ids": [f'id of {{"x": {n}}}' for n in (2, 3)]}
    assert repair.retry(failed_job.database, **chosen) == 2
    worker_id = failed_job.worker(lease_seconds=1e9)
    delays = []
    for number in (4, 5, 6):
        leases = failed_job.lease(worker_id, 9, now=number * 100.0)
        assert [lease[:2] for lease in leases] == [(3, number), (4, number)]
        for lease in leases:
            ended = Finished(lease.seq, lease.attempt, int(Outcome.EXCEPTION), 0.0, 1.0)
            delays.append(failed_job.finish(worker_id, ended, now=number * 100.0).retry_delay_seconds.get(lease[:2]))
    assert delays == [10.0, 10.0, 20.0, 20.0, None, None]
    assert [outcome for _, outcome in failed_job.attempts(3)] == [Outcome.EXCEPTION] * 6


def test_a_task_that_changes_while_it_is_put_back_by_id_is_counted_right(job, done, policy):
    class Meanwhile(Database):
        """Has something happen after the first look."""

        def row(self, *arguments):
            found = super().row(*arguments)
            if happenings:
                happenings.pop()()
            return found

    def fail_otherwise():
        repair.retry(elsewhere, ids=["id of a"])
        leases = leasing.lease(elsewhere, worker_id, 1, skip=0, lease_seconds=30.0, now=0.0)
        ended = [done(lease, Outcome.EXIT, retry_delay_seconds=NO_RETRY) for lease in leases]
        leasing.finish(elsewhere, worker_id, ended, policy=policy, now=0.0)

    elsewhere = job.connect()
    job.insert(["a"])
    job.try_once(Outcome.MEMORY)
    worker_id = job.worker()
    happenings = [fail_otherwise]
    put_back = repair.retry(Meanwhile(job.path, job.database._connection), ids=["id of a"])
    assert happenings == []
    assert job.counts() == ({State.PENDING: 1} if put_back else {State.FAILED: 1})
    job.check()


@pytest.mark.usefixtures("steps")
def test_purge_takes_fresh_delayed_and_waiting_tasks(job, done):
    job.insert(5)
    job.insert(["x", "y", "z"])
    worker_id = job.worker()
    running, failed, delayed = job.lease(worker_id, 3)
    job.finish(worker_id, done(failed, Outcome.MEMORY), done(delayed, Outcome.EXCEPTION))
    [upstream] = job.lease(worker_id, 1, skip=5)
    with job.database.transaction() as database:  # nothing makes tasks wait yet
        database.execute("UPDATE state SET state = 0, worker_id = NULL WHERE seq = ?", (upstream.seq,))
        counters.add(database, State.RUNNING, 0, -1)
        counters.add(database, State.WAITING, 0, 1)
    assert job.counts() == {State.RUNNING: 1, State.FAILED: 1, State.WAITING: 1, State.PENDING: 5}
    assert repair.purge(job.database) == 6
    assert job.counts() == {State.RUNNING: 1, State.FAILED: 1, State.KILLED: 6}
    assert job.lease(worker_id, 9, now=99.0) == []
    assert not leasing.has_leasable(job.database, 0)
    assert leasing.next_due_at(job.database, 0) is None
    assert repair.purge(job.database) == 0
    assert job.finish(worker_id, done(running)).duplicates == set()
    assert job.attempts(3) == [(1, Outcome.EXCEPTION)]
    job.check()
    assert repair.retry(job.database, killed=True) == 6
    assert [lease.seq for lease in job.lease(worker_id, 9)] == [3, 4, 5, 6, 7, 8]


@pytest.mark.usefixtures("steps")
def test_purge_counts_tasks_and_not_numbers(job):
    job.insert(["b", "d"])
    job.insert(["a", "b", "c", "d", "e"])
    assert repair.purge(job.database) == 5
    assert job.counts() == {State.KILLED: 5}


def test_purge_spares_what_is_being_inserted(job):
    from taskfleet.ledger import insertion

    under_way = insertion.begin(job.database, source="t")
    under_way.add(["a"], ["1"], ids_are_derived=False, now=0.0)
    assert repair.purge(job.database) == 0
    under_way.accept(0.0)
    assert job.counts() == {State.PENDING: 1}


def test_a_task_that_fails_after_a_purge_is_tried_again(job, done):
    job.insert(1)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    repair.purge(job.database)
    job.finish(worker_id, done(lease, Outcome.EXCEPTION))
    assert job.counts() == {State.PENDING: 1}


def test_release_takes_all_leases_back_without_costing_a_try(job, done):
    job.insert(4)
    one, two = job.worker(), job.worker()
    leases = [*job.lease(one, 2), *job.lease(two, 1)]
    job.finish(one, done(leases[0]))
    assert leasing.release(job.database, now=3.0) == 2
    assert job.counts() == {State.PENDING: 3, State.SUCCEEDED: 1}
    assert job.database.rows("SELECT DISTINCT ended_at, end_reason FROM worker") == [(3.0, "released")]
    assert job.attempts(2) == []
    assert job.finish(one, done(leases[1])).duplicates == {leases[1][:2]}
    third = job.worker()
    again = job.lease(third, 9)
    assert [lease[:2] for lease in again] == [(2, 2), (3, 2), (4, 1)]
    for lease in again[:2]:
        report = job.finish(third, done(lease, Outcome.EXCEPTION))
        assert report.retry_delay_seconds == {lease[:2]: 10.0}
    assert leasing.release(job.database, now=4.0) == 1
    assert leasing.release(job.database, now=5.0) == 0
