"""Write what is made from the code: docs/settings.md, docs/commands.md, the template's config/*.env and installed_names.txt.

uv run poe generate            write them
uv run poe generate --check    say which are out of date, exit with 1 if any is

Everything but installed_names.txt is made from the code alone. For that list uv resolves what a project installs, from the network or,
where there is none, from its cache; `exclude-newer` in pyproject.toml makes the answer the same on every day.
"""

import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from taskfleet.cli import COMMANDS
from taskfleet.settings.reference import pool_env, table, task_env

ROOT = Path(__file__).resolve().parents[1]

VALUES = {
    "JOB_ID": "{{ cookiecutter.project_slug }}",
    "TASK_TABLE": "tasks.json",
    "MAX_RUNTIME_SECONDS": "600",
}
EXPORTS = """
# --- Your own variables ---
# The example in task.py reads these: a delay in seconds, and how often (0 to 1) it raises, hangs or crashes.
#export ADDITION_TASK_DELAY=1
#export ADDITION_EXCEPTION_PROBABILITY=0.01
#export ADDITION_TIMEOUT_PROBABILITY=0.001
#export ADDITION_EXIT_PROBABILITY=0.01
"""

SETTINGS_HEAD = """# Settings

Made from the code by `poe generate`. A setting is read from the command line (its flag), else from the environment, else from the
`.env` file (`config/task.env`, or the one named with `-e`), else it has its default. An empty value means the default. Nothing is
expanded in values. Lines `export NAME=value` in the file are your own variables: they are put into the environment of your tasks.

"""

COMMANDS_HEAD = """# Commands

Made from the code by `poe generate`. In a project, type `uv run poe COMMAND`. Exit codes: 0 done, 1 something is wrong and said in one
message, 2 the command line is not understood (or a machine holds other code than its worker was sent with), 130 stopped with Ctrl-C.
"""

#: What uv has in the environment of commands it starts that is about this repository's project.
NOT_PASSED_ON = ("UV_PROJECT", "UV_FROZEN", "UV_LOCKED", "UV_NO_SYNC", "UV_EXCLUDE_NEWER")


def main() -> int:
    """Write or check the files; 0 when all is well, 1 when a file is out of date or cannot be made."""
    try:
        names = installed_names()
    except UnresolvedError as error:
        print(f"installed_names.txt cannot be made or checked: {error}", file=sys.stderr)
        return 1
    wanted = {
        ROOT / "installed_names.txt": "".join(f"{name}\n" for name in names),
        ROOT / "docs" / "settings.md": SETTINGS_HEAD + table(),
        ROOT / "docs" / "commands.md": COMMANDS_HEAD + "".join(map(command_section, COMMANDS)),
        ROOT / "{{cookiecutter.project_slug}}" / "config" / "task.env": task_env(VALUES, EXPORTS),
        ROOT / "{{cookiecutter.project_slug}}" / "config" / "pool.env": pool_env("local", {}),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: uv run poe generate", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


def command_section(name: str) -> str:
    """Give a command's help as a section."""
    os.environ["COLUMNS"] = "110"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(f"taskfleet.commands.{name}").run(["--help"])
    return f"\n## {name}\n\n```\n{out.getvalue().strip()}\n```\n"


class UnresolvedError(Exception):
    """uv cannot resolve what a project installs."""


def installed_names() -> list[str]:
    """Return the normalized names of all distributions that a project may install, on any Python and system it supports.

    Raises:
        UnresolvedError: uv is not there, or finds no solution.
    """
    newest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["exclude-newer"]
    with tempfile.TemporaryDirectory() as folder:
        project = bake(Path(folder))
        own = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        lock(project, newest)
        packages = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))["package"]
    return sorted({package["name"] for package in packages} - {own, "taskfleet"})


def bake(folder: Path) -> Path:
    """Bake a project with the usual answers, of which the first Python is the oldest; return its folder."""
    config = folder / "cookiecutterrc"
    config.write_text(f"replay_dir: {folder}/replay\ncookiecutters_dir: {folder}/clones\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        "--no-input",
        "--config-file",
        str(config),
        "-o",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(
        [*command, "project_slug=names"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    return folder / "names"


def lock(project: Path, newest: str) -> None:
    """Resolve a project's packages into its uv.lock, as of a date: from the network, else from uv's cache."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise UnresolvedError("uv is not on the path. Install it: pip install uv")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}
    command = [uv, "lock", "--quiet", "--exclude-newer", newest]
    errors = []
    for more in ([], ["--offline"]):
        done = subprocess.run(
            [*command, *more], cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        errors.append(done.stderr.strip())
    raise UnresolvedError(
        f"uv resolves no project's packages.\nFrom the network:\n{errors[0]}\nFrom its cache:\n{errors[1]}"
    )


if __name__ == "__main__":
    sys.exit(main())
