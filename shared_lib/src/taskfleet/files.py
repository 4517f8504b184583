"""Writing of files that other processes may read at the same time."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically: a concurrent reader gets the old content or the new, never a part."""
    draft = path.with_name(f".{path.name}-{os.urandom(6).hex()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
