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
_COMMON_GROUPS = ("job", "insert", *POOL_GROUPS)
#: Those of these groups in which managers may differ.
_OWN = ("OUTPUT_PATH", "TASKS_PER_MESSAGE")


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


def manager_script(project: Path, name: str) -> Path | None:
    """Return the file with lines of bash to run before a worker of a manager starts; None if there is none."""
    path = project / "config" / f"task.{name}.sh"
    return path if name and path.is_file() else None


def has_managers(project: Path) -> bool:
    """Return whether a project has files for managers."""
    return any((project / "config").glob("task.?*.env"))


def common_settings(names: Iterable[str], fields: Mapping[str, Field]) -> list[str]:
    """Return which settings cannot be in the file of a manager, because they are the same for the whole job."""
    return [name for name in names if fields[name].group in _COMMON_GROUPS and name not in _OWN]
