"""Output is never essential to a command that does something; a report whose reader has gone just ends."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from taskfleet.ledger import counters
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import State

TASK = """
import time

def run_task(number):
    time.sleep(0.05)
"""
TASKS = 40
WORKER = [sys.executable, "-m", "taskfleet", "launch_worker", "--progress-seconds", "0.1", "-v"]


@pytest.fixture
def project(tmp_path):
    """The folder of a project with tasks of a moment."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "task.env").write_text("JOB_ID=job\nTASK_TABLE=tasks.json\nSLOTS=2\n")
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "tasks.json").write_text(json.dumps([{"number": n} for n in range(TASKS)]))
    return tmp_path


@pytest.fixture
def inserted(project):
    """The folder of a project whose tasks are inserted."""
    subprocess.run([sys.executable, "-m", "taskfleet", "insert_tasks"], cwd=project, check=True, capture_output=True)
    return project


def succeeded(project):
    database = open_ledger(project / "jobs" / "job.db", job_id="job", read_only=True)
    try:
        return counters.by_state(database)[State.SUCCEEDED]
    finally:
        database.close()


def test_a_worker_goes_on_when_nobody_reads_its_output_any_more(inserted):
    worker = subprocess.Popen(WORKER, cwd=inserted, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert worker.stdout.readline()
    worker.stdout.close()
    assert worker.wait() == 0
    assert succeeded(inserted) == TASKS


@pytest.mark.parametrize(
    "redirected",
    [">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"],
    ids=["full", "out", "err", "both", "all"],
)
@pytest.mark.parametrize("command", ["insert_tasks", "launch_worker"])
def test_the_work_is_done_whatever_becomes_of_the_output(project, command, redirected):
    for name in ["insert_tasks"] if command == "insert_tasks" else ["insert_tasks", "launch_worker"]:
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -m taskfleet {name} {redirected}', sys.executable],
            cwd=project,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, done.stdout)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    database = open_ledger(project / "jobs" / "job.db", job_id="job", read_only=True)
    counts = counters.by_state(database)
    database.close()
    assert counts[State.SUCCEEDED if command == "launch_worker" else State.PENDING] == TASKS


def test_no_later_file_takes_the_number_of_a_closed_stream(project):
    code = (
        "import os, sys\n"
        "from taskfleet.terminal.guard import guarded\n"
        "def action():\n"
        "    with open('file', 'w') as file:\n"
        "        return file.fileno()\n"
        "sys.exit(guarded(action, is_output_optional=True))\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=project, check=False
    )
    assert done.returncode > 2


def test_a_worker_goes_on_when_its_terminal_has_gone(inserted):
    """The system says so with a signal as well; here it is ignored, as by nohup."""
    ours, its = pty.openpty()
    worker = subprocess.Popen(
        WORKER,
        cwd=inserted,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(its)
    assert os.read(ours, 1)
    os.close(ours)
    assert worker.wait() == 0
    assert succeeded(inserted) == TASKS


def test_a_report_ends_quietly_when_its_reader_has_seen_enough(inserted):
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -m taskfleet tasks --json | head -c 10', sys.executable],
        cwd=inserted,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"task_id"', "")


def test_a_report_that_cannot_be_written_is_an_error(inserted):
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m taskfleet status >/dev/full', sys.executable],
        cwd=inserted,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_an_encoding_lacks_is_replaced(inserted, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    for words in (["launch_worker"], ["tasks", "--limit", "2"], ["status"]):
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *words], cwd=inserted, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        done.stdout.decode(encoding)
        assert b"Traceback" not in done.stderr
