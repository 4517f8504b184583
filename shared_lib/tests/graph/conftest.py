"""Graphs in small projects: scripts that are run as a user runs them, and flows in this process that make calls only."""

import contextlib
import importlib
import sys

import pytest
from taskfleet.graph import flow
from taskfleet.ledger.checks import check

from shared_lib.tests.worker.conftest import JOB, Project

#: What is alike in all scripts.
HEAD = f"""
import functools
from notes import note, wait_for
from taskfleet.graph import app, constant, flow, succeeded
flow = functools.partial(flow, {JOB!r})
"""


class GraphProject(Project):
    """A project whose job is made by scripts."""

    def __init__(self, folder):
        super().__init__(folder)
        self.settings()

    def settings(self, **settings):
        """Write config/task.env: two processes that stay, unless a test wants something else."""
        values = self._defaults | {"TASKS_PER_PROCESS": 0} | settings
        lines = [f"{name}={value}" for name, value in values.items()]
        (self.folder / "config" / "task.env").write_text("\n".join(lines) + "\n")
        return self

    def file(self, name, text):
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self

    def run(self, text, *, name="flow.py", code=0):
        """Run a script; return all it printed."""
        return self.begin(text, name=name).wait(code).text

    def begin(self, text, *, name="flow.py"):
        """Start a script."""
        self.file(name, HEAD + text)
        return self.start(command=(name,))

    @contextlib.contextmanager
    def calls(self, text, **settings):
        """Provide a module ``task`` with this text, and a flow in this process, for calls that nobody runs."""
        self.file("task.py", HEAD + text)
        importlib.invalidate_caches()
        for name in ("task", "notes"):  # perhaps of another test, of a function that it checked
            sys.modules.pop(name, None)
        sys.path.insert(0, str(self.folder))
        try:
            task = importlib.import_module("task")
            with flow(JOB, project=self.folder, **settings) as one:
                yield task, one
        finally:
            sys.path.remove(str(self.folder))
            for name in ("task", "notes"):
                sys.modules.pop(name, None)


@pytest.fixture
def project(tmp_path):
    """A project without tasks; at the end nothing of it may run any more and its ledger must be sound."""
    folder = tmp_path / "project"
    folder.mkdir()
    one = GraphProject(folder)
    yield one
    one.clear_up()
    one.check()
    if one.ledger_path.exists():
        assert one.ask(lambda database: [found for found in check(database) if not found.is_ok]) == []
