"""``poe deploy_pool`` with a pool for each manager, at the stand-in for EC2: where, what and with which script machines are launched."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import closing
from types import SimpleNamespace

import boto3
import pytest
from taskfleet import cli
from taskfleet.ledger.database import open_ledger
from taskfleet.pool import records

from shared_lib.tests.pool.test_deploying import clouds

__all__ = ["clouds"]

EAST, WEST = "us-east-1", "us-west-2"
PATIENCE_SECONDS = 120
FLOW = """
from taskfleet.graph import app, flow
import task

with flow("sums"):
    app(task.fit, manager="gpu").map(range(20))
    app(task.run_task).map(range(30))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def project(tmp_path, monkeypatch, clouds):
    """A job of a script with two managers; the one of gpu has machines of its own, elsewhere."""
    folder = tmp_path / "sums"
    files = {
        "config/task.env": f"JOB_ID=sums\nQUEUE_URL=sqs://sums-{uuid.uuid4().hex}\n",  # the service outlives a test
        "config/pool.env": (
            f"PROVIDER=aws\nREGIONS={EAST}\nBUCKET=s3://code\nMARKETS=spot\nINSTANCE_PROFILE=worker\nINSTANCE_TYPES=c6i.large\n"
            "PRICE_USD_PER_HOUR=-5\n"
        ),
        "config/task.gpu.env": "SLOTS=2\nexport SHADE=dark\n",
        "config/pool.gpu.env": f"REGIONS={WEST}\nMARKETS=on-demand\nINSTANCE_TYPES=c6i.xlarge\n",
        "task.py": "def run_task(n):\n    return n\n\n\ndef fit(n):\n    return n\n",
        "run.py": "from taskfleet import launch_worker\nlaunch_worker()\n",
        "flow.py": FLOW,
        "pyproject.toml": '[project]\nname = "sums"\nversion = "1"\n',
        "uv.lock": "version = 1\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    address = f"http://127.0.0.1:{clouds.others.port}"
    services = {"AWS_ENDPOINT_URL_SQS": address, "AWS_ENDPOINT_URL_S3": address}
    for name, value in (clouds.ec2.environment() | services).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    boto3.client("s3").create_bucket(Bucket="code")
    iam = boto3.client("iam")
    if not iam.list_instance_profiles()["InstanceProfiles"]:
        iam.create_instance_profile(InstanceProfileName="worker")
    subprocess.run([sys.executable, "flow.py"], check=True, cwd=folder, env=dict(os.environ), timeout=PATIENCE_SECONDS)
    yield folder
    clouds.ec2.clear_faults()
    clouds.ec2.empty()
    shutil.rmtree(folder / "jobs", ignore_errors=True)


@pytest.fixture
def poe(project, capsys):
    def run(*words):
        capsys.readouterr()
        try:
            code = cli.main(list(words))
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def start(project):
    """Starts ``poe deploy_pool`` in a process of its own, which is killed at the end."""
    processes = []

    def start(*words):
        with (project / "log").open("ab") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "taskfleet", "deploy_pool", "--yes", *words],
                    cwd=project,
                    env=dict(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def until(project):
    """Waits for a condition while a process runs."""

    def until(condition, process):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert process.poll() is None, (project / "log").read_text()
            assert time.monotonic() < deadline, (project / "log").read_text()
            time.sleep(0.2)

    return until


@pytest.fixture
def pool(start, until):
    """A pool in a process of its own, once it has launched a machine for each manager."""
    process = start()
    until(lambda: alive(EAST) and alive(WEST), process)
    return process


def alive(region):
    found = boto3.client("ec2", region_name=region).describe_instances()["Reservations"]
    instances = [one for reservation in found for one in reservation["Instances"]]
    return [one for one in instances if one["State"]["Name"] in ("pending", "running")]


def script_of(region, instance):
    data = boto3.client("ec2", region_name=region).describe_instance_attribute(
        InstanceId=instance["InstanceId"], Attribute="userData"
    )["UserData"]["Value"]
    return base64.b64decode(data)


def test_the_question_has_all_pools_and_their_sum(poe, project):
    said = poe("deploy_pool", "--dry-run")
    assert said.code == 0, said.err
    default, gpu = said.out.split("Pool of manager gpu:\n")
    assert default.startswith("Pool of manager default:\n")
    assert "of type c6i.large in us-east-1" in default
    chosen = re.search(r"Chosen: (\d+) machines of type c6i.xlarge in us-west-2\w, on-demand: 2 slots each", gpu)
    n = int(re.search(r"Chosen: (\d+) machines?", default)[1]) + int(chosen[1])
    assert f"In all: {n} machines in 2 pools, at most.\nPrice in all: " in gpu
    assert "Total cost: unknown." in gpu
    assert poe("plan").out.startswith("Pool of manager default:\n")
    limited = poe("plan", "--price-usd-per-hour", "-0.5", "--budget-usd", "7").out
    assert "is not used" not in limited
    (project / "config" / "pool.cpu.env").write_text("MACHINES=7\n")
    assert "config/pool.cpu.env is not used, because there is no config/task.cpu.env." in poe("plan").out
    assert "PRICE_USD_PER_HOUR limits the machines of all pools together to 0.5 USD per hour." in limited
    assert "BUDGET_USD limits the cost of all pools together to 7.00 USD." in limited
    assert alive(EAST) + alive(WEST) == []


def test_a_plan_is_made_for_one_manager_too(poe):
    [first, second] = map(json.loads, poe("plan", "--json").out.splitlines())
    assert (first["manager"], second["manager"]) == ("default", "gpu")
    only = poe("plan", "--manager", "gpu", "--json").out
    assert json.loads(only) == second
    assert (second["offer"]["instance_type"], second["offer"]["slots"], second["tasks"]) == ("c6i.xlarge", 2, 20)
    script = poe("plan", "--manager", "gpu", "--show-start-up-script").out
    assert "TASKFLEET_MANAGER=gpu" in script
    assert "SHADE=dark" in script
    script = poe("plan", "--show-start-up-script").out
    assert "TASKFLEET_MANAGER" not in script
    assert "SHADE" not in script
    said = poe("plan", "--manager", "cpu")
    assert said.code == 2
    assert "There is no manager 'cpu', because" in said.err


def test_each_pool_has_its_machines_and_what_they_run(poe, pool):
    [first], [second] = alive(EAST), alive(WEST)
    assert (first["InstanceType"], first.get("InstanceLifecycle")) == ("c6i.large", "spot")
    assert (second["InstanceType"], second.get("InstanceLifecycle")) == ("c6i.xlarge", None)
    rows = {one["manager"]: one for one in map(json.loads, poe("machines", "--json").out.splitlines())}
    assert rows["default"]["instance_id"] == first["InstanceId"]
    assert rows["gpu"]["instance_id"] == second["InstanceId"]
    shown = poe("machines").out
    assert re.search(rf"^machine +manager +type.*\n.*^{second['InstanceId']} +gpu +c6i.xlarge", shown, re.M | re.S)
    assert "\n  pool default: 1 active, 1 in total, 0.0" in shown
    assert "\n  pool gpu: 1 active, 1 in total, 0.0" in shown
    assert "booting for" in poe("status").out
    assert "(1 for manager default, 1 for manager gpu)" in poe("status").out
    assert "20 tasks of manager gpu can run, and it has no worker yet; uv run poe explain pool" in poe("status").out
    said = poe("explain", "pool").out
    assert "Pool default: 1 machine booting" in said
    assert "Pool gpu: 1 machine booting" in said
    assert poe("stop", "--yes").code == 0
    assert pool.wait(PATIENCE_SECONDS) == 130
    assert alive(EAST) + alive(WEST) == []


@pytest.mark.parametrize("has_ledger", [True, False])
def test_a_teardown_finds_the_machines_of_all_pools(poe, pool, project, has_ledger):
    pool.kill()
    pool.wait()
    listed = poe("teardown", "--dry-run").out
    assert "Job sums has 2 machines." in listed
    [path] = project.rglob("sums.db")
    if not has_ledger:
        path.rename(project / "elsewhere.db")
    said = poe("teardown", "--yes")
    assert "machines: 0\n" in said.out, said.err
    assert alive(EAST) + alive(WEST) == []
    if has_ledger:
        with closing(open_ledger(path, job_id="sums", read_only=True)) as database:
            assert records.open_machines(database) == []


def test_machines_of_a_provider_or_manager_that_the_settings_no_longer_have_are_no_less_there(poe, pool, project):
    pool.kill()
    pool.wait()
    config = project / "config"
    [gpu] = alive(WEST)
    before = (config / "pool.gpu.env").read_text()
    (config / "pool.gpu.env").write_text("PROVIDER=local\n")
    sentence = (
        f"Machine {gpu['InstanceId']} of PROVIDER=aws may still run, and its pool has PROVIDER=local now. "
        "Set PROVIDER=aws in config/pool.gpu.env again"
    )
    for words in (["deploy_pool", "--yes", "--continue"], ["teardown", "--yes"], ["stop", "--yes"]):
        said = poe(*words)
        assert (said.code, sentence in said.err) == (1, True), said
    assert alive(EAST) == []  # all others are terminated
    assert alive(WEST) == [gpu]
    (config / "pool.gpu.env").write_text(before)
    (config / "task.gpu.env").rename(project / "task.gpu.env")
    said = poe("teardown", "--yes")
    assert (said.code, "There is no manager 'gpu', because" in said.err) == (2, True), said
    (project / "task.gpu.env").rename(config / "task.gpu.env")
    assert poe("teardown", "--yes").code == 0
    assert alive(EAST) + alive(WEST) == []


def test_a_run_that_was_killed_is_continued_with_all_its_pools(poe, pool, start, until):
    pool.kill()
    pool.wait()
    assert "2 machines of an earlier run may still be running" in poe("deploy_pool", "--yes").err
    boto3.client("ec2", region_name=WEST).terminate_instances(InstanceIds=[alive(WEST)[0]["InstanceId"]])
    again = start("--continue")
    until(lambda: alive(WEST), again)  # a new one, in the pool of the one that ended
    [one] = alive(WEST)
    assert one["InstanceType"] == "c6i.xlarge"
    assert len(alive(EAST)) == 1
    again.kill()
    again.wait()
    assert poe("teardown", "--yes").code == 0
    assert alive(EAST) + alive(WEST) == []


def test_a_pool_may_have_another_provider(poe, project, start, until):
    """The tasks of the default manager run here, those of gpu at the cloud."""
    config = project / "config"
    (config / "pool.gpu.env").write_text(
        f"PROVIDER=aws\nREGIONS={WEST}\nINSTANCE_TYPES=c6i.xlarge\nMARKETS=spot\nINSTANCE_PROFILE=worker\n"
    )
    (config / "pool.env").write_text("PROVIDER=local\nMACHINES=1\nBUCKET=s3://code\n")
    pool = start("--idle-seconds", "1")
    until(lambda: alive(WEST) and json.loads(poe("status", "--json").out)["counts"]["succeeded"] == 30, pool)
    [one] = alive(WEST)
    assert b"TASKFLEET_MANAGER=gpu" in script_of(WEST, one)
    rows = map(json.loads, poe("machines", "--all", "--json").out.splitlines())
    assert {one["manager"]: one["instance_type"] for one in rows} == {"default": "local", "gpu": "c6i.xlarge"}
    said = poe("teardown", "--yes").out
    assert "(PROVIDER=local, aws)" in said
    assert "bundles of code: 0\n" in said
    assert pool.wait(PATIENCE_SECONDS) == 130
    assert alive(EAST) + alive(WEST) == []
    assert not list(project.glob("jobs/*.machines/*/*"))


def test_the_settings_of_a_pool_are_checked_before_anything_is_launched(poe, project):
    (project / "config" / "pool.gpu.env").write_text("BUDGET_USD=3\nREGIONS=us-west-2\n")
    said = poe("deploy_pool", "--yes")
    assert (said.code, alive(EAST)) == (2, [])
    assert "pool.gpu.env, line 1: BUDGET_USD is the same for all managers; remove it here" in said.err
    (project / "config" / "pool.gpu.env").write_text("INSTANCE_TYPES=x9.*\n")
    said = poe("deploy_pool", "--yes")
    assert (said.code, alive(EAST)) == (2, [])
    assert "error: Manager gpu: None of " in said.err
    (project / "config" / "pool.gpu.env").write_text("PROVIDER=gcp\nPROJECT_ID=p\nQUEUE_URL=x\n")
    said = poe("deploy_pool", "--yes")
    assert "QUEUE_URL is the same for all managers" in said.err
    assert "Traceback" not in said.err
