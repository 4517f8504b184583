"""poe retry, release, purge and delete_queue."""

import json
import os
import subprocess
import sys
import time

import pytest
from taskfleet.ledger import leasing
from taskfleet.ledger.database import open_ledger
from taskfleet.processes.identity import identity
from taskfleet.tasks import LeaseLostError
from taskfleet.terminal.registry import COMMANDS


def counts(poe):
    return {state: n for state, n in json.loads(poe("status", "--json").out)["counts"].items() if n}


def test_failed_tasks_of_one_kind_are_put_back(poe, trouble):
    assert "Put 1 task back" in poe("retry", "--failed", "--kind", "exit").out
    assert counts(poe) == {"pending": 1, "succeeded": 2, "failed": 1}
    assert "Put 1 task back" in poe("retry", "--failed").out


def test_a_task_put_back_by_its_id_keeps_its_earlier_attempts(poe, trouble):
    poe("retry", "t1")
    poe("launch_worker")
    assert [attempt["attempt"] for attempt in json.loads(poe("task", "t1", "--json").out)["attempts"]] == [1, 2]


def test_ids_that_cannot_be_put_back_are_counted(poe, trouble):
    out = poe("retry", "t0", "t9", "t1").out
    assert "2 task IDs skipped" in out
    assert "Put 1 task back" in out
    answer = poe("retry", "t0", "t9")
    assert (answer.code, "Nothing was changed" in answer.err) == (1, True)
    assert "Nothing was changed" in poe("retry", "--killed").out


def test_retry_wants_to_know_which(poe, trouble):
    answer = poe("retry")
    assert answer.code == 2
    assert "--failed" in answer.err
    assert poe("retry", "--kind", "exit").code == 2


def test_purged_tasks_can_be_put_back(poe):
    poe("insert_tasks")
    assert "Removed 4 tasks" in poe("purge_queue", "--yes").out
    assert counts(poe) == {"killed": 4}
    assert "No tasks are pending" in poe("purge_queue", "--yes").out
    assert "Put 4 tasks back" in poe("retry", "--killed").out
    assert counts(poe) == {"pending": 4}


@pytest.mark.parametrize("command", ["purge_queue", "delete_queue"])
def test_nothing_is_taken_away_when_nobody_can_confirm(project, poe, monkeypatch, command):
    poe("insert_tasks")
    with open("/dev/null") as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        answer = poe(command)
    assert answer.code == 2
    assert "add --yes" in answer.err
    assert counts(poe) == {"pending": 4}


@pytest.mark.parametrize(("typed", "is_deleted"), [("sums\n", True), ("yes\n", False)])
def test_the_job_s_name_has_to_be_typed_to_delete_it(project, poe, typed, is_deleted):
    poe("insert_tasks")
    script = f"""
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "taskfleet", "delete_queue"])
os.write(terminal, {typed!r}.encode())
try:
    while os.read(terminal, 1024): pass
except OSError: pass
os.waitpid(pid, 0)
"""
    subprocess.run([sys.executable, "-c", script], cwd=project, check=True, timeout=240)
    assert (project / "jobs" / "sums.db").exists() is not is_deleted


def test_a_deleted_job_leaves_no_file(project, poe):
    poe("insert_tasks")
    assert poe("delete_queue", "--yes").code == 0
    assert list((project / "jobs").iterdir()) == []


def test_release_revokes_the_leases_of_live_workers_too(project, poe):
    poe("insert_tasks")
    database = open_ledger(project / "jobs" / "sums.db", job_id="sums")
    worker_id = leasing.register(
        database, hostname="here", process=identity(), pid=os.getpid(), slots=1, lease_seconds=1e6, now=time.time()
    )
    held = leasing.lease(database, worker_id, 2, skip=0, lease_seconds=1e6, now=time.time())
    assert "Revoked all leases: 2 tasks put back." in poe("release").out
    with pytest.raises(LeaseLostError):
        leasing.renew(database, worker_id, lease_seconds=1e6, now=time.time())
    database.close()
    assert len(held) == 2
    assert "Revoked all leases: 0 tasks put back." in poe("release").out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(poe, command):
    answer = poe(command, "--help")
    assert answer.code == 0
    assert "-e FILE" in answer.out
    assert "examples:" in answer.out


def test_an_unknown_command_lists_those_there_are(poe):
    answer = poe("frobnicate")
    assert answer.code == 2
    assert all(command in answer.err for command in COMMANDS)


def test_without_a_command_those_there_are_are_listed(poe):
    answer = poe()
    assert answer.code == 0
    assert all(command in answer.out for command in COMMANDS)


def test_the_large_results_beside_the_ledger_are_deleted_with_the_job(poe, project):
    poe("insert_tasks")
    folder = project / "jobs" / "sums.results"
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "abcd.npy").write_bytes(b"x")
    asked = poe("delete_queue")
    assert f"The folder of its large results is deleted too: {folder}. " in asked.err
    assert folder.exists()
    assert f"Deleted {folder}." in poe("delete_queue", "--yes").out
    assert not folder.exists()


def test_large_results_elsewhere_stay(poe, project):
    poe("insert_tasks")
    (project / "shared").mkdir()
    (project / "jobs" / "sums.results").mkdir()
    out = poe("delete_queue", "--yes", "--results-path", "shared").out
    assert ".results" not in out
    assert (project / "shared").exists()
    assert (project / "jobs" / "sums.results").exists()
