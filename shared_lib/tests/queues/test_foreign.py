"""Messages in a queue that are not ours are set aside: workers and the monitor go on, and do not receive them again."""

import json
import time

import pytest
from google.pubsub_v1 import types
from taskfleet.api.contents import contents
from taskfleet.messages.formats import MisdirectedMessageError, NewerFormatError
from taskfleet.messages.tasks import QueuedTask, TaskMessage, pack
from taskfleet.queues.job import JobQueues
from taskfleet.queues.pubsub_calls import raw
from taskfleet.queues.set_aside import set_aside_path
from taskfleet.queues.transport import Outgoing
from taskfleet.tasks import NO_RETRY, Finished, Outcome
from taskfleet.watch.status import gather

from shared_lib.tests.queues.jobs import LEASE_SECONDS, Job

#: What anybody may have put into a queue.
FOREIGN = [
    "hello",
    "[" * 200_000,
    '{"taskfleet":1}',
    '{"taskfleet":1,"job":"JOB","ledger":"","tasks":[[1,"t0",0,[]]]}\n[]',
    '{"taskfleet":1,"job":"JOB","ledger":"","tasks":[["1","t0",0,[]]]}\n{}',
    '{"taskfleet":1,"job":"JOB","ledger":"","worker":["w","h",1,1,Infinity,null],"number":1,"told_at":1,"end_reason":"","leased":[],'
    '"returned":[]}',
    '{"taskfleet":1,"job":"JOB","ledger":"","worker":["w","h",1,1,1.5,null],"number":1,"told_at":1,"end_reason":"","leased":[],'
    '"returned":[]}\n[1,1,99,1.5,1.5,false,null,null,null,null,null,null]',
    '{"taskfleet":' + "1" * 4301 + "}",
]


@pytest.fixture
def job(service, name, tmp_path):
    job = Job(service, name, tmp_path)
    yield job
    job.close()


def kept(job):
    """Return the messages that were set aside, by queue."""
    lines = set_aside_path(job.configuration.ledger_path).read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return {queue: sorted(one["message"] for one in found if one["queue"] == queue) for queue in ("tasks", "events")}


def is_empty(job, transport):
    """Return whether a queue has no messages once all leases have run out."""
    job.advance(LEASE_SECONDS + 1)
    return transport.receive(10, wait_seconds=0.5, lease_seconds=5) == []


def test_a_job_with_foreign_messages_in_both_queues_is_completed(job):
    foreign = [body.replace("JOB", job.name) for body in FOREIGN]
    for transport in job.queues.both:
        transport.send([Outgoing(body) for body in foreign])
    job.insert(5)
    worker = job.worker()
    assert {lease.task_id for lease in job.work_off(worker)} == {f"t{n}" for n in range(5)}
    worker.close(job.now)
    job.until_counts(succeeded=5)
    job.settle()
    assert kept(job) == {"tasks": sorted(foreign), "events": sorted(foreign)}
    assert is_empty(job, job.queues.tasks)
    assert is_empty(job, job.queues.events)
    json.dumps(gather(job.database, time.time()).to_json(), allow_nan=False)
    assert job.database.value("SELECT count(*) FROM worker") == 1


def test_events_that_come_twice_or_again_are_recorded_once(job):
    job.insert(3)
    worker = job.worker()
    job.work_off(worker)
    worker.close(job.now)
    messages = job.queues.events.receive(10, wait_seconds=5.0, lease_seconds=5.0)
    assert messages
    job.queues.events.acknowledge([message.receipt for message in messages])
    job.queues.events.send([Outgoing(message.body) for message in messages for _ in range(3)])
    job.until_counts(succeeded=3)
    job.settle()
    assert job.tally("duplicates") == 0


def test_events_of_a_newer_format_stay_in_the_queue_and_the_others_are_recorded(job):
    newer = '{"taskfleet":9999,"what":"nobody here knows"}'
    job.insert(3)
    worker = job.worker()
    job.work_off(worker)
    worker.close(job.now)
    job.queues.events.send([Outgoing(newer)])

    deadline = time.monotonic() + 60
    while job.counts() != {"succeeded": 3}:
        assert time.monotonic() < deadline
        with pytest.raises(NewerFormatError):
            job.until(lambda: False, "no message of a newer format has come")
        job.advance(LEASE_SECONDS)
    job.advance(LEASE_SECONDS)
    [message] = job.queues.events.receive(10, wait_seconds=5.0, lease_seconds=5.0)
    assert message.body == newer
    assert not set_aside_path(job.configuration.ledger_path).exists()
    job.queues.events.acknowledge([message.receipt])


