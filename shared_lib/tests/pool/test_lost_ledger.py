"""A ledger that is deleted or replaced under ``poe deploy_pool``, or damaged: all machines are terminated, and nothing is claimed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from shared_lib.tests.worker.test_lost_ledger import delete, replace

PATIENCE_SECONDS = 120

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Project:
    """A project whose job runs on a local machine."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "config").mkdir(parents=True)
        (folder / "config" / "task.env").write_text("JOB_ID=sums\nTASK_TABLE=tasks.json\nSLOTS=1\n")
        (folder / "config" / "pool.env").write_text("PROVIDER=local\nMACHINES=1\n")
        (folder / "task.py").write_text("import time\n\n\ndef run_task(n):\n    time.sleep(0.2)\n")
        (folder / "run.py").write_text("from taskfleet import launch_worker\nlaunch_worker()\n")
        (folder / "pyproject.toml").write_text('[project]\nname = "sums"\n')
        (folder / "tasks.json").write_text("[" + ", ".join(f'{{"n": {n}}}' for n in range(2000)) + "]")
        self.ledger_path = folder / "jobs" / "sums.db"
        self.log = folder / "log"

    def start(self, *words):
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "taskfleet", *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ} | {"PYTHONUNBUFFERED": "1"},
            )

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def succeeded(self):
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(self.ledger_path.as_uri() + "?mode=ro", uri=True)) as ledger,
        ):
            return ledger.execute("SELECT sum(n) FROM counter WHERE state = 3").fetchone()[0] or 0
        return 0

    def processes(self, word=b""):
        """The processes that work in the project's folder, and have a word in their command lines."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "cwd") == str(self.folder) and word in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    for pid in project.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def pool(project):
    """A pool whose machine has done some tasks."""
    assert project.start("insert_tasks").wait(PATIENCE_SECONDS) == 0, project.log.read_text()
    pool = project.start("deploy_pool", "--yes")
    project.until(lambda: project.succeeded() > 3)
    return pool


def delete_file(project):
    for one in project.ledger_path.parent.glob("sums.db*"):
        one.unlink()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (delete, "was deleted while it was in use"),
        (delete_file, "was deleted while it was in use"),
        (replace, "was replaced by another file"),
    ],
)
def test_a_pool_terminates_its_machines_and_claims_nothing(project, pool, action, message):
    action(project)
    project.until(lambda: pool.poll() is not None)
    text = project.log.read_text()
    assert pool.returncode == 1, text
    assert text.count("Terminating all machines, because they cannot be managed without the ledger.") == 1, text
    assert any(line.startswith("error: ") and message in line for line in text.splitlines()), text
    assert "JOB COMPLETE" not in text
    assert "Traceback" not in text
    project.until(lambda: not project.processes())


def test_machines_are_terminated_if_the_ledger_is_lost_at_the_end(project, pool):
    """The ledger is deleted while ``poe stop`` waits for their end."""
    [shim] = project.processes(b"local.shim")
    os.kill(shim, signal.SIGSTOP)  # it lasts
    stop = project.start("stop", "--yes")
    project.until(lambda: "Waiting for 1 machine to end." in project.log.read_text())
    project.until(lambda: pool.poll() is not None)
    delete_file(project)
    os.kill(shim, signal.SIGCONT)  # its end is to be recorded
    project.until(lambda: stop.poll() is not None)
    text = project.log.read_text()
    assert stop.returncode == 1, text
    assert "\nerror: The ledger " in text, text
    assert "Terminating the machines that the provider lists." in text
    assert "was deleted while it was in use" in text
    assert "JOB COMPLETE" not in text
    assert "Traceback" not in text
    project.until(lambda: not project.processes())
