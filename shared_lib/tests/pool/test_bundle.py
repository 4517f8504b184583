"""The project as a bundle: what is in it, what is not, what it is called, and what is said of a project that cannot be packed."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import time

import pytest
from taskfleet.errors import BundleError
from taskfleet.pool.bundle import pack
from taskfleet.pool.manifest import MANIFEST

FILES = {
    "task.py": "def run_task(n): return n\n",
    "run.py": "from taskfleet import launch_worker\n",
    "pyproject.toml": "[project]\nname = 'one'\nversion = '0'\n",
    "uv.lock": 'version = 1\n[[package]]\nname = "taskfleet"\nsource = { editable = "shared_lib" }\n',
    "config/task.env": "JOB_ID=one\nexport MAX_TOKENS=17\n",
    "config/pool.env": "#PROVIDER=aws\n",
    "shared_lib/pyproject.toml": "[project]\n",
    "shared_lib/src/taskfleet/__init__.py": "",
    "über die Daten.txt": "ä",
    ".gitignore": "/data/\n*.log\n",
}
NOT_PACKED = {
    ".venv/lib/python3/site-packages/x.py": "",
    "jobs/one.db": "ledger",
    "results.feather": "results",
    "results/one.txt": "results",
    "__pycache__/task.pyc": "",
    "shared_lib/src/taskfleet/__pycache__/x.pyc": "",
    ".pytest_cache/x": "",
    ".DS_Store": "",
}
IGNORED = {"data/large.bin": "0", "run.log": "said"}
SECRETS = {
    ".env": "KEY=1",
    ".env.local": "KEY=1",
    "certificates/server.pem": "x",
    ".aws/credentials": "x",
    "deploy/account.json": '{"private_key": "-----BEGIN PRIVATE KEY-----"}',
    "id_ed25519": "x",
}
NO_SECRETS = {".env.example": "KEY=", "id_ed25519.pub": "ssh-ed25519 AAAA", "tokens.py": "TOKEN = None\n"}


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def project(tmp_path):
    return write(tmp_path / "project", FILES | NOT_PACKED | IGNORED | SECRETS | NO_SECRETS)


def git(folder, *words):
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env=environment)


def names_in(bundle):
    """The project's files that are in a bundle, without the list of them."""
    with tarfile.open(bundle.path) as tar:
        *names, manifest = tar.getnames()
    assert manifest == MANIFEST
    assert MANIFEST not in names
    return set(names)


def refused(project, tmp_path, **options):
    with pytest.raises(BundleError) as caught:
        pack(project, tmp_path / "bundles", **options)
    assert not (tmp_path / "bundles").exists() or not list((tmp_path / "bundles").iterdir())
    return str(caught.value)


@pytest.mark.parametrize("place", ["a repository", "within a repository", "ignored by a repository", "no repository"])
def test_what_is_packed_is_what_git_would_keep_but_no_secrets_and_nothing_made(project, tmp_path, place):
    match place:
        case "a repository":
            git(project, "init", "-q")
            git(project, "add", "task.py", "uv.lock", "data", ".venv", "-f")
        case "within a repository":
            git(tmp_path, "init", "-q")
        case "ignored by a repository":
            git(tmp_path, "init", "-q")
            (tmp_path / ".gitignore").write_text("project/\n")
    bundle = pack(project, tmp_path / "bundles")
    tracked = {"data/large.bin"} if place == "a repository" else set()  # somebody has added it on purpose
    assert names_in(bundle) == {*FILES, *NO_SECRETS, *tracked}
    assert set(bundle.left_out) == set(SECRETS)
    assert bundle.files == len(FILES) + len(NO_SECRETS) + len(tracked)
    assert bundle.path.name == bundle.name == f"{bundle.hash}.tar.gz"


def test_a_bundle_is_named_by_the_hash_of_the_list_of_its_files(project, tmp_path):
    (project / "link").symlink_to("task.py")
    (project / "run.py").chmod(0o755)
    bundle = pack(project, tmp_path / "bundles")
    with tarfile.open(bundle.path) as tar:
        manifest = tar.extractfile(MANIFEST).read()
        *entries, _ = tar.getmembers()
        contents = [b"task.py" if one.issym() else tar.extractfile(one).read() for one in entries]
    assert bundle.hash == hashlib.sha256(manifest).hexdigest()
    kinds = {"link": "link", "run.py": "program"}
    assert [json.loads(line) for line in manifest.splitlines()] == [
        [entry.name, kinds.get(entry.name, "file"), hashlib.sha256(content).hexdigest()]
        for entry, content in zip(entries, contents, strict=True)
    ]


def test_a_project_that_was_unpacked_from_a_bundle_is_packed_into_the_same_one(project, tmp_path):
    bundle = pack(project, tmp_path / "bundles")
    with tarfile.open(bundle.path) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # before Python 3.11.4 there is none
        tar.extractall(tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / MANIFEST).is_file()
    assert pack(tmp_path / "unpacked", tmp_path / "again").hash == bundle.hash


def test_without_git_all_is_packed_that_is_neither_made_nor_secret(project, tmp_path, monkeypatch):
    write(project, {"my environment/pyvenv.cfg": "", "my environment/lib/x.py": ""})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names_in(pack(project, tmp_path / "bundles")) == {*FILES, *NO_SECRETS, *IGNORED}


