"""``poe deploy_pool`` reports obstacles in a sentence before it launches a machine."""

import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import boto3
import pytest
from taskfleet import cli
from taskfleet.api.deploying import folder_hint
from taskfleet.ledger.database import open_ledger
from taskfleet.machines import LaunchRequest
from taskfleet.pool import control, updates

from shared_lib.tests.machines.contract import offer
from shared_lib.tests.services.ec2 import Ec2
from shared_lib.tests.services.sqs import Sqs

REGION = "us-east-1"
TASK = "def run_task(n):\n    return n\n"


@pytest.fixture(scope="module")
def clouds():
    with Ec2() as ec2, Sqs() as others:
        yield SimpleNamespace(ec2=ec2, others=others)


@pytest.fixture
def project(tmp_path, monkeypatch, clouds):
    """A job of three tasks with valid settings."""
    folder = tmp_path / "sums"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "task.env").write_text("JOB_ID=sums\nQUEUE_URL=sqs://sums\nTASK_TABLE=tasks.json\n")
    (folder / "config" / "pool.env").write_text(
        f"PROVIDER=aws\nREGIONS={REGION}\nBUCKET=s3://code\nMARKETS=spot\nINSTANCE_PROFILE=worker\n"
    )
    (folder / "task.py").write_text(TASK)
    (folder / "run.py").write_text("")
    (folder / "pyproject.toml").write_text('[project]\nname = "sums"\nversion = "1"\n')
    (folder / "uv.lock").write_text("version = 1\n")
    (folder / "tasks.json").write_text('[{"n": 1}, {"n": 2}, {"n": 3}]')
    address = f"http://127.0.0.1:{clouds.others.port}"
    services = {"AWS_ENDPOINT_URL_SQS": address, "AWS_ENDPOINT_URL_S3": address}
    for name, value in (clouds.ec2.environment() | services).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code")
    iam = boto3.client("iam")
    if not iam.list_instance_profiles()["InstanceProfiles"]:
        iam.create_instance_profile(InstanceProfileName="worker")
    yield folder
    clouds.ec2.clear_faults()
    clouds.ec2.empty()


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

    assert run("insert_tasks").code == 0
    return run


def instances():
    return boto3.client("ec2").describe_instances()["Reservations"]


