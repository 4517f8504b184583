"""What every queue keeps to: the one in the ledger, and those at services. See ``taskfleet.queues.Queue``."""

import json
import time
from collections import Counter
from dataclasses import replace

import pytest
from taskfleet.messages.formats import NewerFormatError
from taskfleet.messages.tasks import pack, unpack
from taskfleet.queues.transport import Outgoing
from taskfleet.tasks import LAST_ATTEMPT, Outcome, State

from shared_lib.tests.queues.conftest import SERVICES
from shared_lib.tests.queues.jobs import LEASE_SECONDS, ended


def receive(transport):
    """Receive something."""
    messages = []
    while not messages:
        messages = transport.receive(10, wait_seconds=1.0, lease_seconds=LEASE_SECONDS)
    return messages


@pytest.mark.slow
class TestLeasing:
    def test_two_workers_have_every_task_once(self, new_job):
        job = new_job()
        job.insert(230)
        first, second = job.worker(), job.worker()
        leases = []
        for number in (1, 50, 7):
            leases += job.lease(first, number) + job.lease(second, number)
        first.finish([ended(lease) for lease in leases[:1]], job.now)
        del leases[0]
        assert len({lease.seq for lease in leases}) == len(leases) == 115
        held = {lease.seq for lease in leases}
        rest = {lease.seq for lease in job.work_off(first, seconds=5) + job.work_off(second, seconds=5)}
        assert not rest & held

    def test_done_is_done(self, new_job):
        job = new_job()
        job.insert(120)
        worker = job.worker()
        done = job.work_off(worker)
        assert {lease.task_id for lease in done} == {f"t{n}" for n in range(120)}
        assert {lease.attempt for lease in done} == {1}
        assert {lease.task_id: json.loads(lease.data) for lease in done} == {f"t{n}": {"n": n} for n in range(120)}
        job.until_counts(succeeded=120)
        assert not worker.count().leasable
        job.advance(2 * LEASE_SECONDS)
        assert job.work_off(job.worker()) == []
        assert job.tally("duplicates") == job.tally("lost") == 0

    @pytest.mark.parametrize("new_job", SERVICES, indirect=True)
    def test_a_task_sent_twice_is_run_once_by_a_worker(self, new_job):
        job = new_job()
        job.insert(1)
        [message] = receive(job.queues.tasks)
        job.queues.tasks.send([Outgoing(message.body)] * 3)
        job.queues.tasks.acknowledge([message.receipt])
        worker = job.worker()
        [lease] = job.lease(worker, 1)
        for _ in range(20):
            assert worker.lease(10, job.now) == []
            time.sleep(0.05)
        worker.finish([ended(lease)], job.now)
        job.until_counts(succeeded=1)
        assert job.tally("duplicates") == 0
        job.until(lambda: not worker.count().leasable, "the queue is not empty")

    def test_data_and_results_are_carried_as_they_are(self, new_job):
        job = new_job()
        texts = ["", "ä€𝄞", "\u0000\u0001\u001f", "\uffff\ufffe", "line\nbreak\r\n", '{"a": "\\u0041"}', "x" * 150_000]
        job.insert({f"id {n} é": {"text": text} for n, text in enumerate(texts)})
        worker = job.worker()
        leases = job.lease(worker, len(texts))
        assert {lease.task_id: json.loads(lease.data)["text"] for lease in leases} == {
            f"id {n} é": text for n, text in enumerate(texts)
        }
        worker.finish([ended(lease, result=lease.data) for lease in leases], job.now)
        job.until_counts(succeeded=len(texts))
        for lease in leases:
            assert job.task(lease.task_id).attempts[-1].result == lease.data

    def test_leased_tasks_show_as_running(self, new_job):
        job = new_job()
        job.insert(3)
        leases = job.lease(job.worker(), 3)
        assert len(leases) == 3
        job.until_counts(running=3)


