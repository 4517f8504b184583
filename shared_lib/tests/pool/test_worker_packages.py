"""Machines install what a worker imports: computed from a lock, and tried out with workers that can import nothing else."""

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from taskfleet.errors import BundleError, MissingPackageError
from taskfleet.extras import OPTIONAL_PACKAGES
from taskfleet.pool.worker_packages import read_lock, unneeded_packages
from taskfleet.queues.addresses import sdk_of

from shared_lib.tests.queues.services.postgresql import PostgresqlService
from shared_lib.tests.queues.services.pubsub import PubSubService
from shared_lib.tests.queues.services.sqs import SqsService

SERVICES = {"sqs": SqsService, "pubsub": PubSubService, "postgresql": PostgresqlService}
ROOT = Path(__file__).resolve().parents[3]

#: A lock as uv writes it, shortened.
LOCK = """
version = 1
[[package]]
name = "mine"
source = { virtual = "." }
dependencies = [{ name = "taskfleet", extra = ["aws", "gcp", "pandas", "postgresql"] }OWN]
[package.dev-dependencies]
dev = [{ name = "taskfleet", extra = ["poe"] }, { name = "pytest" }]
MORE
[[package]]
name = "taskfleet"
source = { editable = "shared_lib" }
dependencies = [{ name = "pyarrow" }, { name = "python-dotenv" }, { name = "pyyaml" }]
[package.optional-dependencies]
aws = [{ name = "botocore" }]
gcp = [{ name = "google-cloud-compute" }, { name = "google-cloud-pubsub" }, { name = "requests" }]
pandas = [{ name = "pandas" }]
poe = [{ name = "poethepoet" }]
postgresql = [{ name = "psycopg", extra = ["binary"] }]
[[package]]
name = "botocore"
dependencies = [{ name = "urllib3" }]
[[package]]
name = "google-cloud-compute"
dependencies = [{ name = "grpcio" }, { name = "proto-plus" }]
[[package]]
name = "google-cloud-pubsub"
dependencies = [{ name = "grpcio" }, { name = "requests" }]
[[package]]
name = "requests"
dependencies = [{ name = "urllib3" }]
[[package]]
name = "psycopg"
dependencies = [{ name = "typing-extensions" }]
[package.optional-dependencies]
binary = [{ name = "psycopg-binary" }]
[[package]]
name = "pandas"
dependencies = [{ name = "numpy", version = "1" }, { name = "numpy", version = "2" }]
[[package]]
name = "numpy"
version = "1"
[[package]]
name = "numpy"
version = "2"
dependencies = [{ name = "pandas" }]
"""
EVERYTHING = {
    *("taskfleet", "pyarrow", "python-dotenv", "pyyaml", "botocore", "urllib3", "google-cloud-compute", "grpcio"),
    *("proto-plus", "google-cloud-pubsub", "requests", "psycopg", "psycopg-binary", "typing-extensions", "pandas"),
    "numpy",
}


@pytest.fixture
def needed(tmp_path):
    """Returns what machines install: ``needed(services, own, more)``, with other dependencies and groups in the lock."""

    def needed(services, own="", more=""):
        (tmp_path / "uv.lock").write_text(LOCK.replace("OWN", own).replace("MORE", more))
        unneeded = unneeded_packages(read_lock(tmp_path), services)
        assert list(unneeded) == sorted(unneeded)
        assert set(unneeded) <= EVERYTHING
        return EVERYTHING - set(unneeded)

    return needed


def test_a_worker_needs_the_package_for_its_queue_service(needed):
    assert needed(["botocore"]) == {"taskfleet", "python-dotenv", "botocore", "urllib3"}
    assert needed(["google-cloud-pubsub"]) == {
        *("taskfleet", "python-dotenv", "google-cloud-pubsub", "grpcio", "requests", "urllib3")
    }
    postgresql = {"taskfleet", "python-dotenv", "psycopg", "psycopg-binary", "typing-extensions"}
    assert needed(["psycopg"]) == postgresql
    every = postgresql | {"botocore", "urllib3", "google-cloud-pubsub", "grpcio", "requests"}
    assert needed([]) == every


