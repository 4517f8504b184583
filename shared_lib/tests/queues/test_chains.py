"""Chains of tasks over services: each task is sent by the worker of the one before, whether or not the ledger's computer is on."""

import json
import select
import time

import pytest
from taskfleet.ledger import calls, cancelling, chaining, checks, control, recording, repair, sending
from taskfleet.ledger.calls import Call
from taskfleet.ledger.cancelling import Selection
from taskfleet.messages.control import ControlDocument, pack
from taskfleet.messages.events import unpack
from taskfleet.queues import sender
from taskfleet.queues.job import JobQueues
from taskfleet.references import Store, decode
from taskfleet.tasks import Outcome

from shared_lib.tests.queues.jobs import PATIENCE_SECONDS, ended

SERVICES = ["sqs", "pubsub", "postgresql"]
every_service = pytest.mark.parametrize("new_job", SERVICES, indirect=True)
one_service = pytest.mark.parametrize("new_job", ["postgresql"], indirect=True)


def insert(job, *levels, width=1, function="task:f"):
    """Insert maps over maps, named by letters; the tasks of ``a`` are a0, a1, …"""
    function_id = calls.register_function(job.database, function)
    above = []
    for place, name in enumerate(levels):
        of_level = [
            Call(
                f"{name}{n}",
                f'{{"x":{{"$task":"{levels[place - 1]}{n}"}}}}' if place else json.dumps({"n": n}),
                function_id,
            )
            for n in range(width)
        ]
        above = calls.insert_calls(job.database, of_level, **({"pairs": above} if place else {})).seqs
    job.queues.send_unsent(job.database)


def run(
    worker, job, total, outcome_of=lambda lease: Outcome.SUCCEEDED, result_of=lambda lease: json.dumps(lease.task_id)
):
    """Run so many attempts, without the ledger; return their leases in order."""
    leases, deadline = [], time.monotonic() + PATIENCE_SECONDS
    while len(leases) < total:
        assert time.monotonic() < deadline, f"{len(leases)} of {total}: {[one.task_id for one in leases]}"
        found = worker.lease(10, job.now)
        worker.finish([ended(one, outcome_of(one), result=result_of(one)) for one in found], job.now)
        leases += found
        time.sleep(0.005)
    return leases


def run_monitored(worker, job, total):
    """The same, with events recorded meanwhile, so that what is released is sent."""
    leases = []
    while len(leases) < total:
        job.settle()
        leases += run(worker, job, 1)
    return leases


def publish(job):
    """Tell workers what the user asks of them."""
    with JobQueues(job.configuration) as queues:
        queues.publish(job.database)


def names(leases):
    return [(one.task_id, one.attempt) for one in leases]


def drained(worker, job):
    """Run what there is until nothing has come for a while; return the leases."""
    return job.work_off(worker)


def is_sound(job):
    assert [one for one in checks.check(job.database) if not one.is_ok] == []


@every_service
def test_a_map_over_a_map_over_a_map_ends_without_the_ledger(new_job):
    job = new_job()
    insert(job, "a", "b", "c", width=30)
    leases = run(job.worker(), job, 90)
    order = [one.task_id for one in leases]
    assert len(set(order)) == 90
    for n in range(30):
        assert order.index(f"a{n}") < order.index(f"b{n}") < order.index(f"c{n}")
    data = {one.task_id: json.loads(one.data) for one in leases}
    assert data["b7"] == {"x": "a7"}
    assert data["c29"] == {"x": "b29"}
    assert {one.function for one in leases} == {"task:f"}
    assert job.counts() == {"pending": 30, "waiting": 60}
    job.until_counts(succeeded=90)
    assert job.database.value("SELECT count(*) FROM attempt") == 90
    assert job.database.value("SELECT count(*) FROM chained") == 0
    assert job.tally("duplicates") == 0
    is_sound(job)
    assert drained(job.worker(), job) == []


