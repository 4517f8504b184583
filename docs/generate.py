"""Generate docs/*.md, shared_lib/poe.toml, the template's config/task.env, templates/pool.*.env and installed_names.txt.

uv run poe generate            write the files
uv run poe generate --check    list the files that are out of date; exit with 1 if there are any

All files except installed_names.txt depend on the code only. For that list, uv resolves the dependencies of a project, from the network or,
without one, from its cache; `exclude-newer` in pyproject.toml makes the result reproducible.
"""

import ast
import contextlib
import importlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from taskfleet.clouds.permissions import Grant, Permission, Who
from taskfleet.machines.provider import PROVIDERS, load_provider
from taskfleet.settings.reference import pool_env, table, task_env
from taskfleet.terminal.registry import COMMANDS, Heading

ROOT = Path(__file__).resolve().parents[1]

VALUES = {
    "JOB_ID": "{{ cookiecutter.project_slug }}",
    "TASK_TABLE": "tasks.json",
    "MAX_RUNTIME_SECONDS": "600",
}
EXPORTS = """
# --- Your own variables ---
# The example in task.py reads these: a delay in seconds, and the probabilities (0 to 1) that it raises, hangs or crashes.
#export ADDITION_TASK_DELAY=1
#export ADDITION_EXCEPTION_PROBABILITY=0.01
#export ADDITION_TIMEOUT_PROBABILITY=0.001
#export ADDITION_EXIT_PROBABILITY=0.01
"""

SETTINGS_HEAD = """# Settings

Generated from the code by `poe generate`. Flags override environment variables, which override the files (`config/task.env`, or the
file named with `-e`, then `config/pool.env`), which override the defaults. An empty value means the default. Values are not expanded.
`export NAME=value` lines in the files are your own variables, which are passed to your tasks in their environment.
`config/task.NAME.env` and `config/pool.NAME.env` override them for functions with a manager ([graph.md](graph.md#managers)).

"""

COMMANDS_HEAD = """# Commands

Generated from the code by `poe generate`. Run them in a project's folder: `uv run poe COMMAND`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an error, described in one message |
| 2 | invalid usage or settings, a missing package, or a machine with different code from its worker's bundle |
| 130 | stopped with Ctrl-C |
"""

POE_HEAD = """# Generated from the code by `poe generate`. A project's pyproject.toml includes this file; its own tasks take precedence.
# A task passes all arguments to its command. For help: uv run poe status --help
# use_exec: the command replaces poe, which would kill it two seconds after Ctrl-C.
"""

#: Machines of a cloud cannot open the ledger.
QUEUE_SUGGESTION = """\
{%- if cookiecutter.provider == "aws" %}
#QUEUE_URL=sqs://{{ cookiecutter.__distribution }}
{%- elif cookiecutter.provider == "gcp" %}
#QUEUE_URL=pubsub://MY-PROJECT/{{ cookiecutter.__distribution }}
{%- elif cookiecutter.provider == "ssh" %}
#QUEUE_URL=postgresql://SERVER/DATABASE
{%- endif %}
"""

#: Variables of uv that refer to this repository's project, and must not affect another one.
NOT_PASSED_ON = ("UV_PROJECT", "UV_FROZEN", "UV_LOCKED", "UV_NO_SYNC", "UV_EXCLUDE_NEWER")
PERMISSIONS_HEAD = """# Permissions

Generated from the code by `poe generate`. The lists are complete: tests verify that the requests of the providers' SDKs during the whole
life of a job need exactly these permissions. A user who runs a pool needs the lists for pools and for queues; all others need one list.
Replace the names in braces: `{account}`, `{bucket}`, `{queue}` (of QUEUE_URL) and so on. Resources with `{queue}--` in their names are the
queues of managers ([graph.md](graph.md#managers)); at Google Cloud there are some for each manager. Missing permissions are reported before
machines are launched, as far as the provider allows it.

"""


