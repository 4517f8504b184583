"""Tasks of several MPI processes on this computer, with a real MPI: communicators, launchers, slots, and all ways to end early."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from shared_lib.tests.worker.conftest import until

#: A task whose processes wait: rank 0 in Python, the others in C code of MPI. With ``stops`` all wait for the worker's request to stop.
WAITING = """
import os, time
from mpi4py import MPI

@app(mpi=3)
def hold(mpicomm, context, stops=False):
    note(f"rank{mpicomm.rank} {os.getpid()}")
    note(f"launcher {os.getppid()}")
    while stops and not context.stopping:
        time.sleep(0.01)
    if mpicomm.rank == 0 and not stops:
        wait_for("go")
    mpicomm.barrier()
"""


@pytest.fixture(autouse=True)
def _mpi(lacking):
    if shutil.which("mpiexec") is None:
        lacking("an MPI (Debian: openmpi-bin)")


@pytest.fixture
def holding(project):
    """Starts a task that waits in three processes: ``holding(call, **settings)`` returns its id and the numbers of the processes."""

    def start(call="hold()", *arguments, **settings):
        project.settings(SLOTS=3, **settings)
        project.run(WAITING + f"\nif __name__ == '__main__':\n    with flow(): one = {call}\n    print(one.id)\n")
        [task_id] = [line for line in project.workers[-1].text.splitlines() if line.startswith("hold-")]
        worker = project.start(*arguments)
        pids = [project.noted_number(f"rank{rank}") for rank in range(3)]
        return task_id, worker, pids

    return start


def are_gone(pids):
    """Return whether processes have ended."""
    return not any(os.path.exists(f"/proc/{pid}") and _state(pid) != "Z" for pid in pids)


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_communicators_launchers_and_slots(project):
    """Also with mpi4py imported at the top, functions by value, and tasks without MPI in between."""
    project.settings(SLOTS=4, TASKS_PER_PROCESS=1)
    project.run("""
import os
from mpi4py import MPI

@app(mpi=3)
def total(n, mpicomm, context=None):
    note(f"begin {n}")
    assert context.mpi_processes == 3 and context.mpicomm is mpicomm and MPI.COMM_WORLD.size == 3
    print("rank", mpicomm.rank)
    found = mpicomm.allreduce(n + mpicomm.rank)
    note(f"end {n}")
    return found if mpicomm.rank == 0 else {"not", print}

@app(bash=True, mpi=2)
def words(text): return ["{mpi}", "sh", "-c", 'echo "$0" $OMPI_COMM_WORLD_SIZE', text]
@app(bash=True, mpi=2)
def line(text): return f"{{mpi}} sh -c 'echo {text} $OMPI_COMM_WORLD_RANK' | sort"
@app(mpi=2)
def bad(n, mpicomm):
    if mpicomm.rank == 1:
        raise ValueError(f"bad {n}")
    mpicomm.barrier()
@app(mpi=2)
def leaves(mpicomm): os._exit(7)
@app
def plain(n):
    assert not MPI.Is_initialized()
    return n
@app(bash=True)
def text(): return ["echo", "{mpi}"]

if __name__ == "__main__":
    seconds = 2.5
    with flow():
        numbers = plain.map(range(20))
        totals = [total(total(n)) for n in range(2)]
        squared = app(lambda n, mpicomm: (mpicomm.size * n) ** 2, mpi=2)(3)
        commands = [words("a b"), line("c"), text()]
        failing = bad(3), leaves()
        first = total(0)
    assert numbers.result() == list(range(20))
    assert [one.result() for one in totals] == [12, 21], totals
    assert squared.result() == 36
    assert [one.output() for one in commands] == ["a b 2\\n" * 2, "c 0\\nc 1\\n", "{mpi}\\n"], [one.output() for one in commands]
    errors = [one.exception() for one in failing]
    assert "ValueError: bad 3" in str(errors[0]) and "one of 2 processes failed" in str(errors[1]), errors
    assert sorted(first.output().split("\\n")) == ["", "rank 0", "rank 1", "rank 2"], first.output()
    print(failing[0].id)
""")
    [failed] = [one for one in project.workers[-1].text.split() if one.startswith("bad-")]
    error = project.last(failed).error
    assert error.startswith("ValueError: bad 3\n")
    assert "in bad\n" in error
    assert "(MPI process 1 of 2)" in error
    running = 0
    for word in (
        (project.folder / "notes.txt").read_text().split("\n")
    ):  # of 4 slots, only one task at a time can have 3
        running += {"begin": 1, "end": -1}.get(word.partition(" ")[0], 0)
        assert running <= 3


def test_a_table_s_function_is_called_by_several_processes(project):
    project.write(
        """
        def run_task(n, mpicomm, output_path=None):
            return [mpicomm.allreduce(n), mpicomm.size]
        """,
        SLOTS=5,
        MPI_PROCESSES=2,
    )
    project.insert([{"n": n} for n in range(4)])
    project.work()
    assert [project.result(f"t{n}") for n in range(4)] == [[2 * n, 2] for n in range(4)]


def test_tasks_of_several_slots_do_not_wait_for_ever_behind_small_ones(project):
    """Three small tasks hold three of four slots; the wide one begins as soon as two are free, before those behind it."""
    project.settings(SLOTS=4, TASKS_PER_PROCESS=1)
    script = project.begin("""
@app
def small(n):
    note(f"small{n}")
    wait_for(f"gate{n}")
@app(mpi=2)
def wide(mpicomm):
    note("wide")
    wait_for("wide")
