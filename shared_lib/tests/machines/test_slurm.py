"""Machines that are jobs of a real Slurm cluster."""

import os
import shutil
import sys
import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
from taskfleet.errors import ProviderError, UnreachableError, WrongSettingError
from taskfleet.machines import EndReason, FailureReason, MachineState
from taskfleet.machines.slurm import machines as slurm_machines
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.machines.slurm.machines import SlurmJob, SlurmMachines
from taskfleet.machines.slurm.script import batch_script, environment_script
from taskfleet.machines.slurm.submissions import Submissions

from shared_lib.tests.machines.contract import Contract, offer, until

#: How long lists are valid, which most tests do not wait for.
VALIDITY = {name: getattr(slurm_machines, name) for name in ("LIST_SECONDS", "CHANGING_LIST_SECONDS")}
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


@pytest.fixture
def cloud(on_slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_machines, "LIST_SECONDS", (0.0, 0.0))  # nothing is asked too often in tests
    monkeypatch.setattr(slurm_machines, "CHANGING_LIST_SECONDS", 0.0)
    monkeypatch.setattr(slurm_machines, "SUBMIT_PAUSE_SECONDS", 0.0)
    project = tmp_path / "project"
    project.mkdir()
    mine = f"job{next(NUMBERS)}"  # ended jobs of other tests are still listed

    def machines(job_id, run, *options, clock=time.time):
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
        return SlurmMachines(job, Slurm(), Submissions(folder, run), clock=clock)

    return SimpleNamespace(
        machines=machines(mine, "job-1"),
        others=machines(f"other{mine}", "other-1"),
        make=machines,
        job_id=mine,
        offers=(offer("2cpu-1gib", "main", cpus=2, slots=3, memory_gib=1.0),),
        dry=None,  # a job that does not fit waits
        can_queue=True,
        no_such_name="987654_1",
        says=lambda instance_id: f"machine {instance_id} slots 3",
        project=project,
    )


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Puts a script in front of one of Slurm's commands: ``commands("sbatch", lines)``; ``$real`` is the real one. Each call is logged.

    ``commands.calls(name)`` returns the arguments of the calls so far.
    """
    folder = tmp_path / "commands"
    folder.mkdir()
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{folder}:{path}")

    def put(name, lines='exec "$real" "$@"'):
        real, log = shutil.which(name, path=path), folder / f"{name}.log"
        script = folder / name
        script.write_text(f'#!/bin/bash\nreal={real}\necho "$*" >> {log}\n{lines}\n')
        script.chmod(0o755)

    put.calls = lambda name: (
        (folder / f"{name}.log").read_text().splitlines() if (folder / f"{name}.log").exists() else []
    )
    return put


def ended(cloud, instance_id):
    """Return a machine once it is listed as ended."""

    def found():
        listed = {one.instance_id: one for one in cloud.machines.list()}
        one = listed.get(instance_id)
        return one if one is not None and one.state is MachineState.ENDED else None

    return until(found, f"the end of {instance_id}")


class TestSlurmMachines(Contract):
    def test_a_thousand_machines_are_one_call_of_sbatch(self, cloud, commands, on_slurm):
        commands("sbatch")
        launched = cloud.machines.launch(self.order(cloud, number=1000)).launched
        assert len({one.instance_id for one in launched}) == 1000
        assert all(one.is_queued for one in launched)
        assert len(commands.calls("sbatch")) == 1
        until(lambda: sum(state == "RUNNING" for state in on_slurm.states().values()) == 8, "all CPUs in use")
        listed = cloud.machines.list()
        assert len(listed) == 1000
        assert sum(one.state is MachineState.QUEUED for one in listed) >= 990
        self.end(cloud.machines)
        states = self.states(cloud.machines)
        assert len(states) == 1000
        assert set(states.values()) == {MachineState.ENDED}

    def test_machines_that_are_cancelled_in_the_queue_never_ran(self, cloud, on_slurm):
        launched = [one.instance_id for one in cloud.machines.launch(self.order(cloud, number=12)).launched]
        until(lambda: sum(state == "RUNNING" for state in on_slurm.states().values()) == 8, "all CPUs in use")
        on_slurm.run("scancel", launched[11])
        one = ended(cloud, launched[11])
        assert (one.end_reason, one.running_since) == (EndReason.CANCELLED, None)
        on_slurm.run("scancel", launched[0].partition("_")[0])
        assert ended(cloud, launched[10]).end_reason is EndReason.CANCELLED
        first = ended(cloud, launched[0])
        assert first.end_reason is EndReason.ENDED
        assert first.running_since is not None

    @pytest.mark.parametrize(
        "lines",
        [
            '"$real" "$@" >/dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1',
            '"$real" "$@" >/dev/null; kill -9 $$',
            '"$real" "$@" >/dev/null; echo',
        ],
        ids=["timed out", "killed", "no answer"],
    )
    def test_a_lost_answer_of_sbatch_submits_nothing_twice(self, cloud, commands, on_slurm, lines):
        commands("sbatch", lines)
        order = self.order(cloud)
        with pytest.raises(ProviderError):
            cloud.machines.launch(order)
        again = cloud.machines.launch(order)
        assert len(commands.calls("sbatch")) == 1
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        assert {one.instance_id for one in again.launched} <= self.there(cloud.machines)
        assert {one.request_token for one in cloud.machines.list()} == {order.token}
        self.end(cloud.machines)

    def test_a_request_that_never_arrived_is_not_submitted_again(self, cloud, commands):
        commands("sbatch", 'echo "sbatch: error: Unable to contact slurm controller (connect failure)" >&2; exit 1')
        order = self.order(cloud)
        with pytest.raises(UnreachableError):
            cloud.machines.launch(order)
        commands("sbatch")
        answer = cloud.machines.launch(order)
        assert answer.launched == ()
        assert "was submitted before" in answer.failures[0].text
        assert len(commands.calls("sbatch")) == 1

    def test_an_outage_of_squeue_ends_nothing(self, cloud, commands):
        cloud.machines.launch(self.order(cloud))
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        commands(
            "squeue", 'echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2; exit 1'
        )
        for action in (cloud.machines.list, cloud.machines.clear, lambda: cloud.machines.terminate(["1_1"])):
            with pytest.raises(UnreachableError):
                action()
        commands("squeue")
        assert len(self.there(cloud.machines)) == 2

    def test_the_controller_is_asked_once_a_minute_and_less_often_when_nothing_changes(
        self, cloud, commands, monkeypatch
    ):
        for name, value in VALIDITY.items():
            monkeypatch.setattr(slurm_machines, name, value)
        for name in ("squeue", "sbatch", "scancel"):
            commands(name)
        now = [1000.0]
        machines = cloud.make(cloud.job_id, "job-1", clock=lambda: now[0])
        machines.launch(self.order(cloud, number=3))
        for _ in range(3600):  # an hour of a controller that asks every second
            now[0] += 1.0
            machines.list()
        calls = sum(len(commands.calls(name)) for name in ("squeue", "sbatch", "scancel"))
        assert 10 <= calls <= 30
        machines.terminate([one.instance_id for one in machines.list()])
        now[0] += slurm_machines.CHANGING_LIST_SECONDS + 1
        before = len(commands.calls("squeue"))
        machines.list()
        assert len(commands.calls("squeue")) == before + 1

    def test_changing_machines_cost_at_most_a_hundred_calls_an_hour(self, cloud, commands, monkeypatch):
        for name, value in VALIDITY.items():
            monkeypatch.setattr(slurm_machines, name, value)
        turn = 'n=$(wc -l < "$0.log"); s=$((n % 2)); state=(RUNNING PENDING); '
        commands(
            "squeue",
            turn
            + rf'printf "7\x1f1\x1fjob-1-a\x1f${{state[$s]}}\x1fNone\x1f\x1f\x1f\x1fn1\x1ftaskfleet {cloud.job_id} t main 1\n"',
        )
        now = [1000.0]
        machines = cloud.make(cloud.job_id, "job-1", clock=lambda: now[0])
        states = []
        for _ in range(1800):
            now[0] += 2.0
            states += [one.state for one in machines.list()]
        assert set(states) == {MachineState.RUNNING, MachineState.QUEUED}
        assert len(commands.calls("squeue")) <= 50  # of which each is two calls of the controller

    def test_an_unknown_state_is_taken_for_running(self, cloud, commands, caplog):
        line = rf"7\x1f1\x1fjob-1-a\x1fFROBNICATED\x1fNone\x1f\x1f\x1f\x1fn1\x1ftaskfleet {cloud.job_id} t main 1"
        commands("squeue", f'printf "{line}\n"')
        assert [one.state for one in cloud.machines.list()] == [MachineState.RUNNING]
        assert "FROBNICATED" in caplog.text

    def test_a_node_on_which_machines_die_at_once_is_excluded(self, cloud, on_slurm, commands):
        (cloud.project / "done").write_text("3")
        commands("sbatch")
        only = cloud.make(cloud.job_id, "job-1", "--nodelist=n1")
        launched = only.launch(self.order(cloud, "job-1-bad")).launched
        for one in launched:
            assert "on node n1" in ended(cloud, one.instance_id).detail
        another_controller = cloud.make(cloud.job_id, "job-1")
        another_controller.launch(self.order(cloud, "job-1-good"))
        assert "--exclude=n1" in commands.calls("sbatch")[-1]
        assert "--exclude" not in commands.calls("sbatch")[0]

    def test_a_request_beyond_the_limit_of_the_cluster_is_halved_until_it_is_accepted(self, cloud, commands):
        commands("sbatch")
        answer = cloud.machines.launch(self.order(cloud, number=3000))
        assert len(answer.launched) == 750
        assert [one.reason for one in answer.failures] == [FailureReason.QUOTA]
        assert len(commands.calls("sbatch")) == 3
        self.end(cloud.machines)

    def test_a_request_that_is_always_refused_is_a_quota_and_tried_once_from_then_on(self, cloud, commands):
        commands("sbatch", 'echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1')
        answer = cloud.machines.launch(self.order(cloud, number=4))
        assert answer.launched == ()
        assert [one.reason for one in answer.failures] == [FailureReason.QUOTA]
        assert len(commands.calls("sbatch")) == 3
        assert cloud.machines.clear() == {"files of batch jobs": 0}
        cloud.machines.launch(self.order(cloud, "job-1-later", number=4))
        assert len(commands.calls("sbatch")) == 4
        assert cloud.machines.clear() == {"files of batch jobs": 0}

    def test_of_many_machines_some_run_at_once(self, cloud, on_slurm):
        order = replace(self.order(cloud, number=20), at_once=2)
        assert len(cloud.machines.launch(order).launched) == 20
        until(lambda: list(on_slurm.states().values()).count("RUNNING") == 2, "two that run")
        listed = cloud.machines.list()
        assert [one.state for one in listed].count(MachineState.QUEUED) == 18
        assert any("JobArrayTaskLimit" in one.detail for one in listed)
        self.end(cloud.machines)

    def test_what_squeue_has_forgotten_is_known_from_the_files(self, cloud, commands, tmp_path):
        """An array of three, of which one ended with a code, one says nothing of its end, and one never ran."""
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        self.end(cloud.machines)
        folder = tmp_path / f"{cloud.job_id}.slurm"
        (folder / "job-1-abc.job").write_text("77 3")
        (folder / "77_1.out").write_text("[taskfleet] began 1000\n[taskfleet] ended 5\n[taskfleet] ended 1060 3\n")
        (folder / "77_2.out").write_text("[taskfleet] began 1000\n")
        commands("squeue", "exit 0")
        found = {one.instance_id: one for one in cloud.make(cloud.job_id, "job-1").list()}
        assert found.keys() == {"77_1", "77_3"}
        assert {one.state for one in found.values()} == {MachineState.ENDED}
        assert {one.request_token for one in found.values()} == {"job-1-abc"}
        assert (found["77_1"].running_since, found["77_1"].ended_at) == (1000.0, 1060.0)
        assert "exit code 3" in found["77_1"].detail
        assert (found["77_3"].running_since, found["77_3"].end_reason) == (None, EndReason.CANCELLED)
        assert one.instance_id not in found

    @pytest.mark.parametrize(
        ("option", "setting"),
        [
            ("--constraint=nothing", "CONSTRAINT"),
            ("--gres=gpu:1", "GRES"),
            ("--reservation=none", "RESERVATION"),
            ("--partition=nowhere", "PARTITION"),
            ("--frobnicate", "SLURM_OPTIONS"),
        ],
    )
    def test_a_wrong_setting_is_named(self, cloud, option, setting):
        machines = cloud.make(cloud.job_id, "job-1", option)
        with pytest.raises(WrongSettingError, match=setting) as error:
            machines.launch(self.order(cloud))
        assert error.value.setting == setting
        assert machines.clear() == {"files of batch jobs": 0}

    def test_inside_another_job_nothing_of_it_is_inherited(self, cloud, monkeypatch):
        for name in ("SBATCH_PARTITION", "SQUEUE_FORMAT", "SLURM_CPUS_PER_TASK", "SBATCH_ARRAY_INX"):
            monkeypatch.setenv(name, "nowhere")
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        until(lambda: f"machine {one.instance_id}" in cloud.machines.console(one.instance_id), "its words")
        self.end(cloud.machines)

    def test_the_files_of_requests_are_private(self, cloud, tmp_path):
        cloud.machines.launch(self.order(cloud, number=1))
        until(lambda: self.there(cloud.machines), "the machine")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / f"{cloud.job_id}.slurm").glob("job-1*")}
        assert modes
        assert set(modes.values()) == {0o600}
        self.end(cloud.machines)
