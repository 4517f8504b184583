"""A pool on a real Slurm cluster whose controller is killed, and whose jobs others change."""

import os
import shutil

import pytest
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until
from shared_lib.tests.pool import test_slurm_pool
from shared_lib.tests.pool.test_slurm_left import SMALL, is_empty, machines_of

project = test_slurm_pool.project


@pytest.fixture
def kill_at(tmp_path, monkeypatch):
    """``kill_at(command, when)`` kills the process that calls a command of Slurm next, "before" or "after" it is carried out."""
    folder, path = tmp_path / "front", os.environ["PATH"]
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{path}")

    def put(command, when):
        real, mark = shutil.which(command, path=path), folder / f"{command}.mark"
        mark.touch()
        first = {"before": "kill -9 $PPID; exit 1", "after": f'{real} "$@" > /dev/null; kill -9 $PPID; exit 1'}[when]
        (folder / command).write_text(
            f'#!/bin/bash\n[[ "$*" != *--test-only* ]] && rm {mark} 2>/dev/null && {{ {first}; }}\nexec {real} "$@"\n'
        )
        (folder / command).chmod(0o755)

    return put


def test_a_controller_that_is_killed_at_any_call_loses_no_machine_and_launches_none_twice(project, kill_at):
    project.make([{"n": n, "seconds": 0.5} for n in range(1000)], f"{SMALL}MACHINES=2")
    kill_at("sbatch", "after")
    assert project.run("deploy_pool", "--yes", code=None).code == -9
    for when in ("before", "after"):
        kill_at("squeue", when)
        assert project.run("deploy_pool", "--continue", "--yes", code=None).code == -9
    pool = project.start("deploy_pool", "--continue", "--yes")
    until(lambda: sum(one.ready_at is not None for one in machines_of(project)) == 2, "both machines at work")
    pool.kill()
    kill_at("scancel", "before")
    assert project.run("teardown", "--yes", code=None).code == -9
    assert not is_empty(project.cluster)
    kill_at("scancel", "after")
    assert project.run("teardown", "--yes", code=None).code == -9
    project.run("teardown", "--yes")
    assert is_empty(project.cluster)
    ended = machines_of(project)
    assert len(ended) == 2
    assert all(one.ended_at for one in ended)
    name = ended[0].order_token.rsplit("-", 2)[0]
    names = project.cluster.run("squeue", "--noheader", "--all", "--array", "--states=all", "--format=%j").split()
    assert sum(one.startswith(name) for one in names) == 2


def test_an_administrator_may_requeue_or_hold_jobs(project):
    project.make([{"n": n, "seconds": 0.2} for n in range(60)], f"{SMALL}MACHINES=2")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 5, "some results")
    first, second = (one for one, state in project.cluster.states().items() if state == "RUNNING")
    project.cluster.run("scontrol", "requeue", first, check=False)  # refused, because of --no-requeue
    project.cluster.run("scontrol", "suspend", second, check=False)
    until(lambda: project.states()[State.SUCCEEDED] > 20, "more results")
    project.cluster.run("scontrol", "resume", second, check=False)
    assert pool.wait(250) == 0
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 60}
    assert is_empty(project.cluster)


def test_a_machine_whose_node_fails_is_replaced_on_another_and_loses_no_task(project):
    project.make([{"n": n, "seconds": 0.3} for n in range(100)], f"{SMALL}MACHINES=1")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: project.states()[State.SUCCEEDED] > 2, "some results")
    node = project.cluster.run("squeue", "--noheader", "--states=running", "--format=%N").strip()
    project.cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        assert pool.wait(250) == 0
    finally:
        project.cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)  # it may be back
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 100}
    assert is_empty(project.cluster)
    failed, successor = machines_of(project)
    assert "its node failed (NODE_FAIL)" in failed.detail
    assert successor.ended_at


def test_while_slurm_does_not_answer_nothing_is_ended_and_nothing_is_submitted(project, tmp_path, monkeypatch):
    folder, path = tmp_path / "front", os.environ["PATH"]
    folder.mkdir()
    away, calls = folder / "away", folder / "calls"
    for command in ("squeue", "sbatch", "scancel"):
        (folder / command).write_text(
            f'#!/bin/bash\n[ -e {away} ]; is_here=$?\n[[ "$*" == *--test-only* ]] || echo {command} >> {calls}\n'
            "[ $is_here = 1 ] || { echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1; }\n"
            f'exec {shutil.which(command, path=path)} "$@"\n'
        )
        (folder / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{path}")
    project.make([{"n": n, "seconds": 0.3} for n in range(400)], f"{SMALL}MACHINES=2")
    pool = project.start("deploy_pool", "--yes")
    until(lambda: calls.exists() and "sbatch" in calls.read_text(), "the submission")
    away.touch()
    before = len(calls.read_text())
    until(lambda: calls.read_text()[before:].count("squeue") >= 3, "some calls that failed")
    until(lambda: project.states()[State.SUCCEEDED] > 2, "results meanwhile")
    assert set(calls.read_text()[before:].split()) == {"squeue"}
    assert all(one.ended_at is None and one.ending_since is None for one in machines_of(project))
    away.unlink()
    assert pool.wait(250) == 0
    assert "sbatch" not in calls.read_text()[before:]
    assert project.states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: 400}
    assert is_empty(project.cluster)
    assert len(machines_of(project)) == 2
