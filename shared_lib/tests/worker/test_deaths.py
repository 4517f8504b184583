"""Killing any process of a worker at any instant loses nothing and leaves nothing running."""

import contextlib
import os
import signal

import pytest
from taskfleet.ledger import queries
from taskfleet.tasks import Outcome, State

SOURCE = """
    import os
    def run_task(n, context):
        note(f"began {n}")
        note(f"runner{n} {os.getpid()}")
        if n < 2 and context.attempt == 1:
            wait_for("gate")
        note(f"ended {n}")
        return context.attempt
"""


def begin(project, per_process, **settings):
    project.write(SOURCE, TASKS_PER_PROCESS=per_process, RETRIES_ON_LOST=1, **settings)
    worker = project.insert([{"n": n} for n in range(10)]).start()
    project.until_noted("began 0", "began 1")
    return worker


def slot_of(project, pid, per_process):
    """Give the slot above a task's process; between them may stand a fork server, or what forks a process per task."""
    parents = project.processes()
    is_below_another = project.start_method == "forkserver" or project.forks_per_task(per_process)
    return parents[parents[pid]] if is_below_another else parents[pid]


@pytest.mark.every_start_method
def test_a_slot_that_is_killed_is_replaced_and_its_task_tried_again(project, per_process):
    worker = begin(project, per_process)
    runner = project.noted_number("runner0")
    os.kill(slot_of(project, runner, per_process), signal.SIGKILL)
    project.until_noted("ended 0")
    assert runner not in project.processes()  # the task does not go on unseen
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 10}
    assert project.noted()["began 0"] == 2
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
    assert "A slot's process died. Starting another one." in worker.text


@pytest.mark.every_start_method
def test_a_runner_that_is_killed_fails_its_task_alone(project, per_process):
    worker = begin(project, per_process)
    os.kill(project.noted_number("runner0"), signal.SIGKILL)
    project.until(lambda: project.counts().get("failed") == 1)
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 9, "failed": 1}
    assert project.failure("t0").startswith("Exit: the task's process was killed by SIGKILL")
    assert project.noted()["began 0"] == 1


def test_a_runner_with_a_process_per_task_may_die(project):
    worker = begin(project, 1)
    task_process = project.noted_number("runner0")
    os.kill(project.processes()[task_process], signal.SIGKILL)
    project.until(lambda: project.counts().get("failed") == 1)
    assert task_process not in project.processes()
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 9, "failed": 1}
    assert project.noted()["began 0"] == 1


@pytest.mark.every_start_method
def test_the_warm_process_may_die(project, per_process):
    worker = begin(project, per_process)
    os.kill(worker.warm, signal.SIGKILL)
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 10}
    assert project.noted()["began 0"] == 1


@pytest.mark.every_start_method
def test_a_task_ends_when_all_above_it_is_killed_at_once(project, per_process):
    worker = begin(project, per_process)
    tasks = {project.noted_number(f"runner{n}") for n in (0, 1)}
    parents = project.processes()
    above = {worker.process.pid, worker.warm}
    for pid in tasks:
        while (pid := parents[pid]) in parents:
            above.add(pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none can see another die
        for pid in above:
            os.kill(pid, number)
    project.until(lambda: not tasks & project.processes().keys(), "the end of the tasks")
    worker.process.wait()
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 10}


@pytest.mark.every_start_method
def test_the_warm_process_and_then_a_slot_may_die(project, per_process):
    worker = begin(project, per_process)
    runner = project.noted_number("runner0")
    slot = slot_of(project, runner, per_process)
    os.kill(worker.warm, signal.SIGKILL)
    os.kill(slot, signal.SIGKILL)
    project.until_noted("ended 0")
    project.until(lambda: runner not in project.processes(), "the end of the task that nobody watches")
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 10}
    assert "The warm process died. Starting another one." in worker.text


def test_when_the_warm_process_dies_again_and_again_the_worker_gives_up_and_loses_nothing(project):
    project.write(
        """
        import os, signal
        from notes import ancestor
        def run_task():
            slot = ancestor(2)
            os.kill(ancestor(3), signal.SIGKILL)
            os.kill(slot, signal.SIGKILL)
        """,
        RETRIES_ON_LOST=50,
        SLOTS=1,
    )
    worker = project.insert([{}]).work(code=1)
    assert "died 4 times" in worker.text
    assert project.counts() == {"pending": 1}


@pytest.mark.every_start_method
def test_when_the_supervisor_is_killed_nothing_is_left_and_another_worker_takes_over_at_once(project, per_process):
    worker = begin(project, per_process, LEASE_SECONDS=3600)
    worker.kill()
    worker.wait(code=-9)
    project.until(lambda: not project.processes(), "the end of all it had started")
    assert project.counts().get("running") == 2  # and maybe some leased ahead
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 10}
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.LOST, Outcome.SUCCEEDED]
    assert project.tally("lost") == 2


