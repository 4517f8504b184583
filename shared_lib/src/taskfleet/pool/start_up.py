"""The start-up script of machines, generated from ``start_up.sh`` and ``on_machine.py`` in this folder.

``boot_log`` parses what it prints to the console.

The script exports TASKFLEET_PROVIDER (which metadata service a worker watches), TASKFLEET_MACHINE (the machine's name at its provider)
and TASKFLEET_BUNDLE (the hash of its code). A worker whose folder does not contain that code exits with code 2 (``manifest``). The script
does not restart a worker after code 2, because it would fail again.
"""

import ast
import base64
import gzip
import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from taskfleet.errors import StartUpError
from taskfleet.machines.provider import load_provider
from taskfleet.machines.user_scripts import read_script
from taskfleet.pool.bundle import StoredBundle
from taskfleet.redaction import secret_in_address, secret_in_text, secret_in_variable
from taskfleet.settings.pool_fields import PoolSettings

#: A file is compressed if that saves at least this much; otherwise it stays readable.
MIN_SAVED_BYTES = 512
_HOOKS = ("before_start_up", "before_worker", "after_worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitCode:
    """The project is cloned with git."""

    url: str
    revision: str = "HEAD"


@dataclass(frozen=True, slots=True)
class ImageCode:
    """The project is in the image, in /opt/project; an existing .venv is used unchanged."""


Code = StoredBundle | GitCode | ImageCode


@dataclass(frozen=True, slots=True, kw_only=True)
class UserScripts:
    """The texts of the user's scripts; empty for none."""

    before_start_up: str = ""
    before_worker: str = ""
    after_worker: str = ""
    whole: str = ""
    """Replaces everything but the self-destruct timer and the environment."""


def read_scripts(pool: PoolSettings, project: Path) -> UserScripts:
    """Read the user's scripts that the settings name.

    Args:
        pool: The settings.
        project: The folder that relative paths start at.

    Raises:
        StartUpError: A file cannot be read or is not text.
    """
    return UserScripts(
        before_start_up=read_script("BEFORE_START_UP", pool.before_start_up, project),
        before_worker=read_script("BEFORE_WORKER", pool.before_worker, project),
        after_worker=read_script("AFTER_WORKER", pool.after_worker, project),
        whole=read_script("START_UP_SCRIPT", pool.start_up_script, project),
    )


def script(
    *,
    provider: str,
    job_id: str,
    lifetime_seconds: float,
    code: Code,
    environment: Mapping[str, str] | None = None,
    queue_package: str = "",
    slots: int | None = None,
    scripts: UserScripts | None = None,
    restarts: int = 3,
    restart_pause_seconds: int = 10,
    linger_seconds: int = 60,
) -> str:
    """Return the start-up script of machines.

    Args:
        provider: As in PROVIDER.
        job_id: The worker's JOB_ID.
        lifetime_seconds: The self-destruct timer, counted from the start of the script: the machine powers off in any case.
        code: Where the project comes from.
        environment: Settings and variables for the worker, by name.
        queue_package: The package for the worker's queue service; empty for those of all services.
        slots: The worker's SLOTS; None for its default.
        scripts: The user's scripts.
        restarts: How often a crashed worker is restarted.
        restart_pause_seconds: The pause before each restart.
        linger_seconds: How long a machine stays on after an error, for inspection.

    Raises:
        StartUpError: A variable has an invalid name, something looks like a secret, or the script is longer than the provider allows.
    """
    scripts = scripts or UserScripts()
    variables = dict(environment or {}) | {"JOB_ID": job_id} | ({} if slots is None else {"SLOTS": str(slots)})
    _check_variables(variables)
    values = _code_values(code) | {
        "queue_package": queue_package,
        "provider": provider,
        "lifetime": str(math.ceil(lifetime_seconds)),
        "restarts": str(restarts),
        "restart_pause": str(restart_pause_seconds),
        "linger": str(linger_seconds),
    }
    settings = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    data = ["own+=(", *(shlex.quote(f"{name}={value}") for name, value in variables.items()), ")"]
    if scripts.whole:
        data.append(_file("own", scripts.whole, "START_UP_SCRIPT"))
    else:
        data += [_file(name, getattr(scripts, name), name.upper()) for name in _HOOKS if getattr(scripts, name)]
        data.append(_file("on_machine.py", _compact(_source("on_machine.py")), ""))
    parts = {"#@settings": settings, "#@data": data}
    text = "".join(f"{line}\n" for line in _filled(_source("start_up.sh"), parts, until_own=bool(scripts.whole)))
    _check_length(text, provider, scripts, variables)
    return text


# --- parts of the script ---


def _code_values(code: Code) -> dict[str, str]:
    values = dict.fromkeys(("code_from", "address", "bundle", "region", "revision"), "")
    match code:
        case StoredBundle():
            return values | {
                "code_from": "bundle",
                "address": code.address,
                "bundle": code.hash,
                "region": code.region or "",
            }
        case GitCode():
            if reason := secret_in_address(code.url):
                raise StartUpError(
                    f"GIT_URL: {reason}, readable for everyone who can describe the machines. Use a repository that needs no login, "
                    "or CODE_FROM=bundle."
                )
            for name, value in (("GIT_URL", code.url), ("GIT_REVISION", code.revision)):
                if not value or value.startswith("-"):
                    raise StartUpError(f"{name}={value} is invalid: it is empty or begins with '-'.")
            return values | {"code_from": "git", "address": code.url, "revision": code.revision}
        case ImageCode():
            return values | {"code_from": "image"}


def _check_variables(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise StartUpError(f"{name!r} is not a valid environment variable for the worker.")
        if reason := secret_in_variable(name, value):
            raise StartUpError(
                f"{name} cannot be part of the start-up script, which everyone who can describe the machines can read: {reason}. "
                "Give machines a role (INSTANCE_PROFILE, SERVICE_ACCOUNT), or fetch the value there: a script in BEFORE_WORKER can write "
                "NAME=value to the file $TASKFLEET_EXPORTS."
            )


def _file(name: str, content: str, setting: str) -> str:
    """Return the lines of the script that write a file."""
    content = content.replace("\r\n", "\n").rstrip("\n") + "\n"
    if "\0" in content:
        raise StartUpError(f"{setting} contains a zero byte, so it is not a script.")
    if reason := secret_in_text(content):
        raise StartUpError(
            f"{setting}: {reason}, readable for everyone who can describe the machines. Have the script fetch it from a secret store."
        )
    end = f"END-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    packed = base64.encodebytes(gzip.compress(content.encode(), mtime=0)).decode()
    if len(packed) < len(content) - MIN_SAVED_BYTES:
        return f"base64 -d <<'{end}' | gunzip >\"$state/{name}\"\n{packed}{end}"
    return f"cat >\"$state/{name}\" <<'{end}'\n{content}{end}"


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _filled(source: str, parts: Mapping[str, list[str]], *, until_own: bool) -> list[str]:
    """Return the script's lines without comments and indentation, with the parts filled in."""
    first, *rest = source.splitlines()
    lines = [first]
    for line in map(str.strip, rest):
        if until_own and line == "# --- stages ---":
            break
        if line in parts:
            lines += parts[line]
        elif line and not line.startswith("#"):
            lines.append(line)
    return lines


def _compact(source: str) -> str:
    """Return a Python program without docstrings, annotations and most indentation."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
    return re.sub(r"^( +)", lambda found: " " * (len(found[1]) // 4), ast.unparse(tree), flags=re.MULTILINE)


def _check_length(text: str, provider: str, scripts: UserScripts, variables: Mapping[str, str]) -> None:
    most = load_provider(provider).longest_script_bytes
    length = len(text.encode())
    if length <= most:
        return
    sizes = {name.upper(): len(getattr(scripts, name).encode()) for name in _HOOKS}
    sizes |= {"START_UP_SCRIPT": len(scripts.whole.encode()), **{k: len(v.encode()) for k, v in variables.items()}}
    longest = sorted(((size, name) for name, size in sizes.items() if size), reverse=True)[:3]
    raise StartUpError(
        f"The machines' start-up script has {length:,} bytes, but {provider} allows at most {most:,}. The longest parts: "
        + ", ".join(f"{name} {size:,}" for size, name in longest)
        + ". Move long scripts into the project and run them in BEFORE_WORKER: bash scripts/prepare.sh"
    )