def test_tasks_of_another_job_stay_in_the_queue_unchanged(job):
    other = pack(TaskMessage(job_id="other", ledger="1", tasks=[QueuedTask(1, "t", "{}")]))
    job.queues.tasks.send([Outgoing(other)])
    worker = job.worker()
    with pytest.raises(MisdirectedMessageError, match="Each job needs its own queue"):
        job.lease(worker, 1)
    worker.close(job.now)
    job.advance(LEASE_SECONDS + 1)
    [message] = job.queues.tasks.receive(10, wait_seconds=5.0, lease_seconds=5.0)
    assert message.body == other
    assert message.deliveries <= 1
    job.queues.tasks.acknowledge([message.receipt])


BINARY = b"\xff\xfe\x00" + bytes(range(256))


def test_bytes_that_are_no_text_are_set_aside_on_postgresql(postgresql, name, tmp_path):
    job = Job(postgresql, name, tmp_path)
    with postgresql.connect() as connection:
        for body in (BINARY, b"", b"x" * (3 << 20)):
            connection.execute(
                "INSERT INTO taskfleet_messages (queue_id, ready_at, body) SELECT id, now(), %s FROM taskfleet_queues WHERE name LIKE %s",
                (body, f"{name}%"),
            )
    _completes(job, foreign=3)


def test_bytes_that_are_no_text_and_attributes_that_are_not_ours_are_set_aside_on_pubsub(running, name, tmp_path):
    job = Job(running("pubsub"), name, tmp_path)
    attributes = [
        {},
        {"not_before": "soon", "delay_seconds": "nan"},
        {"not_before": "inf", "delay_seconds": "-inf"},
        {"not_before": "1e300", "delay_seconds": "1e300"},
    ]
    for transport in job.queues.both:
        one = [raw(types.PubsubMessage)(data=BINARY, attributes=each) for each in attributes]
        request = raw(types.PublishRequest)(topic=transport._topic, messages=one)
        transport._calls.one("Publisher/Publish", request, types.PublishResponse)
    _completes(job, foreign=len(attributes))


def _completes(job, foreign):
    job.insert(3)
    worker = job.worker()
    job.work_off(worker)
    worker.close(job.now)
    job.until_counts(succeeded=3)
    job.settle()
    found = kept(job)
    assert [len(found["tasks"]), len(found["events"])] == [foreign, foreign]
    assert max(len(body) for bodies in found.values() for body in bodies) < 100_000
    job.close()


def test_the_sample_of_a_queue_can_be_a_foreign_message(service, name, tmp_path):
    job = Job(service, name, tmp_path)
    with JobQueues(job.configuration) as queues:
        queues.tasks.send([Outgoing("hello")])
        found = contents(job.configuration)
        assert "taskfleet did not write" in found["sample"]["error"]
        job.advance(31)
        [message] = queues.tasks.receive(1, wait_seconds=5.0, lease_seconds=5.0)
        assert message.body == "hello"
    job.close()


def test_the_events_of_this_version_are_not_foreign_to_it(job):
    """Whatever a worker reports has to be inside what the monitor accepts."""
    job.insert(4)
    worker = job.worker()
    leases = job.lease(worker, 4)
    kinds = [
        Finished(0, 0, Outcome.RETRY, time.time(), 0.5, error="later", retry_delay_seconds=1e300),
        Finished(0, 0, Outcome.EXCEPTION, time.time(), 0.0, error="\x00\x1b é\uffff", retry_delay_seconds=NO_RETRY),
        Finished(0, 0, Outcome.EXIT, time.time(), 0.0, error="killed", output="x" * 5000, exit_code=3221225477),
        Finished(0, 0, Outcome.SUCCEEDED, time.time(), 0.0, result="[NaN, Infinity, 1e999]", peak_memory_mib=1e6),
    ]
    worker.finish(
        [one._replace(seq=lease.seq, attempt=lease.attempt) for lease, one in zip(leases, kinds, strict=True)], job.now
    )
    worker.close(job.now)
    job.until(lambda: job.database.value("SELECT count(*) FROM attempt") == 4, "four attempts")
    assert not set_aside_path(job.configuration.ledger_path).exists()
