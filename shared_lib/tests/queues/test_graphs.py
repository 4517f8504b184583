"""Graphs over every kind of queue: a task comes once its parents have succeeded, with their results."""

import json
import subprocess
import sys
import time

import pytest
from taskfleet.errors import StoreError
from taskfleet.ledger import calls, counters, moving, repair, sending
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.processes.identity import identity
from taskfleet.queues.job import JobQueues
from taskfleet.references import Store, decode
from taskfleet.tasks import Outcome, State

from shared_lib.tests.queues.jobs import PATIENCE_SECONDS, ended


def insert(job, number, function="task:f"):
    """Insert a map ``a``, a map ``b`` over it and a reduce ``sum``; return the number of the tasks."""
    database = job.database
    function_id = calls.register_function(database, function)
    first = [Call(f"a{n}", json.dumps({"n": n}), function_id) for n in range(number)]
    a = calls.insert_calls(database, first).seqs
    second = [Call(f"b{n}", f'{{"x":{{"$task":"a{n}"}}}}', function_id) for n in range(number)]
    b = calls.insert_calls(database, second, pairs=a).seqs
    calls.register_map(database, "m", [(b[0], b[-1])])
    reduce = Call("sum", '{"xs":{"$results":"m"}}', function_id, (Parents(b[0], b[-1]),))
    calls.insert_calls(database, [reduce])
    if job.is_remote:
        job.queues.send_unsent(database)
    return 2 * number + 1


def run(job, worker, total, result_of, outcome_of=lambda lease: Outcome.SUCCEEDED):
    """Run tasks until so many attempts have ended, with events recorded meanwhile; return the leases in their order."""
    leases, deadline = [], time.monotonic() + PATIENCE_SECONDS
    while len(leases) < total:
        assert time.monotonic() < deadline, f"{len(leases)} of {total}: {job.counts()}"
        found = worker.lease(5, job.now)
        worker.finish([ended(one, outcome_of(one), result=result_of(one)) for one in found], job.now)
        leases += found
        job.settle()
    return leases


def test_a_graph_runs_level_by_level_with_the_results_of_the_parents(new_job):
    job = new_job()
    total = insert(job, 12)
    leases = run(job, job.worker(), total, lambda lease: str(len(lease.data)))
    assert {lease.function for lease in leases} == {"task:f"}
    order = [lease.task_id for lease in leases]
    assert len(set(order)) == total
    for n in range(12):
        assert order.index(f"a{n}") < order.index(f"b{n}") < order.index("sum")
    by_id = {lease.task_id: json.loads(lease.data) for lease in leases}
    assert by_id["b3"] == {"x": len('{"n": 3}')}
    assert by_id["sum"] == {"xs": [len('{"x":8}')] * 12}
    job.until_counts(succeeded=total)


def test_a_failure_spares_the_other_branches_and_a_retry_sends_the_rest(new_job):
    job = new_job(RETRIES_ON_EXCEPTION=0)
    insert(job, 3)
    worker = job.worker()

    def fails(lease):
        return Outcome.EXCEPTION if lease.task_id == "a1" else Outcome.SUCCEEDED

    run(job, worker, 5, lambda _: "1", fails)
    job.until_counts(succeeded=4, failed=3)
    assert repair.retry(job.database, ids=["a1"]) == 1
    if job.is_remote:
        job.queues.send_unsent(job.database)
    assert [one.task_id for one in run(job, worker, 3, lambda _: "1")] == ["a1", "b1", "sum"]
    job.until_counts(succeeded=7)


def test_a_retried_task_keeps_its_function_and_its_data(new_job):
    job = new_job(RETRIES_ON_EXCEPTION=1)
    insert(job, 1)
    failed = set()

    def fails_first(lease):
        failed.add(lease.key)
        return Outcome.EXCEPTION if lease.attempt == 1 else Outcome.SUCCEEDED

    leases = run(job, job.worker(), 6, lambda _: "7", fails_first)
    assert [(one.task_id, one.attempt, one.function) for one in leases] == [
        (name, attempt, "task:f") for name in ("a0", "b0", "sum") for attempt in (1, 2)
    ]
    assert {one.data for one in leases if one.task_id == "b0"} == {'{"x":7}'}


