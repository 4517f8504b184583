"""Tasks that other code has done."""

import os
import pty
import subprocess
import sys

import pytest

HELPER = "FACTOR = 2\ndef scale(n): return n * FACTOR\ndef unused(): return 1\n"
SCRIPT = """
import helper
@app
def load(n):
    note(f"load {n}")
    if n == 3 and helper.FACTOR == 2:
        raise ValueError("three")
    return helper.scale(n)
@app
def total(values):
    note("total")
    return sum(values)

if __name__ == "__main__":
    with flow():
        loads = load.map(n=range(4))
        found = total(succeeded(loads))
    print("total", found.result(), loads.counts())
"""


@pytest.fixture
def done(project):
    """A project whose script was run."""
    project.settings(RETRIES_ON_EXCEPTION=0).file("helper.py", HELPER)
    assert "total 6 {'succeeded': 3, 'failed': 1}" in project.run(SCRIPT)
    assert project.noted() == {"load 0": 1, "load 1": 1, "load 2": 1, "load 3": 1, "total": 1}
    return project


@pytest.mark.parametrize(
    "helper",
    [
        HELPER.replace("return 1", "return 2"),
        HELPER.replace("FACTOR = 2\n", "# The factor.\n\nFACTOR = 2  # twice\n"),
        HELPER.replace("def scale(n): return", "def scale(n):\n    '''Scale it.'''\n    return"),
    ],
    ids=["of another function", "of comments", "of docstrings"],
)
def test_changes_that_do_not_matter_are_not_noticed(done, helper):
    said = done.file("helper.py", helper).run(SCRIPT)
    assert "other code" not in said
    assert "none is new" in said


def test_results_are_kept_and_failures_repaired_unless_the_user_decides(done):
    """A pipe, so that nobody can be asked."""
    said = done.file("helper.py", HELPER.replace("FACTOR = 2", "FACTOR = 10")).run(SCRIPT)
    assert "load: 3 tasks done by other code; helper.FACTOR changed; " in said
    assert "Their results are kept (ON_CHANGE=rerun runs them again). 1 failed task of load is run again." in said
    assert (
        "total 36 {'succeeded': 4}" in said
    )  # 0 + 2 + 4 + 30: the sum is computed again, because one of its inputs is new
    assert done.noted()["load 3"] == 2
    assert done.noted()["load 2"] == 1


def test_keep_runs_nothing_again(done):
    done.settings(RETRIES_ON_EXCEPTION=0, ON_CHANGE="keep")
    said = done.file("helper.py", HELPER.replace("FACTOR = 2", "FACTOR = 10")).run(SCRIPT)
    assert "Their results are kept" in said
    assert "total 6 {'succeeded': 3, 'failed': 1}" in said


def test_rerun_runs_all_again_and_what_depends_on_other_results(done):
    done.settings(RETRIES_ON_EXCEPTION=0, ON_CHANGE="rerun")
    said = done.file("helper.py", HELPER.replace("FACTOR = 2", "FACTOR = 10")).run(SCRIPT)
    assert "3 tasks are run again. 1 failed task of load is run again." in said
    assert "total 60 {'succeeded': 4}" in said
    assert done.noted() == {"load 0": 2, "load 1": 2, "load 2": 2, "load 3": 2, "total": 2}
    assert "other code" not in done.run(SCRIPT)


def test_descendants_of_equal_results_are_not_run_again(done):
    done.settings(RETRIES_ON_EXCEPTION=0, ON_CHANGE="rerun")
    changed = SCRIPT.replace("return helper.scale(n)", "return 0 + helper.scale(n)")
    said = done.run(changed.replace("n == 3 and", "n == 3 and True and"))
    assert "load: 3 tasks done by other code; load changed; " in said
    assert "total 6" in said
    assert done.noted()["load 2"] == 2
    assert done.noted()["total"] == 1


def test_a_version_replaces_the_code(done):
    versioned = SCRIPT.replace("@app\ndef load", '@app(version="1")\ndef load')
    assert "load: 3 tasks done by other code; " in done.run(versioned)
    done.settings(RETRIES_ON_EXCEPTION=0, ON_CHANGE="rerun")
    assert "total 6" in done.run(versioned)
    done.file("helper.py", HELPER.replace("FACTOR = 2", "FACTOR = 10"))
    assert "other code" not in done.run(versioned)
    assert "load: 3 tasks done by other code" in done.run(versioned.replace('version="1"', 'version="2"'))


@pytest.mark.parametrize(("answer", "total"), [("k", "total 6 "), ("x\nr", "total 60 "), ("f", "total 36 ")])
def test_on_a_terminal_the_user_is_asked(done, answer, total):
    done.file("helper.py", HELPER.replace("FACTOR = 2", "FACTOR = 10"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "flow.py"], cwd=done.folder, env=done.environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=200)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert "Run them again (r), only those that failed (f), or keep all (k)?" in shown
    assert total in out.decode()