@every_service
def test_the_ledger_sends_nothing_that_a_worker_has_sent(new_job):
    job = new_job()
    insert(job, "a", "b", "c", width=5)
    worker = job.worker()
    leases = []
    while len(leases) < 15:
        leases += run(worker, job, 1)
        job.settle()
        assert sending.count_unsent(job.database) == 0
    job.until_counts(succeeded=15)
    assert drained(worker, job) == []
    assert job.tally("duplicates") == 0


@one_service
def test_a_retry_of_a_child_has_the_rest_of_the_chain(new_job):
    job = new_job(RETRIES_ON_EXCEPTION=1)
    insert(job, "a", "b", "c")

    def fails_first(lease):
        return Outcome.EXCEPTION if lease.attempt == 1 else Outcome.SUCCEEDED

    leases = run(job.worker(), job, 6, fails_first)
    assert names(leases) == [(name, attempt) for name in ("a0", "b0", "c0") for attempt in (1, 2)]
    job.until_counts(succeeded=3)
    assert job.tally("retries") == 3
    is_sound(job)


@one_service
def test_the_failure_of_a_child_fails_what_is_below_and_a_retry_goes_on_without_the_ledger(new_job):
    job = new_job(RETRIES_ON_EXCEPTION=0)
    insert(job, "a", "b", "c", "d")
    worker = job.worker()
    run(worker, job, 2, lambda lease: Outcome.EXCEPTION if lease.task_id == "b0" else Outcome.SUCCEEDED)
    job.until_counts(succeeded=1, failed=3)
    assert job.task("d0").kind is Outcome.UPSTREAM
    assert drained(worker, job) == []
    assert repair.retry(job.database, ids=["b0"]) == 1
    job.queues.send_unsent(job.database)
    assert names(run(worker, job, 3)) == [("b0", 2), ("c0", 1), ("d0", 1)]
    job.until_counts(succeeded=4)
    assert drained(worker, job) == []
    is_sound(job)


@every_service
def test_the_worker_of_a_chain_may_die_anywhere_and_its_task_is_run_again(new_job):
    job = new_job(RETRIES_ON_LOST=3)
    insert(job, "a", "b", "c")
    process, lease = job.worker_until("b0")
    assert lease[0][2] == "b0"
    job.kill(process)
    leases = drained(job.worker(), job)
    assert [one.task_id for one in leases][-2:] == ["b0", "c0"]
    assert json.loads(leases[-1].data) == {"x": None}
    job.until_counts(succeeded=3)
    is_sound(job)


@one_service
def test_after_a_parent_that_ran_twice_the_first_success_of_each_task_counts(new_job):
    job = new_job()
    insert(job, "a", "b", "c")
    worker = job.worker()
    twice = job.lease(worker, 1)
    job.database.execute("INSERT INTO unsent (seq) VALUES (?)", (twice[0].seq,))  # as after a sender that died
    job.queues.send_unsent(job.database)
    other = job.worker()
    twice += job.lease(other, 1)
    assert names(twice) == [("a0", 1), ("a0", 1)]
    for queue, lease in zip((worker, other), twice, strict=True):
        queue.finish([ended(lease)], job.now)
    leases = drained(worker, job) + drained(other, job)
    assert names(leases).count(("b0", 1)) in (1, 2)  # whether one worker had both messages at a time
    assert {one.task_id for one in leases} == {"b0", "c0"}
    job.until_counts(succeeded=3)
    assert [one.outcome for one in job.task("c0").attempts] == [Outcome.SUCCEEDED]
    assert drained(job.worker(), job) == []
    is_sound(job)


