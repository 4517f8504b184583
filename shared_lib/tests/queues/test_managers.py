"""Managers over each service: a queue for each, and workers that take only what is theirs."""

import json
import re
import time

import pytest
from taskfleet.queues.addresses import open_transport
from taskfleet.settings.parsers import queue_url

from shared_lib.tests.queues.test_flows import FLOW, PATIENCE_SECONDS, FlowJob

SCRIPT = """
import os

@app(manager="gpu")
def shade(n): return [n, os.environ.get("SHADE")]

@app
def join(found): return [os.environ.get("SHADE"), found]

with flow():
    joined = join(shade.map(square.map(range(6))))
    alone = shade.map(range(100, 110))
"""
WAITS = SCRIPT + "print(json.dumps([joined.result(), alone.result()]))\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


BY_VALUE = """
shade = app(lambda n: [n, os.environ.get("SHADE")], manager="gpu")
plain = app(lambda n: [-n, os.environ.get("SHADE")])

with flow():
    found = shade.map(range(3)), plain.map(range(3))
"""


@pytest.fixture
def job(service, name, tmp_path):
    """A job of a script whose project has the manager ``gpu``, at its home and on each machine."""
    job = FlowJob(service, name, tmp_path, SCRIPT, IDLE_SECONDS=2, RESULTS_PATH=tmp_path / "shared")
    for place in (job.home, *job.machines):
        (place.folder / "config" / "task.gpu.env").write_text("SLOTS=1\n")
        (place.folder / "config" / "task.gpu.sh").write_text("export SHADE=dark\n")
    yield job
    for process in (one for place in (job.home, *job.machines) for one in place.processes):
        if process.poll() is None:  # of a test that failed
            process.kill()
            process.wait()
    job.close()


def queues_of(job):
    """Return whether the queue of the default manager, of gpu and of events exist."""
    found = []
    for options in ({}, {"manager": "gpu"}, {"of_events": True}):
        transport = open_transport(job.service.queue_url(job.name), job.name, **options)
        found.append(transport.exists())
        transport.close()
    return found


def done_by(text):
    """Return how many tasks a worker has done, as it says in the end."""
    return int(re.findall(r"(\d+) tasks? done here", text)[-1])


def until(condition, job):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, job.text()
        time.sleep(0.1)


def test_each_worker_takes_the_tasks_of_its_manager(job):
    (job.home.folder / "flow.py").write_text(FLOW + WAITS)
    script = job.start_flow()
    until(lambda: queues_of(job) == [True, True, True], job)
    workers = [job.machines[0].start("launch_worker", "--keep-waiting")]
    until(lambda: "manager gpu, can run" in job.home.text(), job)
    assert "poe launch_worker --manager gpu; or a pool: uv run poe deploy_pool." in job.home.text()
    said = job.home.run("status")
    assert "tasks of manager gpu can run, and it has no worker: uv run poe launch_worker --manager gpu" in said
    workers.append(job.machines[1].start("launch_worker", "--manager", "gpu", "--keep-waiting"))
    until(lambda: script.poll() is not None, job)
    assert script.returncode == 0, job.text()
    joined, alone = json.loads(job.home.text().splitlines()[-1])
    assert joined == [None, [[n * n, "dark"] for n in range(6)]]
    assert alone == [[n, "dark"] for n in range(100, 110)]
    found = json.loads(job.home.run("status", "--json"))["workers"]
    assert {one["manager"]: one["slots"] for one in found}["gpu"] == 1
    for worker in workers:
        worker.terminate()
        worker.wait(PATIENCE_SECONDS)


def test_functions_by_value_are_run_by_their_managers(job):
    (job.home.folder / "flow.py").write_text(f"{FLOW}import os\n{BY_VALUE}")
    assert job.start_flow().wait(PATIENCE_SECONDS) == 0, job.text()
    assert done_by(job.machines[0].run("launch_worker")) == 3
    assert done_by(job.machines[1].run("launch_worker", "--manager", "gpu")) == 3
    job.home.run("monitor")
    (job.home.folder / "flow.py").write_text(
        f"{FLOW}import os\n{BY_VALUE}print(json.dumps([one.result() for one in found]))\n"
    )
    assert job.start_flow().wait(PATIENCE_SECONDS) == 0, job.text()
    shaded, plain = json.loads(job.home.text().splitlines()[-1])
    assert shaded == [[n, "dark"] for n in range(3)]
    assert plain == [[-n, None] for n in range(3)]


def test_commands_reach_the_queues_of_all_managers(job, service, name):
    home, machine = job.home, job.machines[0]
    assert job.start_flow().wait(PATIENCE_SECONDS) == 0, job.text()
    assert job.counts() == {"pending": 16, "waiting": 7}
    shown = json.loads(home.run("show_queue", "--json"))
    assert shown["managers"].keys() == {"gpu"}
    assert "task messages in the queue of manager gpu" in home.run("show_queue")
    # pause
    home.run("pause")
    assert done_by(machine.run("launch_worker", "--manager", "gpu")) == 0
    home.run("resume")
    # purge
    home.run("purge_queue", "--yes")
    service.advance(61)
    assert done_by(machine.run("launch_worker", "--manager", "gpu")) == 0
    home.run("retry", "--killed")
    # a queue that was deleted
    transport = open_transport(service.queue_url(name), name, manager="gpu")
    transport.delete()
    transport.close()
    service.advance(61)
    assert "manager 'gpu', does not exist" in machine.run("launch_worker", "--manager", "gpu", code=1)
    home.run("release")
    assert queues_of(job) == [True, True, True]
    assert done_by(machine.run("launch_worker", "--manager", "gpu")) == 10
    # into the ledger, and back
    home.run("move_queue", "--to", "ledger", "--yes")
    assert queues_of(job) == [False, False, False]
    assert job.counts() == {"succeeded": 10, "pending": 6, "waiting": 7}
    said = home.run("launch_worker", "--queue-url", "ledger", "--manager", "gpu")
    assert "JOB NOT COMPLETE" in said
    service.advance(61)
    home.run("move_queue", "--queue-url", "ledger", "--to", service.queue_url(name), "--yes")
    assert done_by(machine.run("launch_worker", "--manager", "gpu")) == 0
    assert done_by(machine.run("launch_worker")) == 6
    monitor = home.start("monitor")
    until(lambda: job.counts().get("succeeded") == 16, job)
    assert done_by(machine.run("launch_worker", "--manager", "gpu")) == 6
    until(lambda: job.counts().get("succeeded") == 22, job)
    assert done_by(machine.run("launch_worker")) == 1
    assert monitor.wait(PATIENCE_SECONDS) == 0, job.text()
    assert job.counts() == {"succeeded": 23}
    assert "Deleted" in home.run("delete_queue", "--yes")
    assert queues_of(job) == [False, False, False]


def test_no_queue_of_a_job_is_one_of_another_job(service, name):
    address = service.queue_url(name)
    queues = [open_transport(address, name, **options) for options in ({}, {"manager": "gpu"}, {"of_events": True})]
    for queue in queues:
        queue.create(tags={})
    n_jobs = 0
    for other in (f"{name}{suffix}" for suffix in ("-gpu", "--gpu", "-events", "-board", "-dead", "-other")):
        try:
            address = queue_url(service.queue_url(other))
        except ValueError:
            continue
        for options in ({}, {"manager": "gpu"}, {"of_events": True}):
            queues.append(open_transport(address, other, **options))
            assert not queues[-1].exists()
        n_jobs += 1
    assert n_jobs >= 2
    for queue in queues:
        queue.delete()
        queue.close()