@pytest.mark.slow
class TestFailing:
    def test_a_failure_is_tried_again_up_to_its_cap(self, new_job):
        job = new_job(RETRIES_ON_EXIT=2)
        job.insert(30)
        worker = job.worker()
        tries = Counter(lease.task_id for lease in job.work_off(worker, outcome=Outcome.EXIT))
        assert tries == {f"t{n}": 3 for n in range(30)}
        job.until_counts(failed=30)
        task = job.task("t7")
        assert [one.outcome for one in task.attempts] == [Outcome.EXIT] * 3
        assert task.kind is Outcome.EXIT
        assert job.tally("retries") == 60

    def test_kinds_of_failure_are_counted_apart(self, new_job):
        job = new_job(RETRIES_ON_EXIT=1, RETRIES_ON_TIMEOUT=1, RETRIES_ON_EXCEPTION=0)
        job.insert(1)
        worker = job.worker()
        for attempt, outcome in enumerate((Outcome.EXIT, Outcome.TIMEOUT, Outcome.EXCEPTION), 1):
            [lease] = job.lease(worker, 1)
            assert lease.attempt == attempt
            worker.finish([ended(lease, outcome)], job.now)
        job.until_counts(failed=1)

    def test_a_retry_is_delayed(self, new_job):
        job = new_job(RETRIES_ON_EXCEPTION=1, RETRY_DELAY_SECONDS=200, RETRY_DELAY_MAX_SECONDS=200)
        job.insert(1)
        worker = job.worker()
        [lease] = job.lease(worker, 1)
        report = worker.finish([ended(lease, Outcome.EXCEPTION)], job.now)
        [delay] = report.retry_delay_seconds.values()
        assert 100 <= delay <= 200
        assert job.work_off(worker, seconds=2) == []
        job.until(lambda: len(job.task("t0").attempts) == 1, "the first attempt is recorded")
        [again] = job.lease_later(worker if job.is_remote else job.worker(), 201)
        assert again.attempt == 2

    def test_an_interruption_does_not_count_as_an_attempt(self, new_job):
        job = new_job(RETRIES_ON_EXCEPTION=0)
        job.insert(1)
        worker = job.worker()
        for _ in range(5):
            [lease] = job.lease(worker, 1)
            worker.finish([ended(lease, Outcome.INTERRUPTED)], job.now)
        [lease] = job.lease(worker, 1)
        assert lease.attempt == 6
        worker.finish([ended(lease)], job.now)
        job.until_counts(succeeded=1)
        assert job.tally("retries") == 0

    @pytest.mark.parametrize("new_job", SERVICES, indirect=True)
    def test_attempts_are_numbered_up_to_the_last_number_that_the_ledger_keeps(self, new_job):
        """Attempt 1000 would have the ledger's key of the next task's attempt 0."""
        job = new_job(RETRIES_ON_EXIT=900)
        job.insert(1)
        [message] = receive(job.queues.tasks)
        sent = unpack(message.body)
        late = replace(sent, tasks=[one._replace(attempt=LAST_ATTEMPT - 2) for one in sent.tasks])
        job.queues.tasks.send([Outgoing(pack(late))])
        job.queues.tasks.acknowledge([message.receipt])
        worker = job.worker()
        for outcome, number in (
            (Outcome.EXIT, LAST_ATTEMPT - 1),
            (Outcome.INTERRUPTED, LAST_ATTEMPT),
            (Outcome.EXIT, LAST_ATTEMPT),
        ):
            [lease] = job.lease(worker, 1)
            assert lease.attempt == number
            report = worker.finish([ended(lease, outcome)], job.now)
            assert bool(report.retry_delay_seconds) == (number < LAST_ATTEMPT)
        job.until_counts(failed=1)
        assert [one.number for one in job.task("t0").attempts] == [LAST_ATTEMPT - 1, LAST_ATTEMPT]


@pytest.mark.slow
@pytest.mark.parametrize("new_job", SERVICES, indirect=True)
class TestNewerVersions:
    def test_a_worker_leaves_a_message_of_a_newer_version_to_others_and_ends_when_its_own_tasks_have(self, new_job):
        job = new_job(TASKS_PER_MESSAGE=1)
        job.insert(3)
        worker = job.worker()
        leases = job.lease(worker, 3)
        newer = '{"taskfleet":9999,"what":"nobody here knows"}\n{}'
        job.queues.tasks.send([Outgoing(newer)])
        for _ in range(30):
            assert worker.lease(1, job.now) == []
            time.sleep(0.1)
        worker.finish([ended(lease) for lease in leases], job.now)
        with pytest.raises(NewerFormatError):
            worker.lease(1, job.now)
        worker.close(job.now)
        job._workers.remove(worker)
        job.until_counts(succeeded=3)
        [message] = receive(job.queues.tasks)
        assert (message.body, max(message.deliveries, 1)) == (newer, 1)


