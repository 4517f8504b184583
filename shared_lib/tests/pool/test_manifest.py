"""A worker on a machine runs the code it was sent to run, or refuses to start: real bundles, unpacked, and then not left alone."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from taskfleet.errors import WrongCodeError
from taskfleet.pool.bundle import pack
from taskfleet.pool.manifest import MANIFEST, check_code

FILES = {
    "pyproject.toml": "[project]\nname = 'one'\nversion = '0'\n",
    "uv.lock": "version = 1\n",
    "config/task.env": "JOB_ID=one\nSLOTS=1\n",
    "task.py": "def run_task(n):\n    return n + 1\n",
    "tasks.csv": "n\n1\n2\n",
    "script.sh": "#!/bin/sh\n",
    os.fsdecode(b"caf\xe9.txt"): "",
    "two\nlines.txt": "2",
}
#: What a machine makes in the folder: an environment, caches, ledgers, data, and a note of one's own.
MADE = (
    ".venv/bin/python",
    "__pycache__/task.pyc",
    "jobs/one.db",
    "data/large.bin",
    ".taskfleet/notes.txt",
    "results.csv",
)


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    project = write(tmp_path_factory.mktemp("project"), FILES)
    (project / "latest").symlink_to("tasks.csv")
    return pack(project, tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def machine(bundle, tmp_path):
    """The folder that a machine has unpacked it into, as the start-up script does."""
    folder = tmp_path / "machine"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", bundle.path, "-C", folder, "--no-same-owner"], check=True)
    return folder


def fault(folder, given):
    """What is said of the code in a folder, behind the hash that was expected."""
    with pytest.raises(WrongCodeError) as caught:
        check_code(folder, {"TASKFLEET_BUNDLE": given})
    text = str(caught.value)
    start = f"{folder} does not contain the code of bundle {given[:12]}: "
    assert text.startswith(start)
    assert text.endswith(". Scripts on machines can add files to a project, but must not change its files.")
    assert "\n" not in text or "two\nlines" in text
    return text.removeprefix(start).partition(". Scripts")[0]


def test_what_was_unpacked_from_the_bundle_is_its_code_whatever_was_made_beside_it(bundle, machine):
    check_code(machine, {"TASKFLEET_BUNDLE": bundle.hash})
    write(machine, dict.fromkeys(MADE, "made"))
    (machine / "script.sh").chmod(0o755)
    shutil.move(machine / "config", machine.parent / "config")
    (machine / "config").symlink_to(machine.parent / "config")  # moved to another disk
    check_code(machine, {"TASKFLEET_BUNDLE": bundle.hash})


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_or_taken_away_is_named(bundle, machine, name):
    with (machine / name).open("a") as file:
        file.write(" ")
    assert fault(machine, bundle.hash) == f"{name} was changed"
    (machine / name).unlink()
    assert fault(machine, bundle.hash) == f"{name} is missing"
    (machine / name).mkdir()
    assert fault(machine, bundle.hash) == f"{name} cannot be read (Is a directory)"


def test_a_link_has_to_lead_where_it_led(bundle, machine):
    (machine / "latest").unlink()
    assert fault(machine, bundle.hash) == "latest was changed"
    (machine / "latest").write_text(FILES["tasks.csv"])
    assert fault(machine, bundle.hash) == "latest was changed"
    (machine / "latest").unlink()
    (machine / "latest").symlink_to("task.py")
    assert fault(machine, bundle.hash) == "latest was changed"


def test_of_several_faults_the_first_is_named_and_the_others_are_counted(bundle, machine):
    (machine / "task.py").unlink()
    (machine / "tasks.csv").write_text("")
    (machine / "config" / "task.env").write_text("JOB_ID=two\n")
    assert fault(machine, bundle.hash) == "config/task.env was changed, and 2 more"


def test_half_an_archive_is_not_the_code(bundle, tmp_path):
    """Its last file is the list of files, so that what stops half-way has none."""
    (tmp_path / "half.tar.gz").write_bytes(bundle.path.read_bytes()[: bundle.size_bytes // 2])
    folder = tmp_path / "half"
    folder.mkdir()
    done = subprocess.run(["tar", "-xzf", tmp_path / "half.tar.gz", "-C", folder], capture_output=True)
    assert done.returncode != 0
    assert fault(folder, bundle.hash) == f"it was not unpacked from a bundle, {MANIFEST} is missing"


def test_the_code_of_another_bundle_is_told_by_its_hash(bundle, machine, tmp_path):
    other = pack(write(tmp_path / "other", FILES | {"task.py": "def run_task(n):\n    return n\n"}), tmp_path)
    assert fault(machine, other.hash) == f"it contains bundle {bundle.hash[:12]}"
    (machine / MANIFEST).write_bytes((machine / MANIFEST).read_bytes() + b'["more.py", "file", ""]\n')
    assert fault(machine, bundle.hash).startswith("it contains bundle ")


@pytest.mark.parametrize("given", [{}, {"TASKFLEET_BUNDLE": ""}, {"TASKFLEET_BUNDLE": "git:0123"}])
def test_a_worker_that_came_without_a_bundle_is_not_asked_for_one(tmp_path, given):
    check_code(tmp_path, given)


def test_a_worker_starts_with_its_code_and_refuses_with_any_other(bundle, machine, tmp_path):
    """The command line, as the start-up script runs it."""

    def run(*words, **environment):
        usual = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-m", "taskfleet", *words],
            cwd=machine,
            env=usual | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    assert run("insert_tasks", "--task-table", "tasks.csv").returncode == 0
    (machine / "task.py").write_text("def run_task(n):\n    return n\n")
    refused = run("launch_worker", TASKFLEET_BUNDLE=bundle.hash)
    assert refused.returncode == 2
    assert refused.stdout == ""
    [line] = refused.stderr.splitlines()
    assert line.startswith(
        f"error: {machine} does not contain the code of bundle {bundle.hash[:12]}: task.py was changed."
    )
    (machine / "task.py").write_text(FILES["task.py"])
    started = run("launch_worker", TASKFLEET_BUNDLE=bundle.hash)
    assert started.returncode == 0, started.stderr
    assert run("results", "-o", str(tmp_path / "results.json")).returncode == 0
    results = {one["n"]: one["result"] for one in json.loads((tmp_path / "results.json").read_text())}
    assert results == {1: 2, 2: 3}
