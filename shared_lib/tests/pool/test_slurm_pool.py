"""``poe deploy_pool`` with PROVIDER=slurm on a real cluster: whole jobs, and obstacles that are reported before anything is submitted."""

import json
import os
import re
import sys
import time
from contextlib import closing

import pytest
from taskfleet.pool import records
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.planning import Limits, PoolState, plan
from taskfleet.tasks import State
from taskfleet.watch.machines import machine_rows
from taskfleet.watch.status import gather

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool.projects import project_in

TASK = """
import os, time

def run_task(n, seconds=0.0):
    time.sleep(seconds)
    return [n, os.environ.get("LOADED", ""), os.environ["SLURM_JOB_ID"]]
"""


@pytest.fixture
def project(tmp_path, on_slurm):
    """A job on a cluster, see ``project_in``; the cluster is ``project.cluster``."""
    with project_in(tmp_path / "sums", task=TASK, pool="PROVIDER=slurm") as made:
        made.cluster = on_slurm
        yield made


def test_a_job_runs_on_a_cluster(project):
    (project.folder / "load.sh").write_text("export LOADED=yes\n")
    (project.folder / "after.sh").write_text('echo "after $LOADED with $code" > after.txt\n')
    project.make(
        [{"n": n} for n in range(500)],
        "CPUS=2\nMEMORY_GIB=-1\nMACHINES=2\nBEFORE_WORKER=load.sh\nAFTER_WORKER=after.sh",
    )
    shown = project.run("plan").out
    assert "2cpu-1gib" in shown
    report = project.run("deploy_pool", "--yes")
    assert "JOB COMPLETE" in report.out
    project.run("results", "-o", "results.json")
    rows = json.loads((project.folder / "results.json").read_text())
    assert sorted(row["result"][0] for row in rows) == list(range(500))
    assert {row["result"][1] for row in rows} == {"yes"}
    assert not (project.folder / "jobs" / "sums.slurm").exists()
    assert "RUNNING" not in project.cluster.states().values()


def test_jobs_that_are_cancelled_preempted_or_killed_are_replaced_and_lose_no_task(project):
    project.make([{"n": n, "seconds": 0.2} for n in range(100)], "CPUS=2\nMEMORY_GIB=-1\nMACHINES=2")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    running = [one for one, state in project.cluster.states().items() if state == "RUNNING"]
    project.cluster.run("scancel", running[0])
    project.cluster.run("scancel", "--signal=KILL", "--full", running[1])
    assert pool.wait(250) == 0
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}


@pytest.mark.slow
def test_the_time_limit_costs_no_attempt_and_no_task_and_little_time(project):
    """Machines of one minute, and no task may be lost once."""
    project.make(
        [{"n": n, "seconds": 20} for n in range(5)],
        "CPUS=1\nMEMORY_GIB=-1\nMACHINES=2\nLIFETIME_HOURS=0.017",
        "RETRIES_ON_LOST=0",
    )
    report = project.run("deploy_pool", "--yes")
    assert "JOB COMPLETE" in report.out
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 5}
    project.run("results", "-o", "results.json")
    rows = json.loads((project.folder / "results.json").read_text())
    assert len({row["result"][2] for row in rows}) > 2  # so the last one did not fit into the first machines
    with closing(project.ledger()) as database:
        assert database.value("SELECT count(*) FROM attempt") == 5
    hours = json.loads(project.run("status", "--json").out)["costs"]["node_hours"]
    assert hours["boot"] + hours["idle"] <= 0.4 * hours["so_far"]


@pytest.mark.slow
def test_a_budget_in_node_hours_ends_the_pool_and_the_time_limit_its_tasks(project):
    """Two nodes for a minute are all that the budget has, also for a controller that takes over."""
    project.make(
        [{"n": n, "seconds": 1000} for n in range(5)],
        "EXCLUSIVE=true\nCPUS_PER_TASK=8\nMACHINES=4\nLIFETIME_HOURS=0.017\nBUDGET_NODE_HOURS=0.035",
        "ON_TIME_LIMIT=kill",
    )
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.RUNNING] == 2, "two running tasks")
    pool.kill()
    pool.wait()
    said = project.run("deploy_pool", "--yes", "--continue", code=1)
    assert "The pool gave up: the budget of 0.0350 node-hours is used up" in said.err
    assert said.err.count("No machine is launched") == 1  # not whenever a figure changes
    assert "Traceback" not in said.err
    assert project.states() == {**dict.fromkeys(State, 0), State.KILLED: 2, State.PENDING: 3}
    found = json.loads(project.run("status", "--json").out)["costs"]
    assert (found["machines"], found["machines_ever"], found["so_far_usd"]) == (0, 2, 0.0)
    assert 0.025 < found["node_hours"]["so_far"] <= 0.035
    assert "USD" not in said.out + project.run("status").out + project.run("machines", "--all").out
    assert "BUDGET_NODE_HOURS" in project.run("explain", "pool").out


