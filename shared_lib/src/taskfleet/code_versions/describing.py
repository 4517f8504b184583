"""Versions of code: a digest of a function and of all code of the project that it reaches, and what differs between two of them.

What counts is the normalised syntax (``syntax``) of the function, and of every function, class and global variable of the project's modules
that it reaches by name. Packages outside of the project count with their names only. Options of this library's own decorators do not
count, as they decide how a function is run, not what it does.

The code is read, not run, and therefore names in texts, methods that are added to objects at run time, and changes of a module's variables
by other modules are not seen. What cannot be followed (``eval``, ``getattr`` with a computed name) is listed.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.code_versions.code_walk import ProjectModules, Walk
from taskfleet.code_versions.live_code import LiveCode
from taskfleet.code_versions.syntax import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVersion:
    """The version of a function's code."""

    name: str
    """The function: ``task.draw_random_numbers``."""
    digest: str
    """The same on every machine and in every version of Python from 3.11 on, in hexadecimal."""
    parts: Mapping[str, str]
    """By name, the digest of each function, class, method and global variable that counts; ``= module.name`` for an imported name."""
    sources: Mapping[str, str]
    """The source text of each part except methods, which are in their class."""
    not_followed: tuple[str, ...]
    """What the search for code could not follow, each with file and line."""


def describe_code(function: Any, project: Path) -> CodeVersion:
    """Return the version of a function's code, as it is in its file now.

    Args:
        function: A function, class, partial or callable object.
        project: The folder of the project. Of the files below it, installed packages and the copy of this library do not count.

    Raises:
        FunctionError: This Python cannot parse a file that the function needs, or the function's file no longer has it.
    """
    walk = Walk(ProjectModules(project, sys.path))
    name = LiveCode(walk).add(function)
    parts = dict(sorted(walk.parts.items()))
    return CodeVersion(
        name=name,
        digest=digest_of(name, *(text for item in parts.items() for text in item)),
        parts=parts,
        sources=dict(sorted(walk.sources.items())),
        not_followed=tuple(sorted(walk.not_followed)),
    )


def changes(old_parts: Mapping[str, str], new_parts: Mapping[str, str], *, module: str = "task") -> list[str]:
    """Return a sentence for each part that differs between two versions.

    Args:
        old_parts: Those of the earlier version.
        new_parts: Those of the later version.
        module: The module whose names are written without it.
    """
    found: list[str] = []
    imports: list[str] = []
    for name in sorted(old_parts.keys() | new_parts.keys()):
        old, new = old_parts.get(name), new_parts.get(name)
        shown = name.removeprefix(f"{module}.")
        around = name.rpartition(".")[0]
        if old == new:
            continue
        if old is not None and new is not None:
            if old.startswith("= ") and new.startswith("= "):
                found.append(f"{shown} is {new[2:]} instead of {old[2:]}")
            else:
                found.append(f"{shown} changed")
        elif around in old_parts.keys() | new_parts.keys() and (around in old_parts) != (around in new_parts):
            continue  # a method of a class that is new or no longer used itself
        else:
            kept = imports if (old or new or "").startswith("= ") else found
            kept.append(f"{shown} is new" if old is None else f"{shown} is no longer used")
    return found or imports
