"""``poe deploy_pool`` reports obstacles in a sentence before it launches a machine."""

import shutil
import subprocess
import threading
import time
from types import SimpleNamespace

import boto3
import pytest
from taskfleet import cli

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
    (folder / "config" / "pool.env").write_text(f"PROVIDER=aws\nREGIONS={REGION}\nBUCKET=s3://code\nMARKETS=spot\n")
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
    monkeypatch.delenv("POE_PWD", raising=False)
    monkeypatch.chdir(folder)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code")
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


def test_a_machine_s_console_comes_after_how_far_its_boot_came(poe, clouds):
    ec2 = boto3.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    [one] = ec2.run_instances(ImageId=image, InstanceType="c6i.large", MinCount=1, MaxCount=1)["Instances"]
    name = one["InstanceId"]
    assert poe("machines", "--console", name).out.startswith(f"There is no console output of machine {name} yet")
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