def test_a_worker_that_is_not_yet_reaped_counts_as_dead(project):
    worker = begin(project, 1, LEASE_SECONDS=3600)
    worker.kill()  # and nobody waits for it: it is a zombie
    project.work()
    assert project.counts() == {"succeeded": 10}
    worker.wait(code=-9)


@pytest.mark.every_start_method
def test_when_the_supervisor_is_killed_while_the_module_is_imported_nothing_is_left(project):
    project.write("note('importing')\nwait_for('never')\ndef run_task(): pass")
    worker = project.insert([{}]).start()
    project.until_noted("importing")
    worker.kill()
    worker.wait(code=-9)
    project.until(lambda: not project.processes(), "the end of the import")


@pytest.mark.every_start_method
def test_all_processes_may_be_killed_together(project, per_process):
    begin(project, per_process)
    for pid in project.processes():
        with contextlib.suppress(ProcessLookupError):  # the death of one may be the end of another
            os.kill(pid, signal.SIGKILL)
    project.until(lambda: not project.processes())
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 10}


@pytest.mark.every_start_method
def test_a_task_that_kills_its_slot_does_not_hurt_the_others(project, per_process):
    project.write(
        f"""
        import os
        from notes import ancestor
        def run_task(n):
            if n == 5:
                os.kill(ancestor({1 + project.forks_per_task(per_process)}), 9)
                wait_for("never")
            return n
        """,
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_LOST=2,
        RETRIES_ON_EXIT=2,
    )
    project.insert([{"n": n} for n in range(10)]).work()
    assert project.counts() == {"succeeded": 9, "failed": 1}
    # With a fork server it is the server that it kills, and with it itself.
    assert project.task("t5").kind is (Outcome.EXIT if project.start_method == "forkserver" else Outcome.LOST)
    assert len(project.task("t5").attempts) == 3


def test_a_task_that_may_have_killed_its_slot_runs_in_isolation(project):
    """In isolation it kills the slot again; together with other tasks it could not be identified as the cause."""
    project.write(
        """
        import os
        from notes import ancestor
        def run_task(n):
            note(n)
            if n == 100:
                seen = os.path.getsize(os.environ["NOTES"])
                while os.path.getsize(os.environ["NOTES"]) < seen + 3000:
                    pass
                os.kill(ancestor(1), 9)
                wait_for("never")
        """,
        TASKS_PER_PROCESS=0,
        RETRIES_ON_LOST=0,
    )
    project.insert([{"n": n} for n in range(10_000)]).work()
    assert project.counts() == {"succeeded": 9_999, "failed": 1}
    assert project.task("t100").kind is Outcome.LOST
    assert project.noted()["100"] == 2


@pytest.mark.slow
def test_a_worker_suspended_past_its_lease_does_no_harm(project, per_process):
    worker = begin(project, per_process, LEASE_SECONDS=1)
    worker.kill(signal.SIGSTOP)
    other = project.start()
    project.until(lambda: project.task("t0").state is State.SUCCEEDED, "the other worker")
    other.wait()
    assert project.counts() == {"succeeded": 10}
    worker.kill(signal.SIGCONT)
    project.open_gate("gate")
    worker.wait()
    assert "lease was lost" in worker.text
    assert project.counts() == {"succeeded": 10}
    assert project.tally("duplicates") >= 2
    assert project.result("t0") == 2  # the first success stands
    assert project.noted()["ended 0"] == 2
    assert project.ask(queries.workers) == []


@pytest.mark.slow
def test_a_suspended_worker_whose_lease_was_not_taken_continues(project):
    worker = begin(project, 1, LEASE_SECONDS=1)
    worker.kill(signal.SIGSTOP)
    (alive,) = project.ask(queries.workers)
    project.until(
        lambda: project.ask(lambda database: database.value("SELECT lease_until < unixepoch() - 1 FROM worker"))
    )
    worker.kill(signal.SIGCONT)
    project.open_gate("gate")
    worker.wait()
    assert alive.pid == worker.pid
    assert project.counts() == {"succeeded": 10}
    assert project.tally("duplicates") == 0


@pytest.mark.slow
def test_leases_are_renewed_while_tasks_hold_all_cores_and_run_longer_than_a_lease(project, per_process):
    project.write(
        """
        import os, time
        def run_task():
            note("ran")
            end = time.monotonic() + 3
            while time.monotonic() < end or not os.path.exists(os.path.join(os.environ["GATES"], "end")):
                sum(range(100_000))
        """,
        TASKS_PER_PROCESS=per_process,
        LEASE_SECONDS=1,
        SLOTS=4,
    )
    first = project.insert([{}] * 4).start()
    project.until(lambda: project.noted()["ran"] == 4)
    second = project.start()
    project.until(lambda: "Waiting for 4 tasks running on other workers." in second.text, "the second worker's message")
    project.open_gate("end")
    first.wait()
    second.wait()
    assert project.noted() == {"ran": 4}
    assert project.tally("lost") == 0
