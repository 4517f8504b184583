"""Drivers: two of one script at once, one that is killed and joined again, Ctrl-C, tasks that are left, other workers."""

import os
import signal

import pytest
from taskfleet.tasks import State

GRAPH = """
import os
@app
def make(n):
    note(f"make {n}")
    if n == 5:
        note("five")
        wait_for("gate")
    return n
@app
def double(x):
    note(f"double {x}")
    return 2 * x
@app
def total(xs): return sum(xs)
if __name__ == "__main__":
    with flow() as one:
        end = total(double.map(make.map(range(40))))
        single = [double(make(n)) for n in range(100, 140)]
    note("sent")
    assert end.result() == 1560
    assert [x.result() for x in single] == [2 * n for n in range(100, 140)]
    note("checked")
"""


def check_each_ran_once(project):
    noted = project.noted()
    numbers = [*range(40), *range(100, 140)]
    assert {word: n for word, n in noted.items() if word.startswith(("make", "double"))} == {
        f"{name} {n}": 1 for name in ("make", "double") for n in numbers
    }
    assert project.counts() == {"succeeded": 161}


def test_two_drivers_of_one_script_at_once(project):
    scripts = [project.begin(GRAPH), *(project.start(command=("flow.py",)) for _ in range(2))]
    project.open_gate("gate")
    for script in scripts:
        script.wait()
    assert project.noted()["checked"] == 3
    check_each_ran_once(project)


def test_a_script_that_is_run_again_adds_nothing(project):
    project.open_gate("gate")
    project.run(GRAPH)
    project.run(
        GRAPH.replace(
            'print("sent"', 'assert one.added == 0 and one.known == 161, (one.added, one.known); print("sent"'
        )
    )
    assert project.noted()["checked"] == 2


def test_a_driver_that_is_killed_is_joined_again(project):
    """In the middle of the tasks. Its worker ends after the tasks that run; the next driver has the rest done, and nothing twice."""
    script = project.begin(GRAPH)
    project.until_noted("five")
    script.kill()
    script.wait(-signal.SIGKILL)
    project.open_gate("gate")
    project.until(lambda: not project.processes(), "the end of the worker")
    project.run(GRAPH)
    check_each_ran_once(project)


def test_a_driver_that_is_killed_while_it_makes_calls(project):
    """What it has sent is there once; what it had not sent comes with the next driver."""
    text = GRAPH.replace(
        "    with flow() as one:",
        "    with flow() as one:\n        [double(make(n)) for n in range(100, 120)]; one.send(); stop()",
    )
    script = project.begin(
        """
def stop():
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""
        + text
    )
    script.wait(-signal.SIGKILL)
    assert project.counts() == {"pending": 20, "waiting": 20}
    project.open_gate("gate")
    project.run(GRAPH)
    check_each_ran_once(project)


def test_another_worker_runs_the_tasks_and_outlives_the_driver(project):
    """The driver starts no worker of its own while there is one."""
    project.settings(KEEP_WAITING="true", PROGRESS_SECONDS=1)
    project.run(GRAPH.replace('note("sent")', "raise SystemExit"))
    worker = project.start()
    project.until_noted("five")
    script = project.begin(GRAPH)
    project.until_noted("sent")
    project.open_gate("gate")
    script.wait()
    assert "Worker for job" not in script.text
    check_each_ran_once(project)
    worker.kill(signal.SIGTERM)
    worker.wait(130)


def test_ctrl_c_while_a_result_is_waited_for(project):
    """A terminal sends it to all of the script's group. The task that runs is finished, and the rest goes on later."""
    script = project.begin(GRAPH)
    project.until_noted("five")
    os.killpg(script.pid, signal.SIGINT)
    project.until(lambda: "Stopping" in script.text)
    project.open_gate("gate")
    script.wait(-signal.SIGINT)  # which a shell calls 130
    assert "Traceback" not in script.text
    assert "Interrupted." in script.text
    assert "left. They run with uv run poe launch_worker" in script.text
    project.until(lambda: not project.processes(), "the end of all processes")
    project.run(GRAPH)
    check_each_ran_once(project)


def test_a_second_ctrl_c_does_not_wait_for_running_tasks(project):
    script = project.begin(GRAPH)
    project.until_noted("five")
    os.killpg(script.pid, signal.SIGINT)
    project.until(lambda: "Stopping" in script.text)
    os.killpg(script.pid, signal.SIGINT)
    script.wait(-signal.SIGINT)
    assert "Traceback" not in script.text
    assert project.counts()["pending"] > 0


def test_tasks_that_are_left_when_the_script_ends(project):
    """It says so, and how they go on."""
    said = project.run("""
@app
def one(x): return x
with flow():
    a, rest = one(1), one.map(range(50, 60))
""")
    assert project.counts() == {"pending": 11}
    assert (
        "Job 'job': 11 tasks left. They run with uv run poe launch_worker --job-id job, or when this script is run again"
        in said
    )


def test_the_end_of_a_script_waits_for_running_tasks(project):
    script = project.begin("""
@app
def first(): return 1
@app
def slow():
    note("slow")
    wait_for("gate")
    return 2
with flow():
    a, b = first(), slow()
a.result()
while True:
    import pathlib, time
    notes = pathlib.Path("notes.txt")
    if notes.exists() and "slow" in notes.read_text():
        break
    time.sleep(0.01)
note("over")
""")
    project.until_noted("slow", "over")
    project.open_gate("gate")
    script.wait()
    assert project.counts() == {"succeeded": 2}


def test_the_worker_that_cannot_start_is_reported_once(project):
    """Its own error is above the driver's."""
    project.file("json.py", "raise RuntimeError")
    said = (
        project.start(
            command=(
                "-P",
                "-c",
                """
import sys
from taskfleet.graph import app, flow
sys.path.insert(0, ".")
import task
one = app(task.one)
with flow("job") as it:
    one(1).result()
""",
            )
        )
        if project.file("task.py", "def one(x): return x\n")
        else None
    )
    said.wait(1)
    assert said.text.count("json.py") == 1, said.text
    (project.folder / "json.py").unlink()


@pytest.mark.parametrize("per_process", [0, 1])
def test_a_worker_that_is_killed_in_the_middle(project, per_process):
    """The driver starts another one; the tasks that ran are leased again when their lease ends."""
    project.settings(TASKS_PER_PROCESS=per_process, LEASE_SECONDS=3)
    script = project.begin(GRAPH)
    project.until_noted("five")
    project.open_gate("gate")
    [worker] = [pid for pid, parent in project.processes().items() if parent == script.pid]
    os.kill(worker, signal.SIGKILL)
    script.wait()
    assert project.counts() == {"succeeded": 161}
    states = project.ask(lambda database: database.rows("SELECT DISTINCT state, missing FROM state"))
    assert states == [(int(State.SUCCEEDED), 0)]
