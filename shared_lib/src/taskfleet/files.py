"""Writing files so that nobody ever reads half of one."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file; whoever reads it meanwhile sees what was there before, or all of it."""
    draft = path.with_name(f".{path.name}-{os.urandom(6).hex()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
