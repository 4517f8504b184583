"""The files of a project for its managers: settings that differ from ``config/task.env``, and lines of bash."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from taskfleet.errors import SettingsError
from taskfleet.settings.declaring import POOL_GROUPS, Field

#: What commands call the manager of functions without one; elsewhere it is the empty text.
DEFAULT_MANAGER = "default"
#: Names that no manager can have: that one, and that of the queue of events in PostgreSQL.
_RESERVED = (DEFAULT_MANAGER, "events")
#: Nor one with this end: Pub/Sub has a topic NAME-dead for each queue NAME.
_RESERVED_END = "-dead"
_COMMON_GROUPS = ("job", "insert")
#: Those of these groups in which managers may differ.
_OWN = ("OUTPUT_PATH", "TASKS_PER_MESSAGE")
#: Settings of pools that are the same for the whole job: limits of what all its machines cost, and the bucket of its results.
_COMMON_OF_POOLS = ("BUDGET_USD", "BUDGET_NODE_HOURS", "PRICE_USD_PER_HOUR", "BUCKET")


def manager_file(project: Path, name: str) -> Path:
    """Return the file with the settings of a manager.

    Raises:
        SettingsError: There is none, or a manager cannot have this name.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,30}", name) or name in _RESERVED or name.endswith(_RESERVED_END):
        raise SettingsError(
            f"A manager cannot have the name {name!r}. It is a letter, then at most 30 letters, digits, '-' or '_', does not end with "
            f"{_RESERVED_END}, and is none of {', '.join(_RESERVED)}."
        )
    path = project / "config" / f"task.{name}.env"
    if not path.is_file():
        raise SettingsError(
            f"There is no manager {name!r}, because {path} does not exist. Create this file; it has the settings that differ from "
            "config/task.env for functions of this manager, and may be empty."
        )
    return path


def pool_file(project: Path, name: str) -> Path | None:
    """Return the file with the settings of the pool of a manager that differ from ``config/pool.env``; None if there is none."""
    path = project / "config" / f"pool.{name}.env"
    return path if name and path.is_file() else None


def managers_with_pool_file(project: Path, known: Iterable[str] = ()) -> list[str]:
    """Return the names of the managers that have a file with settings of their pool, those that are known from elsewhere included."""
    names, known = _names_of_pool_files(project), set(known)
    return [one for one in names if one in known or (project / "config" / f"task.{one}.env").is_file()]


def unused_pool_files(project: Path) -> list[str]:
    """Return the names in files that look like those of managers' pools, for which there is no manager."""
    return [one for one in _names_of_pool_files(project) if not (project / "config" / f"task.{one}.env").is_file()]


def _names_of_pool_files(project: Path) -> list[str]:
    return [one.name[len("pool.") : -len(".env")] for one in sorted((project / "config").glob("pool.?*.env"))]


def manager_script(project: Path, name: str) -> Path | None:
    """Return the file with lines of bash to run before a worker of a manager starts; None if there is none."""
    path = project / "config" / f"task.{name}.sh"
    return path if name and path.is_file() else None


def has_managers(project: Path) -> bool:
    """Return whether a project has files for managers."""
    return any((project / "config").glob("task.?*.env"))


def misplaced(file: Path, names: Iterable[str], fields: Mapping[str, Field]) -> dict[str, str]:
    """Return which settings cannot be in a file of a manager, and what to do about each: a few words, by name."""
    is_of_pool = file.name.startswith("pool.")
    other = file.with_name(file.name.replace("pool." if is_of_pool else "task.", "task." if is_of_pool else "pool.", 1))
    found = {}
    for name in names:
        group = fields[name].group
        if name in _COMMON_OF_POOLS or (group in _COMMON_GROUPS and name not in _OWN):
            found[name] = "is the same for all managers; remove it here"
        elif (group in POOL_GROUPS) != is_of_pool:
            found[name] = f"belongs into config/{other.name}; move it there"
    return found
