"""Two versions of the library work on one job at the same time, as real processes: this one, and a later one with an additive migration."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import taskfleet
from taskfleet.ledger import migrations
from taskfleet.version import VERSION

LATER = "9.9.9"
PATIENCE_SECONDS = 60.0
TASK = """
import time

def run_task(n):
    time.sleep(0.03)
    if n % 40 == 7:
        raise ValueError("seven")
    return n
"""
#: What the later version adds to the schema.
MIGRATION = """
CREATE TABLE added (n INTEGER NOT NULL) STRICT;
ALTER TABLE task ADD COLUMN added TEXT NOT NULL DEFAULT 'x';
ALTER TABLE state ADD COLUMN added INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN added TEXT;
ALTER TABLE worker ADD COLUMN added INTEGER NOT NULL DEFAULT 1;
ALTER TABLE insertion ADD COLUMN added INTEGER;
ALTER TABLE segment ADD COLUMN added INTEGER NOT NULL DEFAULT 3;
"""


def make_later_version(folder):
    """Copy the library and give it a version and a migration; return what has to be in PYTHONPATH."""
    package = folder / "taskfleet"
    shutil.copytree(Path(taskfleet.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "version.py").write_text(f'VERSION = "{LATER}"\n')
    (package / "ledger" / "sql" / "later.sql").write_text(MIGRATION)
    file = package / "ledger" / "migrations.py"
    text, n = re.subn(
        r"(\nMIGRATIONS: .*?)\n\)\n", r'\1\n    Migration(name="later.sql"),\n)\n', file.read_text(), flags=re.DOTALL
    )
    assert n == 1
    file.write_text(text)
    return folder


class Project:
    """A project that can be used with either version."""

    def __init__(self, folder, libraries):
        self.folder = folder
        self._libraries = libraries
        self._processes = []
        (folder / "config").mkdir(parents=True)
        (folder / "pyproject.toml").write_text('[project]\nname = "mixed"\n')
        (folder / "task.py").write_text(TASK)
        (folder / "config" / "task.env").write_text("JOB_ID=mixed\nSLOTS=2\nRETRIES_ON_EXCEPTION=0\n")

    def start(self, version, *command):
        environ = os.environ | {"PYTHONPATH": str(self._libraries[version])}
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "taskfleet", *command],
                cwd=self.folder,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self._processes[-1]

    def run(self, version, *command):
        process = self.start(version, *command)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
        return out

    def insert(self, version, numbers):
        (self.folder / "tasks.csv").write_text("\n".join(["n", *map(str, numbers), ""]))
        self.run(version, "insert_tasks", "--task-table", "tasks.csv")

    def status(self, version):
        return json.loads(self.run(version, "status", "--json"))

    def close(self):
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def project(tmp_path):
    libraries = {VERSION: Path(taskfleet.__file__).parent.parent, LATER: make_later_version(tmp_path / "later")}
    one = Project(tmp_path / "project", libraries)
    yield one
    one.close()


@pytest.mark.parametrize("first", [VERSION, LATER], ids=["begun by this version", "begun by the later one"])
def test_both_versions_insert_work_retry_and_look_at_one_job(project, first):
    second = LATER if first == VERSION else VERSION
    project.insert(first, range(60))
    workers = [project.start(first, "launch_worker")]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not project.status(second)["counts"]["succeeded"]:
        assert time.monotonic() < deadline
    project.insert(second, range(60, 120))  # while the worker of the other version runs
    workers.append(project.start(second, "launch_worker"))
    for worker in workers:
        _, err = worker.communicate(timeout=PATIENCE_SECONDS)
        assert worker.returncode in (0, 3), err
    assert [project.status(version)["counts"] for version in (first, second)] == [
        {"waiting": 0, "pending": 0, "running": 0, "prefetched": 0, "succeeded": 117, "failed": 3, "killed": 0}
    ] * 2
    project.run(VERSION, "retry", "--failed")
    assert project.status(LATER)["counts"]["pending"] == 3
    with sqlite3.connect(project.folder / "jobs" / "mixed.db") as ledger:
        assert ledger.execute("PRAGMA user_version").fetchone() == (migrations.newest() + 1,)
        assert {row[0] for row in ledger.execute("SELECT version FROM worker")} == {VERSION, LATER}
        attempts = ledger.execute("SELECT key / 1000, count(*) FROM attempt GROUP BY 1").fetchall()
    ledger.close()
    assert len(attempts) == 120
    assert {n for _, n in attempts} == {1}