def main() -> int:
    """Write or check the files; return 0, or 1 if a file is out of date or cannot be generated."""
    try:
        names = installed_names()
    except UnresolvedError as error:
        print(f"installed_names.txt cannot be generated or checked: {error}", file=sys.stderr)
        return 1
    wanted = {
        ROOT / "installed_names.txt": "".join(f"{name}\n" for name in names),
        ROOT / "docs" / "settings.md": SETTINGS_HEAD + table(),
        ROOT / "docs" / "commands.md": COMMANDS_HEAD + "".join(map(command_section, COMMANDS)),
        ROOT / "shared_lib" / "poe.toml": POE_HEAD + "".join(map(poe_group, Heading)),
        ROOT / "{{cookiecutter.project_slug}}" / "config" / "task.env": task_template(),
        **{ROOT / "templates" / f"pool.{name}.env": pool_env(name, {}) for name in PROVIDERS},
        ROOT / "docs" / "permissions.md": PERMISSIONS_HEAD + permissions_page(),
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


def task_template() -> str:
    """Return the template of config/task.env. Machines of a cloud need a queue service, so it suggests one for the chosen provider."""
    text = task_env(VALUES, EXPORTS)
    default = "#QUEUE_URL=ledger\n"
    assert default in text
    return text.replace(default, default + QUEUE_SUGGESTION)


def command_section(name: str) -> str:
    """Return the help of a command as a section."""
    os.environ["COLUMNS"] = "110"
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(f"taskfleet.commands.{name}").run(["--help"])
    return f"\n## {name}\n\n```\n{out.getvalue().strip()}\n```\n"


def poe_group(heading: Heading) -> str:
    """Return the poe tasks of the commands under a heading."""
    number = list(Heading).index(heading) + 1
    table = f"tool.poe.groups.{number}-{heading.lower()}"
    lines = ["", f"[{table}]", f'heading = "{heading}"', f"[{table}.tasks]"]
    lines += [
        f'{one.name} = {{ cmd = "{one.shell_command}", use_exec = true, help = "{one.help}" }}'
        for one in COMMANDS.values()
        if one.heading is heading
    ]
    return "\n".join(lines) + "\n"


class UnresolvedError(Exception):
    """uv cannot resolve what a project installs."""


def installed_names() -> list[str]:
    """Return the normalized names of all distributions that a project may install, on any Python and system it supports.

    Raises:
        UnresolvedError: uv is not installed, or finds no solution.
    """
    newest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["exclude-newer"]
    with tempfile.TemporaryDirectory() as folder:
        project = bake(Path(folder))
        with_every_extra(project)
        own = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        lock(project, newest)
        packages = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))["package"]
    return sorted({package["name"] for package in packages} - {own, "taskfleet"})


def bake(folder: Path) -> Path:
    """Create a project with the default answers, which include the oldest Python; return its folder."""
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


def with_every_extra(project: Path) -> None:
    """Have a project depend on all extras of the library: its user may add any of them later."""
    library = tomllib.loads((ROOT / "shared_lib" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = project / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    extras = ",".join(library["optional-dependencies"])
    changed = re.sub(r"^dependencies = .*$", f'dependencies = ["taskfleet[{extras}]"]', text, flags=re.MULTILINE)
    assert changed != text
    path.write_text(changed, encoding="utf-8")


def lock(project: Path, newest: str) -> None:
    """Resolve the dependencies of a project to its uv.lock, as of a date: from the network, otherwise from uv's cache."""
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
        f"uv cannot resolve the dependencies of a project.\nFrom the network:\n{errors[0]}\nFrom its cache:\n{errors[1]}"
    )


def permissions_page() -> str:
    """Return the permissions of each provider, by the kind of user who needs them."""
    lines = [f"- **{name}**: {sentence}".replace("``", "`") for name, sentence in sentences(Who)]
    for provider in map(load_provider, PROVIDERS):
        title, permissions = provider.title, provider.permissions
        if permissions is None:
            continue
        lines += ["", f"## {title}"]
        for who in Who:
            if found := permissions.of(who=who):
                lines += ["", f"### {title}: {who}", "", *permission_table(found, who)]
    return "\n".join(lines) + "\n"


def permission_table(found: tuple[Permission, ...], who: Who) -> Iterator[str]:
    """Yield the lines of a table of permissions: one for each resource, or group of resources, with its own condition."""
    has_roles = any(one.role for one in found)
    heads = ["permission", "resource", "condition", "purpose", *(["role that includes it"] if has_roles else [])]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for one in found:
        for grant in (grant for grant in one.grants if who in grant.who):
            resources = "<br>".join("all" if each == "*" else f"`{each}`" for each in grant.on)
            cells = [
                f"`{one.name}`",
                resources,
                narrowing(grant),
                grant.purpose or one.purpose,
                *([grant.role or one.role] if has_roles else []),
            ]
            yield f"| {' | '.join(cells)} |"


def narrowing(grant: Grant) -> str:
    """Return the condition under which a permission is needed, and the condition that restricts it."""
    parts = [f"if {grant.condition.text}"] if grant.condition else []
    parts += [f"only if {grant.only_if}"] if grant.only_if else []
    return "; ".join(parts)


def sentences(enum: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """Yield the values of an enum, each with its docstring."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(enum))).body
    assert isinstance(definition, ast.ClassDef)
    for member, sentence in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(sentence, ast.Expr):
            yield ast.literal_eval(member.value), " ".join(ast.literal_eval(sentence.value).split())


if __name__ == "__main__":
    sys.exit(main())
