"""Moves and releases that are killed at their worst moments leave every unfinished task in a queue, or noted as unsent."""

from contextlib import closing
from dataclasses import replace

import pytest
from taskfleet.api import monitoring
from taskfleet.api.queue import move, release
from taskfleet.errors import LedgerError
from taskfleet.ledger import moving, sending
from taskfleet.queues.job import JobQueues

from shared_lib.tests.queues.jobs import Job, ended

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The process ends here."""


def die(*_args, **_options):
    raise Killed


@pytest.fixture
def killed(monkeypatch):
    """Runs a command and kills it when it uses something: ``killed(place, name, command, *arguments)``."""

    def killed(place, name, command, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            with pytest.raises(Killed):
                command(*arguments)

    return killed


@pytest.fixture(params=["sqs", "postgresql"])
def job(request, running, name, tmp_path):
    """A job at a service, with 5 of 20 tasks done by a worker that has ended."""
    service = running(request.param)
    with closing(Job(service, name, tmp_path)) as job:
        job.insert(20)
        worker = job.worker()
        worker.finish([ended(lease) for lease in job.lease(worker, 5)], job.now)
        worker.close(job.now)
        job._workers.remove(worker)
        job.until_counts(succeeded=5, pending=15)
        yield job


@pytest.fixture
def elsewhere(job, running):
    """The configuration of the job at another service."""
    service = running("pubsub")
    url = service.queue_url(job.name)
    yield replace(job.configuration, settings=replace(job.configuration.settings, queue_url=url))
    for suffix in ("", "-events"):
        transport = service.transport(f"{job.name}{suffix}")
        transport.delete()
        transport.close()


def test_a_move_that_is_killed_before_the_ledger_knows_of_it_changes_nothing(job, elsewhere, killed):
    killed(moving, "move", move, job.configuration, elsewhere.settings.queue_url)
    assert len(job.work_off(job.worker())) == 15
    job.until_counts(succeeded=20)


def test_a_move_that_is_killed_before_it_sends_is_completed_by_the_monitor(job, elsewhere, killed):
    killed(JobQueues, "send_unsent", move, job.configuration, elsewhere.settings.queue_url)
    assert sending.is_abandoned(job.database)
    killed(monitoring, "Monitor", monitoring.monitor, elsewhere)  # it would wait for workers
    assert sending.count_unsent(job.database) == 0
    with JobQueues(elsewhere) as queues:
        messages = queues.tasks.receive(100, wait_seconds=5, lease_seconds=60)
    assert messages


def test_a_release_after_a_deletion_that_is_killed_sends_all_the_next_time(job, killed):
    with JobQueues(job.configuration) as queues:
        queues.delete(None)
    job.service.advance(61)  # until when SQS refuses a queue of this name
    killed(JobQueues, "send_unsent", release, job.configuration)
    release(job.configuration)
    assert len(job.work_off(job.worker())) == 15
    job.until_counts(succeeded=20)


def test_tasks_that_are_moved_while_they_are_sent_do_not_count_as_sent(job, elsewhere):
    moving.move(job.database, "sqs://first")

    def send(_tasks):
        moving.move(job.database, "sqs://second")

    with pytest.raises(LedgerError, match="moved to sqs://second meanwhile"):
        sending.send_all(job.database, send, queue_url="sqs://first")
    assert sending.count_unsent(job.database) == 15
    moving.move(job.database, job.configuration.settings.queue_url)