def test_what_every_worker_needs_is_packed_even_if_git_ignores_it(project, tmp_path):
    (project / ".gitignore").write_text("*.env\nuv.lock\n")
    git(project, "init", "-q")
    assert {"uv.lock", "config/task.env", "config/pool.env"} <= names_in(pack(project, tmp_path / "bundles"))


def test_a_repository_within_the_project_is_packed(project, tmp_path):
    git(project, "init", "-q")
    inner = write(project / "libs" / "inner", {"a.py": "", "made.log": "", ".gitignore": "*.log\n"})
    git(inner, "init", "-q")
    packed = names_in(pack(project, tmp_path / "bundles"))
    assert {name for name in packed if name.startswith("libs/")} == {"libs/inner/a.py", "libs/inner/.gitignore"}


def test_the_same_content_has_the_same_name_and_other_content_another(project, tmp_path):
    first = pack(project, tmp_path / "bundles")
    shutil.copytree(project, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*"):
        os.utime(path, (1e9, 1e9))
        if path.is_file():
            path.chmod(0o600)
    time.sleep(0.01)
    again = pack(tmp_path / "elsewhere", tmp_path / "others")
    assert again.path.read_bytes() == first.path.read_bytes()
    assert again.hash == first.hash
    with tarfile.open(first.path) as tar:
        *entries, manifest = tar.getmembers()
    assert [entry.name for entry in entries] == sorted((entry.name for entry in entries), key=os.fsencode)
    assert {
        (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime, entry.mode) for entry in (*entries, manifest)
    } == {(0, 0, "", "", 946_684_800, 0o644)}
    (project / "task.py").write_text(FILES["task.py"] + "\n")
    assert pack(project, tmp_path / "bundles").hash != first.hash
    (project / "task.py").write_text(FILES["task.py"])
    (project / "run.py").chmod(0o755)
    assert pack(project, tmp_path / "bundles").hash != first.hash


def test_what_is_to_be_left_out_is_left_out(project, tmp_path):
    write(project, {"ledgers/one.db": "x", "events.jsonl": "x"})
    bundle = pack(
        project, project / "bundles", leave_out=[project / "ledgers", project / "events.jsonl", project / "bundles"]
    )
    assert names_in(bundle) == {*FILES, *NO_SECRETS}
    again = pack(
        project, project / "bundles", leave_out=[project / "ledgers", project / "events.jsonl", project / "bundles"]
    )
    assert again.hash == bundle.hash


def test_a_link_within_the_project_stays_one_and_one_that_leads_out_is_refused(project, tmp_path):
    (project / "link").symlink_to("config/task.env")
    with tarfile.open(pack(project, tmp_path / "good").path) as tar:
        assert tar.getmember("link").linkname == "config/task.env"
    (tmp_path / "outside").mkdir()
    (project / "data2").symlink_to("../outside")
    assert "data2 is a link to ../outside, which is not in the project" in refused(project, tmp_path)


def test_a_missing_lock_is_one_sentence_that_says_what_to_do(project, tmp_path):
    (project / "uv.lock").unlink()
    assert re.fullmatch(
        r"There is no uv\.lock in .*project, which lists .* Create it: uv lock", refused(project, tmp_path)
    )


def test_a_dependency_out_of_the_project_is_refused(project, tmp_path):
    (project / "uv.lock").write_text('[[package]]\nname = "mine"\nsource = { editable = "../mine" }\n')
    assert "The project depends on mine in ../mine, which is outside of its folder" in refused(project, tmp_path)


def test_a_project_that_is_too_large_is_refused_with_its_largest_files(project, tmp_path):
    (project / "images.bin").write_bytes(bytes(3 << 20))
    (project / "more.bin").write_bytes(bytes(1 << 20))
    said = refused(project, tmp_path, max_mib=2)
    lines = said.splitlines()
    assert "has 4 MiB; a bundle can have at most 2 MiB" in lines[0]
    assert lines[1].split() == ["3.0", "MiB", "images.bin"]
    assert lines[2].split() == ["1.0", "MiB", "more.bin"]


def test_a_secret_among_the_settings_is_refused_with_its_line_and_not_shown(project, tmp_path):
    (project / "config" / "task.env").write_text("JOB_ID=one\nexport MY_API_KEY=hunter2\n")
    said = refused(project, tmp_path)
    assert said.startswith("config/task.env, line 2: MY_API_KEY ")
    assert "hunter2" not in said
    (project / "config" / "task.env").write_text("QUEUE_URL=postgresql://me:hunter2@host/queue\n")
    said = refused(project, tmp_path)
    assert said.startswith("config/task.env, line 1: QUEUE_URL ")
    assert "hunter2" not in said
    (project / "config" / "task.env").write_text(
        "QUEUE_URL=postgresql://me@host/queue\nexport MY_API_KEY=\n#MY_TOKEN=x\n"
    )
    pack(project, tmp_path / "good")


@pytest.mark.usefixtures("permissions")
def test_a_file_that_cannot_be_read_is_named(project, tmp_path):
    (project / "locked.txt").touch(0o000)
    assert "locked.txt cannot be read (Permission denied)" in refused(project, tmp_path)
