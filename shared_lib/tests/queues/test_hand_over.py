"""A message at its maximum lease time is handed over to a new one, while its tasks keep running."""

import math
import time

import pytest
from taskfleet.queues import remote

from shared_lib.tests.queues.jobs import LEASE_SECONDS, ended

#: Only SQS has such a limit.
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("new_job", ["sqs"], indirect=True)]


@pytest.fixture
def job(new_job, monkeypatch):
    job = new_job(RETRIES_ON_LOST=3)
    monkeypatch.setattr(remote, "HAND_OVER_SECONDS", math.inf)  # as if the end were near, at once
    job.insert(3)
    return job


def hand_over(job, worker):
    leases = job.lease(worker, 3)
    worker.renew(job.now)
    return leases


def test_the_tasks_keep_running_and_no_other_worker_gets_them(job):
    worker, other = job.worker(), job.worker()
    leases = hand_over(job, worker)
    deadline = time.monotonic() + 20
    while worker._in_flight.has_claims:
        assert time.monotonic() < deadline
        assert worker.lease(1, job.now) == []
        assert other.lease(1, job.now) == []
        time.sleep(0.05)
        job.advance(LEASE_SECONDS / 10)  # what the other one was given comes round again
    worker.finish([ended(lease) for lease in leases], job.now)
    job.until_counts(succeeded=3)
    assert {len(job.task(f"t{n}").attempts) for n in range(3)} == {1}
    assert job.tally("lost") == job.tally("duplicates") == 0
    job.until(lambda: not (worker.lease(1, job.now) or worker.count().leasable), "the queue is not empty")


def test_tasks_that_end_meanwhile_are_done(job):
    worker = job.worker()
    leases = hand_over(job, worker)
    worker.finish([ended(lease) for lease in leases], job.now)
    job.until_counts(succeeded=3)
    deadline = time.monotonic() + 20
    while worker._in_flight.has_claims:
        assert time.monotonic() < deadline
        assert worker.lease(1, job.now) == []
        time.sleep(0.05)
    job.until(lambda: not (worker.lease(1, job.now) or worker.count().leasable), "the queue is not empty")


def test_if_the_worker_dies_another_one_gets_them_after_the_claim(job, monkeypatch):
    worker = job.worker()
    hand_over(job, worker)
    deadline = time.monotonic() + 20
    while worker._outbox.is_sending:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)  # the old message is dropped
    worker._receiver.stop()
    other = job.worker()
    assert other.lease(1, job.now) == []
    job.advance(remote.CLAIM_SECONDS + LEASE_SECONDS)
    leases = job.lease(other, 3)
    assert {lease.attempt for lease in leases} == {2}
    other.finish([ended(lease) for lease in leases], job.now)
    job.until_counts(succeeded=3)
