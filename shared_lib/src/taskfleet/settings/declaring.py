"""The declaration of a setting: a dataclass field with the metadata for files, flags, help and documentation."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: The sections of settings and their titles, in display order.
GROUPS = {
    "job": "Job",
    "insert": "Inserting tasks",
    "worker": "Worker",
    "limits": "Task limits",
    "retries": "Retries",
    "watch": "Logging and events",
    "provider": "Provider",
    "location": "Location and pricing",
    "size": "Machine size",
    "machine": "Machine requirements",
    "task": "Task requirements",
    "number": "Pool size and cost limits",
    "lifetime": "Machine lifetime",
    "start": "Machine start-up",
    "hooks": "Your scripts on machines",
    "aws": "AWS",
    "gcp": "Google Cloud",
    "slurm": "Slurm",
    "ssh": "Computers over ssh",
}
_EVERYWHERE = ("provider", "task", "number", "lifetime")
_CLOUD = ("provider", "location", "size", "machine", "task", "number", "lifetime", "start", "hooks")
#: The sections of ``config/pool.env`` that apply to each provider, by its name in PROVIDER.
PROVIDER_GROUPS: dict[str, tuple[str, ...]] = {
    "local": _EVERYWHERE,
    "aws": (*_CLOUD, "aws"),
    "gcp": (*_CLOUD, "gcp"),
    "slurm": (*_EVERYWHERE, "size", "hooks", "slurm"),
    "ssh": (*_EVERYWHERE, "hooks", "ssh"),
}
#: All sections of ``config/pool.env``; the others are in ``config/task.env``.
POOL_GROUPS = tuple(name for name in GROUPS if any(name in groups for groups in PROVIDER_GROUPS.values()))
#: The sections that apply to one provider only.
OWN_GROUPS = tuple(name for name in POOL_GROUPS if sum(name in groups for groups in PROVIDER_GROUPS.values()) == 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting, as users see it."""

    name: str
    """The name in files and in the environment: upper case, with its unit."""
    flag: str
    group: str
    sentence: str
    metavar: str
    default: str
    """The default as text; empty for none."""
    parse: Callable[[str], object]
    """Converts text to the value; raises ValueError with a description of the accepted values."""
    aliases: Mapping[str, Callable[[str], str]]
    """Names of other systems that are accepted too, each with the conversion of its text to ours."""
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
    aliases: Mapping[str, Callable[[str], str]] | None = None,
    is_path: bool = False,
) -> T:
    """Declare a setting as a field of a settings class."""
    details = {
        "group": group,
        "sentence": sentence,
        "parse": parse,
        "metavar": metavar,
        "default": default,
        "flag": flag,
        "aliases": aliases or {},
        "is_path": is_path,
    }
    return dataclasses.field(default_factory=lambda: parse(default), metadata=details)