@one_service
def test_events_that_come_late_or_in_another_order_release_each_task_once(new_job):
    job = new_job(RETRIES_ON_EXCEPTION=1)
    insert(job, "a", "b", "c", width=2)
    first, second = job.worker(), job.worker()
    run(first, job, 2)
    first.close(job.now)
    job._workers.remove(first)
    others = run(
        second,
        job,
        6,
        lambda one: Outcome.EXCEPTION if one.attempt == 1 and one.task_id[0] == "b" else Outcome.SUCCEEDED,
    )
    assert {one.task_id[0] for one in others} == {"b", "c"}
    second.close(job.now)
    job._workers.remove(second)
    events = job.queues.events
    held = []
    while messages := events.receive(50, wait_seconds=1.0, lease_seconds=60.0):
        held += messages
    events.acknowledge([one.receipt for one in held])
    for one in [*reversed(held), *held]:
        recording.record(job.database, unpack(one.body), now=time.time())
        is_sound(job)
    assert job.counts() == {"succeeded": 6}
    assert sending.count_unsent(job.database) == 0
    assert job.database.value("SELECT count(*) FROM attempt") == 8


@one_service
def test_what_is_too_large_for_a_message_is_left_to_the_ledger(new_job, tmp_path):
    job = new_job(RESULTS_PATH=tmp_path / "shared")
    job.queues.tasks.most_message_bytes = 15_000  # of the real limits, one is 8 MiB
    insert(job, "a", "b", "c")
    worker = job.worker()
    worker._most_message_bytes = 15_000
    text = "x" * 15_000
    assert names(run(worker, job, 1, result_of=lambda lease: json.dumps(text))) == [("a0", 1)]
    assert drained(worker, job) == []
    job.until(lambda: job.counts() == {"succeeded": 1, "pending": 1, "waiting": 1}, "not released")
    leases = run(worker, job, 2)
    assert names(leases) == [("b0", 1), ("c0", 1)]
    assert decode(leases[0].data, Store(tmp_path / "shared")) == {"x": text}
    job.until_counts(succeeded=3)


@one_service
def test_a_chain_waits_for_what_a_task_returned_calls_of(new_job):
    job = new_job()
    insert(job, "a", "b", "c")
    worker = job.worker()
    calls_of = json.dumps({"$calls": {"value": '[{"$task":"part"}]', "calls": [["part", "task:f", '{"n":1}']]}})
    assert names(run(worker, job, 1, result_of=lambda lease: calls_of.replace(": ", ":"))) == [("a0", 1)]
    job.until(lambda: job.counts() == {"pending": 1, "waiting": 3}, "no part")
    leases = run_monitored(worker, job, 3)
    assert names(leases) == [("part", 1), ("b0", 1), ("c0", 1)]
    assert json.loads(leases[1].data) == {"x": ["part"]}
    job.until_counts(succeeded=4)
    is_sound(job)


@one_service
def test_a_cancelled_task_of_a_chain_is_not_run_by_the_worker_that_has_its_parent(new_job):
    job = new_job()
    insert(job, "a", "b", "c")
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    cancelling.cancel(job.database, Selection(ids=["b0"]))
    publish(job)
    job.until(lambda: worker._is_cancelled(recording.token(job.database), lease.seq + 1), "not told")
    worker.finish([ended(lease)], job.now)
    assert drained(worker, job) == []
    job.until_counts(succeeded=1, killed=2)
    assert repair.retry(job.database, killed=True) == 1
    publish(job)
    job.until(lambda: not worker._is_cancelled(recording.token(job.database), lease.seq + 1), "not told")
    job.queues.send_unsent(job.database)
    assert names(run(worker, job, 2)) == [("b0", 1), ("c0", 1)]  # the killed one had not begun
    job.until_counts(succeeded=3)
    is_sound(job)


def run_rest(worker, job):
    """Run what is due, as a task whose result was recorded before that of the one above, which had been killed; return the counts."""
    worker.finish([ended(one) for one in worker.lease(10, job.now)], job.now)
    return job.counts()


def purge(job):
    """Do what ``poe purge_queue`` does."""
    n = repair.purge(job.database)
    with JobQueues(job.configuration) as queues:
        queues.purge(job.database)
    return n