@pytest.mark.parametrize("new_job", ["sqs", "pubsub", "postgresql"], indirect=True)
def test_arguments_that_are_too_large_for_a_message_are_a_file(new_job, tmp_path):
    job = new_job(RESULTS_PATH=tmp_path / "shared")
    job.queues.tasks.most_message_bytes = 15_000  # of the real limits, one is 128 MiB
    text = "x" * 1500
    insert(job, 12)
    worker = job.worker()
    leases = run(job, worker, 25, lambda lease: json.dumps(text if lease.task_id[0] == "b" else 1))
    [reduce] = [one for one in leases if one.task_id == "sum"]
    assert reduce.data.startswith('{"$file":')
    assert decode(reduce.data, Store(tmp_path / "shared")) == {"xs": [text] * 12}
    job.until_counts(succeeded=25)


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_without_a_place_for_large_arguments_the_setting_is_named_and_the_rest_goes_on(new_job, capfd, tmp_path):
    job = new_job()
    job.queues.tasks.most_message_bytes = 15_000
    insert(job, 12)
    worker = job.worker()
    run(job, worker, 24, lambda lease: json.dumps("x" * 1500 if lease.task_id[0] == "b" else 1))
    job.until(lambda: counters.by_state(job.database)[State.PENDING] == 1, "not released")
    job.settle()
    with pytest.raises(StoreError, match="Set RESULTS_PATH to a bucket"):
        job.queues.send_unsent(job.database)
    said = capfd.readouterr().err
    assert said.count("Set RESULTS_PATH to a bucket") == 1
    assert sending.count_unsent(job.database) == 1
    with JobQueues(job.configuration) as queues:  # whose messages may be as large as the service allows
        assert queues.send_unsent(job.database) == 1


@pytest.fixture
def sender():
    """A process that could be at sending."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_a_monitor_does_not_wait_for_a_process_that_sends_but_goes_on_if_that_dies(new_job, sender):
    job = new_job()
    insert(job, 1)
    worker = job.worker()
    job.database.execute("INSERT INTO sender VALUES (?, ?)", (identity(sender.pid), time.time()))
    for _ in ("a0", "b0"):  # which the worker sends
        [lease] = job.lease(worker, 1)
        worker.finish([ended(lease)], job.now)
    job.until_counts(succeeded=2, pending=1)
    assert sending.count_unsent(job.database) == 1
    sender.kill()
    sender.wait()
    assert [one.task_id for one in run(job, worker, 1, lambda _: "1")] == ["sum"]


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_a_monitor_sends_nothing_to_the_queue_from_which_the_tasks_were_moved(new_job):
    """The process that moves them may not have begun to send."""
    job = new_job()
    insert(job, 3)
    moving.move(job.database, "pubsub://elsewhere")
    job.settle()
    assert sending.count_unsent(job.database) == 3
    worker = job.worker()
    assert len(job.lease(worker, 3)) == 3  # what was sent before
    moving.move(job.database, job.queue_url)
    job.settle()
    assert sending.count_unsent(job.database) == 0


@pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)
def test_the_tasks_of_a_level_are_spread_over_messages_however_short_the_last_ones_were(new_job):
    job = new_job()
    insert(job, 60)
    worker = job.worker()
    leases = [lease for _ in range(60) for lease in job.lease(worker, 1)]
    worker.finish([ended(lease, seconds=0.001) for lease in leases], job.now)
    job.until(lambda: job.counts().get("succeeded") == 60, "not recorded")
    job.settle()
    job.lease(worker, 1)
    assert worker._intake.tasks_per_message < 3  # of 60 tasks that each may take an hour
