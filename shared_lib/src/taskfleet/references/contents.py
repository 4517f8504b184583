"""What a file of the store has, and the reference to it in JSON text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from taskfleet.errors import UnreadableValueError

Write: TypeAlias = Callable[[Any], object]
"""Takes the next bytes, as any object with the buffer protocol."""

Bytes = TypeVar("Bytes", bytes, bytearray)

SUFFIXES = {
    "npy": "npy",
    "bin": "bin",
    "json": "json",
    "pkl": "pkl",
    "frame": "arrow",
    "table": "arrow",
    "batch": "arrow",
}
"""The suffix of a file by what it has."""

_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})\.[a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A value that can be written as a file."""

    kind: str
    """One of SUFFIXES."""
    size: int
    """Its approximate size in bytes."""
    write: Callable[[Write], object]
    """Write all of it; the second call writes the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of the store."""

    name: str
    """Its name below the store: ``ab/abcdef….npy``."""
    n_bytes: int
    sha256: str
    """See ``hashing``."""

    def reference(self, kind: str) -> dict[str, Any]:
        """Return the content of its ``$file`` object."""
        return {"name": self.name, "bytes": self.n_bytes, "sha256": self.sha256, "as": kind}


def file_name(sha256: str, kind: str) -> str:
    """Return the name of the file with this hash and kind of content."""
    return f"{sha256[:2]}/{sha256}.{SUFFIXES[kind]}"


def parse_reference(reference: Any) -> tuple[StoredFile, str]:
    """Return the file that a ``$file`` object refers to, and what it has.

    Raises:
        UnreadableValueError: It is damaged or of a newer version. No name of a file leads out of the store.
    """
    try:
        name, n_bytes, sha256, kind = (reference[key] for key in ("name", "bytes", "sha256", "as"))
        found = _NAME.fullmatch(name)
        is_valid = found is not None and found[1] == sha256 and name[:2] == sha256[:2]
        is_valid = is_valid and type(n_bytes) is int and n_bytes >= 0
    except (TypeError, KeyError):
        is_valid = False
    if not is_valid:
        raise UnreadableValueError(
            f"The reference {str(reference)[:200]} is not that of a file of the store: it was damaged. Run the task that wrote it again"
        )
    if kind not in SUFFIXES:
        raise UnreadableValueError(
            f"The file {name} has a value of the kind {str(kind)[:50]!r}, which this version of taskfleet does not know: a newer version "
            "wrote it. Use the same version here"
        )
    return StoredFile(name=name, n_bytes=n_bytes, sha256=sha256), kind
