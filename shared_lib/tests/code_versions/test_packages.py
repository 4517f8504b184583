"""The versions of Python and of packages that workers have."""

import platform
import subprocess
import sys
from importlib import metadata

from taskfleet.code_versions.packages import installed_packages
from taskfleet.ledger import environments, leasing
from taskfleet.ledger.database import create


def test_the_names_of_folders_say_what_the_metadata_say():
    found = installed_packages()
    assert found["python"] == platform.python_version()
    for name in ("numpy", "pyarrow", "python-dotenv", "pytest"):
        assert found[name] == metadata.version(name)
    assert list(found)[1:] == sorted(list(found)[1:])


def test_what_is_first_on_the_path_counts(tmp_path):
    for number in (1, 2):
        (tmp_path / str(number) / f"Some_Thing-{number}.0.dist-info").mkdir(parents=True)
    (tmp_path / "1" / "notes.txt").touch()
    code = "from taskfleet.code_versions.packages import installed_packages as f; print(f()['some-thing'], len(f()))"
    environment = {"PYTHONPATH": f"{tmp_path / '1'}:{tmp_path / '2'}:{tmp_path / 'none'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", str(len(installed_packages()) + 1)]


def test_a_ledger_has_each_set_of_packages_once(tmp_path):
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    workers = [
        leasing.register(database, hostname="h", process=f"p{n}", pid=1, slots=1, lease_seconds=1.0, now=0.0)
        for n in range(4)
    ]
    for worker_id in workers[:2]:
        environments.set_environment(database, worker_id, {"python": "3.11.7", "numpy": "2.0"})
    environments.set_environment(database, workers[2], {"numpy": "2.1", "python": "3.11.7"})
    found = [environments.packages_of(database, worker_id) for worker_id in workers]
    assert found == [
        {"python": "3.11.7", "numpy": "2.0"},
        {"python": "3.11.7", "numpy": "2.0"},
        {"python": "3.11.7", "numpy": "2.1"},
        None,
    ]
    assert database.value("SELECT count(*) FROM environment") == 2
    database.close()
