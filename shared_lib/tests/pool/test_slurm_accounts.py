"""Pools on a Slurm cluster with accounts: limits of users, preemption, ``--clusters``, and ended jobs that squeue has forgotten."""

import getpass
import json
import os
import shutil
import signal
from contextlib import closing

import pytest
from taskfleet.ledger.database import open_ledger
from taskfleet.machines import EndReason
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool import test_slurm_pool
from shared_lib.tests.pool.test_slurm_left import SMALL, is_empty, machines_of

project = test_slurm_pool.project


@pytest.fixture
def on_slurm(slurm_with_accounts, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm_with_accounts.configuration)
    yield slurm_with_accounts
    set_limit(slurm_with_accounts, -1)
    slurm_with_accounts.end_jobs()


def set_limit(cluster, number):
    cluster.run("sacctmgr", "--immediate", "modify", "user", getpass.getuser(), "set", f"MaxSubmitJobs={number}")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Logs the arguments of Slurm's commands; ``commands()`` returns the calls so far."""
    folder, path = tmp_path / "front", os.environ["PATH"]
    folder.mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo"):
        (folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {folder}/calls\nexec {shutil.which(name)} "$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{path}")
    return lambda: (folder / "calls").read_text().splitlines()


def test_a_user_who_may_submit_four_jobs_has_a_pool_of_at_most_four(project):
    """It can be taken over at the limit, too."""
    set_limit(project.cluster, 4)
    project.make([{"n": n, "seconds": 0.2} for n in range(50)], f"{SMALL}MACHINES=20")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 2, "some results")
    pool.kill()
    set_limit(project.cluster, 2)
    assert "JOB COMPLETE" in project.run("deploy_pool", "--continue", "--yes").out
    ended = machines_of(project)
    assert sum(one.started_at is not None for one in ended) in (2, 4)  # slurmctld may learn of the lower limit later
    detail = {one.end_reason: one.detail for one in ended}[EndReason.QUOTA]
    assert "AssocMaxSubmitJobLimit" in detail
    assert "LIFETIME_HOURS" not in detail  # whose limit the message names as well
    project.make([{"n": n} for n in range(50, 70)], f"{SMALL}MACHINES=20")
    assert "submitted" in project.run("deploy_pool", "--leave", "--yes").out
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 70}


def test_jobs_that_urgent_ones_cancel_are_replaced(project):
    project.make([{"n": n, "seconds": 0.2} for n in range(100)], f"{SMALL}MACHINES=2\nPARTITION=main")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    for _ in range(2):
        project.cluster.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    assert pool.wait(250) == 0
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}
    assert EndReason.PREEMPTED in {one.end_reason for one in machines_of(project)}


def test_every_call_names_the_cluster_of_the_settings(project, commands):
    project.make([{"n": n} for n in range(20)], f"{SMALL}MACHINES=1\nCLUSTER=nowhere")
    assert "Correct CLUSTER" in project.run("plan", code=None).err
    (project.folder / "config" / "pool.env").write_text(f"PROVIDER=slurm\n{SMALL}MACHINES=1\nCLUSTER=test\n")
    assert "JOB COMPLETE" in project.run("deploy_pool", "--yes").out
    calls = [one for one in commands() if "nowhere" not in one]
    assert {one.split()[0] for one in calls} >= {"sbatch", "squeue", "sinfo"}
    assert {one.split()[1] for one in calls} == {"--clusters=test"}


def test_a_job_that_slurm_has_forgotten_is_explained_from_its_accounts(project):
    """Its end, its exit code and its memory; it was killed with all that could have told them."""
    project.make([{"n": n, "seconds": 300} for n in range(2)], f"{SMALL}MACHINES=1")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.RUNNING], "a task that runs")
    pool.kill()
    with closing(open_ledger(project.folder / "jobs" / "sums.db", job_id="sums", read_only=True)) as database:
        job_id, pid = database.row("SELECT machine, pid FROM worker")
    os.kill(pid, signal.SIGKILL)
    until(lambda: job_id not in project.cluster.states(), "that it is forgotten")
    accounts = ["sacct", "--noheader", "--parsable2", f"--jobs={job_id}", "--format=State"]
    until(lambda: "RUNNING" not in project.cluster.run(*accounts), "its accounts")
    row = json.loads(project.run("machines", "--all", "--json").out)
    assert "its script failed (FAILED), killed by signal 9" in row["detail"]
    project.run("teardown", "--yes")
    [one] = machines_of(project)
    assert one.ended_at < one.running_at + 120
