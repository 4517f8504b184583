"""Writing of files that other processes may read at the same time, and of files that other users may not read."""

import os
from pathlib import Path

#: Of a job's files: they have its data, its results and addresses of services.
PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700


def make_private_folder(path: Path) -> None:
    """Make a folder and its missing parents, for the user alone. An existing folder keeps its mode.

    Raises:
        OSError: It cannot be created.
    """
    if path.is_dir():
        return
    if not path.parent.exists():
        make_private_folder(path.parent)
    path.mkdir(_PRIVATE_FOLDER, exist_ok=True)


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file like ``os.open``, and make a new one for the user alone; an opener for ``open``."""
    return os.open(path, flags, PRIVATE_FILE)


def write_atomically(path: Path, content: str | bytes, *, is_private: bool = True) -> None:
    """Write a file atomically: a concurrent reader gets the old content or the new, never a part.

    Args:
        path: The file.
        content: The new content.
        is_private: Whether it is for the user alone.
    """
    draft = path.with_name(f".{path.name}-{os.urandom(6).hex()}")
    with open(draft, "xb", opener=open_private if is_private else None) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    draft.replace(path)
