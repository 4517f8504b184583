"""``poe deploy_pool`` with PROVIDER=ssh on real sshd: whole jobs in a shared folder, and obstacles before anything is started."""

import json
import os
import signal
import time
from contextlib import suppress

import pytest
from taskfleet.machines.ssh import checks
from taskfleet.settings.reader import read_configuration
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool.projects import project_in

TASK = """
import os, time

def run_task(n, seconds=0.0):
    time.sleep(seconds)
    return [n, os.environ.get("LOADED", ""), os.environ["HOME"]]
"""


@pytest.fixture
def project(tmp_path, ssh_hosts):
    """A job on hosts, see ``project_in``; ``project.hosts`` are those of ``ssh_hosts``."""
    options = " ".join(("-o ConnectTimeout=3", *ssh_hosts.options))
    with project_in(tmp_path / "sums", task=TASK, pool=f"PROVIDER=ssh\nSSH_OPTIONS={options}") as made:
        made.hosts = ssh_hosts
        yield made


def left(project):
    """Return what hosts still have of any job."""
    return [path for one in project.hosts.hosts.values() for path in [*one.home.glob(".taskfleet"), *one.processes()]]


def test_a_job_runs_on_the_hosts_that_answer_and_leaves_nothing_there(project):
    for name in ("ws1", "ws2", "ws3"):
        project.hosts.add(name)
    project.hosts["ws3"].stop()
    (project.folder / "load.sh").write_text("export LOADED=yes\n")
    (project.folder / "after.sh").write_text('echo "after $LOADED with $code" > "$HOME/after.txt"\n')
    project.make(
        [{"n": n, "seconds": 0.05} for n in range(300)],
        "HOSTS=ws1:2 ws2:1 ws3:1\nBEFORE_WORKER=load.sh\nAFTER_WORKER=after.sh",
    )
    shown = project.run("plan")
    assert "Chosen: ws1, ws2, ws3: 4 slots in all." in shown.out
    assert "ws3 does not answer" in shown.err
    assert "USD" not in shown.out
    report = project.run("deploy_pool", "--yes")
    assert "JOB COMPLETE" in report.out
    project.run("results", "-o", "results.json")
    rows = json.loads((project.folder / "results.json").read_text())
    assert sorted(row["result"][0] for row in rows) == list(range(300))
    assert {row["result"][1] for row in rows} == {"yes"}
    assert {row["result"][2] for row in rows} == {str(project.hosts[name].home) for name in ("ws1", "ws2")}
    assert (project.hosts["ws1"].home / "after.txt").read_text().startswith("after yes with ")
    assert left(project) == []


def test_no_task_is_lost_whichever_process_is_killed_and_teardown_ends_the_others(project):
    for name in ("ws1", "ws2"):
        project.hosts.add(name)
    project.make([{"n": n, "seconds": 0.1} for n in range(200)], "HOSTS=ws1:1 ws2:1")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    pool.kill()
    pool.wait()
    before = project.states()[State.SUCCEEDED]
    until(lambda: project.states()[State.SUCCEEDED] > before + 5, "results without a controller")
    for pid in project.hosts["ws2"].processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    pool = project.start("deploy_pool", "--yes", "--continue")
    assert pool.wait(250) == 0, (project.folder / "log").read_text()
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 200}
    assert left(project) == []


def test_a_controller_that_is_killed_while_it_starts_machines_leaves_none_twice(project):
    hosts = [project.hosts.add(name) for name in ("ws1", "ws2")]
    project.make([{"n": n, "seconds": 0.1} for n in range(50)], "HOSTS=ws1:1 ws2:1")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: any(list(one.home.glob(".taskfleet/*/*")) for one in hosts), "the first file of a machine")
    pool.kill()
    pool.wait()
    pool = project.start("deploy_pool", "--yes", "--continue")
    assert pool.wait(250) == 0, (project.folder / "log").read_text()
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 50}
    assert left(project) == []


def test_a_clock_that_is_wrong_is_an_obstacle(project, monkeypatch):
    project.hosts.add("ws1")
    project.make([{"n": 1}], "HOSTS=ws1")
    configuration = read_configuration(flags={}, env_file=None, environ={}, start=project.folder)
    assert checks.check_hosts(configuration).obstacles == []
    monkeypatch.setattr(checks.time, "time", lambda now=time.time: now() + 300)
    [said] = checks.check_hosts(configuration).obstacles
    assert "ws1: its clock and that of" in said
    assert "timedatectl" in said


def test_hosts_that_do_not_share_the_folder_need_a_queue(project):
    """A file system of its own hides the project's folder from a host."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    host = project.hosts.add("ws1", has_network=True)
    host.run("mount", "-t", "tmpfs", "none", str(project.folder))
    project.make([{"n": 1}], "HOSTS=ws1")
    said = project.run("deploy_pool", "--yes", code=2)
    assert "ws1: it does not see the folder " in said.err
    assert "QUEUE_URL=postgresql://SERVER/DATABASE" in said.err
    assert left(project) == []


def test_teardown_without_a_controller_ends_all_workers(project):
    project.hosts.add("ws1")
    project.make([{"n": n, "seconds": 1000} for n in range(3)], "HOSTS=ws1:1", "SHUTDOWN_GRACE_SECONDS=1")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.RUNNING] == 1, "a running task")
    pool.kill()
    pool.wait()
    project.run("teardown", "--yes")
    assert left(project) == []


@pytest.mark.parametrize(
    ("pool", "task", "words"),
    [
        ("", "", ["HOSTS"]),
        ("HOSTS=-oProxyCommand=true", "", ["HOSTS", "-oProxyCommand=true"]),
        ("HOSTS=ws1 ws1:2", "", ["ws1 is there twice"]),
        ("HOSTS=ws1\nSSH_OPTIONS=-o 'NoSuch", "", ["SSH_OPTIONS"]),
        ("HOSTS=ws1 nowhere.invalid", "", ["nowhere.invalid: there is no host of this name"]),
        ("HOSTS=ws1\nBEFORE_WORKER=none.sh", "", ["BEFORE_WORKER=none.sh"]),
        ("HOSTS=ws1\nNICE=-5", "", ["NICE"]),
        ("HOSTS=ws1", "QUEUE_URL=postgresql:///jobs", ["QUEUE_URL has no host"]),
        (
            "HOSTS=ws1",
            "QUEUE_URL=postgresql://127.0.0.1:1/jobs",
            ["ws1: there is no uv", "it cannot reach the queue at 127.0.0.1:1"],
        ),
    ],
)
def test_an_obstacle_is_reported_before_anything_is_started(project, pool, task, words):
    (project.hosts.add("ws1").home / ".local" / "bin" / "uv").unlink()
    project.make([{"n": 1}])
    for name, lines in (("pool", pool), ("task", task)):
        with (project.folder / "config" / f"{name}.env").open("a") as file:
            file.write(f"{lines}\n")
    said = project.run("deploy_pool", "--yes", code=None)
    assert said.code in (1, 2)
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err
    assert left(project) == []
