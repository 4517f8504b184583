"""Pools on a real Slurm cluster without a process on the login node: ``poe deploy_pool --leave`` and ``--as-job``."""

import json
import os
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
from taskfleet.api.leaving import check_leaving
from taskfleet.errors import CommandError
from taskfleet.ledger.database import open_ledger
from taskfleet.pool import records
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool import test_slurm_pool
from shared_lib.tests.queues.conftest import service_class

project = test_slurm_pool.project
SMALL = "CPUS=1\nMEMORY_GIB=-1\n"


@pytest.fixture
def scancel(project, tmp_path, monkeypatch):
    """Puts a script in front of scancel, on the login node and in jobs; ``scancel()`` returns the calls so far that cancel the rest."""
    folder, real = tmp_path / "front", "/usr/bin/scancel"
    folder.mkdir()
    (folder / "scancel").write_text(f'#!/bin/bash\necho "$*" >> {folder}/calls\nexec {real} "$@"\n')
    (folder / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")  # which jobs inherit
    calls = folder / "calls"
    return lambda: [one for one in calls.read_text().splitlines() if "PENDING" in one] if calls.exists() else []


def machines_of(project):
    with closing(open_ledger(project.folder / "jobs" / "sums.db", job_id="sums", read_only=True)) as database:
        return records.all_machines(database)


def is_empty(cluster):
    return not cluster.run("squeue", "--noheader", "--all")


def test_without_a_process_a_job_is_done_and_the_last_machine_cancels_the_rest_once(project, scancel):
    project.make([{"n": n, "seconds": 0.05} for n in range(200)], f"{SMALL}MACHINES=3")
    said = project.run("deploy_pool", "--leave", "--yes").out
    assert "at most 30 batch jobs of up to 24 h each, 3 at once" in said
    assert "30 batch jobs submitted" in said
    assert len(machines_of(project)) == 30
    running = 0
    while not is_empty(project.cluster):
        running = max(running, list(project.cluster.states().values()).count("RUNNING"))
        time.sleep(0.2)
    assert running == 3
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 200}
    assert len(scancel()) == 1
    assert "0 active, 30 in total" in project.run("status").out
    project.run("results", "-o", "results.json")
    rows = json.loads((project.folder / "results.json").read_text())
    assert sorted(row["result"][0] for row in rows) == list(range(200))
    assert "No tasks are left" in project.run("deploy_pool", "--yes").out
    assert "machines: 0" in project.run("teardown", "--yes").out
    ended = machines_of(project)
    assert all(one.ended_at is not None for one in ended)
    assert sum(one.running_at is not None for one in ended) < 10
    assert not (project.folder / "jobs" / "sums.slurm").exists()


def test_a_pool_that_was_left_is_taken_over_with_what_it_cost(project):
    project.make(
        [{"n": n, "seconds": 0.1} for n in range(120)], f"{SMALL}MACHINES=2\nUSD_PER_NODE_HOUR=8\nBUDGET_USD=120"
    )
    assert "5 batch jobs submitted" in project.run("deploy_pool", "--leave", "--yes").out  # of 24 USD at most
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    assert "deploy_pool --continue" in project.run("deploy_pool", "--yes", code=1).err
    assert "5 machines" in project.run("teardown", "--dry-run").out
    running = [one for one, state in project.cluster.states().items() if state == "RUNNING"]
    project.cluster.run("scancel", running[0])  # so that one has ended before there is a controller
    until(lambda: project.cluster.states().get(running[0], "CANCELLED") == "CANCELLED", "its end")
    report = project.run("deploy_pool", "--continue", "--yes")
    assert "JOB COMPLETE" in report.out
    assert "launched" not in report.err
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 120}
    ended = machines_of(project)
    assert len(ended) == 5
    assert all(one.ended_at is not None for one in ended)
    assert 0 < sum(one.cost_usd(time.time()) for one in ended) < 1
    assert is_empty(project.cluster)


def test_a_graph_over_a_service_queue_needs_a_process():
    url, tasks = "postgresql://host/database", SimpleNamespace(value=lambda _: True)
    with pytest.raises(CommandError, match="without --leave"):
        check_leaving(tasks, SimpleNamespace(settings=SimpleNamespace(queue_url=url)))
    check_leaving(tasks, SimpleNamespace(settings=SimpleNamespace(queue_url="ledger")))


def test_teardown_ends_a_pool_that_was_left(project):
    project.make([{"n": n, "seconds": 1} for n in range(1000)], f"{SMALL}MACHINES=2")
    project.run("deploy_pool", "--leave", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 1, "some results")
    project.run("teardown", "--yes")
    assert is_empty(project.cluster)
    assert not [one for one in machines_of(project) if one.ended_at is None]
    assert not (project.folder / "jobs" / "sums.slurm").exists()


def test_the_rest_is_not_cancelled_before_the_job_is_done(project, scancel):
    """Whatever ends the first machines: a signal, the scheduler, a worker that is killed with all that would run after it."""
    project.make([{"n": n, "seconds": 0.1} for n in range(100)], f"{SMALL}MACHINES=2")
    project.run("deploy_pool", "--leave", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 2, "some results")
    first, second = (one for one, state in project.cluster.states().items() if state == "RUNNING")
    project.cluster.run("scancel", first)
    project.cluster.run("scancel", "--full", "--signal=KILL", second)
    until(lambda: len(set(project.cluster.states().values()) - {"PENDING", "RUNNING"}) > 0, "their end")
    assert scancel() == []
    until(lambda: is_empty(project.cluster), "the end of all jobs", 200)
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}
    assert len(scancel()) == 1


