"""How many tasks are leased and assigned at a time, and how workers share a job."""

import json
import re

import pytest
from taskfleet.tasks import State
from taskfleet.worker.prefetch import MOST_PER_SLOT, MOST_PREFETCHED, MOST_PREFETCHED_BYTES, Prefetch


@pytest.mark.parametrize(
    ("slots", "tasks_per_process", "seconds", "size", "per_slot", "prefetched"),
    [
        # nothing is known yet
        (2, 1, None, 0, 1, 0),
        (8, 0, None, 0, 1, 0),
        # no-op tasks
        (2, 0, 0.0, 0, MOST_PER_SLOT, MOST_PREFETCHED),
        (2, 1, 0.0, 0, 200, MOST_PREFETCHED),
        # ten milliseconds: a tenth of a second for a slot, two seconds for the worker
        (1, 0, 0.01, 0, 9, 199),
        (4, 0, 0.01, 0, 9, 799),
        (2, 1, 0.01, 0, 9, 380),
        # up to half a second, a little ahead
        (2, 0, 0.45, 0, 1, 8),
        # long tasks: never more than the slots
        (2, 0, 0.6, 0, 1, 0),
        (64, 1, 3600.0, 0, 1, 0),
        # much data per task
        (2, 0, 0.0, 1 << 20, MOST_PREFETCHED_BYTES >> 20, MOST_PREFETCHED_BYTES >> 20),
        (2, 0, 0.0, 1 << 30, 1, 1),
        (2, 0, 0.0, 100, MOST_PER_SLOT, MOST_PREFETCHED),
    ],
)
def test_prefetch_follows_the_measured_duration_and_size(slots, tasks_per_process, seconds, size, per_slot, prefetched):
    prefetch = Prefetch(slots, tasks_per_process)
    prefetch.measure([])
    prefetch.measure_bytes([])
    if seconds is not None:
        prefetch.measure([seconds] * 10)
    if size:
        prefetch.measure_bytes([size] * 10)
    assert (prefetch.per_slot, prefetch.size) == (per_slot, prefetched)


@pytest.mark.parametrize(("tasks_per_process", "size"), [(1, 18), (10, 181), (0, MOST_PREFETCHED)])
def test_the_start_of_a_process_counts_for_its_tasks(tasks_per_process, size):
    prefetch = Prefetch(1, tasks_per_process)
    prefetch.measure_start(0.11)
    prefetch.measure([0.0])
    assert prefetch.size == size


def test_tasks_that_become_longer_are_noticed_within_a_few_batches():
    prefetch = Prefetch(2, tasks_per_process=0)
    prefetch.measure([0.0] * 1000)
    for _ in range(3):
        prefetch.measure([30.0])
    assert (prefetch.per_slot, prefetch.size) == (1, 0)
    for _ in range(30):
        prefetch.measure([0.001] * 100)
    assert prefetch.per_slot > 50


def test_large_data_is_remembered_for_some_batches():
    prefetch = Prefetch(2, tasks_per_process=0)
    prefetch.measure([0.0])
    prefetch.measure_bytes([16 << 20])
    prefetch.measure_bytes([10])
    assert prefetch.per_slot == 4


# --- in a worker ---


def test_tasks_queued_behind_a_long_one_run_in_another_slot(project):
    project.write(
        """
        def run_task(n):
            note(n)
            if n == 200:
                wait_for("gate")
            return n
        """,
        TASKS_PER_PROCESS=0,
    )
    worker = project.insert([{"n": n} for n in range(500)]).start()
    project.until(lambda: project.counts().get("succeeded") == 499, "all but the long one")
    project.open_gate("gate")
    worker.wait()
    assert set(project.noted().values()) == {1}