@pytest.mark.slow
class TestGivingBack:
    def test_tasks_given_back_are_available_at_once_without_a_recorded_attempt(self, new_job):
        job = new_job()
        job.insert(60)
        first, second = job.worker(), job.worker()
        job.lease(first, 20)
        first.give_back(job.lease(first, 30))
        others = job.work_off(second, seconds=8)
        assert len(others) == 40
        assert {lease.attempt for lease in others} == {1}
        job.until_counts(succeeded=40, running=20)

    def test_a_worker_that_ends_leaves_nothing_behind(self, new_job):
        job = new_job()
        job.insert(60)
        first = job.worker()
        leases = job.lease(first, 5)
        first.finish([ended(lease) for lease in leases], job.now)
        first.close(job.now)
        job._workers.remove(first)
        assert len(job.work_off(job.worker())) == 55
        job.until_counts(succeeded=60)
        assert job.tally("lost") == job.tally("duplicates") == 0


@pytest.mark.slow
class TestDying:
    def test_the_tasks_of_a_dead_worker_go_to_another(self, new_job):
        job = new_job(TASKS_PER_MESSAGE=1)
        job.insert(10)
        process, leased = job.worker_with(4)
        job.kill(process)
        done = job.work_off(job.worker())
        assert {lease.task_id for lease in done} == {f"t{n}" for n in range(10)}
        assert {lease.attempt for lease in done if lease.task_id in {one[2] for one in leased}} == {2}
        job.until_counts(succeeded=10)
        assert job.tally("lost") >= 4
        for _, _, task_id, *_ in leased:
            assert [one.outcome for one in job.task(task_id).attempts] == [Outcome.LOST, Outcome.SUCCEEDED]

    def test_all_tasks_of_a_dead_workers_messages_are_done_by_others(self, new_job):
        job = new_job(TASKS_PER_MESSAGE=100)
        job.insert(250)
        process, leased = job.worker_with(150)
        job.kill(process)
        done = job.work_off(job.worker())
        assert Counter(lease.task_id for lease in done) == {f"t{n}": 1 for n in range(250)}
        job.until_counts(succeeded=250)
        assert 150 <= job.tally("lost") <= 250
        assert job.tally("lost") == job.tally("retries")
        assert job.tally("duplicates") == 0
        for _, _, task_id, *_ in leased:
            assert [one.outcome for one in job.task(task_id).attempts] == [Outcome.LOST, Outcome.SUCCEEDED]

    @pytest.mark.parametrize("new_job", SERVICES, indirect=True)
    def test_tasks_that_a_dead_worker_had_done_do_not_count_as_lost(self, new_job):
        """The whole message comes again, so they run again."""
        job = new_job(TASKS_PER_MESSAGE=50)
        job.insert(50)
        process, _ = job.worker_until("t17")
        job.settle()
        assert job.counts() == {"succeeded": 17, "running": 1, "pending": 32}
        job.kill(process)
        job.work_off(job.worker())
        job.until_counts(succeeded=50)
        job.until(lambda: job.tally("duplicates") == 17, "not 17 duplicates")
        assert job.tally("lost") == 33
        assert {len(job.task(f"t{n}").attempts) for n in range(17)} == {1}

    def test_a_task_that_kills_its_workers_fails_and_others_do_not(self, new_job):
        job = new_job(TASKS_PER_MESSAGE=50, RETRIES_ON_LOST=1)
        job.insert(50)
        for _ in range(12):
            process, found = job.worker_until("t17")
            if found is None:
                break
            job.kill(process)
        job.until_counts(succeeded=49, failed=1)
        poisoned = job.task("t17")
        assert poisoned.state is State.FAILED
        assert poisoned.kind is Outcome.LOST
