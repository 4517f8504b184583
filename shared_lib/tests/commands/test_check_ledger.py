"""``poe check_ledger``."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

from taskfleet import Job
from taskfleet.ledger.checks import CHECKS


def change(project, sql):
    with closing(sqlite3.connect(project / "jobs" / "sums.db", isolation_level=None)) as ledger:
        ledger.execute(sql)


def test_a_sound_ledger_has_one_line_per_check_and_is_not_changed(trouble, poe):
    path = trouble / "jobs" / "sums.db"
    before = path.read_bytes(), sorted(one.name for one in path.parent.iterdir())
    answer = poe("check_ledger")
    assert answer.code == 0
    assert answer.out.splitlines() == [f"{name}: OK" for name in CHECKS]
    assert (path.read_bytes(), sorted(one.name for one in path.parent.iterdir())) == before


def test_a_damaged_ledger_is_code_1_and_says_what_and_where(trouble, poe):
    change(trouble, "UPDATE counter SET n = 7 WHERE state = 3")
    answer = poe("check_ledger")
    assert answer.code == 1
    assert "counters: WRONG\n  the counter says 7 tasks in state 3, and there are 2" in answer.out
    assert "states: OK" in answer.out
    assert f"{trouble / 'jobs' / 'sums.db'} is damaged. Keep a copy" in answer.out


def test_a_damaged_ledger_is_code_1_also_if_nobody_reads_the_output(trouble):
    """As with ``poe check_ledger | head -1`` in a scheduled script."""
    change(trouble, "UPDATE counter SET n = 7 WHERE state = 3")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "taskfleet", "check_ledger"], cwd=trouble, stdout=writer)
    os.close(writer)
    assert done.returncode == 1


def test_json_has_one_object_per_check(trouble, poe):
    change(trouble, "UPDATE counter SET n = 7 WHERE state = 3")
    answer = poe("check_ledger", "--json")
    assert answer.code == 1
    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [one["check"] for one in found] == list(CHECKS)
    assert [one["check"] for one in found if not one["ok"]] == ["counters"]
    assert all(isinstance(one["problems"], list) for one in found)


def test_what_is_no_ledger_is_one_sentence(trouble, poe):
    (trouble / "jobs" / "sums.db").write_bytes(b"hello" * 1000)
    answer = poe("check_ledger")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "the file is damaged or is not a ledger" in answer.err


def test_an_unknown_state_names_the_command_that_lists_it(trouble, poe):
    change(trouble, "UPDATE state SET state = 9 WHERE seq = 1")
    answer = poe("tasks")
    assert answer.code == 1
    assert "poe check_ledger" in answer.err
    assert "task 1 (state 9) is in an unknown state" in poe("check_ledger").out


def test_a_job_in_python_has_the_same_checks(trouble):
    job = Job.open()
    assert all(one.is_ok for one in job.check_ledger())
    change(trouble, "UPDATE tally SET n = 5 WHERE name = 'inserted'")
    assert [one.name for one in job.check_ledger() if not one.is_ok] == ["counters"]
