"""What differs when runners are not forked, and systems that offer less than Linux."""

import os
import re
import signal
from contextlib import suppress

import pytest
from taskfleet.tasks import Outcome

without_fork = pytest.mark.parametrize("start_method", ["spawn", "forkserver"], indirect=True)


@pytest.mark.slow
@pytest.mark.every_start_method
def test_time_and_output_of_the_import_do_not_belong_to_the_task(project, per_process):
    project.write(
        """
        import time
        print("at import")
        time.sleep(1.5)
        def run_task(n): print(n); return n
        """,
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=1,
        OUTPUT_TAIL_KIB=1,
    )
    worker = project.insert([{"n": n} for n in range(4)]).work()
    assert "at import" in worker.text
    assert [project.result(f"t{n}") for n in range(4)] == [0, 1, 2, 3]
    assert all(project.last(f"t{n}").elapsed_seconds < 0.5 for n in range(4))
    assert [project.last(f"t{n}").output for n in range(4)] == [f"{n}\n" for n in range(4)]


@without_fork
@pytest.mark.parametrize("per_process", [1, 0])
def test_the_users_module_is_imported_by_runners_alone(project, per_process):
    project.write(
        """
        import os
        note(f"import {os.getpid()}")
        def run_task(n):
            note(f"run {os.getpid()}")
            wait_for("gate")
        """,
        TASKS_PER_PROCESS=per_process,
    )
    worker = project.insert([{"n": n} for n in range(2)]).start()
    project.until(lambda: sum(word.startswith("run ") for word in project.noted()) == 2, "both tasks")
    pids = {
        word: {int(line.split()[1]) for line in project.noted() if line.startswith(word)} for word in ("import", "run")
    }
    assert len(pids["import"]) == 3  # the trial at the start, and a runner in each slot
    assert pids["run"] < pids["import"]
    (trial,) = pids["import"] - pids["run"]
    assert trial not in project.processes()
    if project.start_method == "spawn":
        assert set(worker.runners) == pids["run"]
    project.open_gate("gate")
    worker.wait()
    assert f"one process for all tasks (START_METHOD={project.start_method})" in worker.text or per_process == 1


@without_fork
def test_a_module_that_can_no_longer_be_imported_fails_the_task_with_the_reason(project):
    project.write(
        """
        import os
        if os.path.exists("imported"):
            raise ImportError("no more licences")
        open("imported", "w").close()
        def run_task(): pass
        """
    )
    project.insert([{}]).work()
    assert project.task("t0").kind is Outcome.EXIT
    assert project.failure("t0").startswith("task:run_task cannot be imported: ImportError: no more licences")


@without_fork
def test_a_module_that_exits_fails_the_task_after_several_starts(project):
    project.write(
        """
        import os
        note("import")
        if os.path.exists("imported"):
            print("goodbye", flush=True)
            os._exit(3)
        open("imported", "w").close()
        def run_task(): pass
        """
    )
    project.insert([{}]).work()
    assert project.task("t0").kind is Outcome.EXIT
    assert project.failure("t0") == "Exit: the task's process ended with code 3 before the function returned"
    assert project.last("t0").output.endswith("goodbye\n")
    assert project.noted() == {"import": 1 + 3}


@without_fork
def test_a_worker_stopped_during_the_import_gives_its_task_back(project):
    project.write(
        """
        import os
        if os.path.exists("imported"):
            note("importing again")
            wait_for("never")
        open("imported", "w").close()
        def run_task(): pass
        """,
        SHUTDOWN_GRACE_SECONDS=0.2,
    )
    worker = project.insert([{}]).start()
    project.until_noted("importing again")
    worker.kill(signal.SIGINT)
    worker.wait(code=130)
    assert project.counts() == {"pending": 1}


@without_fork
def test_quick_tasks_are_not_hoarded_as_if_their_processes_cost_nothing(project):
    """Two seconds of work are leased ahead; each process takes a tenth of a second at least."""
    project.write("import time\ntime.sleep(0.1)\ndef run_task(n): note(n)")
    worker = project.insert([{"n": n} for n in range(1000)]).start("--slots", 1)
    project.until(lambda: len(project.noted()) > 5, "some tasks")
    assert project.counts()["running"] < 60
    worker.kill(signal.SIGINT)
    worker.wait(code=130)
    assert project.counts()["pending"] > 900


