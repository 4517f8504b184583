"""How a setting is declared: one field of a dataclass, with all that files, flags, help and documentation need."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: The sections of settings, in the order in which they are shown.
GROUPS = {
    "job": "The job",
    "insert": "Inserting tasks",
    "worker": "The worker",
    "limits": "Limits of a task",
    "retries": "Retries",
    "watch": "Logging and events",
    "provider": "Provider",
    "location": "Location and pricing",
    "machine": "Machine requirements",
    "task": "What a task needs",
    "number": "Pool size and cost limits",
    "lifetime": "Lifetime of a machine",
    "start": "How machines start",
    "aws": "AWS",
    "gcp": "Google Cloud",
}
_EVERYWHERE = ("provider", "task", "number", "lifetime")
_CLOUD = ("provider", "location", "machine", "task", "number", "lifetime", "start")
#: For each provider, by its name in PROVIDER: the sections of ``config/pool.env`` that matter to it.
PROVIDER_GROUPS: dict[str, tuple[str, ...]] = {
    "local": _EVERYWHERE,
    "aws": (*_CLOUD, "aws"),
    "gcp": (*_CLOUD, "gcp"),
}
#: The sections of ``config/pool.env``; all others are in ``config/task.env``.
POOL_GROUPS = tuple(name for name in GROUPS if any(name in groups for groups in PROVIDER_GROUPS.values()))
#: Those of them that matter to one provider only.
OWN_GROUPS = tuple(name for name in POOL_GROUPS if sum(name in groups for groups in PROVIDER_GROUPS.values()) == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting as users see it."""

    name: str
    """In files and in the environment: upper case, with its unit."""
    flag: str
    group: str
    sentence: str
    metavar: str
    default: str
    """As one would write it; empty for none."""
    parse: Callable[[str], object]
    """Turns the text into the value; raises ValueError with what is wanted."""
    old_names: Mapping[str, Callable[[str], str]]
    """Names of other systems that are accepted, with what makes our text of theirs."""
    is_path: bool
    is_switch: bool


def setting(
    group: str,
    sentence: str,
    parse: Callable[[str], T],
    *,
    metavar: str,
    default: str = "",
    flag: str = "",
    old_names: Mapping[str, Callable[[str], str]] | None = None,
    is_path: bool = False,
) -> T:
    """Declare a field of ``Settings``."""
    details = {
        "group": group,
        "sentence": sentence,
        "parse": parse,
        "metavar": metavar,
        "default": default,
        "flag": flag,
        "old_names": old_names or {},
        "is_path": is_path,
    }
    return dataclasses.field(default_factory=lambda: parse(default), metadata=details)