def test_whatever_the_project_depends_on_is_installed(needed):
    base = {"taskfleet", "python-dotenv", "botocore", "urllib3"}
    sqs = ["botocore"]
    assert needed(sqs, ', { name = "numpy" }') == base | {"numpy", "pandas"}
    assert needed(sqs, ', { name = "psycopg" }') == base | {"psycopg", "typing-extensions"}
    group = 'more = [{ name = "requests" }]'
    assert needed(sqs, more=group) == base | {"requests", "urllib3"}


def test_machines_compute_it_with_the_vendored_library_before_anything_is_installed(tmp_path):
    def run(*words, folder=tmp_path):
        command = [sys.executable, "-S", "-m", "taskfleet.pool.worker_packages", *words]
        environment = {"PYTHONPATH": str(ROOT / "shared_lib" / "src")}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    (tmp_path / "uv.lock").write_text(LOCK.replace("OWN", "").replace("MORE", ""))
    for services in (["botocore"], []):
        done = run(*services)
        words = [
            word for one in unneeded_packages(read_lock(tmp_path), services) for word in ("--no-install-package", one)
        ]
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, words, "")
    (tmp_path / "other").mkdir()
    done = run(folder=tmp_path / "other")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("There is no uv.lock in ")


def test_a_lock_without_the_package_for_the_queue_service_is_an_error(tmp_path):
    (tmp_path / "uv.lock").write_text(LOCK.replace("OWN", "").replace("MORE", "").replace(', "postgresql"', ""))
    with pytest.raises(MissingPackageError, match=r"psycopg.*uv add 'taskfleet\[postgresql\]'"):
        unneeded_packages(read_lock(tmp_path), ["psycopg"])


@pytest.mark.parametrize("content", [None, "not TOML", b"\xff"], ids=["missing", "no TOML", "no UTF-8"])
def test_a_lock_that_cannot_be_read_is_an_error(tmp_path, content):
    if content is not None:
        (tmp_path / "uv.lock").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BundleError, match="uv lock"):
        read_lock(tmp_path)


#: Executed by Python when it starts: modules in these files cannot be found, as if their packages were not installed.
BLOCKER = """
import json, os, sys
from importlib.machinery import PathFinder

with open(os.environ["BLOCKED_FILES"]) as file:
    BLOCKED = frozenset(json.load(file))

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker)
"""


def files_of(names):
    """The files of packages that are installed here."""
    found = []
    for name in names:
        try:
            installed = distribution(name)
        except ModuleNotFoundError:  # not on this system
            continue
        found += [str(installed.locate_file(file)) for file in installed.files or ()]
    return found


@pytest.fixture(params=SERVICES)
def service(request, lacking):
    service = SERVICES[request.param]()
    try:
        service.start()
    except FileNotFoundError as error:
        lacking(str(error))
    yield service
    service.stop()


@pytest.mark.slow
def test_a_worker_runs_without_the_packages_that_machines_do_not_install(service, tmp_path):
    folder, blocker = tmp_path / "project", tmp_path / "blocker"
    (folder / "config").mkdir(parents=True)
    queue_url = service.queue_url("few-packages")
    (folder / "config" / "task.env").write_text(
        f"JOB_ID=few-packages\nQUEUE_URL={queue_url}\nTASK_TABLE=tasks.json\nSLOTS=2\nIDLE_SECONDS=3\n"
    )
    (folder / "tasks.json").write_text(json.dumps([{"n": n} for n in range(20)]))
    (folder / "task.py").write_text(
        "def run_task(n):\n    try:\n        import pyarrow\n    except ModuleNotFoundError:\n        return n + 1\n"
    )
    lock = [{key: value for key, value in one.items() if key != "dev-dependencies"} for one in read_lock(ROOT)]
    unneeded = unneeded_packages(lock, [OPTIONAL_PACKAGES[sdk_of(queue_url)].distribution])
    assert {"pandas", "pyarrow", "pyyaml", "tqdm"} <= set(unneeded)
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER)
    (blocker / "files.json").write_text(json.dumps(files_of(unneeded)))

    def run(*words, **environment):
        usual = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | service.environment()
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *words],
            cwd=folder,
            env=usual | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("insert_tasks")
    run("launch_worker", PYTHONPATH=str(blocker), BLOCKED_FILES=str(blocker / "files.json"))
    run("monitor")
    run("results", "-o", "results.json")
    assert {one["result"] for one in json.loads((folder / "results.json").read_text())} == set(range(1, 21))
