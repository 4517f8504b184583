"""A baked project's pool of machines on this computer, as a person at a terminal uses it, whatever is killed on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def project(synced):
    """The project with no job; whatever a test leaves is ended."""
    task = (synced / "task.py").read_text()
    yield synced
    for papers in synced.glob("jobs/*.machines/*/*/pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(papers.read_text()), signal.SIGKILL)
    (synced / "task.py").write_text(task)
    shutil.rmtree(synced / "jobs", ignore_errors=True)


@pytest.fixture
def terminal(project, clean_environment, uv):
    def sit(*words):
        return Terminal([uv, "run", "poe", *words], cwd=project, env=clean_environment)

    return sit


def slow_tasks(project, seconds):
    """Have each task take a while."""
    (project / "task.py").write_text(
        "import time\n\n\ndef run_task(num1, num2):\n"
        f"    time.sleep({seconds})\n    return num1 + num2\n\n\ndef filter_tasks(table, output_path):\n    return table\n"
    )


def machines(poe):
    return [json.loads(line) for line in poe("machines", "--json").stdout.splitlines()]


def status(poe):
    return json.loads(poe("status", "--json").stdout)


def until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)
    return value


def workers(project):
    """The processes of machines that have this project's folder as their own."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_there = entry.name.isdigit() and os.readlink(entry / "cwd") == str(project)
            if is_there and b"TASKFLEET_MACHINE=" in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def test_the_example_is_worked_off_though_controller_and_machine_are_killed(project, poe, terminal):
    slow_tasks(project, 0.003)
    with terminal("deploy_pool") as first:
        first.until(r"Inserted 10,000 tasks")
        first.until(r"Launch\? \[y/N\]")
        first.type("y\n")
        first.until("1 machine is ready")
        until(lambda: status(poe)["counts"]["succeeded"] > 500, "some results")
        os.killpg(first.process.pid, signal.SIGKILL)
    [machine] = machines(poe)
    assert machine["state"] == "running"
    shim = int(next(project.glob(f"jobs/*.machines/*/{machine['instance_id']}/pid")).read_text())
    os.kill(shim, signal.SIGKILL)
    refused = poe("deploy_pool", "--yes", "--dry-run")
    assert "No machine was launched (--dry-run)" in refused.stdout
    with terminal("deploy_pool", "--continue", "--yes") as second:
        second.until("JOB COMPLETE", 400.0)  # 10,000 processes, while other tests run
        second.until("All machines are terminated")
        assert second.wait() == 0
    found = status(poe)
    assert found["counts"] == {
        "waiting": 0,
        "pending": 0,
        "running": 0,
        "prefetched": 0,
        "succeeded": 10_000,
        "failed": 0,
        "killed": 0,
    }
    assert found["costs"]["machines"] == 0
    assert found["costs"]["machines_ever"] == 2
    assert workers(project) == []
    assert not list(project.glob("jobs/*.machines"))


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "enter alone", "ctrl-d"])
def test_whoever_does_not_agree_gets_no_machines_and_no_error(project, poe, terminal, answer):
    poe("insert_tasks", "--limit", "3")
    with terminal("deploy_pool") as sitting:
        sitting.until(r"Launch\? \[y/N\]")
        sitting.type(answer)
        sitting.until(r"(?m)^No machine was launched\.")
        assert sitting.wait() == 1
        assert "error" not in sitting.text
    assert machines(poe) == []
    with terminal("delete_queue") as sitting:
        sitting.until("to continue: ")
        sitting.type(answer)
        sitting.until(r"(?m)^The confirmation did not match\. Nothing was changed\.")
        assert sitting.wait() == 1
        assert "error" not in sitting.text
    assert status(poe)["total"] == 3


def test_ctrl_c_asks_and_what_is_answered_is_done(project, poe, terminal):
    slow_tasks(project, 0.2)
    with terminal("deploy_pool", "--yes") as sitting:
        sitting.until("1 machine is ready")
        until(lambda: status(poe)["counts"]["succeeded"] > 3, "some results")
        sitting.control_c()
        sitting.until("t, l or c:")
        sitting.type("c\n")
        time.sleep(3)  # poe or uv might kill it later
        sitting.control_c()
        sitting.until("t, l or c:")
        sitting.type("t\n")
        sitting.until("Their running tasks returned to the queue")
        sitting.until(r"Write the tasks to files.*\[y/N\]")
        sitting.type("y\n")
        assert sitting.wait() == 130
    assert workers(project) == []
    found = status(poe)
    assert found["counts"]["running"] == found["lost"] == 0
    dumps = {path.name: json.loads(path.read_text()) for path in project.glob("parallel_addition-*.json")}
    assert dumps.keys() == {"parallel_addition-succeeded.json", "parallel_addition-pending.json"}
    assert len(dumps["parallel_addition-succeeded.json"]) == found["counts"]["succeeded"]
    table = {one["task_id"]: one["data"] for one in json.loads((project / "tasks.json").read_text())}
    together = [one for dump in dumps.values() for one in dump]
    assert len(together) == len(table)
    assert {one["task_id"]: one["data"] for one in together} == table
    for name in dumps:
        (project / name).unlink()


