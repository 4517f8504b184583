"""Workers that are killed in the middle of what they do."""

import itertools
import os
import random
import select
import signal
import time
from collections import Counter

import pytest
from taskfleet.ledger import leasing, queries
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.embedded import EmbeddedQueue
from taskfleet.settings import Settings
from taskfleet.tasks import Outcome, State

TASKS = 30_000
KILLS = 30
SETTINGS = Settings(retries_on_lost=900, retries_on_exception=900, retry_delay_seconds=0.0)


def work(database, done, seed):
    """Lease, finish, fail and give back as fast as possible, for ever."""
    chance = random.Random(seed)
    queue = EmbeddedQueue(database, SETTINGS, slots=1, now=0.0)
    while True:
        leases = queue.lease(chance.randint(1, 20), 0.0)
        split = chance.randint(0, len(leases))
        queue.finish(
            [
                done(lease, chance.choice([Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.EXCEPTION]))
                for lease in leases[:split]
            ],
            0.0,
        )
        queue.give_back(leases[split:])
        if chance.random() < 0.1:
            queue.renew(0.0)


@pytest.mark.slow
def test_killing_workers_at_any_moment_loses_nothing(job, done, fork):
    job.insert(TASKS)
    chance = random.Random(1)
    seen = Counter()

    def work_for_ever(tell):
        database = open_ledger(job.path, job_id="job")
        tell()
        work(database, done, os.getpid())

    for _ in range(KILLS):
        job.close()
        children = [fork(work_for_ever) for _ in range(2)]
        assert all(child.told() for child in children)
        for child in children:
            moment = time.monotonic() + chance.uniform(0.0, 0.02)
            while time.monotonic() < moment:  # to be killed anywhere, the children need real time
                select.select([], [], [], max(0.0, moment - time.monotonic()))
            child.kill()
        assert job.database.value("PRAGMA integrity_check") == "ok"
        job.check()
        seen.update(job.counts())
    assert seen[State.RUNNING] > 0, "no child ever held a task when it was killed"
    assert 0 < job.counts().get(State.SUCCEEDED, 0) < TASKS

    queue = EmbeddedQueue(job.database, SETTINGS, slots=1, now=0.0)
    now = itertools.count(0.0, 10.0)
    while leases := queue.lease(5000, next(now)):
        queue.finish([done(lease) for lease in leases], 0.0)
    assert job.counts() == {State.SUCCEEDED: TASKS}
    successes = "SELECT count(*), count(DISTINCT key / 1000), count(result) FROM attempt WHERE outcome = 0"
    assert job.database.row(successes) == (TASKS, TASKS, TASKS)
    assert [row["state"] for row in queries.results(job.database)] == ["succeeded"] * TASKS
    assert len(queries.workers(job.database)) == 1
    assert leasing.next_due_at(job.database, 0) is None


@pytest.mark.parametrize("steps", [7, 50, 300, 1000, 3000, 10_000, 30_000])
def test_a_worker_killed_within_a_statement_loses_nothing(job, done, fork, die, steps):
    """The child dies after so many steps of SQLite's machine, in the midst of a statement."""
    job.insert(2000)
    for seed in range(5):
        job.close()

        def work_until_dead(_tell, seed=seed):
            database = open_ledger(job.path, job_id="job")
            database._connection.set_progress_handler(die, steps + 3 * seed)
            work(database, done, seed)

        assert fork(work_until_dead).wait() == -signal.SIGKILL
        assert job.database.value("PRAGMA integrity_check") == "ok"
        job.check()
    queue = EmbeddedQueue(job.database, SETTINGS, slots=1, now=0.0)
    while leases := queue.lease(5000, 10.0):
        queue.finish([done(lease) for lease in leases], 10.0)
    assert job.counts() == {State.SUCCEEDED: 2000}
