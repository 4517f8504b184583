"""MAX_CONCURRENT_TASKS with several workers."""

import json
import subprocess
import sys

import pytest
from taskfleet.errors import SettingsError
from taskfleet.settings import read_configuration

SOURCE = """
import os
from notes import note, wait_for

def run_task(n):
    names = [f"place-{k}" for k in range(2)]
    for name in names:  # there are as many places as tasks may run at once
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        break
    else:
        raise RuntimeError("too many tasks at once")
    note("begun")
    wait_for("open")
    os.unlink(name)
"""


def command(project, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taskfleet", *words],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_workers_share_the_limit_and_wait_for_each_other(project):
    project.write(SOURCE, MAX_CONCURRENT_TASKS=2, SLOTS=3, RETRIES_ON_EXCEPTION=0)
    project.insert([{"n": n} for n in range(12)])
    first = project.start()
    project.until(lambda: project.noted()["begun"] == 2)
    second = project.start()
    project.until(lambda: "As many tasks run on other workers as MAX_CONCURRENT_TASKS allows" in second.text)
    sentence = "As many tasks run as MAX_CONCURRENT_TASKS=2 allows"
    assert f"{sentence}." in command(project, "status")
    assert json.loads(command(project, "status", "--json"))["managers_at_their_limit"] == {"default": 2}
    assert f"{sentence}." in command(project, "explain")
    assert f"is pending. {sentence}; it starts when one of them has ended." in command(project, "explain", "t11")
    assert project.counts() == {"running": 2, "pending": 10}
    project.open_gate("open")
    first.wait()
    second.wait()
    assert project.counts() == {"succeeded": 12}
    assert json.loads(command(project, "status", "--json"))["managers_at_their_limit"] == {}


def test_the_part_of_a_killed_worker_goes_to_others(project):
    project.write(SOURCE, MAX_CONCURRENT_TASKS=2, SLOTS=2)
    project.insert([{"n": n} for n in range(4)])
    first = project.start()
    project.until(lambda: project.noted()["begun"] == 2)
    second = project.start()
    project.until(lambda: "MAX_CONCURRENT_TASKS allows" in second.text)
    first.kill()
    for name in ("place-0", "place-1"):
        (project.folder / name).unlink()
    project.until(lambda: project.noted()["begun"] == 4)
    project.open_gate("open")
    second.wait()
    assert project.counts() == {"succeeded": 4}


@pytest.mark.parametrize("queue_url", ["sqs://x", "pubsub://p/x", "postgresql://h/d"])
def test_a_service_queue_is_refused(project, queue_url):
    project.write(SOURCE, MAX_CONCURRENT_TASKS=2, QUEUE_URL=queue_url)
    said = command(project, "launch_worker", code=2)
    assert "line " in said
    assert "MAX_CONCURRENT_TASKS needs QUEUE_URL=ledger" in said
    assert "Traceback" not in said
    with pytest.raises(SettingsError, match="the command line"):
        read_configuration(
            flags={"MAX_CONCURRENT_TASKS": "1", "QUEUE_URL": queue_url}, env_file=None, environ={}, start=project.folder
        )
