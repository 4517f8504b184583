"""A job of 10,000 tasks on machines that really boot, from a person's one command: whatever fails on the way, and nothing is left."""

import contextlib
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import boto3
import pytest

from shared_lib.tests.services import buckets
from shared_lib.tests.services.ec2 import Ec2
from shared_lib.tests.services.gce import PROJECT, Gce
from shared_lib.tests.services.pubsub import PubSub
from shared_lib.tests.services.sqs import Sqs
from tests.machines.floor import Ec2Floor, GceFloor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PATIENCE_SECONDS = 300
BUCKET = "code"


class Desk:
    """The user's own computer."""

    def __init__(self, baked, folder, environment, settings):
        self.folder = folder
        shutil.copytree(baked, folder, ignore=shutil.ignore_patterns(".venv", "jobs"))
        self._python = str(baked / ".venv" / "bin" / "python")
        self._environment = {name: os.environ[name] for name in ("PATH", "HOME")} | environment
        self._environment |= {"XDG_CACHE_HOME": str(folder / "cache")}
        path = folder / "config" / "task.env"
        kept = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
        path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in settings.items()), ""]))
        self._running = []

    def start(self, *words):
        """Type a command, and do not wait for it."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [self._python, "-m", "taskfleet", *words],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def log(self):
        """Give what was printed."""
        return (self.folder / "log").read_text()

    def run(self, *words):
        """Type a command; give what it prints."""
        done = subprocess.run(
            [self._python, "-m", "taskfleet", *words],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def status(self):
        """Give the job's status."""
        return json.loads(self.run("status", "--json"))

    def machines(self):
        """Give all machines there ever were."""
        return [json.loads(line) for line in self.run("machines", "--all", "--json").splitlines()]

    def close(self):
        """End what runs."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(condition, what, desk, floor):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        consoles = "\n".join(f"--- {name}\n{one.console()}" for name, one in floor.instances.items())
        assert time.monotonic() < deadline, f"waited in vain for {what}:\n{desk.log()}\n{consoles}\n{floor.trouble}"
        time.sleep(0.3)
    return found


def go_through_it(desk, floor, gate):
    """Have a pool work off the job, with a machine that does not boot, a notice, a silent death and a controller that is killed."""

    def succeeded(number):
        until(lambda: desk.status()["counts"]["succeeded"] >= number, f"{number} results", desk, floor)

    def hard_at_work():
        def found():
            heard = {one["instance_id"] for one in desk.machines() if one["last_heartbeat_at"] and not one["ended_at"]}
            return [name for name in floor.working() if name in heard]

        return until(found, "a machine at work", desk, floor)[-1]

    desk.run("insert_tasks")
    controller = desk.start("deploy_pool", "--yes")
    succeeded(500)
    noticed = hard_at_work()
    floor.instances[noticed].metadata.notice(4)
    until(lambda: "notice" in floor.instances[noticed].console(), "the worker's hearing of it", desk, floor)
    time.sleep(1)  # its tasks are back by then
    floor.take_away(noticed)
    succeeded(1500)
    floor.die_silently(hard_at_work())
    succeeded(3000)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    gate.is_open = True
    time.sleep(2)
    second = desk.start("deploy_pool", "--continue", "--yes")
    until(lambda: second.poll() is not None, "the end", desk, floor)
    said = desk.log()
    assert second.returncode == 0, said
    assert "JOB COMPLETE" in said
    assert "All machines are terminated" in said
    assert "Its last console lines" in said or "no worker started in time" in said
    status = desk.status()
    assert status["counts"]["succeeded"] == 10_000, desk.run("tasks", "--state", "failed") + said
    assert status["costs"]["machines"] == 0
    assert 0 < status["costs"]["so_far_usd"] < 1
    machines = desk.machines()
    assert {one["state"] for one in machines} == {"ended"}
    reasons = " | ".join(one["remark"] for one in machines)
    for words in ("no heartbeat from its worker", "no worker started in time"):
        assert words in reasons, reasons
    assert status["spot_terminations"] >= 1
    until(lambda: not floor.working(), "the power to be off everywhere", desk, floor)
    torn = desk.run("teardown", "--yes")
    assert set(re.findall(r": (\d+)$", torn, re.MULTILINE)) == {"0"}, torn
    results = desk.folder / "results.json"
    desk.run("results", "-o", str(results))
    example = {one["task_id"]: one["data"] for one in json.loads((desk.folder / "tasks.json").read_text())}
    found = {one["task_id"]: one["result"] for one in json.loads(results.read_text())}
    assert found == {name: one["num1"] + one["num2"] for name, one in example.items()}


POOL = {
    "JOB_ID": "sums",
    "LEASE_SECONDS": "10",
    "IDLE_SECONDS": "10",
    "TASKS_PER_PROCESS": "0",
    "MACHINES": "1-3",
    "BOOT_MINUTES": "0.6",
    "SILENT_MINUTES": "0.4",
    "LIFETIME_HOURS": "0.25",
    "BUDGET_USD": "1",
    "SHUTDOWN_GRACE_SECONDS": "2",
}


#: Takes longer than a machine has for its boot, so that the one that stays dark is noticed. Each passes a gate, which lets only some
#: pass at first, so that the job is not done before everything has happened, however slow this computer is.
TASK = """
import time
import urllib.request


