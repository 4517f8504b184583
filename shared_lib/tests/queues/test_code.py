"""Which code of a function a worker elsewhere has imported."""

import json

import pytest
from taskfleet.code_versions.packages import installed_packages
from taskfleet.ledger import calls

from shared_lib.tests.queues.jobs import ended
from shared_lib.tests.queues.test_flows import FUNCTIONS, PATIENCE_SECONDS, FlowJob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = """
with flow():
    squares = square.map(range(4))
print(squares[0].id)
"""


@pytest.mark.parametrize("new_job", ["postgresql"], indirect=True)
def test_code_that_takes_more_than_a_message_follows_and_what_no_ledger_accepts_is_left_out(new_job):
    job = new_job()
    names = [f"task:f{n}" for n in range(150)]
    for name in names:
        calls.register_function(job.database, name)
    job.insert(20)
    worker = job.worker()
    worker.note_code({"x" * 2000: "a", "\ud800": "a", "": "a", "task:f0": "b" * 300})
    worker.note_code(dict.fromkeys(names[1:], "c" * 64))
    for n in range(1, 21):
        worker.finish([ended(one) for one in job.lease(worker, 1)], job.now)
        job.until_counts(**{"succeeded": n} | ({"pending": 20 - n} if n < 20 else {}))
    rows = job.database.rows("SELECT name, code_hash FROM worker_code JOIN function USING (function_id)")
    assert dict(rows) == dict.fromkeys(names[1:], "c" * 64)


@pytest.fixture
def new_flow(service, name, tmp_path):
    made = []

    def new_flow(script, **settings):
        made.append(FlowJob(service, name, tmp_path, script, IDLE_SECONDS=2, **settings))
        (made[-1].machines[0].folder / "task.py").write_text(FUNCTIONS.replace("n * n", "n * n + 0"))
        return made[-1]

    yield new_flow
    for one in made:
        one.close()


def worked(job, machine):
    """Have a worker do all tasks, and what it did be recorded."""
    job.machines[machine].run("launch_worker", "--slots", "1")
    job.home.run("monitor")


def run_script(job):
    script = job.start_flow()
    assert script.wait(PATIENCE_SECONDS) == 0, job.text()
    return job.home.logs[-1].read_text()


@pytest.mark.parametrize("tasks_per_process", [0, 1])
def test_tasks_that_a_worker_elsewhere_did_with_other_code_are_known(new_flow, tasks_per_process):
    job = new_flow(SCRIPT, TASKS_PER_PROCESS=tasks_per_process)
    task_id = run_script(job).split()[-1]
    worked(job, 0)
    assert "code version" not in job.home.run("task", task_id)  # no script has had that code
    assert "square: 4 tasks done by other code" in run_script(job)
    settings = job.home.folder / "config" / "task.env"
    settings.write_text(f"{settings.read_text()}ON_CHANGE=rerun\n")
    assert "4 tasks are run again" in run_script(job)
    worked(job, 1)
    assert "code version 1" in job.home.run("task", task_id)
    last = json.loads(job.home.run("task", task_id, "--json"))["attempts"][-1]
    assert last["code_version"] == 1
    assert last["packages"] == installed_packages()
    assert "other code" not in run_script(job)


def test_a_version_that_an_app_declares_replaces_what_the_worker_reports(new_flow):
    job = new_flow('square = app(task.square, version="7")' + SCRIPT)
    run_script(job)
    worked(job, 0)
    assert "other code" not in run_script(job)