@without_fork
def test_tasks_queued_behind_a_long_one_in_a_kept_process_run_in_another_slot(project):
    project.write("def run_task(n):\n    note(n)\n    if n == 60: wait_for('gate')\n    return n", TASKS_PER_PROCESS=0)
    worker = project.insert([{"n": n} for n in range(200)]).start()
    project.until(lambda: project.counts().get("succeeded") == 199, "the others' results")
    project.open_gate("gate")
    worker.wait()
    assert set(project.noted().values()) == {1}


#: Has a worker's processes believe that the system offers no more than macOS does; each of them imports this when it starts.
POORER = """
import os, select
for module, names in ((os, ("pidfd_open", "memfd_create", "waitid", "pread")), (select, ("poll", "epoll"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from taskfleet.processes import linux
linux.LIBC = None
linux.HAS_PROC = False
"""


@pytest.mark.every_start_method
def test_a_worker_keeps_limits_where_the_system_offers_less_than_linux(project, per_process):
    project.write(
        """
        import os, subprocess, time
        def run_task(case):
            note(case)
            print(case)
            if case == "timeout": subprocess.run(["sleep", "1000"])
            if case == "exit": os._exit(7)
            if case == "exception": raise ValueError("bad")
            if case == "memory":
                x = bytearray(b"x") * (600 << 20)
                time.sleep(1000)
            return case
        """,
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=10,  # on a busy machine ps takes its time
        MEMORY_LIMIT_GIB=0.4,
    )
    (project.folder / "sitecustomize.py").write_text(POORER)
    cases = ("fine", "timeout", "exit", "exception", "memory", "fine2")
    project.insert({case: {"case": case} for case in cases}).work(environment={"PYTHONPATH": str(project.folder)})
    kinds = {case: project.task(case).kind for case in cases}
    expected = {
        "timeout": Outcome.TIMEOUT,
        "exit": Outcome.EXIT,
        "exception": Outcome.EXCEPTION,
        "memory": Outcome.MEMORY,
    }
    assert kinds == {case: expected.get(case) for case in cases}
    assert re.match(r"Memory: the task used 0\.[4-9]", project.failure("memory"))
    assert [project.last(case).output for case in cases] == [f"{case}\n" for case in cases]
    assert project.noted() == dict.fromkeys(cases, 1)


@without_fork
@pytest.mark.parametrize("per_process", [1, 0])
def test_tasks_end_with_their_slot_where_the_system_does_not_see_to_that(project, per_process):
    project.write(
        """
        import os
        def run_task(n, context):
            note(f"runner {os.getpid()}")
            if context.attempt == 1: wait_for("never")
        """,
        TASKS_PER_PROCESS=per_process,
        SLOTS=1,
        LEASE_SECONDS=3600,
    )
    (project.folder / "sitecustomize.py").write_text(POORER)
    worker = project.insert([{"n": 0}]).start(environment={"PYTHONPATH": str(project.folder)})
    runner = project.noted_number("runner")
    for pid in project.processes().keys() - {runner}:
        with suppress(ProcessLookupError):  # one may end with those that were killed before it
            os.kill(pid, signal.SIGKILL)
    worker.wait(code=-9)
    project.until(lambda: runner not in project.processes(), "its end")


@pytest.mark.parametrize("system", ["", POORER], ids=["linux", "poorer"])
def test_a_task_with_a_slow_start_is_not_recalled_repeatedly(project, system):
    """Nor is a process forgotten that has nothing to do any more."""
    project.write("def run_task(n): note(n)", SLOTS=2)
    slow = "import time, taskfleet.worker.runner as runner\nrunner.after_fork = lambda: time.sleep(0.7)"
    (project.folder / "sitecustomize.py").write_text(f"{system}\n{slow}\n")
    worker = project.insert([{"n": n} for n in range(6)]).start(environment={"PYTHONPATH": str(project.folder)})
    worker.wait()
    assert set(project.noted().values()) == {1}
    assert project.counts() == {"succeeded": 6}
