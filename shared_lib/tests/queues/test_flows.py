"""Flows over each service: the script here, the workers as on machines of their own, which have the project but not the ledger."""

import json
import shutil
import signal
import time

import pytest
from taskfleet.errors import LedgerError

from shared_lib.tests.queues.test_whole_jobs import Whole

PATIENCE_SECONDS = 120

FUNCTIONS = """
def square(n):
    return n * n

def add_up(numbers, text=""):
    return {"sum": sum(numbers), "length": len(text)}

def long_text(n):
    return str(n) * 100_000

def length(text):
    return len(text)
"""
FLOW = """
import json, sys
from taskfleet.graph import app, flow
import task

square, add_up, length, long_text = app(task.square), app(task.add_up), app(task.length), app(task.long_text)
"""


class FlowJob(Whole):
    """A job whose tasks are those of a script."""

    def __init__(self, service, name, folder, script, **settings):
        super().__init__(service, name, folder, **settings)
        for place in (self.home, *self.machines):
            (place.folder / "task.py").write_text(FUNCTIONS)
            (place.folder / "flow.py").write_text(FLOW + script)
            shutil.rmtree(place.folder / "jobs", ignore_errors=True)

    def is_inserted(self):
        try:
            return self.counts().get("waiting") == 1
        except LedgerError:  # there is none yet, or it is in the making
            return False

    def start_flow(self):
        return self.home.start_script("flow.py")

    def start_workers(self, number):
        for index, machine in enumerate(self.machines[:number]):
            if self.workers[index] is None or self.workers[index].poll() is not None:
                self.workers[index] = machine.start("launch_worker", "--slots", "2")

    def until_flow_ends(self, script, workers=0):
        """Wait for a script, and keep so many workers running."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while script.poll() is None:
            assert time.monotonic() < deadline, self.text()
            self.start_workers(workers)
            time.sleep(0.1)
        return script.returncode


@pytest.fixture
def flow_job(service, name, tmp_path):
    made = []

    def flow_job(script, **settings):
        made.append(FlowJob(service, name, tmp_path, script, **settings))
        return made[-1]

    yield flow_job
    for one in made:
        one.close()


BY_VALUE = """
offset = 5
shifted, total = app(lambda n: n + offset), app(lambda numbers: sum(numbers))
with flow():
    found = total(shifted.map(range(20)))
print("found", found.result())
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_functions_by_value_reach_workers_elsewhere(flow_job, tmp_path):
    job = flow_job(BY_VALUE, RESULTS_PATH=tmp_path / "shared")
    for machine in job.machines:
        (machine.folder / "flow.py").unlink()
    assert job.until_flow_ends(job.start_flow(), workers=2) == 0, job.text()
    assert "found 290" in job.text()
    assert job.counts() == {"succeeded": 21}


THREE_LEVELS = """
with flow():
    total = add_up(square.map(range(40)), text=long_text(7))
print(json.dumps(total.result()))
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_script_waits_for_workers_elsewhere_and_gets_their_results(flow_job, tmp_path):
    """The project has no run_task; one value is too large for a message."""
    job = flow_job(THREE_LEVELS, RESULTS_PATH=tmp_path / "shared")
    script = job.start_flow()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "no worker has reported" not in job.text():
        assert time.monotonic() < deadline, job.text()
        time.sleep(0.1)
    assert job.until_flow_ends(script, workers=2) == 0, job.text()
    assert json.dumps({"sum": sum(n * n for n in range(40)), "length": 100_000}) in job.text()
    assert job.text().count("no worker has reported") == 1
    assert job.counts() == {"succeeded": 42}
    again = job.start_flow()  # nothing is sent, and no worker is needed
    for worker in job.workers:
        worker.send_signal(signal.SIGTERM)
    assert job.until_flow_ends(again) == 0, job.text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_value_without_a_place_fails_its_task_with_the_name_of_the_setting(flow_job):
    job = flow_job("""
with flow():
    n = length(long_text(7))
print(n.result())
""")
    script = job.start_flow()
    assert job.until_flow_ends(script, workers=1) == 1, job.text()
    assert "Set RESULTS_PATH to a bucket" in job.home.text()
    assert job.counts() == {"failed": 2}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_script_that_is_killed_can_be_run_again_or_followed_by_the_monitor(flow_job, tmp_path):
    job = flow_job(THREE_LEVELS, RESULTS_PATH=tmp_path / "shared")
    script = job.start_flow()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not job.is_inserted():
        assert time.monotonic() < deadline, job.text()
        time.sleep(0.05)
    job.kill_one(script)
    job.keep_running()  # with a monitor
    job.until_monitor_ends()
    assert job.counts() == {"succeeded": 42}
    assert job.until_flow_ends(job.start_flow()) == 0, job.text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_pool_runs_a_graph_from_the_ledger_of_a_script_that_has_ended(flow_job):
    job = flow_job("""
with flow():
    total = add_up(square.map(square.map(range(30))))
""")
    (job.home.folder / "config" / "pool.env").write_text("PROVIDER=local\n")
    assert job.until_flow_ends(job.start_flow()) == 0, job.text()
    assert job.counts() == {"pending": 30, "waiting": 31}
    assert "JOB COMPLETE" in job.home.run("deploy_pool", "--yes")
    assert job.counts() == {"succeeded": 61}
