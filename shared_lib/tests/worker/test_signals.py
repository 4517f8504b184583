"""Stop a worker: once, and running tasks finish; twice, and they are given back. No task is lost, and no attempt is counted."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from taskfleet.tasks import Outcome, State

SOURCE = """
    import time
    def run_task(n, context):
        note(f"began {n}")
        if n < 2:
            wait_for("gate")
        note(f"ended {n}")
        return context.stopping
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.every_start_method
def test_asked_once_running_tasks_finish_and_the_others_go_back_without_a_trace(project, per_process, number):
    until_told = "while not context.stopping: time.sleep(0.005)"
    project.write(SOURCE.replace('wait_for("gate")', until_told), TASKS_PER_PROCESS=per_process)
    worker = project.insert([{"n": n} for n in range(50)]).start()
    project.until_noted("began 0", "began 1")
    worker.kill(number)
    worker.wait(code=130)
    assert project.counts() == {"succeeded": 2, "pending": 48}
    assert project.result("t0") is True
    assert project.task("t2").attempts == ()
    assert project.ask(lambda database: database.value("SELECT max(attempt) FROM state WHERE state = 1")) in (None, 0)
    assert (
        "Stopping: 2 running tasks have 30 s to finish. Ctrl-C again returns them to the queue at once." in worker.text
    )
    assert "WORKER STOPPED, JOB NOT COMPLETE: job" in worker.text
    assert worker.text.rstrip().endswith("Next: uv run poe launch_worker  (to continue)")
    assert "Traceback" not in worker.text
    project.work()
    assert project.counts() == {"succeeded": 50}
    assert set(project.noted().values()) == {1}


@pytest.mark.slow
def test_quick_tasks_under_way_in_batches_are_run_once_although_the_worker_is_stopped(project, per_process):
    project.write("def run_task(n): note(n)", TASKS_PER_PROCESS=per_process, SHUTDOWN_GRACE_SECONDS=300)
    project.insert([{"n": n} for n in range(20_000)])
    for _ in range(5):
        before = len(project.noted())
        worker = project.start()
        project.until(lambda before=before: len(project.noted()) > before + 200, "some tasks")
        worker.kill(signal.SIGINT)
        worker.wait(code=130)  # within the grace period: no slot has forgotten a task
        counts = project.counts()
        assert counts["succeeded"] == len(project.noted()) < 20_000
        assert counts == {"succeeded": counts["succeeded"], "pending": 20_000 - counts["succeeded"]}
    assert set(project.noted().values()) == {1}


@pytest.mark.every_start_method
def test_a_second_stop_request_gives_running_tasks_back_without_counting_an_attempt(project, per_process):
    settings = {"RETRIES_ON_EXCEPTION": 0, "RETRIES_ON_LOST": 0, "SHUTDOWN_GRACE_SECONDS": 300}
    project.write(SOURCE, TASKS_PER_PROCESS=per_process, **settings)
    worker = project.insert([{"n": n} for n in range(10)]).start()
    project.until_noted("began 0", "began 1")
    worker.kill(signal.SIGINT)
    project.until(lambda: "Stopping: " in worker.text)
    worker.kill(signal.SIGINT)
    worker.wait(code=130)
    assert project.counts() == {"pending": 10}
    (attempt,) = project.task("t0").attempts
    assert attempt.outcome is Outcome.INTERRUPTED
    assert attempt.error == "The worker was stopped"
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 10}
    assert [attempt.outcome for attempt in project.task("t1").attempts] == [Outcome.INTERRUPTED, Outcome.SUCCEEDED]
    assert project.tally("retries") == 0
    assert project.noted() == {
        f"{word} {n}": 2 if word == "began" and n < 2 else 1 for word in ("began", "ended") for n in range(10)
    }


@pytest.mark.every_start_method
def test_the_grace_period_ends(project, per_process):
    project.write(SOURCE, TASKS_PER_PROCESS=per_process, SHUTDOWN_GRACE_SECONDS=0.5)
    worker = project.insert([{"n": n} for n in range(2)]).start()
    project.until_noted("began 0", "began 1")
    worker.kill(signal.SIGTERM)
    worker.wait(code=130)
    assert project.counts() == {"pending": 2}
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.INTERRUPTED]


