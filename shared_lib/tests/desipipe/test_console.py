"""The commands ``taskfleet``, as users type them."""

import contextlib
import re
from pathlib import Path

import pytest

from shared_lib.tests.desipipe.scripts import console, run
from shared_lib.tests.worker.conftest import until

SCRIPT = """
import sys
queue = Queue(sys.argv[1] if len(sys.argv) > 1 else 'test')
tm = TaskManager(queue, scheduler=dict(max_workers=2))

@tm.python_app
def number(i):
    import os
    print(f'number {i}')
    if i == 2 and not os.path.exists('fixed'):
        raise ValueError('two')
    return i

@tm.bash_app
def said(value):
    return ['echo', value]

said(number(1))
said(number(2))
"""
STATES = ("WAITING", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "KILLED", "UNKNOWN")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a queue ``test`` of four tasks, two of which wait for the others."""
    run(tmp_path, SCRIPT)
    return tmp_path


def counts(folder: Path, queue: str = "test") -> dict[str, int]:
    """Return what ``queues`` says about a queue; states without tasks are left out."""
    lines = console(folder, "queues", "-q", queue).splitlines()
    found = {
        line.split(":")[0].strip(): int(line.split(":")[1]) for line in lines if re.fullmatch(r"[A-Z]+ *: \d+", line)
    }
    assert tuple(found) == STATES
    return {state: n for state, n in found.items() if n}


def records(text: str) -> list[str]:
    """Return log records without their time and name."""
    assert all(
        re.match(r"\[[\d.]{9}\]  \d\d-\d\d \d\d:\d\d  taskfleet +[A-Z]+ +", line)
        for line in text.splitlines()
        if line[:1] == "["
    )
    return [re.sub(r"^\[.*?(INFO|WARNING|ERROR) +", "", line) for line in text.splitlines()]


def test_the_life_of_a_queue(folder):
    assert counts(folder) == {"PENDING": 2, "WAITING": 2}
    console(folder, "spawn", "-q", "test")
    assert counts(folder) == {"SUCCEEDED": 2, "FAILED": 2}
    shown = records(
        console(
            folder, "tasks", "-q", "test", "--state", "FAILED", "--name", "number", "--property", "errno", "err", "out"
        )
    )
    assert shown[:4] == [
        "Tasks that are FAILED:",
        "app: number",
        "errno: 42",
        "err: Traceback (most recent call last):",
    ]
    assert [line for line in shown[4:] if line[:1] not in ("", " ")] == ["ValueError: two", "out: number 2", "=" * 30]
    (folder / "fixed").touch()
    console(folder, "retry", "-q", "test")
    assert counts(folder) == {"SUCCEEDED": 2, "FAILED": 2}  # only killed tasks by default
    assert "1 tasks of" in console(folder, "retry", "-q", "test", "--state", "FAILED", "--name", "number")
    assert counts(folder) == {"SUCCEEDED": 2, "PENDING": 1, "WAITING": 1}
    console(folder, "spawn", "-q", "test", "--timestep", "1", "--max-workers", "1")
    assert counts(folder) == {"SUCCEEDED": 4}
    times = records(console(folder, "time", "-q", "test"))
    assert [re.sub(r"[\d.]+", "N", line) for line in times] == ["Time:", "number: N +/- N", "said: N +/- N"]
    console(folder, "retry", "-q", "test", "--state", "SUCCEEDED", "--name", "said")
    assert counts(folder) == {"SUCCEEDED": 2, "PENDING": 2}


def test_pause_and_resume(folder):
    assert "Pausing queue Queue(size=4, state=ACTIVE, " in console(folder, "pause", "-q", "test")
    assert "state=PAUSED" in console(folder, "queues")
    console(folder, "spawn", "-q", "test", "--timeout", "1")
    assert counts(folder) == {"PENDING": 2, "WAITING": 2}
    assert "Resuming queue Queue(size=4, state=PAUSED, " in console(folder, "resume", "-q", "test")
    console(folder, "spawn", "-q", "test")
    assert counts(folder) == {"SUCCEEDED": 2, "FAILED": 2}


def test_kill_and_retry(folder):
    assert "0 tasks of" in console(folder, "kill", "-q", "test")  # none runs
    assert "1 tasks of" in console(folder, "kill", "-q", "test", "--state", "PENDING", "--tid", first_of(folder))
    assert counts(folder) == {"PENDING": 1, "WAITING": 1, "KILLED": 2}
    console(folder, "retry", "-q", "test")
    assert counts(folder) == {"PENDING": 2, "WAITING": 2}


def first_of(folder: Path) -> str:
    """Return the id of the first task."""
    shown = records(console(folder, "tasks", "-q", "test", "--state", "PENDING", "--property", "id"))
    return shown[2].removeprefix("id: ")


def test_patterns_stand_for_queues(folder):
    run(folder, SCRIPT.replace("'test'", "'other'"))
    run(folder, SCRIPT.replace("'test'", "'my/own'"))
    run(
        folder,
        SCRIPT.replace("Queue(sys.argv[1] if len(sys.argv) > 1 else 'test')", "Queue('here', base_dir='_tests')"),
    )

    def listed(*words: str) -> list[str]:
        return re.findall(r"filename=\S*?/([^/]+/[^/]+)\.db\)", console(folder, "queues", *words))

    assert listed() == listed("-q", "*/*") == ["_tests/here", "queues/other", "queues/test"]  # as if they were users
    assert listed("-q", "t*") == listed("-q", "test") == listed("-q", "te?t.sqlite") == ["queues/test"]
    assert listed("-q", "*/my/*") == ["my/own"]
    assert listed("-q", "./_tests/*") == listed("-q", "./_tests/here") == ["_tests/here"]
    assert "No matching queue" in console(folder, "queues", "-q", "no*")
    assert "There is no queue no* nor." in console(folder, "pause", "-q", "no*", "nor", fails=True)
    console(folder, "kill", "-q", "*", "./_tests/*", "--state", "PENDING")
    assert [counts(folder, name) for name in ("test", "other", "./_tests/here")] == [{"KILLED": 4}] * 3


def test_delete_only_with_force(folder):
    text = console(folder, "delete", "-q", "*")
    assert "--force is not set. To actually delete the queues, pass --force" in text
    assert counts(folder) == {"PENDING": 2, "WAITING": 2}
    console(folder, "delete", "-q", "*", "--force")
    assert list((folder / "queues").iterdir()) == []


def test_a_mistake_is_one_message(folder):
    (folder / "queues" / "bad.db").write_text("not a queue" * 100)
    assert "error: " in (message := console(folder, "queues", "-q", "bad", fails=True))
    assert "Traceback" not in message
    assert "invalid choice: 'DONE'" in console(folder, "tasks", "-q", "test", "--state", "DONE", fails=True)


def test_running_tasks_are_killed(tmp_path):
    text = """
    import subprocess, sys, time
    queue = Queue('test')
    tm = TaskManager(queue, scheduler=dict(max_workers=2))

    @tm.python_app
    def endless(i):
        import time
        print('begun', i, flush=True)
        time.sleep(1000)

    @tm.python_app
    def after(value):
        return value

    first, second = endless(1), endless(2)
    child = after(first)
    spawn(queue, spawn=True)
    while queue.counts(state='RUNNING') < 2:
        time.sleep(.05)
    subprocess.run([sys.executable, '-m', 'taskfleet.desipipe', 'kill', '-q', 'test', '--tid', first.id], check=True)
    print(first.result(), first.state, child.state, second.state)
    subprocess.run([sys.executable, '-m', 'taskfleet.desipipe', 'kill', '-q', 'test'], check=True)
    print(second.result(), second.state)
    """
    said = [line for line in run(tmp_path, text).splitlines() if line.startswith("None")]
    assert said == ["None KILLED KILLED RUNNING", "None KILLED"]


def test_delete_kills_what_runs(tmp_path):
    text = """
    import os, time
    queue = Queue('test')
    tm = TaskManager(queue)

    @tm.python_app
    def endless():
        import os, time
        open('pid', 'w').write(str(os.getpid()))
        open('begun', 'w').close()
        time.sleep(1000)

    endless()
    spawn(queue, spawn=True)
    while not os.path.exists('begun'):
        time.sleep(.05)
    queue.clear()
    print(queue.counts(), queue.processes(), os.path.exists(f"/proc/{open('pid').read()}"))
    """
    assert run(tmp_path, text) == "0 [] False\n"
    until(lambda: not processes_of(tmp_path), "the end of the process that spawned the workers")


def processes_of(folder):
    """The command lines of living processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if str(folder) in line]
