"""Ways to bake the template: in this process (quick), and with its command line as a user would."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

from shared_lib.tests.conftest import lacking  # noqa: F401

TEMPLATE = Path(__file__).resolve().parents[1]
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())

#: What a command needs from this machine, and nothing that could steer a project by accident.
KEPT = ("PIP_", "UV_", "SSL_", "CURL_CA", "REQUESTS_CA")
#: uv's own words to the project it was started for; another project must not hear them.
NOT_KEPT = ("UV_PROJECT", "UV_FROZEN", "UV_LOCKED", "UV_NO_SYNC", "UV_RUN_RECURSION_DEPTH", "UV_ENV_FILE")


@pytest.fixture(scope="session")
def template():
    """The template's folder: this checkout."""
    return TEMPLATE


@pytest.fixture(scope="session")
def questions():
    """cookiecutter.json as data."""
    return QUESTIONS


@pytest.fixture(scope="session")
def clean_environment():
    """The environment of a fresh terminal: paths, certificates, proxies, package index; no git or cookiecutter settings."""

    def kept(name):
        if name.startswith(NOT_KEPT):
            return False
        return (
            name in ("PATH", "HOME") or name.startswith(KEPT) or name.lower().endswith("_proxy") or "CA_CERTS" in name
        )

    identity = {"NAME": "Somebody", "EMAIL": "somebody@example.org"}
    git = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in identity.items()}
    ours = {"LANG": "C.UTF-8", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **git}
    return {name: value for name, value in os.environ.items() if kept(name)} | ours


@pytest.fixture(scope="session")
def bake_in():
    """Return a function that bakes this checkout into a folder, in this process."""

    def _bake_in(folder, **answers):
        # cookiecutter ignores names it does not know, and the test would prove nothing.
        unknown = answers.keys() - QUESTIONS.keys()
        assert not unknown, f"not in cookiecutter.json: {unknown}"
        config = folder / "cookiecutterrc"
        config.write_text(f"replay_dir: {folder}/replay\ncookiecutters_dir: {folder}/clones\n")
        out = folder / "out"
        out.mkdir(exist_ok=True)
        # cookiecutter makes copies of hooks in the folder for temporary files, and leaves them there
        with tempfile.TemporaryDirectory() as copies, pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", copies)
            return Path(
                cookiecutter(
                    str(TEMPLATE), no_input=True, extra_context=answers, output_dir=str(out), config_file=str(config)
                )
            )

    return _bake_in


@pytest.fixture
def bake(bake_in, tmp_path):
    """Return a function that bakes the template with the given answers into ``tmp_path / "out"``."""
    return lambda **answers: bake_in(tmp_path, **answers)


@pytest.fixture(scope="session")
def run(clean_environment):
    """Return a function that runs a command in a folder with a clean environment and returns what it printed."""

    def _run(*command, folder, status=0, typed="", **environment):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=clean_environment | {"PWD": str(folder)} | {name: str(value) for name, value in environment.items()},
            input=typed,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return _run


@pytest.fixture(scope="session")
def uv():
    """The uv on the path; the README's first line installs it."""
    found = shutil.which("uv")
    assert found, "pip install uv"
    return found


@pytest.fixture(scope="module")
def extras():
    """The extras of the library that the project of ``synced`` has beyond those of a bake with the default answers; modules override it."""
    return ()


@pytest.fixture(scope="module")
def synced(bake_in, tmp_path_factory, run, uv, extras):
    """A project in an empty folder, synced; its packages are in uv's cache, and its environment serves copies of it as well."""
    project = bake_in(tmp_path_factory.mktemp("baked"), project_name="Parallel Addition", use_flow=True)
    if extras:
        run(uv, "add", f"taskfleet[{','.join(extras)}]", folder=project)
    run(uv, "sync", folder=project)
    return project


@pytest.fixture(scope="module")
def poe(synced, run, uv):
    """Return a function that types ``uv run poe …`` in the project."""
    return lambda *words, **how: run(uv, "run", "poe", *words, **{"folder": synced} | how)


@pytest.fixture(scope="session")
def cookiecutter_command():
    """The command line of cookiecutter, without questions."""
    return (sys.executable, "-m", "cookiecutter", "--no-input")


@pytest.fixture(scope="session")
def published(tmp_path_factory, run):
    """A git repository of what git would publish of this checkout, uncommitted work included."""
    copy = tmp_path_factory.mktemp("published") / "template"
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", folder=TEMPLATE).stdout
    for name in filter(None, listed.split("\0")):
        if (TEMPLATE / name).is_file():  # it may be deleted and still in the index
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TEMPLATE / name, copy / name)
    run("git", "init", "-q", "-b", "main", folder=copy)
    run("git", "add", "-A", folder=copy)
    run("git", "commit", "-q", "-m", "As it is now", folder=copy)
    return copy
