"""Pools of managers, with the queue in the ledger and over each service: ``poe deploy_pool`` alone finishes a flow of several managers."""

import json
import os
import signal
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from taskfleet.ledger.database import open_ledger
from taskfleet.pool import records

from shared_lib.tests.queues.conftest import SERVICES
from shared_lib.tests.queues.test_flows import PATIENCE_SECONDS, FlowJob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Two levels of the default manager with one of gpu between them, and one of plain, which has no file for its pool.
SCRIPT = """
import os

@app(manager="gpu")
def shade(n): return [n, os.environ.get("SHADE"), os.environ.get("TONE")]

@app(manager="plain")
def end(found): return [os.environ.get("SHADE"), found]

@app
def join(found): return [os.environ.get("SHADE"), found]

with flow():
    last = end(join(shade.map(square.map(range(6)))))
"""
#: A task of gpu that waits until a file is there, after one of the default manager.
ENDLESS = """
import os, time

@app(manager="gpu")
def wait(n):
    while not os.path.exists({there!r}):
        time.sleep(0.05)
    return n

@app(manager="gpu")
def after(n): return n

with flow():
    last = [after(wait(square(n))) for n in range(3)]
"""


class Ledger:
    """The queue in the ledger, as if it were a service."""

    def queue_url(self, name):
        return "ledger"

    def environment(self):
        return {}


class PoolJob(FlowJob):
    """A job of a script with managers, and of machines on this computer."""

    def __init__(self, service, name, folder, script):
        super().__init__(service, name, folder, script, IDLE_SECONDS=1, RESULTS_PATH=folder / "shared")
        config = self.home.folder / "config"
        (config / "pool.env").write_text("PROVIDER=local\nMACHINES=1-2\nTASKS_PER_MACHINE=1\n")
        (config / "task.gpu.env").write_text("SLOTS=1\nexport SHADE=dark\n")
        (config / "task.gpu.sh").write_text('export TONE="$SHADE red"\n')
        (config / "pool.gpu.env").write_text("MACHINES=1\n")
        (config / "task.plain.env").write_text("export SHADE=light\n")
        assert self.start_flow().wait(PATIENCE_SECONDS) == 0, self.text()

    def records(self):
        """Every machine that was ever requested."""
        path = self.home.folder / "jobs" / f"{self.name}.db"
        with closing(open_ledger(path, job_id=self.name, read_only=True)) as database:
            return records.all_machines(database)

    def of_gpu(self):
        """The open machines of the pool of gpu whose workers are ready."""
        return [
            one for one in self.records() if one.manager_id == 1 and one.ready_at is not None and one.ended_at is None
        ]

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)
        return found

    def processes(self):
        """The processes of machines in the project's folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                is_there = os.readlink(entry / "cwd") == str(self.home.folder)
                if is_there and b"TASKFLEET_MACHINE=" in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def nothing_is_left(self):
        self.until(lambda: not self.processes())
        assert not list(self.home.folder.glob("jobs/*.machines/*/*"))
        assert all(one.ended_at is not None for one in self.records())

    def close(self):
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not isinstance(self.service, Ledger):
            super().close()


@pytest.fixture(params=["ledger", *SERVICES])
def queue(request):
    """The name of the service of the queue, or ``ledger``."""
    return request.param


#: Does with two of these queues.
two_queues = pytest.mark.parametrize("queue", ["ledger", "postgresql"], indirect=True)


@pytest.fixture
def pool_job(queue, running, name, tmp_path, monkeypatch):
    made = []

    def pool_job(script=SCRIPT):
        service = Ledger() if queue == "ledger" else running(queue)
        for variable, value in service.environment().items():
            monkeypatch.setenv(variable, value)
        made.append(PoolJob(service, name, tmp_path, script))
        return made[-1]

    yield pool_job
    for one in made:
        one.close()


def test_the_pools_of_all_managers_finish_a_flow(pool_job):
    job = pool_job()
    said = job.home.run("deploy_pool", "--yes")
    assert "JOB COMPLETE" in said, said
    assert job.counts() == {"succeeded": 14}
    assert {one.manager_id for one in job.records()} == {0, 1, 2}
    job.nothing_is_left()
    flow = job.home.folder / "flow.py"
    flow.write_text(f"{flow.read_text()}print(json.dumps(last.result()))\n")
    assert job.start_flow().wait(PATIENCE_SECONDS) == 0, job.text()
    found = json.loads(job.home.text().splitlines()[-1])
    assert found == ["light", [None, [[n * n, "dark", "dark red"] for n in range(6)]]]


@two_queues
def test_a_machine_that_is_killed_is_replaced_in_its_pool(pool_job, tmp_path):
    there = tmp_path / "there"
    job = pool_job(ENDLESS.format(there=str(there)))
    pool = job.home.start("deploy_pool", "--yes")
    [first] = job.until(job.of_gpu)
    [pid] = job.home.folder.glob(f"jobs/*.machines/*/{first.instance_id}/pid")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    job.until(lambda: [one for one in job.of_gpu() if one.token != first.token])
    there.touch()
    assert pool.wait(PATIENCE_SECONDS) == 0, job.text()
    assert job.counts() == {"succeeded": 9}
    assert f"Pool gpu: {first.token} (local in " in job.text()
    job.nothing_is_left()


@two_queues
@pytest.mark.parametrize("way", ["ctrl-c", "stop", "teardown", "teardown without ledger"])
def test_nothing_is_left_of_any_pool(pool_job, tmp_path, way):
    job = pool_job(ENDLESS.format(there=str(tmp_path / "there")))
    pool = job.home.start("deploy_pool", "--yes", "--keep-waiting")  # so that the machines of both pools stay
    job.until(lambda: job.of_gpu() and [one for one in job.records() if not one.manager_id and one.ready_at])
    assert len(job.processes()) >= 2
    if way == "ctrl-c":
        os.kill(pool.pid, signal.SIGINT)
    elif way == "teardown without ledger":
        os.kill(pool.pid, signal.SIGKILL)
        pool.wait()
        for one in (job.home.folder / "jobs").glob(f"{job.name}.db*"):
            one.rename(one.with_name(f"hidden-{one.name}"))
        assert "machines: 0\n" in job.home.run("teardown", "--yes")
        job.until(lambda: not job.processes())
        assert not list(job.home.folder.glob("jobs/*.machines/*/*"))
        return
    else:
        said = job.home.run(way, "--yes")
        assert "machines are terminated" in said or "machines: 0\n" in said
    assert pool.wait(PATIENCE_SECONDS) == 130, job.text()
    job.nothing_is_left()
