"""How many tasks of a manager may run at once, over all of its workers."""

import random
import threading
import time
from collections import Counter

from taskfleet.ledger import calls, leasing
from taskfleet.ledger.calls import Call
from taskfleet.ledger.database import open_ledger
from taskfleet.ledger.leasing import Limit
from taskfleet.queues.embedded import EmbeddedQueue
from taskfleet.settings import Settings
from taskfleet.tasks import RetryPolicy

from shared_lib.tests.queues.jobs import ended

N_TASKS = 300


def lease(job, worker, most=99, *, at_once, slots=99, manager=0, now=1.0):
    limit = Limit(concurrent_tasks=at_once, slots=slots)
    return leasing.lease(job.database, worker, most, skip=0, lease_seconds=30.0, now=now, manager=manager, limit=limit)


def finish(job, worker, leases):
    leasing.finish(job.database, worker, [ended(one) for one in leases], policy=RetryPolicy(retries={}), now=2.0)


def test_what_others_run_counts(job):
    job.insert(100)
    first, second = job.worker(), job.worker()
    held = lease(job, first, at_once=5, slots=3)
    assert len(held) == 3  # no more than it can begin, so that others can take their part
    assert lease(job, first, at_once=5, slots=3) == []
    assert len(lease(job, second, at_once=5)) == 2
    assert lease(job, second, at_once=5) == []
    finish(job, first, held[:2])
    assert len(lease(job, second, at_once=5)) == 2
    leasing.give_back(job.database, first, held[2:])
    assert len(lease(job, first, at_once=5)) == 1
    assert lease(job, second, at_once=2) == []


def test_managers_have_limits_of_their_own(job):
    ids = [calls.register_function(job.database, name, manager=name) for name in ("one", "two")]
    calls.insert_calls(job.database, [Call(f"t{n}", "{}", ids[n % 2]) for n in range(40)])
    worker_of = [
        leasing.register(
            job.database, hostname="h", process=f"p{n}", pid=1, slots=9, lease_seconds=30.0, now=0.0, manager=n
        )
        for n in (1, 2)
    ]
    assert len(lease(job, worker_of[0], at_once=4, manager=1)) == 4
    assert len(lease(job, worker_of[1], at_once=3, manager=2)) == 3
    assert lease(job, worker_of[0], at_once=4, manager=1) == []


def test_the_part_of_a_dead_worker_comes_back_with_its_leases(job):
    job.insert(10)
    dead, alive = job.worker(lease_seconds=30.0), job.worker(lease_seconds=900.0)
    assert len(lease(job, dead, at_once=2)) == 2
    assert lease(job, alive, at_once=2, now=29.0) == []
    policy = RetryPolicy(retries={})
    assert leasing.reap(job.database, policy=policy, now=30.0) == 0
    assert leasing.reap(job.database, policy=policy, now=40.0) == 2
    assert len(lease(job, alive, at_once=2, now=40.0)) == 2


def test_no_more_run_however_many_workers_lease_at_once(job):
    """Each counts itself after the lease and until before the end, so the count is never above what the ledger allows."""
    job.insert(N_TASKS)
    path, counted, lock, done = job.path, [0, 0], threading.Lock(), Counter()
    errors = []

    def work(number):
        database = open_ledger(path, job_id="job")
        queue = EmbeddedQueue(database, Settings(max_concurrent_tasks=3), slots=2, now=time.time())
        chance = random.Random(number)
        while sum(done.values()) < N_TASKS and not errors:
            leases = queue.lease(chance.randint(1, 9), time.time())
            with lock:
                counted[0] += len(leases)
                counted[1] = max(counted)
                done.update(one.seq for one in leases)
            time.sleep(chance.random() * 0.003)
            with lock:
                counted[0] -= len(leases)
            if chance.random() < 0.2:
                with lock:
                    done.subtract(one.seq for one in leases)
                queue.give_back(leases)
            elif leases:
                queue.finish([ended(one) for one in leases], time.time())
        queue.close(time.time())
        database.close()

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert counted == [0, 3]  # it was reached, and never exceeded
    assert set(done.values()) == {1}
    job.check()
