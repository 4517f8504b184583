"""Machines of several nodes on a real cluster, with a real MPI: tasks on all nodes, and the end of all processes of a task."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool.test_slurm_pool import project  # noqa: F401
from shared_lib.tests.worker.conftest import command_line, processes_with

#: Both nodes of the test's cluster are this computer, which Open MPI would take as a reason to share memory between them.
OPEN_MPI = "export OMPI_MCA_btl=self,tcp\nexport OMPI_MCA_btl_tcp_if_include=lo\nexport OMPI_MCA_pml=ob1\n"
#: The library of Debian by which Slurm's plugin starts the processes of Open MPI.
HAS_PMIX = any(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so"))

FLOW = """
import os, sys, time
from taskfleet.graph import app, flow

def note(word):
    with open("notes.txt", "a") as file:
        file.write(word + "\\n")

@app(mpi=6)
def wide(n, mpicomm):
    return [mpicomm.allreduce(n), sorted(set(mpicomm.allgather(os.environ["SLURMD_NODENAME"])))]

@app
def plain(n, context):
    time.sleep(0.2)
    return os.environ["SLURMD_NODENAME"]

@app(bash=True)
def where(n):
    return "echo $SLURMD_NODENAME >> where.txt; sleep 0.2"

@app(mpi=3, bash=True)
def command(text):
    return "{mpi} " + f"sh -c 'echo {text} $SLURM_PROCID $SLURM_CPUS_PER_TASK' | sort"

@app(mpi=6)
def hold(context, mpicomm):
    note(f"{context.attempt} rank{mpicomm.rank} {os.getpid()}")
    while mpicomm.rank == 0:
        time.sleep(0.01)
    mpicomm.barrier()

@app(mpi=3, bash=True)
def sleeping():
    return "{mpi} sh -c 'echo 1 sleep$SLURM_PROCID $$ >> notes.txt; exec sleep 1000'"
"""


@pytest.fixture
def mpi_project(project, lacking):  # noqa: F811
    """A project with a flow on machines of two nodes with four CPUs each."""
    if not HAS_PMIX:
        lacking("PMIx for srun (Debian: libpmix-dev openmpi-bin)")
    (project.folder / "config" / "task.env").write_text(
        f"JOB_ID=sums\nRETRIES_ON_EXIT=5\nRETRY_DELAY_SECONDS=0.1\nexport SLURM_MPI_TYPE=pmix\n{OPEN_MPI}"
    )
    (project.folder / "config" / "pool.env").write_text(
        "PROVIDER=slurm\nNODES_PER_MACHINE=2\nCPUS=8\nMEMORY_GIB=-2\nMACHINES=1\n"
    )

    def send(calls):
        (project.folder / "flow.py").write_text(
            f"{FLOW}\nif __name__ == '__main__':\n    with flow('sums'):\n        {calls}\n"
        )
        subprocess.run([sys.executable, "flow.py"], cwd=project.folder, check=True, timeout=100)

    def notes(attempt, n):
        """Return the process ids that the processes of an attempt have noted."""
        path = project.folder / "notes.txt"

        def found():
            words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
            pids = {word: int(pid) for one, word, pid in words if one == str(attempt)}
            return pids if len(pids) == n else None

        return until(found, f"{n} processes of attempt {attempt}")

    return SimpleNamespace(send=send, notes=notes, run=project.run, start=project.start, folder=project.folder)


def test_tasks_run_on_all_nodes_of_a_machine(mpi_project):
    mpi_project.send("wide(7), command('hi'), [plain(n) for n in range(12)], where.map(n=range(12))")
    assert "2nodes-8cpu" in mpi_project.run("plan").out
    mpi_project.run("deploy_pool", "--yes")
    shown = mpi_project.run("results", "-o", "results.json").out
    text = (mpi_project.folder / "results.json").read_text()
    assert '[42, ["n1", "n2"]]' in text.replace("\n", "").replace("  ", ""), (shown, text)
    assert '"n1"' in text
    assert '"n2"' in text.replace('["n1", "n2"]', "")
    assert set((mpi_project.folder / "where.txt").read_text().split()) == {"n1", "n2"}
    [task_id] = [word for word in text.replace('"', " ").split() if word.startswith("command-")]
    assert "hi 0 1\n    hi 1 1\n    hi 2 1" in mpi_project.run("task", task_id).out


def test_machines_have_the_slots_of_a_task_and_are_as_many_as_tasks_need(mpi_project):
    mpi_project.send("[wide(n) for n in range(3)]")

    def plan(code=0, **settings):
        lines = {"NODES_PER_MACHINE": 2, "CPUS": 8, "MEMORY_GIB": -2, "MACHINES": "1-5"} | settings
        text = "\n".join(f"{name}={value}" for name, value in lines.items())
        (mpi_project.folder / "config" / "pool.env").write_text(f"PROVIDER=slurm\n{text}\n")
        found = mpi_project.run("plan", code=code)
        return found.out + found.err

    assert "3 machines of type 2nodes-8cpu" in plan()
    assert "tasks per machine" in plan(code=None, NODES_PER_MACHINE=1, CPUS=4)
    assert "NODES_PER_MACHINE=3: partition main has 2 nodes" in plan(code=None, NODES_PER_MACHINE=3)


def test_processes_on_all_nodes_end_with_one_of_them_their_launcher_their_task_or_their_worker(mpi_project):
    mpi_project.send("hold()")
    pool = mpi_project.start("deploy_pool", "--yes")
    for attempt, victim in enumerate(("rank", "srun", "task", "worker"), start=1):
        ranks = mpi_project.notes(attempt, 6)
        os.kill(_victim(victim, ranks), signal.SIGKILL)
        until(lambda ranks=ranks: _are_gone(ranks.values()), f"the end of {ranks} after {victim} was killed")
    pool.kill()  # the next machine would take a while


def test_commands_on_all_nodes_end_with_their_task(mpi_project):
    mpi_project.send("sleeping()")
    pool = mpi_project.start("deploy_pool", "--yes")
    found = mpi_project.notes(1, 3)
    until(lambda: all(command_line(pid).startswith("sleep") for pid in found.values()), "the commands")
    mpi_project.run("cancel", "--all", "--yes", code=None)
    until(lambda: _are_gone(found.values()), f"the end of {found}")
    pool.wait(250)


def _victim(kind, ranks):
    """Return a process to kill: a rank, the srun that started all, the task's process that started srun, or the worker."""
    if kind == "rank":
        return ranks["rank5"]
    mine = processes_with(f"SLURM_CONF={os.environ['SLURM_CONF']}")
    if kind == "worker":
        [worker] = [pid for pid in mine if "taskfleet launch_worker" in command_line(pid)]
        return worker
    sruns = [pid for pid in mine if command_line(pid).startswith("srun ")]
    [first] = [pid for pid in sruns if _parent(pid) not in sruns]
    return first if kind == "srun" else _parent(first)


def _parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _are_gone(pids):
    return all(command_line(pid) in ("", "gone") for pid in pids)
