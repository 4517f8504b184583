"""How a setting is declared: one field of a dataclass, with all that files, flags, help and documentation need."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


#: What the fields are about, in the order in which they are shown.
GROUPS = {
    "job": "The job",
    "insert": "Inserting tasks",
    "worker": "The worker",
    "limits": "Limits of a task",
    "retries": "Trying again",
    "watch": "What is written down",
    "place": "Where machines are taken",
    "machine": "What a machine has to be",
    "number": "How many machines, and how dear",
    "start": "How machines start",
}


#: Those of ``config/pool.env``; the others are in ``config/task.env``.
POOL_GROUPS = ("place", "machine", "number", "start")


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