def run_task(num1, num2):
    time.sleep(0.03)
    while True:
        try:
            urllib.request.urlopen("GATE", timeout=30).close()
            return num1 + num2
        except OSError:  # it is closed, or has too many visitors on a busy machine
            time.sleep(0.5)


def filter_tasks(table, output_path):
    return table
"""


class Gate:
    """A service that lets 6,000 tasks pass, and all of them when it is open; to the others, it answers with an error."""

    def __init__(self, host):
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                may_pass = gate.is_open or next(gate._numbers) < 6000
                self.send_response(200 if may_pass else 503)
                self.end_headers()

            def log_message(self, *words):
                pass

        self.is_open = False
        self._numbers = itertools.count()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://{host.publish(self._server.server_port)}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Stop the service."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gate(host):
    """A gate that is closed."""
    gate = Gate(host)
    yield gate
    gate.close()


def slow(desk, gate):
    """Have the job's tasks take long, and pass the gate."""
    (desk.folder / "task.py").write_text(TASK.replace("GATE", gate.address))


@pytest.fixture
def aws(host, baked, tmp_path):
    """AWS, with a desk that has an account there."""
    with Ec2() as ec2, Sqs() as others:
        address = f"http://{host.publish(others.port)}"
        services = {"AWS_ENDPOINT_URL_SQS": address, "AWS_ENDPOINT_URL_S3": address}
        settings = POOL | {
            "QUEUE_URL": "sqs://sums",
            "PROVIDER": "aws",
            "REGIONS": "us-east-1",
            "CPUS": "2",
            "BUCKET": f"s3://{BUCKET}/jobs",
            "INSTANCE_PROFILE": "worker",
            **{f"export {name}": value for name, value in services.items()},
        }
        desk = Desk(baked, tmp_path / "desk", ec2.environment() | services, settings)
        key = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        s3 = boto3.client("s3", endpoint_url=address, **key)
        s3.create_bucket(Bucket=BUCKET)
        client = boto3.client("ec2", endpoint_url=ec2.environment()["AWS_ENDPOINT_URL"], **key)
        iam = boto3.client("iam", endpoint_url=ec2.environment()["AWS_ENDPOINT_URL"], **key)
        iam.create_instance_profile(InstanceProfileName="worker")
        yield desk, ec2, client, s3
        desk.close()


def test_a_job_over_sqs_on_ec2(aws, host, gate):
    desk, ec2, client, s3 = aws
    slow(desk, gate)
    with Ec2Floor(host, ec2, client, never_boot=[2]) as floor:
        go_through_it(desk, floor, gate)
        assert not any(floor.listed().values())
    assert client.describe_launch_templates()["LaunchTemplates"] == []
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


@pytest.fixture
def google(host, baked, tmp_path):
    """Google Cloud, with a desk that has a project there."""
    with Gce() as gce, PubSub() as pubsub, buckets.google_storage(BUCKET) as port:
        services = {
            "STORAGE_EMULATOR_HOST": host.publish(port),
            "PUBSUB_EMULATOR_HOST": host.publish(pubsub.port),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"http://{host.publish(gce.port)}/compute/v1/",
        }
        settings = POOL | {
            "QUEUE_URL": f"pubsub://{PROJECT}/sums",
            "PROVIDER": "gcp",
            "PROJECT_ID": PROJECT,
            "REGIONS": "us-central1",
            "CPUS": "2",
            "BUCKET": f"gs://{BUCKET}/jobs",
            **{f"export {name}": value for name, value in services.items()},
        }
        desk = Desk(baked, tmp_path / "desk", gce.environment() | services, settings)
        yield desk, gce
        desk.close()


def test_a_job_over_pubsub_on_compute_engine(google, host, gate):
    desk, gce = google
    slow(desk, gate)
    with GceFloor(host, gce, PROJECT, never_boot=[2]) as floor:
        go_through_it(desk, floor, gate)
        assert floor.listed() == {}
