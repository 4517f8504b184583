"""``poe deploy_pool`` with PROVIDER=slurm on a real cluster: whole jobs, and obstacles that are reported before anything is submitted."""

import json
import os
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
from taskfleet.ledger import counters
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until

TASK = """
import os, time

def run_task(n, seconds=0.0):
    time.sleep(seconds)
    return [n, os.environ.get("LOADED", ""), os.environ["SLURM_JOB_ID"]]
"""


@pytest.fixture
def project(tmp_path, on_slurm):
    """A job; ``project(pool, rows)`` writes its settings and inserts its tasks."""
    folder = tmp_path / "sums"
    (folder / "config").mkdir(parents=True)
    (folder / "task.py").write_text(TASK)
    (folder / "pyproject.toml").write_text('[project]\nname = "sums"\nversion = "1"\n')
    command = [sys.executable, "-P", "-m", "taskfleet"]

    def run(*words, code=0):
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def make(rows, pool="", task=""):
        (folder / "config" / "task.env").write_text(f"JOB_ID=sums\nTASK_TABLE=tasks.json\n{task}\n")
        (folder / "config" / "pool.env").write_text(f"PROVIDER=slurm\n{pool}\n")
        (folder / "tasks.json").write_text(json.dumps(rows))
        run("insert_tasks")

    def start(*words):
        started.append(
            subprocess.Popen([*command, *words], cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True)
        )
        return started[-1]

    def states():
        with closing(open_ledger(folder / "jobs" / "sums.db", job_id="sums", read_only=True)) as database:
            return counters.by_state(database)

    started = []
    yield SimpleNamespace(make=make, run=run, start=start, states=states, folder=folder, cluster=on_slurm)
    for one in started:
        one.kill()
        one.wait()


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
def test_the_time_limit_costs_no_attempt_and_no_task(project):
    """Machines of one minute, and no task may be lost once."""
    project.make(
        [{"n": n, "seconds": 10} for n in range(7)],
        "CPUS=1\nMEMORY_GIB=-1\nMACHINES=1\nLIFETIME_HOURS=0.016",
        "RETRIES_ON_LOST=0",
    )
    report = project.run("deploy_pool", "--yes")
    assert "JOB COMPLETE" in report.out
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 7}
    project.run("results", "-o", "results.json")
    rows = json.loads((project.folder / "results.json").read_text())
    assert len({row["result"][2] for row in rows}) > 1


@pytest.mark.slow
def test_a_task_that_needs_more_than_a_machine_s_lifetime_fails(project):
    """It would run for ever otherwise, on one machine after the other."""
    project.make([{"n": 0, "seconds": 1000}], "CPUS=1\nMEMORY_GIB=-1\nMACHINES=1\nLIFETIME_HOURS=0.016")
    report = project.run("deploy_pool", "--yes", code=None)
    assert "Increase LIFETIME_HOURS" in report.out + project.run("status").out
    assert project.states() == {**dict.fromkeys(State, 0), State.FAILED: 1}


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
