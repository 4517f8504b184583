"""The functions that a worker calls around tasks, and what python-task-queue has besides."""

import json
import signal
import time

import pytest
from taskfleet import cli
from taskfleet.context import TaskContext
from taskfleet.functions import examine
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome
from taskfleet.worker.hooks import Hooks

SCRIPT = """
import sys
from taskfleet import launch_worker

seen = []

def before(task):
    print("before", task.task_id, task.data)

def after(task):
    print("after", task.task_id)

def stop(executed, elapsed_time):
    assert elapsed_time >= 0
    return executed >= int(sys.argv[-1])

if __name__ == "__main__":
    launch_worker(sys.argv[1:-1], before_fn=before, after_fn=after, stop_fn=stop)
    print("finished")
"""


def finished(seq, outcome=Outcome.SUCCEEDED, seconds=1.5):
    return Finished(seq=seq, attempt=1, outcome=outcome, started_at=0.0, elapsed_seconds=seconds)


def leases(number):
    return [Lease(seq=n, attempt=1, task_id=f"t{n}", data="{}") for n in range(number)]


def test_hooks_see_only_successes_that_count():
    seen, asked, stopped = [], [], []

    def stop(executed, tries, previous_execution_time):
        asked.append((executed, tries, previous_execution_time))
        return executed == 2

    hooks = Hooks(after_fn=lambda task: seen.append(task.task_id), stop_fn=stop)
    hooks.stop_worker = lambda: stopped.append(True)
    hooks.recorded(leases(1), [finished(0, Outcome.EXCEPTION)], FinishReport())
    hooks.recorded(leases(2), [finished(0), finished(1)], FinishReport(duplicates={(1, 1)}))
    assert (seen, stopped, hooks.has_stopped) == (["t0"], [], False)
    hooks.recorded(leases(1), [finished(0, seconds=0.25)], FinishReport())
    assert (stopped, hooks.has_stopped) == ([True], True)
    hooks.recorded(leases(1), [finished(0)], FinishReport())
    assert asked == [(0, 1, 0.0), (1, 1, 1.5), (2, 1, 0.25)]


def test_what_stops_a_worker_may_ask_for_nothing_or_for_names_of_its_own():
    hooks = Hooks(stop_fn=lambda unit="s": unit == "s")
    hooks.recorded([], [], FinishReport())
    assert hooks.has_stopped
    Hooks().recorded(leases(1), [finished(0)], FinishReport())


@pytest.mark.parametrize(("number", "most"), [(4, 99), (1000, 2)])
def test_a_script_stops_when_its_function_says_so(project, number, most):
    project.write("def run_task(n): return n", SLOTS=1).insert([{"n": n} for n in range(number)])
    (project.folder / "run.py").write_text(SCRIPT)
    worker = project.start_script("run.py", most).wait(0)
    done = [line for line in worker.text.splitlines() if line.startswith("after ")]
    assert 'before t0 {"n":0}' in worker.text
    assert "finished" in worker.text
    assert done == [f"after t{n}" for n in range(len(done))]
    assert min(number, most) <= len(done) <= number
    assert number < most or len(done) < number


def test_a_function_that_stops_the_worker_does_not_end_tasks_that_have_their_time_after_ctrl_c(project):
    """Two requests to stop would kill the tasks that run."""
    project.write(
        """
        def run_task(gate):
            note(f"begun {gate}")
            wait_for(gate)
        """,
        SLOTS=2,
        SHUTDOWN_GRACE_SECONDS=100,
    )
    project.insert([{"gate": "first"}, {"gate": "second"}])
    (project.folder / "run.py").write_text(SCRIPT)
    worker = project.start_script("run.py", 1)
    project.until_noted("begun first", "begun second")
    worker.kill(signal.SIGINT)
    project.until(lambda: "Stopping" in worker.text, "the worker's answer to Ctrl-C")
    project.open_gate("first")
    project.until(lambda: project.counts().get("succeeded") == 1, "the first task")
    time.sleep(0.5)  # for the second request, if there is one
    project.open_gate("second")
    worker.wait(130)
    assert project.counts()["succeeded"] == 2


def test_cloudpath_is_the_output_path_unless_the_table_has_it():
    def with_cloudpath(a, cloudpath): ...
    def with_own(a, cloudpath="mine"): ...

    for function in (with_cloudpath, with_own):
        found = examine(function)
        assert found.required == {"a"}
        assert found.column_mismatch(frozenset({"a"})) is None
        assert found.column_mismatch(frozenset({"a", "cloudpath"})) is None
        context = TaskContext.for_test(output_path="gs://bucket/x")
        assert found.arguments('{"a":1}', context) == {"a": 1, "cloudpath": "gs://bucket/x"}
        assert found.arguments('{"a":1,"cloudpath":"y"}', context) == {"a": 1, "cloudpath": "y"}
    assert examine(with_cloudpath).arguments('{"a":1}', TaskContext.for_test()) == {"a": 1, "cloudpath": None}
    assert examine(with_own).arguments('{"a":1}', TaskContext.for_test()) == {"a": 1}


def test_counts_begin_at_zero_again(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    project.write("def run_task(n): return n").insert([{"n": n} for n in range(3)]).work()

    def status():
        capsys.readouterr()
        assert cli.main(["status", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert status()["since_rezero"] is None
    assert cli.main(["rezero"]) == 0
    counted = status()["since_rezero"]
    assert (counted["inserted"], counted["completed"]) == (0, 0)
    project.insert({"more": {"n": 1}, "again": {"n": 2}})
    counted = status()
    assert (counted["since_rezero"]["inserted"], counted["since_rezero"]["completed"], counted["total"]) == (2, 0, 5)
    project.work()
    assert status()["since_rezero"]["completed"] == 2
    assert cli.main(["status"]) == 0
    assert "2 inserted, 2 completed" in capsys.readouterr().out
    assert cli.main(["rezero"]) == 0
    assert status()["since_rezero"]["completed"] == 0
