"""The manifest of a bundle: the list of its files, with which a worker verifies the code in its folder.

It has a line for each file, ``["task.py", "file", "<SHA-256 of the content>"]``, in the order of the archive. The SHA-256 of the manifest
is the bundle's name. ``on_machine.py`` computes the same list for a downloaded archive; ``check_code`` verifies a project's folder.
Files that are not in the manifest (data, caches, an environment) are ignored.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from taskfleet.errors import WrongCodeError

#: Its path in the archive and in the project's folder on a machine.
MANIFEST = ".taskfleet/bundle.jsonl"
#: The environment variable of a worker on a machine: the hash of its bundle, ``git:`` and a commit, or empty if the code is in the image.
CODE_VARIABLE = "TASKFLEET_BUNDLE"
_GIT = "git:"
_SHOWN_DIGITS = 12


class FileKind(StrEnum):
    """The kind of a file in a bundle."""

    FILE = "file"
    """A file that is not executable."""
    PROGRAM = "program"
    """A file that its owner can execute."""
    LINK = "link"
    """A symbolic link; its content is its target."""


def manifest_line(name: str, kind: FileKind, content: bytes) -> str:
    """Return the line of a file, with its line break.

    Args:
        name: The path in the project, with slashes. Bytes that are not UTF-8 are surrogates, as from ``os.fsdecode``.
        kind: The kind of the file.
        content: The content of the file, or the target of a link.
    """
    return json.dumps([name, kind, hashlib.sha256(content).hexdigest()]) + "\n"


def bundle_hash(manifest: bytes) -> str:
    """Return the hash of a bundle with this manifest: 64 hexadecimal digits."""
    return hashlib.sha256(manifest).hexdigest()


def check_code(project: Path, environment: Mapping[str, str]) -> None:
    """Verify that a project's folder contains the bundle that the environment names, if it names one.

    Cloned code is not verified here (git verifies it when it fetches a commit), nor is the code of an image.

    Args:
        project: The project's folder.
        environment: Of the worker, with CODE_VARIABLE.

    Raises:
        WrongCodeError: The folder has no manifest or that of another bundle, or a file is missing or has changed.
    """
    expected = environment.get(CODE_VARIABLE, "")
    if not expected or expected.startswith(_GIT):
        return
    wrong = _difference(project, expected)
    if wrong:
        raise WrongCodeError(
            f"{project} does not contain the code of bundle {expected[:_SHOWN_DIGITS]}: {wrong}. Scripts on machines can add files to a "
            "project, but must not change its files."
        )


def _difference(project: Path, expected: str) -> str:
    """Return how a folder differs from a bundle; empty if it does not."""
    try:
        manifest = (project / MANIFEST).read_bytes()
    except OSError:
        return f"it was not unpacked from a bundle, {MANIFEST} is missing"
    found = bundle_hash(manifest)
    if found != expected:
        return f"it contains bundle {found[:_SHOWN_DIGITS]}"
    changes = [
        f"{name} {change}"
        for name, kind, digest in map(json.loads, manifest.splitlines())
        if (change := _change_of(project / name, kind, digest))
    ]
    more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{changes[0]}{more}" if changes else ""


def _change_of(path: Path, kind: str, digest: str) -> str:
    """Return how a file differs from its line; empty if it does not. Ignores whether it is executable."""
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
