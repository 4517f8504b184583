"""A small project in a temporary folder, and its commands run in this process as poe would run them."""

import json
import sys
from types import SimpleNamespace

import pytest
from taskfleet import cli

TASK = """
import os
from taskfleet import Fail, Retry

def run_task(num1, num2, way="add"):
    if way == "raise":
        print("about to raise")
        raise ValueError("invalid input")
    if way == "crash":
        os._exit(3)
    return {"sum": num1 + num2}

def make_tasks():
    for number in range(5):
        yield {"num1": number, "num2": 1}
"""

ENV = "JOB_ID=sums\nRETRIES_ON_EXIT=0\nSLOTS=2\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The folder of a project with a table of four rows."""
    for name in list(sys.modules):
        if name == "task":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "task.env").write_text(ENV)
    (tmp_path / "task.py").write_text(TASK)
    rows = [{"task_id": f"t{number}", "data": {"num1": number, "num2": 10}} for number in range(4)]
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("task", None)


@pytest.fixture
def poe(project, capsys):
    """Return a function that runs a command and gives its exit code and what it printed."""

    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main(list(words))
        except SystemExit as stop:  # argparse
            code = stop.code
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def trouble(project, poe):
    """A job that has been worked on: two tasks succeeded, one raised, one crashed."""
    ways = ["add", "raise", "crash", "add"]
    rows = [{"task_id": f"t{i}", "data": {"num1": i, "num2": 10, "way": way}} for i, way in enumerate(ways)]
    (project / "tasks.json").write_text(json.dumps(rows))
    assert poe("insert_tasks").code == 0
    assert poe("launch_worker").code == 0
    return project