def test_everything_is_checked_before_the_confirmation(poe):
    said = poe("deploy_pool")
    assert said.code == 2
    assert "Code: " in said.out
    assert said.err.endswith(
        "error: Not an interactive terminal: add --yes to launch machines. No machine was launched.\n"
    )
    assert instances() == []


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["--bucket", ""], "BUCKET is not set: machines download", 2),
        (["--bucket", "s3://no-such-bucket"], "no-such-bucket", 2),
        (["--bucket", "gs://code"], "gs://code", 2),
        (["--code-from", "git"], "CODE_FROM=git needs GIT_URL", 2),
        (["--instance-types", "x9.*"], "None of ", 2),
        (["--regions", "mars-north-1"], "mars-north-1", 1),
        (
            ["--instance-profile", ""],
            "INSTANCE_PROFILE is not set: machines would have no permission to read the code in s3://code and to use the queue sqs://sums.",
            2,
        ),
        (["--instance-profile", "", "--code-from", "git"], "no permission to use the queue sqs://sums. Set", 2),
        (["--instance-profile", "none"], "INSTANCE_PROFILE=none, but with CODE_FROM=bundle machines read the code", 2),
        (
            ["--provider", "gcp", "--queue-url", "pubsub://p/sums", "--service-account", "none"],
            "SERVICE_ACCOUNT=none, but with CODE_FROM=bundle",
            2,
        ),
        (["--instance-types", "^c7i.*"], "expected patterns with * and ?, not regular expressions: write c7i*", 2),
        (["--exclude-instance-types", "c5|m5"], "not regular expressions: write c5 m5", 2),
        (["--special-hardware", "gpus"], "a list of gpu, fpga, accelerator, metal, high-memory", 2),
        (["--boot-disk-types", "st1"], "BOOT_DISK_TYPES: no machine of aws can boot from st1; the types are gp3,", 2),
        (
            ["--boot-disk-iops", "16000", "--boot-disk-types", "gp3"],
            "Boot disks: gp3: 16,000 IOPS need a disk of 32 GiB or more (500 IOPS per GiB), and the boot disk has 20 GiB.",
            2,
        ),
        (["--queue-url", "ledger"], "machines cannot access the ledger on this computer", 2),
        (["--before-worker", "none.sh"], "BEFORE_WORKER", 2),
        (["--instance-profile", "nobody"], "nobody", 1),  # one of several problems that the check reports
        (["--provider", "gcp", "--queue-url", "pubsub://p/sums", "--project-id", ""], "PROJECT_ID", 2),
    ],
)
def test_what_is_wrong_is_reported_in_a_sentence(poe, words, sentence, code, monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    said = poe("deploy_pool", "--yes", *words)
    assert said.code == code
    assert sentence in said.err, said.err
    assert "Traceback" not in said.err
    assert instances() == []


def test_what_limits_the_machines_is_part_of_the_plan(poe):
    said = poe("plan", "--exclude-instance-types", "c5.* x9.*")
    assert said.code == 0
    [slots] = re.findall(r"Chosen: .* slots? each, (\d+) in all", said.out)
    assert 3 <= int(slots) <= 4
    assert (
        "The size of machines is limited by the work: 3 tasks can use 3 slots; more slots in one machine do not"
        in said.out
    )
    assert "Note: EXCLUDE_INSTANCE_TYPES: no instance type matches x9.*." in said.out
    assert " c5." not in said.out
    said = poe("plan", "--tasks", "90000", "--hours-per-task", "0.0000001", "--machines", "1-50")
    assert "each keep 1 slot busy for the time that a machine takes to start" in said.out


def test_a_general_refusal_ends_the_pool_with_its_error(poe, clouds):
    clouds.ec2.refuse("*", "*", "InvalidSnapshot.NotFound", "The snapshot 'snap-1' does not exist.")
    said = poe("deploy_pool", "--yes")
    assert said.code == 1
    assert (
        "The pool gave up: AWS EC2 in us-east-1: The snapshot 'snap-1' does not exist. Set IMAGE to an image"
        in said.err
    )
    assert clouds.ec2.requests()["CreateFleet"] < 6
    assert instances() == []


def test_a_quota_that_is_too_small_for_every_offer_ends_the_pool(poe, clouds):
    clouds.ec2.quota("spot", 0)
    said = poe("deploy_pool", "--yes", "--instance-types", "c6i.large c6i.xlarge")
    assert said.code == 1
    assert "The pool gave up: the quota of this account is too small for every offer that fits (Max spot" in said.err
    assert instances() == []


def test_a_permission_that_is_missing_is_named(poe, clouds):
    clouds.ec2.deny("ec2:CreateFleet", "ec2:TerminateInstances")
    said = poe("deploy_pool", "--yes")
    clouds.ec2.deny()
    assert said.code == 1
    assert "Machines cannot be launched yet" in said.err
    assert "ec2:CreateFleet" in said.err
    assert "ec2:TerminateInstances" in said.err
    assert instances() == []


def test_a_queue_that_refuses_ends_the_watching_but_no_machine(poe, clouds):
    """Missing permissions of the queue do not terminate running machines, unlike those of the provider."""

    def refuse_once_there_is_a_machine():
        while not instances():
            time.sleep(0.05)
        clouds.others.fault("ReceiveMessage", code="AccessDenied", status=403, message="No.", times=None)

    refusing = threading.Thread(target=refuse_once_there_is_a_machine, daemon=True)
    refusing.start()
    said = poe("deploy_pool", "--yes")
    refusing.join()
    clouds.others.clear_faults()
    assert said.code == 1
    assert "these AWS credentials lack the permission sqs:ReceiveMessage" in said.err
    assert "gave up" not in said.err
    [[one]] = [found["Instances"] for found in instances()]
    assert one["State"]["Name"] in ("pending", "running")


def test_the_start_up_script_can_be_seen(poe, project):
    (project / "hook.sh").write_text("echo mine\n")
    said = poe("plan", "--show-start-up-script", "--before-worker", "hook.sh")
    assert said.code == 0
    assert said.out.startswith("#!/bin/bash")
    bash = shutil.which("bash")
    assert bash
    assert subprocess.run([bash, "-n"], input=said.out, text=True, check=False).returncode == 0


def test_the_status_knows_that_machines_boot_and_who_manages_them(poe, project):
    best = offer("c6i.large", "us-east-1a", usd=0.1)
    request = LaunchRequest(token="sums-1", number=1, offers=(best,), lifetime_seconds=3600.0)
    [path] = project.rglob("*.db")
    with closing(open_ledger(path, job_id="sums", project=project)) as ledger:
        updates.add_request(ledger, request, provider="aws", now=time.time() - 100)
        control.acquire(ledger, "elsewhere|1|1", time.time())
        said = poe("status").out
        assert "No worker is running yet. 1 machine has been booting for 1m 4" in said
        assert said.index("status --watch") < said.index("machines")
        assert "launch_worker" not in said
        assert "No worker is running yet" in poe("explain").out.replace("no worker", "No worker")
        control.release(ledger, "elsewhere|1|1")
    said = poe("status").out
    assert "The pool has no controller: a machine that fails is not replaced." in said
    assert "deploy_pool --continue" in said
    assert "launch_worker" not in said
    assert json.loads(poe("status", "--json").out)["booting"]["has_controller"] is False
    assert "has ended" not in poe("machines", "--console", "sums-1-1").out


def test_the_console_of_an_unknown_machine_is_an_error(poe):
    said = poe("machines", "--console", "i-0123456789abcdef0")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: Job sums has no machine 'i-0123456789abcdef0'. ")
    assert "machines --all" in said.err


def test_a_machine_s_console_comes_after_how_far_its_boot_came(poe, clouds):
    ec2 = boto3.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    [one] = ec2.run_instances(ImageId=image, InstanceType="c6i.large", MinCount=1, MaxCount=1)["Instances"]
    name = one["InstanceId"]
    assert poe("machines", "--console", name).out == f"Machine {name} has printed nothing yet.\n"
    console = (
        "[    0.000000] Linux version 6.8.0\n"
        "taskfleet-boot: 0.0 s  stage=uv  begun\n"
        "taskfleet-boot: 2.5 s  stage=uv  failed  code=1\n"
        "taskfleet-said: curl: (6) Could not resolve host\n"
    )
    clouds.ec2.console(name, console)
    said = poe("machines", "--console", name)
    assert said.err == ""
    assert said.out == (
        f"The start-up script failed in stage uv after 2.5 s (code=1): curl: (6) Could not resolve host.\n\n{console}\n"
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/results", ""),
        ("", r"RESULTS_PATH is not set: .* Set RESULTS_PATH to a bucket"),
        ("/home/me/results", r"RESULTS_PATH=/home/me/results is a folder: .* Set RESULTS_PATH to a bucket"),
    ],
)
def test_a_place_for_large_values_that_machines_cannot_reach_is_named(path, expected):
    assert re.match(expected or "$", folder_hint(path))
