"""A ledger that is deleted, replaced or damaged under a worker: the worker ends at once with an error and claims nothing."""

import shutil
import time

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


def damage(project):
    """Overwrite the file's pages but for the first, in which SQLite recognises it, and what it has of later ones in its log."""
    path = project.ledger_path
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    for log in path.parent.glob("*-wal"):
        with log.open("r+b") as file:
            file.truncate(0)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (delete, "was deleted while it was in use"),
        (replace, "was replaced by another file"),
        (damage, "the file is damaged"),
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
    project.ledger_path.unlink(missing_ok=True)  # it cannot be checked
