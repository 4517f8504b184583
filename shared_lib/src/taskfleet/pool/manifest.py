"""The list of files that travels in a bundle, by which a worker knows whether its folder holds the code it was sent to run.

It has a line for each file, ``["task.py", "file", "<SHA-256 of the content>"]``, in the order of the archive, and its own SHA-256 is the
bundle's name. ``on_machine.py`` makes the same list of a downloaded archive, and ``check_code`` looks at the folder it was unpacked into.
Files beside those of the list (data, caches, an environment) are not looked at.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from taskfleet.errors import WrongCodeError

#: Where the list is, in the archive and in the project's folder on a machine.
MANIFEST = ".taskfleet/bundle.jsonl"
#: In the environment of a worker on a machine: the hash of its bundle, ``git:`` with a commit, or nothing where the code is in the image.
CODE_VARIABLE = "TASKFLEET_BUNDLE"
_GIT = "git:"
_SHOWN_DIGITS = 12


class FileKind(StrEnum):
    """What a file of a bundle is."""

    FILE = "file"
    """A file that is not to be run as a program."""
    PROGRAM = "program"
    """A file whose owner may run it."""
    LINK = "link"
    """A symbolic link; its content is where it leads."""


def manifest_line(name: str, kind: FileKind, content: bytes) -> str:
    """Return a file's line of the list, with its line break.

    Args:
        name: The path in the project, with slashes; bytes that are not UTF-8 are surrogates, as ``os.fsdecode`` makes them.
        kind: What it is.
        content: The file's bytes, or where a link leads.
    """
    return json.dumps([name, kind, hashlib.sha256(content).hexdigest()]) + "\n"


def bundle_hash(manifest: bytes) -> str:
    """Return what a bundle with this list is called: 64 hexadecimal digits."""
    return hashlib.sha256(manifest).hexdigest()


def check_code(project: Path, environment: Mapping[str, str]) -> None:
    """Check that a project's folder holds the bundle that the environment names, if it names one.

    Code that was cloned is not looked at (git has compared every file with the commit's hash as it fetched it), nor is that of an image.

    Args:
        project: The project's folder.
        environment: The worker's, with CODE_VARIABLE.

    Raises:
        WrongCodeError: The folder has no list of files, that of another bundle, or a file of the list is missing or has another content.
    """
    given = environment.get(CODE_VARIABLE, "")
    if not given or given.startswith(_GIT):
        return
    wrong = _difference(project, given)
    if wrong:
        raise WrongCodeError(
            f"{project} does not hold the code of bundle {given[:_SHOWN_DIGITS]}: {wrong}. Scripts on machines may add files to a project, "
            "but not change its own."
        )


def _difference(project: Path, given: str) -> str:
    """Return how a folder differs from a bundle, or an empty text."""
    try:
        manifest = (project / MANIFEST).read_bytes()
    except OSError:
        return f"it was not unpacked from one, {MANIFEST} is missing"
    found = bundle_hash(manifest)
    if found != given:
        return f"it holds bundle {found[:_SHOWN_DIGITS]}"
    faults = [
        f"{name} {fault}"
        for name, kind, digest in map(json.loads, manifest.splitlines())
        if (fault := _fault(project / name, kind, digest))
    ]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"{faults[0]}{more}" if faults else ""


def _fault(path: Path, kind: str, digest: str) -> str:
    """Return what is wrong with a file of the list, or an empty text; whether it may be run is not looked at."""
    try:
        if kind == FileKind.LINK:
            found = hashlib.sha256(os.fsencode(os.readlink(path))) if path.is_symlink() else None
        else:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256")
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found is not None and found.hexdigest() == digest else "was changed"
