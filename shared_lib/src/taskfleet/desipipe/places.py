"""Where queues are, and with which settings their tasks run."""

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from glob import glob
from importlib import metadata
from pathlib import Path
from typing import Any

from taskfleet.api import queue as job_queue
from taskfleet.errors import UsageError
from taskfleet.extras import distribution_of
from taskfleet.settings import Configuration, read_configuration

SUFFIX = ".db"
_NAME = re.compile(r"[A-Za-z0-9_/.-]+")


def base_folder() -> Path:
    """Return the folder of the user's queues: $DESIPIPE_QUEUE_DIR, or ~/.desipipe/queues/$USER."""
    given = os.environ.get("DESIPIPE_QUEUE_DIR")
    if given:
        return Path(given).expanduser().absolute()
    return everybodys_folder() / (os.environ.get("USER") or os.environ.get("USERNAME") or "user")


def everybodys_folder() -> Path:
    """Return the folder with a folder of queues for each user."""
    given = os.environ.get("DESIPIPE_QUEUE_DIR")
    return Path(given).expanduser().absolute().parent if given else Path("~/.desipipe/queues").expanduser()


def queue_path(name: str, base_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of a queue.

    Raises:
        UsageError: The name is invalid.
    """
    name = str(name)
    folder = base_folder() if base_dir is None else Path(base_dir).expanduser().absolute()
    path = Path(os.path.abspath(folder / Path(name).expanduser()))
    is_file = name.startswith("/") and name.endswith(SUFFIX)
    if not is_file and not _NAME.fullmatch(name):
        raise UsageError(f"The name of a queue has letters, digits and _/.- only; {name!r} has others.")
    for suffix in (SUFFIX, ".sqlite"):
        if path.name.endswith(suffix) and path.name != suffix:
            path = path.with_name(path.name.removesuffix(suffix))
            break
    return path.with_name(f"{path.name}{SUFFIX}")


def matching(pattern: str) -> list[Path]:
    """Return the files of the queues whose names match.

    Args:
        pattern: A name, or one with ``*``, ``?`` and ``[…]``. Without a ``/`` it is one of the user's queues; ``./NAME`` and ``../NAME``
            are relative to the current folder; any other one with a ``/`` is USER/NAME.
    """
    if "/" not in pattern:
        folder = base_folder()
    elif pattern.startswith("."):
        folder = Path.cwd()
    else:
        folder = everybodys_folder()
    pattern = str(Path(pattern).expanduser())
    if not any(sign in pattern for sign in "*?["):
        return [queue_path(pattern, folder)]
    stem = pattern.removesuffix(SUFFIX).removesuffix(".sqlite")
    found = glob(os.path.abspath(folder / f"{stem}{SUFFIX}"))
    return [Path(path) for path in sorted(found)]


def configuration(path: Path, **settings: Any) -> Configuration:
    """Return the settings of a queue; as desipipe does, it does not retry tasks that fail.

    Args:
        path: Its file.
        **settings: Settings with other values, by their upper-case names.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "_", path.name.removesuffix(SUFFIX))
    name = name if name[:1].isalpha() else f"q{name}"
    texts = {
        "JOB_ID": name[:63],
        "LEDGER_PATH": str(path),
        "RESULTS_PATH": str(path.with_suffix(".results")),
        "QUEUE_URL": "ledger",
        "KEEP_WAITING": "true",
        "RETRIES_ON_EXCEPTION": "0",
        "RETRIES_ON_TIMEOUT": "0",
        "RETRIES_ON_EXIT": "0",
        "RETRIES_ON_MEMORY": "0",
        **settings,
    }
    found = read_configuration(keywords=texts, env_file=None, start=path.parent, needs_file=False)
    return replace(found, project=path.parent)


def delete(configuration: Configuration) -> None:
    """Delete the files of a queue."""
    job_queue.delete(configuration)
    shutil.rmtree(configuration.results_path, ignore_errors=True)


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed packages that have some modules."""
    found: dict[str, str] = {}
    for module in modules:
        try:
            found[module] = metadata.version(distribution_of(module))
        except metadata.PackageNotFoundError:
            continue
    return found