def test_what_waits_for_an_hour_is_not_late_and_costs_nothing(project):
    project.make([{"n": n} for n in range(16)], "EXCLUSIVE=true\nMACHINES=2\nBUDGET_NODE_HOURS=1")
    project.cluster.run("sbatch", "--exclusive", "--nodes=2", "--time=50", "--output=/dev/null", "--wrap=sleep 1000")
    until(lambda: "RUNNING" in project.cluster.states().values(), "a full cluster")
    planned = project.run("plan").out
    assert re.search(r"would start in (49|50)m", planned)
    assert "2 of 8 CPUs and 15.6 GiB (0 idle)" in planned
    planned_script = project.run("plan", "--show-start-up-script").out
    assert "--time=30 " in planned_script  # as the budget allows
    pool = project.start("deploy_pool", "--yes")
    until(lambda: "PENDING" in project.cluster.states().values(), "machines in the queue")
    script = next((project.folder / "jobs").glob("sums.slurm/*.sh")).read_text()
    name = script.partition("--job-name=")[2].partition(" ")[0]
    assert script == planned_script.replace("NAME", name)
    with closing(project.ledger()) as database:
        until(lambda: any(one.is_queued for one in records.open_machines(database)), "their records")
        now = time.time() + 3600.0
        rows = machine_rows(database, None, Limits(), now)
        costs = gather(database, now).costs
        assert [(one.state, one.node_hours, "overdue" in one.remark) for one in rows] == [("queued", 0.0, False)] * 2
        assert (costs.node_hours.so_far, costs.machines_queued) == (0.0, 2)
        state = PoolState(
            now=now,
            tasks_left=16,
            tasks_runnable=16,
            open_machines=records.open_machines(database),
            last_heartbeats={},
            spent_usd=0.0,
            was_ever_ready=False,
            was_ever_productive=False,
            failures=[],
            offers=[],
            next_token="next",
        )
        assert plan(state, Limits(), Cooldowns()).end == {}
    pool.send_signal(2)
    pool.wait(200)


def test_a_task_that_may_run_longer_than_a_machine_is_an_error_before_anything_is_submitted(project):
    project.make([{"n": 1}], "LIFETIME_HOURS=0.5", "MAX_RUNTIME_SECONDS=1800")
    said = project.run("deploy_pool", "--yes", code=2)
    assert said.err.count("\n") == 1
    assert "Set LIFETIME_HOURS=0.52 or more" in said.err
    assert project.cluster.run("squeue", "--noheader", "--all") == ""
    same = project.run("deploy_pool", "--yes", "--provider", "local", code=2)
    assert same.err == said.err
    assert project.run("deploy_pool", "--yes", "--lifetime-hours", "0.52", "--provider", "local").code == 0


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ("PARTITION=nowhere", ["no partition nowhere", "main, short, closed"]),
        ("PARTITION=closed", ["closed", "sinfo -R"]),
        ("PARTITION=short", ["LIFETIME_HOURS=24 is longer", "LIFETIME_HOURS=0.5"]),
        ("CONSTRAINT=fast", ["Correct CONSTRAINT"]),
        ("GRES=gpu:1", ["GRES=gpu:1", "no generic resources"]),
        ("RESERVATION=mine", ["Correct RESERVATION"]),
        ("MEMORY_GIB=100-", ["memory"]),
        ("CPUS=9-", ["CPUs"]),
        ("SLURM_OPTIONS=--nodelist=n1 --exclude=n1", ["SLURM_OPTIONS"]),
        ("SLURM_OPTIONS=--nice=1 --time=5", ["SLURM_OPTIONS has --time=5", "LIFETIME_HOURS"]),
        ("SLURM_OPTIONS=-t5", ["SLURM_OPTIONS has -t5", "LIFETIME_HOURS"]),
        ("BEFORE_WORKER=none.sh", ["BEFORE_WORKER=none.sh"]),
    ],
)
def test_an_obstacle_is_reported_before_anything_is_submitted(project, pool, words):
    project.make([{"n": 1}], pool)
    said = project.run("deploy_pool", "--yes", code=None)
    assert said.code in (1, 2)
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
    assert project.cluster.run("squeue", "--noheader", "--all") == ""
    assert not list((project.folder / "jobs").glob("*.slurm/*"))


def test_without_slurm_the_message_says_where_to_run(project, monkeypatch):
    project.make([{"n": 1}])
    with monkeypatch.context() as patch:
        patch.setenv("PATH", os.path.dirname(sys.executable))
        said = project.run("deploy_pool", "--yes", code=2)
    assert "login node" in said.err


def test_ctrl_c_ends_all_jobs_and_teardown_finds_none(project):
    project.make([{"n": n, "seconds": 0.5} for n in range(1000)], "CPUS=1\nMEMORY_GIB=-1\nMACHINES=20")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    pool.send_signal(2)
    pool.wait(200)
    until(lambda: not project.cluster.run("squeue", "--noheader", "--all"), "the end of all jobs")
    project.run("teardown", "--yes", code=None)
    assert project.states()[State.RUNNING] == 0