def test_machines_on_which_no_task_runs_do_not_follow_each_other_for_ever(project):
    (project.folder / "before.sh").write_text("exit 3\n")
    project.make([{"n": n} for n in range(1000)], f"{SMALL}MACHINES=1\nBEFORE_WORKER=before.sh")
    assert "10 batch jobs" in project.run("deploy_pool", "--leave", "--yes").out
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    project.run("teardown", "--yes")
    assert sum(one.running_at is not None for one in machines_of(project)) in (3, 4)


def test_where_nodes_may_not_run_scancel_the_jobs_that_wait_end_one_after_the_other(project, tmp_path, monkeypatch):
    project.make([{"n": n, "seconds": 0.05} for n in range(40)], f"{SMALL}MACHINES=1")
    folder = tmp_path / "front"
    folder.mkdir()
    (folder / "scancel").write_text("#!/bin/bash\necho 'scancel: error: Access/permission denied' >&2\nexit 1\n")
    (folder / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")  # which jobs inherit
    assert "10 batch jobs submitted" in project.run("deploy_pool", "--leave", "--yes").out
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 40}
    assert "0 active, 10 in total" in project.run("status").out


def test_a_paused_job_ends_the_pool(project, scancel):
    project.make([{"n": n, "seconds": 0.5} for n in range(1000)], f"{SMALL}MACHINES=1")
    project.run("deploy_pool", "--leave", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 1, "some results")
    project.run("pause")
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    assert len(scancel()) == 1
    assert project.states()[State.RUNNING] == 0


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("PROVIDER=local", "not a batch system"),
        ("PROVIDER=slurm\nMACHINES=1\nBUDGET_USD=0.01\nUSD_PER_NODE_HOUR=8", "budget of 0.01 USD"),
    ],
)
def test_a_pool_that_cannot_be_left_is_refused(project, pool, words):
    project.make([{"n": 1}])
    (project.folder / "config" / "pool.env").write_text(pool)
    said = project.run("deploy_pool", "--leave", "--yes", code=None)
    assert said.code in (1, 2)
    assert words in said.err
    assert is_empty(project.cluster)


@pytest.fixture
def postgresql(lacking, monkeypatch):
    service = service_class("postgresql")()
    try:
        service.start()
    except FileNotFoundError as error:
        lacking(str(error))
    for key, value in service.environment().items():
        monkeypatch.setenv(key, value)
    yield service
    service.stop()


def test_with_a_service_queue_the_machines_record_what_they_did(project, postgresql, scancel):
    url = postgresql.queue_url("left")
    project.make([{"n": n, "seconds": 0.05} for n in range(100)], f"{SMALL}MACHINES=3", f"QUEUE_URL={url}")
    project.run("deploy_pool", "--leave", "--yes")
    until(lambda: is_empty(project.cluster), "the end of all jobs", 200)
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}
    assert len(scancel()) == 1
    assert "JOB COMPLETE" in project.run("deploy_pool", "--continue", "--yes").out  # deletes the queue


def controllers(project):
    lines = project.cluster.run("squeue", "--noheader", "--all", "--format=%A %j %T").splitlines()
    return {one.split()[0]: one.split()[2] for one in lines if one.split()[1].endswith("-controller")}


def test_the_controller_is_a_batch_job_and_ends_with_the_job(project):
    project.make([{"n": n, "seconds": 0.1} for n in range(100)], f"{SMALL}MACHINES=3")
    said = project.run("deploy_pool", "--as-job", "--yes")
    [job_id] = controllers(project)
    assert f"Batch job {job_id} manages the pool" in said.out
    assert job_id in project.run("deploy_pool", "--as-job", "--yes", code=1).err
    until(lambda: project.states()[State.SUCCEEDED] > 2, "some results")
    assert "manages this job" in project.run("deploy_pool", "--continue", "--yes", code=1).err
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}
    assert "JOB COMPLETE" in (project.folder / "jobs" / "sums.controller.log").read_text()
    assert not [one for one in machines_of(project) if one.ended_at is None]
    assert not (project.folder / "jobs" / "sums.slurm").exists()


def test_a_controller_has_a_successor_and_teardown_ends_both(project):
    """Slurm sends the signal for it before the time limit; here it comes at once."""
    project.make([{"n": n, "seconds": 1} for n in range(1000)], f"{SMALL}MACHINES=2")
    project.run("deploy_pool", "--as-job", "--yes")
    [first] = controllers(project)
    until(lambda: project.states()[State.SUCCEEDED] > 1, "some results")
    project.cluster.run("scancel", "--batch", "--signal=USR1", first, check=False)
    until(lambda: len(controllers(project)) == 2, "the successor")
    assert sorted(controllers(project).values()) == ["PENDING", "RUNNING"]
    before = {one.token for one in machines_of(project)}
    project.cluster.run("scancel", first)  # as at its time limit
    log = project.folder / "jobs" / "sums.controller.log"
    until(lambda: log.read_text().count("Chosen:") == 2, "the second one")
    assert list(controllers(project).values()) == ["RUNNING"]
    done = project.states()[State.SUCCEEDED]
    until(lambda: project.states()[State.SUCCEEDED] > done + 2, "more results")
    assert {one.token for one in machines_of(project)} == before
    project.cluster.run("scancel", "--batch", "--signal=USR1", *controllers(project), check=False)
    until(lambda: len(controllers(project)) == 2, "another successor")
    project.run("teardown", "--yes")
    until(lambda: is_empty(project.cluster), "the end of all jobs")
    assert not [one for one in machines_of(project) if one.ended_at is None]