@pytest.mark.every_start_method
def test_a_task_sees_that_the_worker_was_asked_to_stop(project, per_process):
    project.write(
        """
        import time
        def run_task(context):
            note("began")
            while not context.stopping:
                time.sleep(0.005)
            return "saved"
        """,
        TASKS_PER_PROCESS=per_process,
    )
    worker = project.insert([{}]).start()
    project.until_noted("began")
    worker.kill(signal.SIGTERM)
    worker.wait(code=130)
    assert project.result("t0") == "saved"


def test_a_job_that_ends_while_the_worker_is_stopped_is_complete(project):
    project.write(SOURCE)
    worker = project.insert([{"n": 0}]).start()
    project.until_noted("began 0")
    worker.kill(signal.SIGINT)
    project.until(lambda: "Stopping: " in worker.text)
    project.open_gate("gate")
    worker.wait(code=130)
    assert "JOB COMPLETE: job" in worker.text
    assert "poe results" in worker.text


def test_a_worker_that_waits_can_be_stopped(project):
    project.write("from taskfleet import Retry\ndef run_task(): note('x'); raise Retry(delay_seconds=1000)")
    worker = project.insert([{}]).start()
    project.until(lambda: project.counts() == {"pending": 1} and project.noted())
    worker.kill(signal.SIGINT)
    worker.wait(code=130)
    assert project.counts() == {"pending": 1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.every_start_method
def test_stopped_while_the_module_is_still_importing(project, number):
    project.write(
        """
        import subprocess, time
        child = subprocess.Popen(["sleep", "1000"])
        note("importing")
        time.sleep(1000)
        """
    )
    worker = project.insert([{}] * 3).start()
    project.until_noted("importing")
    worker.kill(number)
    worker.wait(code=130)
    assert project.counts() == {"pending": 3}
    assert "Traceback" not in worker.text


def test_signals_that_were_ignored_from_the_start_stay_ignored(project):
    """As ``nohup`` and an ``&`` in a script ask for."""
    project.write(SOURCE)
    worker = project.insert([{"n": n} for n in range(4)]).start(ignoring=(signal.SIGHUP, signal.SIGINT))
    project.until_noted("began 0", "began 1")
    worker.kill(signal.SIGHUP)
    worker.kill(signal.SIGINT)
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 4}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.every_start_method
def test_ctrl_c_in_a_terminal_reaches_the_supervisor_alone(project, per_process, times):
    """The terminal sends SIGINT to its whole foreground group."""
    project.write(SOURCE, TASKS_PER_PROCESS=per_process)
    project.insert([{"n": n} for n in range(20)])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = project.environment() | {"TERM": "xterm"}
    command = [sys.executable, "-m", "taskfleet", "launch_worker"]
    # A new session with the terminal as its own, as a login shell has; sh in between, as poe and uv are.
    script = "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "sh", "-c", '"$@"; code=$?; exit $code', "sh", *command],
        cwd=project.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    shown = bytearray()

    def read():
        while select.select([ours], [], [], 0)[0]:
            try:
                shown.extend(os.read(ours, 65536))
            except OSError:  # the terminal is closed
                return True
        return False

    try:
        project.until_noted("began 0", "began 1")
        for _ in range(times):
            os.write(ours, b"\x03")
            project.until(lambda: read() or b"Stopping: " in shown, "the note")
        if times == 1:
            project.open_gate("gate")
        project.until(lambda: (read() or True) and process.poll() is not None, "the end")
        read()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = shown.decode(errors="replace")
    assert "Traceback" not in text
    assert "WORKER STOPPED, JOB NOT COMPLETE" in text
    assert re.search(r"/20 \[", text)  # a bar
    assert project.counts() == ({"succeeded": 2, "pending": 18} if times == 1 else {"pending": 20})
    assert project.task("t0").state is (State.SUCCEEDED if times == 1 else State.PENDING)
    assert time.time() > project.last("t0").started_at


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sent_to_all_processes_does_not_count_as_an_attempt(project, per_process, number):
    """As systemd does when it stops a service, and scancel with a batch job."""
    project.write(
        """
        def run_task(n):
            note(f"began {n}")
            wait_for("gate")
        """,
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_EXIT=0,
        RETRIES_ON_EXCEPTION=0,
    )
    worker = project.insert([{"n": n} for n in range(5)]).start()
    project.until_noted("began 0", "began 1")
    for pid in sorted(project.processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    worker.wait(code=130)
    assert project.counts() == {"pending": 5}
    assert {attempt.outcome for attempt in project.task("t0").attempts} == {Outcome.INTERRUPTED}
    assert "died" not in worker.text
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 5}


