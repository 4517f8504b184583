"""A job without tasks is not a job that is done: not after an insertion that was interrupted, nor while one is under way."""

import os
import signal
import subprocess
import sys
import time

import pytest
from taskfleet.ledger import insertion
from taskfleet.ledger.database import create


def heed_interrupts():
    """Ctrl-C is ignored in a child of a shell's background job, unless it is reset."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def interrupted(project, poe):
    """The project after Ctrl-C in the middle of its insertion."""
    (project / "slow.py").write_text(
        "import time\n"
        "def rows():\n"
        "    for number in range(100_000):\n"
        "        yield {'num1': number, 'num2': 1}\n"
        "        if number == 60_000:\n"
        "            open('begun', 'w').close()\n"
        "            time.sleep(60)\n"
    )
    inserter = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "insert_tasks", "--task-table", "slow:rows"],
        cwd=project,
        preexec_fn=heed_interrupts,
    )
    try:
        while not (project / "begun").exists():
            assert inserter.poll() is None
            time.sleep(0.01)
    finally:
        inserter.send_signal(signal.SIGINT)
    assert inserter.wait() == 130
    return project


def test_an_interrupted_insertion_is_no_job_that_is_done(interrupted, poe):
    status = poe("status")
    assert "no tasks are inserted" in status.out
    assert "Next: uv run poe insert_tasks" in status.out
    for words in (["launch_worker"], ["results", "-o", "results.csv"]):
        refused = poe(*words)
        assert refused.code == 1
        assert "no insertion has finished" in refused.err
        assert "uv run poe insert_tasks" in refused.err
        assert "COMPLETE" not in refused.out
    assert not (interrupted / "results.csv").exists()


def test_a_pool_inserts_what_an_interrupted_insertion_did_not(interrupted, poe):
    (interrupted / "insert_tasks.py").write_text("from taskfleet import insert_tasks\ninsert_tasks()\n")
    said = poe("deploy_pool")
    assert "Not an interactive terminal: add --yes" in said.err
    assert "4 of 4" not in poe("status").out
    assert "0 of 4 tasks done" in poe("status").out


def test_an_insertion_under_way_is_named(project, poe):
    database = create(project / "jobs" / "sums.db", job_id="sums", project=project, now=time.time())
    under_way = insertion.begin(database, source="here")
    refused = poe("launch_worker")
    assert f"are being inserted by process {os.getpid()}" in refused.err
    under_way.discard()
    database.close()


def test_a_worker_that_keeps_waiting_may_start_before_the_insertion(project, poe):
    create(project / "jobs" / "sums.db", job_id="sums", project=project, now=time.time()).close()
    command = [sys.executable, "-m", "taskfleet", "launch_worker", "--keep-waiting"]
    worker = subprocess.Popen(command, cwd=project, preexec_fn=heed_interrupts)
    try:
        assert poe("insert_tasks").code == 0
        while "4 of 4" not in poe("status").out:
            assert worker.poll() is None
            time.sleep(0.05)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait()


def test_a_script_may_insert_twice_and_go_on(project, poe):
    (project / "two.py").write_text(
        "from taskfleet import insert_tasks\n"
        "insert_tasks(source=[{'num1': 11, 'num2': 1}])\n"
        "insert_tasks(source=[{'num1': 22, 'num2': 2}])\n"
        "print('here')\n"
    )
    done = subprocess.run([sys.executable, "two.py"], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "here")
    assert "0 of 2 tasks done" in poe("status").out


def test_a_script_ends_with_the_code_of_the_first_call_that_fails(project):
    (project / "two.py").write_text(
        "from taskfleet import insert_tasks\ninsert_tasks(source=[{'wrong': 1}])\nprint('here')\n"
    )
    done = subprocess.run([sys.executable, "two.py"], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