@every_service
def test_a_purge_stops_a_chain_that_has_gone_further_than_the_ledger_knows(new_job):
    job = new_job()
    insert(job, "a", "b", "c", "d", "e")
    worker, began = job.worker(), sending.held_back_until(job.database)
    assert names(run(worker, job, 1)) == [("a0", 1)]
    [lease] = job.lease(worker, 1)
    assert lease.task_id == "b0"
    assert job.counts() == {"pending": 1, "waiting": 4}  # all that the ledger knows
    assert purge(job) == 5
    assert sending.held_back_until(job.database) > began
    epoch = chaining.current_epoch(job.database)
    job.until(
        lambda: worker._control.document is not None and worker._control.document.chain_epoch == epoch, "not told"
    )
    worker.finish([ended(lease, result='"b"')], job.now)
    job.until(lambda: worker._outbox.is_flushed, "not sent")  # or the lease of b0 would run out
    job.advance(61)  # SQS deletes for a minute what is sent
    assert {one.task_id for one in drained(worker, job)} <= {
        "b0"
    }  # which may be delivered twice, if its lease ran out on a busy machine
    job.until_counts(succeeded=2, killed=3)
    is_sound(job)
    assert repair.retry(job.database, killed=True) > 0
    sending.hold_back(job.database, 0.0)
    job.queues.send_unsent(job.database)
    leases = run(worker, job, 3)  # with chains of the new epoch, which go on
    assert names(leases) == [("c0", 1), ("d0", 1), ("e0", 1)]
    assert leases[0].data == '{"x":"b"}'
    job.until(lambda: run_rest(worker, job) == {"succeeded": 5}, "not done")
    is_sound(job)


@one_service
def test_a_document_of_another_ledger_stops_no_chain(new_job):
    job = new_job()
    insert(job, "a", "b")
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    document = ControlDocument(job_id=job.configuration.settings.job_id, ledger="0.5", version=9, chain_epoch=9)
    with JobQueues(job.configuration) as queues:
        queues._open_control().write(pack(document))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while getattr(worker._control.document, "chain_epoch", 0) != 9:  # without the monitor, which would replace it
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.finish([ended(lease)], job.now)
    assert names(run(worker, job, 1)) == [("b0", 1)]
    job.until_counts(succeeded=2)


@one_service
def test_a_paused_job_stops_a_chain_and_goes_on_with_it(new_job):
    job = new_job()
    insert(job, "a", "b")
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    control.set_paused(job.database, True)
    publish(job)
    job.until(lambda: worker.orders().is_paused, "not told")
    worker.finish([ended(lease)], job.now)
    worker.give_back([])  # as a paused worker does with what it has prefetched
    job.until_counts(succeeded=1, pending=1)
    control.set_paused(job.database, False)
    publish(job)
    assert names(run(job.worker(), job, 1)) == [("b0", 1)]


@one_service
def test_a_stopped_worker_leaves_the_next_task_in_the_queue(new_job):
    job = new_job()
    insert(job, "a", "b")
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    worker.finish([ended(lease, result="7")], job.now)
    worker.close(job.now)
    job._workers.remove(worker)
    [lease] = run(job.worker(), job, 1)
    assert (lease.task_id, lease.data) == ("b0", '{"x":7}')


@one_service
def test_an_idle_worker_is_woken_when_the_next_task_has_arrived(new_job):
    job = new_job()
    insert(job, "a", "b")
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    worker.arrivals.clear()
    worker.finish([ended(lease)], job.now)
    assert worker.lease(1, job.now) == []
    assert select.select([worker.arrivals], [], [], PATIENCE_SECONDS)[0]
    assert [one.task_id for one in worker.lease(1, job.now)] == ["b0"]


@one_service
def test_the_next_task_is_sent_at_once_if_a_slot_waits_for_it(new_job, monkeypatch):
    monkeypatch.setattr(sender, "FLUSH_SECONDS", 600.0)
    job = new_job(LEASE_SECONDS=10_000)  # the sender also wakes up to extend leases
    insert(job, "a", "b", "c", "d")
    assert [name for name, _ in names(run(job.worker(), job, 4))] == ["a0", "b0", "c0", "d0"]