#: Holds a process between two tasks: the function has returned, its result is not kept yet.
HELD_BETWEEN_TASKS = """
import taskfleet.worker.runner as runner
from notes import note, wait_for
flush = runner.flush_streams
def flush_and_wait():
    flush()
    note("held")
    wait_for("never")
runner.flush_streams = flush_and_wait
"""


def test_a_signal_to_all_processes_between_two_tasks_does_not_count_as_an_attempt(project):
    project.write("def run_task(n): note(f'began {n}')", TASKS_PER_PROCESS=0, RETRIES_ON_EXIT=0, RETRIES_ON_EXCEPTION=0)
    (project.folder / "sitecustomize.py").write_text(HELD_BETWEEN_TASKS)
    worker = project.insert([{"n": n} for n in range(5)]).start(
        "--slots", 1, environment={"PYTHONPATH": str(project.folder)}
    )
    project.until_noted("held")
    for pid in sorted(project.processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    worker.wait(code=130)
    assert project.counts() == {"pending": 5}
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.INTERRUPTED]


def test_an_exit_that_resembles_an_interrupt_is_a_failure_even_while_the_worker_stops(project, per_process):
    project.write(
        """
        import time
        class Impostor(Exception):
            __module__, __qualname__ = "builtins", "KeyboardInterruptions"
        def run_task(n, context):
            note(f"began {n}")
            while not context.stopping:
                time.sleep(0.005)
            raise Impostor if n else type("Own", (KeyboardInterrupt,), {})
        """,
        TASKS_PER_PROCESS=per_process,
    )
    worker = project.insert([{"n": n} for n in range(2)]).start()
    project.until_noted("began 0", "began 1")
    worker.kill(signal.SIGINT)
    worker.wait(code=130)
    assert project.counts() == {"pending": 1, "failed": 1}
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.INTERRUPTED]
    assert project.task("t1").kind is Outcome.EXCEPTION
    assert project.failure("t1") == "KeyboardInterruptions"


#: The ledger is busy for too long when something is to be handed back for the first time.
BUSY_ONCE = """
from taskfleet.errors import LedgerError
from taskfleet.queues.embedded import EmbeddedQueue
give_back = EmbeddedQueue.give_back
def busy_once(queue, leases):
    EmbeddedQueue.give_back = give_back
    raise LedgerError("The ledger is busy.")
EmbeddedQueue.give_back = busy_once
"""


def test_a_busy_ledger_while_stopping_is_asked_again_and_nothing_is_waited_for(project):
    project.write(
        "def run_task(n):\n    note(n)\n    if n >= 60: wait_for('gate')",
        TASKS_PER_PROCESS=0,
        SLOTS=2,
        SHUTDOWN_GRACE_SECONDS=300,
    )
    (project.folder / "sitecustomize.py").write_text(BUSY_ONCE)
    worker = project.insert([{"n": n} for n in range(1000)]).start(environment={"PYTHONPATH": str(project.folder)})
    project.until(lambda: sum(int(n) >= 60 for n in project.noted()) == 2, "two tasks at the gate")
    worker.kill(signal.SIGINT)
    project.until(lambda: "The ledger is busy. Retrying." in worker.text)
    project.open_gate("gate")
    worker.wait(code=130)  # within the grace period
    counts = project.counts()
    assert counts["succeeded"] < 200
    assert counts == {"succeeded": len(project.noted()), "pending": 1000 - len(project.noted())}
    assert project.ask(lambda database: database.value("SELECT max(attempt) FROM state WHERE state = 1")) == 0


#: The ledger is busy for too long when the progress is to be shown for the second time.
BUSY_FOR_PROGRESS = """
from taskfleet.errors import LedgerError
from taskfleet.watch import progress
gather, calls = progress.gather, []
def busy_once(*arguments):
    calls.append(arguments)
    if len(calls) == 2:
        raise LedgerError("The ledger is busy.")
    return gather(*arguments)
progress.gather = busy_once
"""


def test_a_worker_goes_on_when_its_progress_cannot_be_read(project):
    project.write("import time\ndef run_task(n): time.sleep(0.1)", PROGRESS_SECONDS=0.1, SLOTS=2)
    (project.folder / "sitecustomize.py").write_text(BUSY_FOR_PROGRESS)
    worker = project.insert([{"n": n} for n in range(20)]).start(environment={"PYTHONPATH": str(project.folder)})
    worker.wait(code=0)
    assert "The ledger is busy. Retrying." in worker.text
    assert project.counts() == {"succeeded": 20}
