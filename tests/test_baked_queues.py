"""The 10,000-task example of a baked project over each service: whoever is killed, all sums come out right."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from shared_lib.tests.queues.services.postgresql import PostgresqlService
from shared_lib.tests.queues.services.pubsub import PubSubService
from shared_lib.tests.queues.services.sqs import SqsService

SERVICES = {"sqs": SqsService, "pubsub": PubSubService, "postgresql": PostgresqlService}
PATIENCE_SECONDS = 200

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def extras():
    return "aws", "gcp", "postgresql"


@pytest.fixture(params=SERVICES)
def service(request, lacking):
    service = SERVICES[request.param]()
    try:
        service.start()
    except FileNotFoundError as error:
        lacking(str(error))
    yield service
    service.stop()


class Place:
    """A copy of the project, as on a machine of its own."""

    def __init__(self, synced, folder, service):
        self.folder = folder
        shutil.copytree(synced, folder, ignore=shutil.ignore_patterns(".venv", "jobs"))
        self.python = str(synced / ".venv" / "bin" / "python")
        self.environment = {
            name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ
        } | service.environment()
        settings = folder / "config" / "task.env"
        lines = [f"QUEUE_URL={service.queue_url('baked')}", "JOB_ID=baked", "LEASE_SECONDS=10", "IDLE_SECONDS=20"]
        kept = [line for line in settings.read_text().splitlines() if not line.startswith("JOB_ID=")]
        settings.write_text("\n".join([*kept, *lines, ""]))

    def start(self, *words):
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.python, *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *words):
        process = self.start(*words)
        assert process.wait(PATIENCE_SECONDS) == 0, (self.folder / "log").read_text()


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.timeout(600)
def test_all_sums_are_right_whoever_is_killed(synced, service, tmp_path):
    chance = random.Random(20261121)
    home, *machines = (Place(synced, tmp_path / name, service) for name in ("home", "machine-1", "machine-2"))
    inserter = home.start("insert_tasks.py")
    time.sleep(chance.uniform(1.0, 2.5))
    kill(inserter)
    home.run("insert_tasks.py")
    workers = [machine.start("run.py") for machine in machines]
    monitor = home.start("-m", "taskfleet", "monitor")
    try:
        kills = 0
        deadline = time.monotonic() + PATIENCE_SECONDS
        next_at = time.monotonic() + 2.5
        while monitor.poll() != 0:
            assert time.monotonic() < deadline, "\n".join(
                (place.folder / "log").read_text() for place in (home, *machines)
            )
            if kills < 4 and time.monotonic() > next_at:
                next_at = time.monotonic() + chance.uniform(1.0, 3.0)
                alive = [one for one in (*workers, monitor) if one.poll() is None]
                if alive:
                    kill(chance.choice(alive))
                    kills += 1
            workers = [
                one if one.poll() is None else machine.start("run.py")
                for one, machine in zip(workers, machines, strict=True)
            ]
            if monitor.poll() not in (None, 0):
                monitor = home.start("-m", "taskfleet", "monitor")
            time.sleep(0.1)
        assert kills >= 2, "the job was over too soon to show anything"
    finally:
        for one in (*workers, monitor):
            if one.poll() is None:
                kill(one)
    home.run("-m", "taskfleet", "results", "-o", "results.json")
    tasks = {one["task_id"]: one["data"] for one in json.loads((home.folder / "tasks.json").read_text())}
    results = {one["task_id"]: one for one in json.loads((home.folder / "results.json").read_text())}
    assert len(tasks) == 10_000
    assert results.keys() == tasks.keys()
    wrong = [name for name, one in tasks.items() if results[name]["result_sum"] != one["num1"] + one["num2"]]
    assert wrong == []
    home.run("-m", "taskfleet", "delete_queue", "--yes")
