"""What a worker over a service decides reaches the service in an order that loses nothing, whatever fails in between."""

import threading
import time

import pytest
from taskfleet.errors import CredentialsError, UnreachableError
from taskfleet.messages import events, tasks
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.queues.in_flight import InFlightMessages
from taskfleet.queues.outbox import Delivery, Outbox
from taskfleet.queues.transport import Outgoing
from taskfleet.tasks import SUSPECT_LOSSES, Finished, Outcome, WorkerEnd

from shared_lib.tests.queues.jobs import LEASE_SECONDS, ended, worker_queue

PATIENCE_SECONDS = 40.0


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def has_tasks(body):
    """Whether it is a message of tasks, not of events."""
    return '"tasks"' in body.partition("\n")[0]


class Watched:
    """A transport that records its calls, fails on request, and blocks while its gate is closed."""

    def __init__(self, transport, log):
        self._transport = transport
        self._log = log

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def send(self, messages):
        self._do("send", [message.body for message in messages], lambda: self._transport.send(messages))

    def acknowledge(self, receipts):
        self._do("acknowledge", list(receipts), lambda: self._transport.acknowledge(receipts))

    def _do(self, verb, what, action):
        assert self._log.gate.wait(PATIENCE_SECONDS)
        self._log.calls += 1
        fails = self._log.calls == self._log.failing
        if fails and self._log.fails_before:
            raise UnreachableError("the network is away")
        action()
        self._log.done.append((verb, what))
        if fails:
            raise UnreachableError("the answer was lost")


class Log:
    """What happened to the transports of a worker."""

    def __init__(self, failing=0, fails_before=True):
        self.failing = failing
        self.fails_before = fails_before
        self.calls = 0
        self.done = []
        self.gate = threading.Event()
        self.gate.set()

    def open(self, job):
        """Open the queue of a job as a worker whose transports are watched."""
        queue = worker_queue(
            job.configuration, "watched", job.now, lambda name: Watched(job.service.transport(name), self)
        )
        job._workers.append(queue)
        return queue


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
@pytest.mark.parametrize("fails_before", [True, False], ids=["not done", "done, the answer lost"])
@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_successors_are_published_and_ends_reported_before_a_message_is_dropped(new_job, failing, fails_before):
    job = new_job(RETRIES_ON_EXIT=1, TASKS_PER_MESSAGE=3)
    job.insert(3)
    log = Log(fails_before=fails_before)
    worker = log.open(job)
    leases = job.lease(worker, 3)
    until(lambda: log.done, "that they are leased was not reported")
    log.failing = log.calls + failing if failing else 0
    done = len(log.done)
    outcomes = {"t0": Outcome.SUCCEEDED, "t1": Outcome.EXIT, "t2": Outcome.EXIT}
    worker.finish([ended(lease, outcomes[lease.task_id]) for lease in leases], job.now)
    until(lambda: log.done[-1][0] == "acknowledge", f"the message is still there: {log.done}")
    published, reported = set(), set()
    for verb, what in log.done[done:]:
        if verb == "acknowledge":
            break
        for body in what:
            if has_tasks(body):
                published |= {task.task_id for task in tasks.unpack(body).tasks}
            else:
                assert published == {"t1", "t2"}
                reported |= {leases[one.finished.seq - 1].task_id for one in events.unpack(body).ended}
    assert verb == "acknowledge"
    assert published == {"t1", "t2"}
    assert reported == {"t0", "t1", "t2"}
    job.work_off(worker)
    job.until_counts(succeeded=3)


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_a_task_that_may_kill_its_worker_is_leased_only_after_the_outbox_is_flushed(new_job):
    job = new_job(RETRIES_ON_LOST=9)
    job.insert(2)
    found = []
    while len(found) < 2:
        for message in job.queues.tasks.receive(10, wait_seconds=1.0, lease_seconds=30):
            found += tasks.unpack(message.body).tasks
            ledger = tasks.unpack(message.body).ledger
            job.queues.tasks.acknowledge([message.receipt])
    suspects = TaskMessage(
        job_id=job.name, ledger=ledger, tasks=[task.after(2, Outcome.LOST, SUSPECT_LOSSES) for task in found]
    )
    log = Log()
    worker = log.open(job)
    worker.lease(2, job.now)
    log.gate.clear()
    job.queues.tasks.send([Outgoing(tasks.pack(suspects))])
    leases = []
    until(lambda: leases.extend(worker.lease(2, job.now)) or worker._outbox.is_sending, "they have not come")
    assert leases + worker.lease(2, job.now) == []  # one is sent back, and the other one could take it along
    log.gate.set()
    [first] = job.lease(worker, 1)
    [sent] = [body for verb, what in log.done if verb == "send" for body in what if has_tasks(body)]
    assert {first.task_id} | {task.task_id for task in tasks.unpack(sent).tasks} == {"t0", "t1"}
    worker.finish([ended(first)], job.now)
    [second] = job.lease(worker, 1)
    assert {first.task_id, second.task_id} == {"t0", "t1"}
    worker.finish([ended(second)], job.now)
    job.until_counts(succeeded=2)
    assert job.tally("lost") == 0


