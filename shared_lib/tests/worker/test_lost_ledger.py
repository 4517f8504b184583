"""A ledger that is deleted, replaced or damaged under a worker: the worker ends at once with an error and claims nothing."""

import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from shared_lib.tests.worker.conftest import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

SOURCE = """
from notes import note, wait_for

def run_task(number):
    note(f"began {number}")
    if number == 1:
        wait_for("gate")
"""


@pytest.fixture
def working(project):
    """A worker in the middle of its job; its second task waits at the gate."""
    project.write(SOURCE)
    project.insert([{"number": number} for number in range(50)])
    worker = project.start()
    project.until_noted("began 1", "began 3")
    return worker


def delete(project):
    shutil.rmtree(project.ledger_path.parent)


def replace(project):
    copy = project.ledger_path.with_suffix(".copy")
    shutil.copy(project.ledger_path, copy)
    copy.replace(project.ledger_path)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (delete, "was deleted while it was in use"),
        (replace, "was replaced by another file"),
    ],
)
def test_a_worker_ends_at_once_and_claims_nothing(project, working, action, message):
    action(project)
    started = time.monotonic()
    assert working.process.wait(PATIENCE_SECONDS) == 1
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    text = working.text
    assert text.count(message) == 1, text
    assert "COMPLETE" not in text
    assert "Traceback" not in text
    assert "Next:" not in text


def test_a_worker_does_not_retry_on_a_damaged_ledger(project):
    """The pages with the tasks are damaged, so that opening it and leasing the first ones succeeds."""
    project.write("def run_task(number, text):\n    return 1\n")
    project.insert([{"number": number, "text": "x" * 1000} for number in range(5_000)])
    with closing(sqlite3.connect(project.ledger_path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with project.ledger_path.open("r+b") as file:
        size = project.ledger_path.stat().st_size
        file.seek(size // 4 // 4096 * 4096)
        file.write(b"\xff" * (size // 2))
    worker = project.start()
    assert worker.process.wait(PATIENCE_SECONDS) == 1
    assert worker.text.count("the file is damaged") == 1, worker.text
    assert "COMPLETE" not in worker.text
    assert "Retrying" not in worker.text
    project.ledger_path.unlink()  # it cannot be checked
