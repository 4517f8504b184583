"""Machines that are processes on this computer."""

import fcntl
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from taskfleet.errors import ProviderError
from taskfleet.machines import MachineState
from taskfleet.machines.local.machines import PID, LocalMachines, is_locked

from shared_lib.tests.machines.contract import Contract, offer, until

#: Replaces a worker: prints its name, and stops slowly after SIGTERM.
WORKER = """
import os, signal, sys, time
print("machine", os.environ["TASKFLEET_MACHINE"], "slots", os.environ["SLOTS"], flush=True)
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
while not os.path.exists("done"):
    if stopping and not os.path.exists("stubborn"):
        sys.exit(130)
    time.sleep(0.05)
sys.exit(int(open("done").read()))
"""


@pytest.fixture
def cloud(tmp_path):
    project = tmp_path / "project"
    project.mkdir()

    def machines(job):
        return LocalMachines(
            tmp_path / f"{job}.machines",
            zone="here",
            command=[sys.executable, "-c", WORKER],
            project=project,
            environment=os.environ,
        )

    made = SimpleNamespace(
        machines=machines("job"),
        others=machines("other"),
        offers=(offer("local", "here", slots=3),),
        dry=None,
        can_queue=False,
        no_such_name="job-9-none-1",
        says=lambda instance_id: f"machine {instance_id} slots 3",
        project=project,
        folder=tmp_path / "job.machines",
    )
    yield made
    for each in tmp_path.glob("*.machines/*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int((each / PID).read_text()), signal.SIGKILL)
        until(lambda each=each: not is_locked(each), "its end")


def worker_of(cloud, name):
    keeper = (cloud.folder / name / PID).read_text()
    return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])


class TestLocalMachines(Contract):
    def test_it_outlives_whoever_started_it(self, cloud):
        pid = os.fork()
        if pid == 0:
            cloud.machines.launch(self.order(cloud, number=1))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        [one] = cloud.machines.list()
        assert one.state is MachineState.RUNNING
        self.end(cloud.machines)

    def test_it_ends_when_its_worker_has_and_says_how(self, cloud):
        cloud.machines.launch(self.order(cloud, number=1))
        (cloud.project / "done").write_text("0")
        until(lambda: not self.there(cloud.machines), "its end")
        assert cloud.machines.list()[0].detail == "its worker has finished"
        (cloud.project / "done").write_text("3")
        cloud.machines.launch(self.order(cloud, "job-2-abc", number=1))
        until(lambda: not self.there(cloud.machines), "its end")
        assert [one.detail for one in cloud.machines.list() if one.request_token == "job-2-abc"] == [
            "its worker ended with code 3"
        ]

    def test_it_ends_when_its_lifetime_is_over_though_nobody_looks(self, cloud):
        cloud.machines.launch(self.order(cloud, number=1, lifetime_seconds=5.0))
        assert self.there(cloud.machines)
        until(lambda: not self.there(cloud.machines), "its end")
        assert cloud.machines.list()[0].detail == "its lifetime is over"

    def test_a_second_termination_does_not_wait(self, cloud):
        (cloud.project / "stubborn").touch()
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        until(lambda: "machine" in cloud.machines.console(one.instance_id), "the worker")
        cloud.machines.terminate([one.instance_id])
        time.sleep(0.5)
        assert self.states(cloud.machines) == {one.instance_id: MachineState.ENDING}
        cloud.machines.terminate([one.instance_id])
        until(lambda: not self.there(cloud.machines), "its end")

    def test_the_worker_does_not_outlive_its_keeper(self, cloud):
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        worker = worker_of(cloud, one.instance_id)
        os.kill(int((cloud.folder / one.instance_id / PID).read_text()), signal.SIGKILL)
        until(lambda: not Path(f"/proc/{worker}").exists(), "the worker's end")
        assert self.states(cloud.machines) == {one.instance_id: MachineState.ENDED}
        assert cloud.machines.list()[0].detail == "its processes were killed"

    def test_a_process_that_got_its_pid_is_not_mistaken_for_it(self, cloud):
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        self.end(cloud.machines)
        (cloud.folder / one.instance_id / PID).write_text(str(os.getpid()))
        assert self.there(cloud.machines) == set()
        cloud.machines.terminate([one.instance_id])  # the machine's PID is that of the test

    def test_one_that_cannot_start_is_rejected_with_what_it_said(self, cloud):
        cloud.project.rename(cloud.project.with_name("elsewhere"))
        answer = cloud.machines.launch(self.order(cloud))
        assert answer.launched == ()
        assert "the process cannot be started" in answer.failures[0].text
        cloud.project.with_name("elsewhere").rename(cloud.project)


METADATA_SOUND = '{"order": "o", "created_at": 1.5, "lifetime_seconds": 9.0, "command": [], "project": "."}'


def damaged_texts(rnd):
    """Yield damaged texts of a file of a machine."""
    yield from (
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"order": 7, "created_at": 1}',
        '{"order": "o", "created_at": 1e999}',
        "\x00",
    )
    for _ in range(200):
        at = rnd.randrange(len(METADATA_SOUND))
        yield (
            METADATA_SOUND[:at]
            + rnd.choice(['"', "{", "NaN", "", "\x00", "9" * 5000])
            + METADATA_SOUND[at + rnd.randrange(9) :]
        )


def test_damaged_files_of_a_machine_are_one_error_and_signal_nobody(tmp_path, cloud):
    machines = cloud.machines
    folder = machines._folder / "m"
    folder.mkdir(parents=True)
    refused = 0
    for text in damaged_texts(random.Random(1)):
        (folder / "machine.json").write_text(text)
        (folder / "ended.json").write_text(text)
        try:
            [machine] = machines.list()
        except ProviderError as error:
            refused += "is damaged" in str(error)
        else:
            refused -= machine.instance_id != "m"
    assert refused > 50
    (folder / "machine.json").write_text(METADATA_SOUND)
    for pid in ("-1", "0", "1", "x", "", "9" * 30):
        (folder / PID).write_text(pid)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            machines.terminate(["m"])
    shutil.rmtree(folder)


def test_a_machine_whose_folder_another_process_deletes_while_it_is_listed_does_not_exist(tmp_path, cloud):
    class Racing(LocalMachines):
        def _machine(self, folder):
            shutil.rmtree(folder)
            return super()._machine(folder)

    folder = cloud.machines._folder / "m"
    folder.mkdir(parents=True)
    (folder / "machine.json").write_text(METADATA_SOUND)
    assert [one.instance_id for one in cloud.machines.list()] == ["m"]
    cloud.machines.__class__ = Racing
    assert cloud.machines.list() == []