def test_machines_that_are_left_go_on_alone_and_can_be_torn_down(project, poe, terminal):
    slow_tasks(project, 0.2)
    with terminal("deploy_pool", "--yes") as sitting:
        sitting.until("1 machine is ready")
        sitting.control_c()
        sitting.until("t, l or c:")
        sitting.type("l\n")
        sitting.until("keep running")
        assert sitting.wait() == 130
    done = status(poe)["counts"]["succeeded"]
    until(lambda: status(poe)["counts"]["succeeded"] > done + 10, "more results")
    assert re.search(r"The pool has had no controller.*poe deploy_pool --continue", poe("explain", "pool").stdout)
    again = poe("deploy_pool", "--yes", status=1).stderr
    assert "1 machine of an earlier run may still be running" in again
    torn = poe("teardown", "--yes").stdout
    assert re.search(r"machines: 0$", torn, re.MULTILINE)
    assert workers(project) == []
    assert "0 machines" in poe("teardown", "--dry-run").stdout


@pytest.mark.parametrize("times", [1, 3])
def test_a_system_that_ends_the_whole_group_leaves_the_machines_running(project, poe, clean_environment, uv, times):
    """uv passes the signal on, so that the pool gets it several times."""
    slow_tasks(project, 0.2)
    poe("insert_tasks")
    pool = subprocess.Popen(
        [uv, "run", "poe", "deploy_pool", "--yes"],
        cwd=project,
        env=clean_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until(lambda: status(poe)["counts"]["succeeded"] > 3, "some results")
    for _ in range(times):
        os.killpg(pool.pid, signal.SIGTERM)
    said = pool.communicate(timeout=120)[0].decode()
    assert "The machines keep running" in said
    assert "Traceback" not in said
    assert len(machines(poe)) == 1
    poe("teardown", "--yes")
    assert workers(project) == []


def test_the_worker_at_a_terminal_has_its_time_after_ctrl_c(project, poe, terminal):
    slow_tasks(project, 6)
    poe("insert_tasks")
    with terminal("launch_worker") as sitting:
        until(lambda: status(poe)["counts"]["running"] > 0, "a task")
        sitting.control_c()
        sitting.until("Stopping")
        assert sitting.wait() == 130
    assert status(poe)["counts"]["succeeded"] >= 1


def test_two_do_not_look_after_one_pool_and_stop_ends_both(project, poe, terminal):
    slow_tasks(project, 0.2)
    with terminal("deploy_pool", "--yes") as sitting:
        sitting.until("1 machine is ready")
        for words in (["--continue"], []):
            assert "Another poe deploy_pool manages this job" in poe("deploy_pool", "--yes", *words, status=1).stderr
        assert "All machines are terminated" in poe("stop", "--yes").stdout
        sitting.until("Stopped by another process")
        assert sitting.wait() == 130
    assert workers(project) == []


def test_a_task_that_cannot_be_imported_stops_the_pool_with_the_reason_until_it_is_corrected(project, poe):
    poe("insert_tasks", "--limit", "20")
    task = (project / "task.py").read_text()
    (project / "task.py").write_text("import nothing_here\n")
    for _ in range(2):  # the second run does not give up because of the failures of the first one
        said = poe("deploy_pool", "--yes", status=1)
        assert "No module named 'nothing_here'" in said.stderr
        assert "no task ran on any of them" in said.stderr
        assert said.stderr.count("1 machine launched") == 3
        assert workers(project) == []
    (project / "task.py").write_text(task)
    assert "All machines are terminated" in poe("deploy_pool", "--yes").stdout
    assert status(poe)["counts"]["succeeded"] == 20


def test_nobody_at_the_terminal_has_to_say_yes_beforehand(project, poe):
    said = poe("deploy_pool", status=2)
    assert "add --yes" in said.stderr
    assert "Traceback" not in said.stderr
    elsewhere = poe("deploy_pool", "--yes", "--provider", "aws", status=2).stderr
    assert "uv add 'taskfleet[aws]'" in elsewhere