@pytest.mark.parametrize("new_job", ["sqs"], indirect=True)
def test_a_worker_whose_last_reports_are_rejected_raises_when_it_closes(new_job):
    job = new_job()
    job.insert(1)
    log = Log()
    worker = log.open(job)
    [lease] = job.lease(worker, 1)
    log.gate.clear()
    worker.finish([ended(lease)], job.now)
    job.service.fault("SendMessageBatch", code="ExpiredToken", status=403, times=None)
    log.gate.set()
    job._workers.remove(worker)
    with pytest.raises(CredentialsError):
        worker.close(job.now)
    worker.close(job.now)  # once is enough
    job.service.clear_faults()
    job.advance(LEASE_SECONDS + 1)
    assert [lease.attempt for lease in job.work_off(job.worker())] == [2]
    job.until_counts(succeeded=1)


def test_a_closed_outbox_gives_all_it_has_and_then_nothing():
    outbox = Outbox()
    assert outbox.take(0) == Delivery()
    outbox.close(WorkerEnd.PREEMPTED)
    taken = outbox.take(60.0)
    assert taken.end is WorkerEnd.PREEMPTED
    assert outbox.take(60.0) is None


def test_the_lease_of_an_attempt_is_not_reported_after_its_end_or_return():
    outbox = Outbox()
    decided = Delivery()
    decided.report_to("l").leased.update(dict.fromkeys([(1, 1), (2, 1), (3, 1)]))
    outbox.add(decided)
    decided = Delivery()
    decided.report_ended("l", Finished(1, 1, Outcome.SUCCEEDED, 0.0, 0.0), None)
    decided.report_to("l").returned += [(2, 1), (4, 1)]
    outbox.add(decided)
    report = outbox.take(0).reports["l"]
    assert list(report.leased) == [(3, 1)]
    assert report.returned == [(4, 1)]
    assert [one.finished.key for one in report.ended] == [(1, 1)]


def test_a_message_that_was_handed_over_is_not_lost_with_its_old_lease():
    held = InFlightMessages("w", lease_seconds=30.0)
    old = held.add("old", received_at=0.0, longest_lease_seconds=100.0)
    assert held.put(old, QueuedTask(1, "t", "{}"), ledger="l")
    [given] = held.hand_over(101.0)
    held.renewed(["old"], {"old"}, 10.0)
    assert not held.find((1, 1)).is_lost
    new = held.add("new", received_at=50.0, longest_lease_seconds=100.0)
    assert held.take_back(given.claim, new)
    assert held.release(new) is None
    assert held.to_renew(60.0) == ["new"]
    task, receipt = held.remove((1, 1))
    assert (task.ledger, receipt) == ("l", "new")
    assert held.to_renew(60.0) == []