def test_tasks_queued_in_a_worker_with_long_tasks_only_go_to_another(project, per_process):
    project.write(
        """
        import os

        def run_task(n):
            note(n)
            if n >= 100 and "FIRST" in os.environ:
                wait_for("gate")
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{"n": n} for n in range(2000)])
    first = project.start("--slots", 2, environment={"FIRST": "yes"})
    project.until(lambda: project.counts().get("succeeded") == 100, "the quick ones")
    project.until(lambda: project.counts() == {"succeeded": 100, "running": 2, "pending": 1898}, "it to give back")
    second = project.start()
    project.until(lambda: project.counts().get("succeeded") == 1998, "all but the long ones")
    project.open_gate("gate")
    first.wait()
    second.wait()
    assert project.noted() == {str(n): 1 for n in range(2000)}
    assert not [n for n in range(2000) if len(project.task(f"t{n}").attempts) != 1]


def test_a_worker_can_lease_again_what_it_gave_back_during_long_tasks(project):
    project.write("import time\ndef run_task(n): time.sleep(n == 50 and 4)", TASKS_PER_PROCESS=0)
    project.insert([{"n": n} for n in range(400)])
    worker = project.start("--slots", 1, "--max-tasks", 399)
    project.until(lambda: project.counts() == {"succeeded": 50, "running": 1, "pending": 349}, "it to give back")
    worker.wait()
    assert project.counts() == {"succeeded": 399, "pending": 1}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_share_a_job_and_run_every_task_once(project, per_process, workers):
    project.write("def run_task(n): note(n); return n", TASKS_PER_PROCESS=per_process)
    project.insert([{"n": n} for n in range(3000)])
    everyone = [project.start() for _ in range(workers)]
    for worker in everyone:
        worker.wait()
        assert "JOB COMPLETE" in worker.text
    assert project.counts() == {"succeeded": 3000}
    assert project.noted() == {str(n): 1 for n in range(3000)}
    assert project.tally("duplicates") == project.tally("lost") == 0
    assert all(project.result(f"t{n}") == n for n in range(0, 3000, 97))


def test_a_worker_waits_for_tasks_that_run_elsewhere_and_takes_them_over_if_they_come_back(project):
    project.write(
        "def run_task(n, context):\n    note(f'began {n}')\n    if context.attempt == 1 and n == 0: wait_for('gate')",
        SLOTS=1,
    )
    first = project.insert([{"n": 0}, {"n": 1}]).start()
    project.until_noted("began 0")
    second = project.start()
    project.until(lambda: "Waiting for 1 task running on other workers." in second.text, "the second to wait")
    assert second.process.poll() is None
    first.kill()
    second.wait()
    first.wait(code=-9)
    assert project.counts() == {"succeeded": 2}
    assert project.noted() == {"began 0": 2, "began 1": 1}


@pytest.mark.parametrize("most", [1, 7])
def test_a_worker_stops_after_so_many_tasks(project, per_process, most):
    project.write("def run_task(n): note(n)", TASKS_PER_PROCESS=per_process)
    worker = project.insert([{"n": n} for n in range(20)]).work("--max-tasks", most)
    assert project.counts() == {"succeeded": most, "pending": 20 - most}
    assert sum(project.noted().values()) == most
    assert "WORKER STOPPED, JOB NOT COMPLETE" in worker.text
    assert "Next: uv run poe launch_worker --max-tasks" in worker.text


def test_a_worker_leaves_the_first_tasks_to_others(project, per_process):
    project.write("def run_task(n): note(n)", TASKS_PER_PROCESS=per_process)
    project.insert([{"n": n} for n in range(20)]).work("--skip-tasks", 15)
    assert project.noted() == {str(n): 1 for n in range(15, 20)}
    project.work()
    assert project.counts() == {"succeeded": 20}


def test_a_worker_that_keeps_waiting_does_what_is_inserted_later(project, per_process):
    project.write("def run_task(n): note(n)", TASKS_PER_PROCESS=per_process, KEEP_WAITING="true")
    worker = project.insert({"a": {"n": 1}}).start()
    project.until_noted("1")
    project.until(lambda: project.counts() == {"succeeded": 1})
    project.insert({"b": {"n": 2}, "c": {"n": 3}})
    project.until_noted("2", "3")
    project.until(lambda: project.counts() == {"succeeded": 3})
    assert worker.process.poll() is None
    worker.kill(15)
    worker.wait(code=130)


def test_tasks_inserted_while_a_worker_works_are_done_too(project):
    project.write("def run_task(n):\n    note(n)\n    if n == 0: wait_for('gate')")
    worker = project.insert({"a": {"n": 0}}).start()
    project.until_noted("0")
    project.insert({"b": {"n": 1}})
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 2}


def test_a_worker_without_a_ledger_reports_what_to_do(project):
    text = project.write("def run_task(): pass").work(code=1).text
    assert re.search("has no ledger yet: .* Insert tasks first: (uv run )?poe insert_tasks", text)
    assert "Traceback" not in text


@pytest.mark.slow
def test_large_data_goes_both_ways(project, per_process):
    project.write("def run_task(n, text): return [n, text[::-1]]", TASKS_PER_PROCESS=per_process)
    project.insert([{"n": n, "text": f"{n}é" * 500_000} for n in range(12)]).work()
    for n in range(12):
        assert project.result(f"t{n}") == [n, (f"{n}é" * 500_000)[::-1]]


@pytest.mark.slow
def test_many_small_tasks_have_each_its_own_result(project, per_process):
    project.write("def run_task(n): return -n", TASKS_PER_PROCESS=per_process)
    project.insert([{"n": n} for n in range(5000)]).work()
    assert project.counts() == {State.SUCCEEDED.word: 5000}

    def results(database):
        return database.rows("SELECT data, result FROM task JOIN attempt ON key = seq * 1000 + 1")

    rows = project.ask(results)
    assert len(rows) == 5000
    assert all(json.loads(data)["n"] == -json.loads(result) for data, result in rows)
