"""Machines that are jobs of a real Slurm cluster."""

import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from taskfleet.machines.slurm import machines as slurm_machines
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.machines.slurm.machines import SlurmJob, SlurmMachines
from taskfleet.machines.slurm.script import batch_script, environment_script
from taskfleet.machines.slurm.submissions import Submissions

from shared_lib.tests.machines.contract import Contract, offer, until
from shared_lib.tests.services import slurm

NUMBERS = count(1)

#: Replaces a worker: prints its name, and stops after SIGTERM.
WORKER = """
import os, signal, sys, time
print("machine", os.environ["TASKFLEET_MACHINE"], "slots", os.environ["SLOTS"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
while not os.path.exists("done"):
    time.sleep(0.05)
sys.exit(int(open("done").read()))
"""


@pytest.fixture(scope="module")
def cluster(lacking):
    """Two nodes with eight CPUs."""
    if missing := slurm.missing():
        lacking(missing)
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, slurm.cluster(Path(folder)) as made:
        yield made


@pytest.fixture
def cloud(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", cluster.configuration)
    monkeypatch.setattr(slurm_machines, "LIST_SECONDS", (0.0, 0.0))  # nothing is asked too often in tests
    monkeypatch.setattr(slurm_machines, "CHANGING_LIST_SECONDS", 0.0)
    project = tmp_path / "project"
    project.mkdir()
    mine = f"job{next(NUMBERS)}"  # ended jobs of other tests are still listed

    def machines(job_id, run, *options):
        folder = tmp_path / f"{job_id}.slurm"
        job = SlurmJob(
            job_id=job_id,
            run=run,
            project=project,
            options=options,
            script=lambda request: batch_script(
                token=request.token,
                folder=folder,
                project=project,
                command=[sys.executable, "-c", WORKER],
                lifetime_seconds=request.lifetime_seconds,
                instance_type=request.offers[0].instance_type,
                partition=request.offers[0].zone,
            ),
            environment=lambda request: environment_script(
                {"PATH": os.environ["PATH"], "SLOTS": str(request.offers[0].slots)}
            ),
            is_exclusive=False,
            obstacles=lambda: (),
        )
        return SlurmMachines(job, Slurm(), Submissions(folder, run))

    return SimpleNamespace(
        machines=machines(mine, "job-1"),
        others=machines(f"other{mine}", "other-1"),
        make=machines,
        offers=(offer("2cpu-1gib", "main", cpus=2, slots=3, memory_gib=1.0),),
        dry=None,  # a job that does not fit waits
        can_queue=True,
        no_such_name="987654_1",
        says=lambda instance_id: f"machine {instance_id} slots 3",
        project=project,
    )


@pytest.fixture(autouse=True)
def no_jobs(cluster):
    """Each test begins with an empty cluster."""
    yield
    cluster.run("scancel", f"--user={os.getuid()}")
    until(lambda: not cluster.run("squeue", "--noheader", "--all"), "the end of all jobs")


class TestSlurmMachines(Contract):
    def test_x(self):
        pass