if __name__ == "__main__":
    with flow():
        first = [small(n) for n in range(3)]
        middle = wide()
        rest = [small(n) for n in range(3, 6)]
    for one in [*first, middle, *rest]:
        one.result()
""")
    project.until_noted("small0", "small1", "small2")
    assert "wide" not in project.noted()
    project.open_gate("gate0")
    project.until_noted("wide")
    assert not {"small3", "small4", "small5"} & project.noted().keys()  # two small ones and two ranks fill the slots
    for gate in ("gate1", "gate2", "gate3", "gate4", "gate5", "wide"):
        project.open_gate(gate)
    script.wait()


@pytest.mark.parametrize("victim", ["rank0", "rank2", "launcher", "task"])
def test_a_process_that_is_killed_ends_the_task_and_all_others(project, holding, victim):
    task_id, worker, pids = holding("hold()", KEEP_WAITING="false")
    runner = [
        pid for pid in project.processes() if pid in worker.runners or project.processes().get(pid) in worker.runners
    ]
    chosen = {
        "rank0": pids[0],
        "rank2": pids[2],
        "launcher": project.noted_number("launcher"),
        "task": min(runner),
    }[victim]
    os.kill(chosen, signal.SIGKILL)
    until(lambda: are_gone(pids), f"the end of {pids}")
    worker.wait()
    task = project.task(task_id)
    assert task.state.word == "failed", task
    assert "killed" in task.attempts[-1].error, task.attempts[-1].error


def test_no_process_outlives_a_worker_that_is_killed(project, holding):
    _, worker, pids = holding()
    worker.kill()
    until(lambda: are_gone(pids), f"the end of {pids}")
    worker.wait(-signal.SIGKILL)


def test_cancelling_and_stopping_reach_all_processes(project, holding):
    task_id, worker, pids = holding("hold()", KEEP_WAITING="true", SHUTDOWN_GRACE_SECONDS=60)
    subprocess.run(
        [sys.executable, "-P", "-m", "taskfleet", "cancel", task_id, "--yes"],
        cwd=project.folder,
        env=project.environment(),
        check=True,
    )
    until(lambda: are_gone(pids), f"the end of {pids}")
    (project.folder / "notes.txt").unlink()
    project.run(WAITING + "\nif __name__ == '__main__':\n    with flow(): hold(stops=True)\n")
    pids = [project.noted_number(f"rank{rank}") for rank in range(3)]
    worker.kill(signal.SIGTERM)  # they see context.stopping, and end by themselves
    worker.wait(130)
    assert project.counts() == {"succeeded": 1, "killed": 1}


def test_a_time_limit_ends_all_processes(project, holding):
    """On a busy machine it may come before they have begun, so the task is tried again."""
    task_id, worker, pids = holding("hold()", MAX_RUNTIME_SECONDS=3, RETRIES_ON_TIMEOUT=100)
    until(lambda: are_gone(pids), f"the end of {pids}")
    until(lambda: project.task(task_id).attempts, "an attempt that ended")
    assert project.task(task_id).attempts[0].error.startswith("Timeout")
    worker.kill()
    worker.wait(-signal.SIGKILL)


def test_mistakes_are_said_before_anything_is_sent(project):
    project.settings(SLOTS=2)
    for wrong, words in {
        "app(mpi=0)(f)": "mpi is 0; it is the number",
        "app(mpi=True)(f)": "mpi is True",
        "app(f, mpi=3)(1)": "mpi=3 takes 3 slots, one for each process, and workers have SLOTS=2. Set SLOTS=3 or more in config/task.env",
        "[app(f, mpi=1)(1), app(f, mpi=2)(2)]": "f has mpi=1 in one app and mpi=2 in another",
        "[sys.modules.update(mpi4py=None), app(f, mpi=2)(1)]": "uv add mpi4py",
    }.items():
        text = project.run(
            f"import sys\ndef f(n): return n\nif __name__ == '__main__':\n    with flow():\n        {wrong}\n", code=1
        )
        assert words in text, text
        assert text.strip().splitlines()[-1].startswith("Error: "), text


def test_what_is_missing_or_too_small_on_a_worker_is_said(project, tmp_path):
    project.settings(SLOTS="auto", TASKS_PER_PROCESS=1)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("ps", "sh", "bash", "env"):
        (bare / name).symlink_to(shutil.which(name))
    project.run("""
@app(mpi=3)
def f(mpicomm): return mpicomm.size
if __name__ == "__main__":
    with flow(): print(f().id)
""")
    [task_id] = [one for one in project.workers[-1].text.split() if one.startswith("f-")]

    def attempt(**environment):
        project.work(environment=environment)
        found = project.failure(task_id)
        subprocess.run(
            [sys.executable, "-P", "-m", "taskfleet", "retry", task_id],
            cwd=project.folder,
            env=project.environment(),
            check=True,
        )
        return found

    assert "The task takes 3 slots" in attempt(SLOTS="2")
    assert "There is no mpiexec here" in attempt(SLOTS="3", PATH=str(bare))
    assert "cannot be launched" in attempt(SLOTS="3", MPI_LAUNCHER="no-such-launcher -n {n}")
    several = 'sh -c \'"$@" & "$@" & "$@" & wait\' -'
    assert "the launcher is not that of mpi4py's MPI library" in attempt(SLOTS="3", MPI_LAUNCHER=several)
    assert "did not start" in attempt(SLOTS="3", MPI_LAUNCHER="false")
    project.work(environment={"SLOTS": "3", "MPI_LAUNCHER": "mpiexec --oversubscribe --allow-run-as-root -np {n}"})
    assert project.result(task_id) == 3
