"""What is SQS's own: addresses that are URLs, and the minute after a purge or a deletion."""

import os
import time
from contextlib import closing

import boto3
import pytest
from taskfleet.errors import QueueError
from taskfleet.ledger import repair
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import open_transport
from taskfleet.queues.job import JobQueues
from taskfleet.queues.sqs import SqsTransport

from shared_lib.tests.queues.jobs import Job

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("LIVE_CLOUD")), reason="it takes another account and a clock that can be advanced"
)


@pytest.fixture
def sqs(running):
    return running("sqs")


@pytest.fixture
def client(sqs):
    return boto3.client("sqs")


@pytest.fixture
def job(sqs, name, tmp_path):
    with closing(Job(sqs, name, tmp_path)) as job:
        yield job


def exists(client, name):
    try:
        return bool(client.get_queue_url(QueueName=name))
    except client.exceptions.QueueDoesNotExist:
        return False


@pytest.mark.parametrize("has_tasks_queue", [True, False])
def test_missing_queues_of_an_address_that_is_a_url_are_created(client, name, has_tasks_queue):
    url = f"{client.meta.endpoint_url}/123456789012/{name}"
    if has_tasks_queue:
        assert client.create_queue(QueueName=name)["QueueUrl"].endswith(f"/123456789012/{name}")
    for of_events in (False, True):
        transport = open_transport(url, "job", of_events=of_events)
        transport.create(tags={"a": "b"})
        assert transport.exists()
        transport.close()
    assert exists(client, name)
    assert exists(client, f"{name}-events")
    for of_events in (False, True):
        transport = open_transport(url, "job", of_events=of_events)
        transport.delete()
        assert not transport.exists()
        transport.close()


def test_a_queue_of_another_account_is_not_created_in_this_one(client, name):
    transport = open_transport(f"{client.meta.endpoint_url}/999999999999/{name}", "job")
    with pytest.raises(
        QueueError, match=rf"999999999999/{name} does not exist, and .* for another account: .*/123456789012/{name}"
    ):
        transport.create(tags={})
    assert not exists(client, name)
    client.create_queue(QueueName=f"{name}-2")
    transport = open_transport(f"{client.meta.endpoint_url}/999999999999/{name}-2-x", "job")
    with pytest.raises(QueueError, match="for another account"):
        transport.create(tags={})


def test_a_second_purge_waits_for_the_end_of_the_first(sqs, job):
    said = []
    with JobQueues(job.configuration, say=said.append) as queues:
        queues.require()
        queues.tasks.purge()
        job.service.advance(50)
        queues.tasks.purge()
    assert len(said) == 2
    assert "The queue was purged less than a minute ago" in said[0]
    assert said[1] == "The queue is available again."


def test_a_name_that_was_just_deleted_is_waited_for(sqs, job):
    said = []
    with JobQueues(job.configuration, say=said.append) as queues:
        queues.require()
        queues.delete(None)
        job.service.advance(50)
        queues.create()
        queues.require()
    assert "was deleted less than a minute ago" in said[0]


def test_what_is_sent_after_a_purge_waits_until_sqs_deletes_no_more(sqs, job, monkeypatch):
    """Whichever process sends: the ledger has the time of the purge."""
    job.insert(5)
    said = []
    with JobQueues(job.configuration) as queues:
        queues.purge(job.database)
        assert repair.purge(job.database) == 5
        assert repair.retry(job.database, killed=True) == 5
    job.service.advance(SqsTransport.purge_seconds)
    monkeypatch.setattr(SqsTransport, "purge_seconds", 2.0)
    began_at = time.monotonic()
    with (
        closing(open_ledger(job.configuration.ledger_path, job_id=job.name)) as database,
        JobQueues(job.configuration, say=said.append) as queues,
    ):
        assert queues.send_unsent(database) == 5
    assert time.monotonic() - began_at >= 2.0
    assert said == [
        "The queue was purged less than 2.0 s ago, and the service may delete what is sent now. Sending in 2.0 s."
    ]
    assert len(job.work_off(job.worker())) == 5
    job.until_counts(succeeded=5)


def test_tasks_that_move_to_another_queue_do_not_wait_for_the_purge_of_the_old_one(sqs, job):
    from taskfleet.ledger import moving, sending

    with JobQueues(job.configuration) as queues:
        queues.purge(job.database)
    assert sending.held_back_until(job.database) > time.time() + 30
    moving.move(job.database, "sqs://other")
    assert sending.held_back_until(job.database) == 0
    moving.move(job.database, job.queue_url)
