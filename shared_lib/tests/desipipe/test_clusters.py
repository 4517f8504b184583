"""Scripts for desipipe whose workers are batch jobs of a real Slurm, or MPI processes on this computer."""

import shutil

import pytest
from taskfleet.desipipe import resources

from shared_lib.tests.desipipe.scripts import python
from shared_lib.tests.desipipe.test_getting_started import IMPORT, OURS, code_blocks
from shared_lib.tests.pool.test_slurm_mpi import HAS_PMIX, OPEN_MPI


@pytest.mark.parametrize(
    ("options", "max_workers", "shape"),
    [
        ({}, 4, (1, 1)),
        ({"nodes_per_worker": 0.2}, 40, (1, 5)),
        ({"nodes_per_worker": 0.2}, 3, (1, 3)),
        ({"nodes_per_worker": 1 / 3}, 40, (1, 3)),
        ({"nodes_per_worker": 0.6}, 4, (1, 1)),
        ({"nodes_per_worker": 1.5}, 4, (2, 1)),
        ({"nodes_per_worker": 3}, 4, (3, 1)),
        ({"nodes_per_worker": 0.1, "mpiprocs_per_worker": 64}, 40, (1, 2)),
    ],
)
def test_workers_are_packed_on_nodes(options, max_workers, shape):
    assert resources.job_shape({"provider": "nersc", **options}, max_workers) == shape


def test_what_sbatch_gets():
    defaults = resources.sbatch_settings({"provider": "nersc", "qos": "debug", "kwargs": {"nice": 5}})
    assert defaults == {
        "account": "desi", "constraint": "cpu", "qos": "debug", "kwargs": {"nice": 5}
    }  # fmt: skip
    gpu = resources.sbatch_settings({"provider": "nersc", "constraint": "gpu"})
    assert (gpu["account"], gpu["kwargs"]) == ("desi_g", {"gpus-per-node": 4})
    assert resources.sbatch_settings({"provider": "slurm", "account": "mine"})["account"] == "mine"
    assert resources.hours({"provider": "slurm", "time": "1-12:00:00"}) == 36
    assert (
        resources.launcher({"mpiexec": "srun -N {nodes:d} -n {mpiprocs:d} {cmd}", "nodes_per_worker": 1.5})
        == "srun -N 2 -n {n}"
    )


def test_the_page_runs_on_a_cluster(tmp_path, on_slurm):
    """Only the import differs, and what is the site's: here there is neither account, constraint nor QOS."""
    text = "\n".join(code_blocks()).replace(IMPORT, OURS)
    provider = (
        "provider=dict(provider='nersc', time='00:01:00', mpiprocs_per_worker=1, nodes_per_worker=0.2, output='_out/o-%j.txt', "
        "error='_out/e-%j.txt', account='', constraint='', qos='')"
    )
    with_workers, before = "scheduler=dict(max_workers=4))", on_slurm.states()
    assert text.count(with_workers) == 1
    text = text.replace(with_workers, f"scheduler=dict(max_workers=4), {provider})").replace(
        "time.sleep(5)", "time.sleep(0.1)"
    )
    (tmp_path / "script.py").write_text(f"{text}\nprint(ech.out())\n")
    assert python(tmp_path, "script.py").startswith("bash app says pi is ~ 3.")
    assert len(on_slurm.states().keys() - before.keys()) == 2  # one job for each manager
    assert not (tmp_path / "_tests" / "test.slurm").exists()
    assert any("Worker for job test" in one.read_text() for one in (tmp_path / "_out").glob("e-*.txt"))


def test_workers_of_several_nodes_are_mpi_processes(tmp_path, on_slurm, lacking):
    if not HAS_PMIX:
        lacking("PMIx for srun (Debian: libpmix-dev openmpi-bin)")
    variables = dict(line.removeprefix("export ").split("=") for line in OPEN_MPI.split()[1::2]) | {
        "SLURM_MPI_TYPE": "pmix"
    }
    (tmp_path / "script.py").write_text(f"""
from taskfleet.desipipe import Queue, TaskManager, Environment, spawn
queue = Queue("test", base_dir="_tests")
provider = dict(provider="slurm", time="00:02:00", nodes_per_worker=2, mpiprocs_per_worker=6)
tm = TaskManager(queue, environ=Environment(data={variables}), scheduler=dict(max_workers=1), provider=provider)

@tm.python_app
def total(n, mpicomm=None):
    import os
    return mpicomm.allreduce(n), sorted(set(mpicomm.allgather(os.environ["SLURMD_NODENAME"])))

one = total(7)
spawn(queue)
print(one.result())
""")
    assert python(tmp_path, "script.py") == "(42, ['n1', 'n2'])\n"


def test_a_task_that_runs_into_the_time_limit_is_killed_if_it_shall(tmp_path, on_slurm):
    (tmp_path / "script.py").write_text("""
from taskfleet.desipipe import Queue, TaskManager, spawn
queue = Queue("test", base_dir="_tests")
provider = dict(provider="slurm", time="00:01:00", killed_at_timeout=True)
tm = TaskManager(queue, scheduler=dict(max_workers=1), provider=provider)

@tm.python_app
def longer():
    import time
    time.sleep(600)

if __name__ == "__main__":
    longer()
    spawn(queue)
    print(queue.counts(state="KILLED"))
""")
    before = on_slurm.states()
    assert python(tmp_path, "script.py") == "1\n"
    assert len(on_slurm.states().keys() - before.keys()) == 1


def test_a_worker_that_fails_is_an_error_with_its_output(tmp_path, on_slurm):
    (tmp_path / "script.py").write_text("""
from taskfleet.desipipe import Queue, TaskManager, Environment, spawn
queue = Queue("test", base_dir="_tests")
tm = TaskManager(queue, environ=Environment(data={"LEASE_SECONDS": "none"}), provider="slurm")
one = tm.python_app(lambda: 1)()
spawn(queue)
""")
    last = python(tmp_path, "script.py", fails=True)
    assert "ended with an error" in last
    assert "LEASE_SECONDS" in last


def test_workers_on_this_computer_are_mpi_processes(tmp_path, lacking):
    if shutil.which("mpiexec") is None:
        lacking("an MPI (Debian: openmpi-bin)")
    (tmp_path / "script.py").write_text("""
from taskfleet.desipipe import Queue, TaskManager, spawn
queue = Queue("test", base_dir="_tests")
tm = TaskManager(queue, scheduler=dict(max_workers=2), provider=dict(mpiprocs_per_worker=2))
alone = tm.clone(provider=dict(mpiexec="mpiexec --allow-run-as-root -np {mpiprocs:d} {cmd}"))

@tm.python_app
def total(n, mpicomm=None): return mpicomm.allreduce(n), mpicomm.size
@alone.python_app
def single(mpicomm): return mpicomm.size

found = [total(n) for n in range(3)]
one = single()
spawn(queue)
print([each.result() for each in found], one.result())
""")
    assert python(tmp_path, "script.py") == "[(0, 2), (2, 2), (4, 2)] 1\n"
