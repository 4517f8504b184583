"""Cancel tasks and pause the job while a worker runs, as a user does."""

import os
import random
import subprocess
import sys
import time
from contextlib import closing

import pytest
from taskfleet.ledger import cancelling, checks, control
from taskfleet.ledger.cancelling import Selection
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import Outcome, State

GROUP = """
    import os, signal, subprocess, sys, time

    def run_task(n):
        if n in (0, 1):
            child = subprocess.Popen(["sleep", "1000"])
            stubborn = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); signal.pause()"
            other = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
            note(f"pid{n} {os.getpid()}")
            note(f"child{n} {child.pid}")
            note(f"other{n} {other.pid}")
            wait_for(f"gate{n}")
        note(f"ended {n}")
        return n
"""


def command(project, *arguments, code=0):
    """Run a command as a user does; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", *arguments],
        cwd=project.folder,
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.every_start_method
def test_a_running_task_is_cancelled_with_all_its_processes_and_the_others_go_on(project, per_process):
    project.write(GROUP, TASKS_PER_PROCESS=per_process, RETRIES_ON_EXIT=3)
    worker = project.insert([{"n": n} for n in range(20)]).start()
    pids = [project.noted_number(f"{what}0") for what in ("pid", "child", "other")]
    project.noted_number("other1")
    text = command(project, "cancel", "t0", "t19", "unknown")
    assert "Cancelled 2 tasks (1 pending, 1 running)." in text
    assert "1 task ID unknown." in text
    project.until(lambda: project.task("t0").state is State.KILLED, "the cancelled task's end")
    project.until(lambda: not any(map(is_alive, pids)), "the end of its processes")
    project.open_gate("gate1")
    worker.wait()
    assert project.counts() == {"succeeded": 18, "killed": 2}
    assert [(one.outcome, one.error) for one in project.task("t0").attempts] == [
        (Outcome.KILLED, "Killed: the task was cancelled")
    ]
    assert project.task("t19").attempts == ()
    assert "ended 0" not in project.noted()
    assert command(project, "cancel", "t1").startswith("No tasks to cancel. 1 task had ended already.")
    assert "unknown" in command(project, "cancel", "nothing", code=1)
    assert "Put 2 tasks back" in command(project, "retry", "--killed")
    project.open_gate("gate0")
    project.work()
    assert project.counts() == {"succeeded": 20}


@pytest.mark.slow
def test_tasks_cancelled_at_any_moment_are_killed_or_done_and_the_counts_add_up(project, per_process):
    """Each cancellation meets tasks that wait in the ledger, the worker, a slot or a process, that run, or that have just ended."""
    source = "import time\ndef run_task(n):\n    note(n)\n    time.sleep(0.003)\n    return n"
    project.write(source, TASKS_PER_PROCESS=per_process)
    total = 3000
    worker = project.insert([{"n": n} for n in range(total)]).start()
    random_number, cancelled = random.Random(per_process), set()
    with closing(open_ledger(project.ledger_path, job_id="job")) as database:
        while True:
            done = database.value("SELECT count(*) FROM state WHERE state >= 3")
            if done == total:
                break
            running = [seq - 1 for (seq,) in database.rows("SELECT seq FROM state WHERE state = 2")]
            chosen = random_number.sample(running, min(len(running), 3)) or [random_number.randrange(total)]
            time.sleep(random_number.random() * 0.05)
            cancelled |= set(chosen)
            cancelling.cancel(database, Selection(ids=[f"t{n}" for n in chosen]))
        worker.wait()
        counts = project.counts()
        assert set(counts) == {"succeeded", "killed"}
        states = dict(database.rows("SELECT seq - 1, state FROM state"))
        assert len(states) == total
        assert {n for n, state in states.items() if state == State.KILLED} <= cancelled
        assert control.cancelled(database) == []
        assert not [one for one in checks.check(database) if not one.is_ok]
        noted = project.noted()
        wrong = (
            "SELECT key / 1000 - 1, result FROM attempt WHERE outcome = 0 AND result <> CAST(key / 1000 - 1 AS TEXT)"
        )
        assert database.rows(wrong) == []  # a process gets the tasks of the one before it, which was killed
        unseen = {n for n, state in states.items() if state == State.SUCCEEDED and str(n) not in noted}
        assert not unseen, [(n, database.rows("SELECT * FROM attempt WHERE key / 1000 = ?", (n + 1,))) for n in unseen]
        assert set(noted.values()) <= {1, 2}  # the second, if its process was killed for another task's sake


def test_a_worker_that_dies_while_tasks_are_cancelled(project, per_process):
    project.write(GROUP, TASKS_PER_PROCESS=per_process)
    for turn, n in enumerate((0, 1)):
        project.insert({f"turn{turn}": {"n": n}, f"other{turn}": {"n": 5 + n}})
        worker = project.start()
        pids = [project.noted_number(f"{what}{n}") for what in ("pid", "child", "other")]
        if turn:
            worker.kill()
        command(project, "cancel", "--state", "running")
        if not turn:
            worker.kill()
        project.until(lambda pids=pids: not any(map(is_alive, pids)), "the end of its processes")
        worker.process.wait()
        project.work()
        assert project.task(f"turn{turn}").state is State.KILLED
        assert project.task(f"other{turn}").state is not State.PENDING
        assert f"ended {n}" not in project.noted()


@pytest.mark.parametrize("keeps_waiting", [False, True])
def test_a_paused_job_starts_no_task_until_it_is_resumed(project, keeps_waiting):
    project.write(
        "def run_task(n): note(f'began {n}'); wait_for(f'gate{n}'); note(f'ended {n}')", KEEP_WAITING=keeps_waiting
    )
    worker = project.insert([{"n": n} for n in range(5)]).start()
    project.until_noted("began 0", "began 1")
    assert "is paused" in command(project, "pause")
    assert "paused already" in command(project, "pause")
    assert "The job is paused" in command(project, "status")
    assert "paused" in command(project, "explain")
    project.open_gate("gate0")
    project.open_gate("gate1")
    if keeps_waiting:
        project.until(lambda: "The job is paused. Waiting for" in worker.text, "the worker's message")
    else:
        worker.wait()
        assert "The job is paused, so this worker ends." in worker.text
        first, second = worker.text.partition("Next: ")[2].splitlines()
        assert first.startswith("uv run poe resume ")
        assert second.split()[:4] == ["uv", "run", "poe", "launch_worker"]
        assert "Next: uv run poe resume " in command(project, "status")
    assert project.counts() == {"succeeded": 2, "pending": 3}
    assert set(project.noted()) == {"began 0", "began 1", "ended 0", "ended 1"}
    assert "is resumed" in command(project, "resume")
    assert "not paused" in command(project, "resume")
    for n in range(5):
        project.open_gate(f"gate{n}")
    if keeps_waiting:
        project.until(lambda: project.counts() == {"succeeded": 5}, "the end of the job")
        assert "The job is no longer paused." in worker.text
        worker.kill(15)
        worker.wait(code=130)
    else:
        project.work()
    assert project.counts() == {"succeeded": 5}


def test_a_worker_that_waits_for_others_says_why_it_ends_when_the_job_is_paused(project):
    project.write("def run_task(n): note(f'began {n}'); wait_for('gate')", SLOTS=1)
    busy = project.insert([{"n": 0}]).start()
    project.until_noted("began 0")
    waiting = project.start()
    project.until(lambda: "Waiting for 1 task running on other workers." in waiting.text, "the worker's message")
    command(project, "pause")
    waiting.wait()
    assert "The job is paused, so this worker ends." in waiting.text
    project.open_gate("gate")
    busy.wait()


def test_tasks_leased_ahead_go_back_when_the_job_is_paused(project):
    project.write(
        """
        def run_task(n):
            note(f"began {n}")
            if n >= 200:
                wait_for("gate")
        """,
        TASKS_PER_PROCESS=0,
        SLOTS=1,
    )
    worker = project.insert([{"n": n} for n in range(3000)]).start()
    project.until_noted("began 200")
    command(project, "pause")
    project.until(
        lambda: project.ask(lambda database: database.value("SELECT count(*) FROM state WHERE state = 2")) == 1
    )
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 201, "pending": 2799}


def test_a_task_sees_that_it_is_cancelled(project, per_process):
    project.write(
        """
        import time
        def run_task(n, context):
            note(f"began {n}")
            while n == 0 and not context.stopping:
                time.sleep(0.01)
            return context.stopping
        """,
        TASKS_PER_PROCESS=per_process,
        SLOTS=1,
        CANCEL_GRACE_SECONDS=600,
    )
    worker = project.insert([{"n": n} for n in range(4)]).start()
    project.until_noted("began 0")
    command(project, "cancel", "t0")
    worker.wait()
    assert [project.result(f"t{n}") for n in range(4)] == [True, False, False, False]


def test_many_tasks_are_cancelled_only_after_a_confirmation(project):
    project.write("def run_task(n): pass")
    project.insert([{"n": n} for n in range(1001)])
    assert "This cancels 1,001 tasks (1,001 pending)." in command(project, "cancel", "--all", code=2)
    assert project.counts() == {"pending": 1001}
    assert "Cancelled 1,001 tasks (1,001 pending)." in command(project, "cancel", "--all", "--yes")
    assert project.counts() == {"killed": 1001}
    assert "it has no graph" in command(project, "cancel", "--function", "f", code=1)
    assert "Specify the tasks" in command(project, "cancel", code=2)
    assert "was cancelled" in command(project, "explain", "t0")
