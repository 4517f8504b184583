"""desipipe's page for beginners, with its import changed. The page is not part of this repository."""

import re
from pathlib import Path

import pytest

from shared_lib.tests.desipipe.scripts import python

SEEDS = Path(__file__).parents[4] / "shared" / "seeds"
IMPORT = "from desipipe import Queue, Environment, TaskManager, FileManager\n"
#: ``np`` and ``spawn`` are used, but not imported, on the page.
OURS = """import numpy as np
from taskfleet.desipipe import Queue, Environment, TaskManager, FileManager, spawn
"""


def code_blocks() -> list[str]:
    """Return the blocks of Python code of the page."""
    pages = [path.read_text() for path in SEEDS.glob("004_*")] if SEEDS.is_dir() else []
    if not pages:
        pytest.skip(f"desipipe's documents are not in {SEEDS}")
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:  .*\n|\n)+)", pages[0])
    return ["".join(line[2:] or "\n" for line in block.splitlines(keepends=True)) for block in blocks]


def test_the_page_runs(tmp_path: Path) -> None:
    text = "\n".join(code_blocks())
    assert text.count(IMPORT) == 1
    text = text.replace(IMPORT, OURS)
    before = "print(queue.counts(state='PENDING'), queue.counts(state='WAITING'))\n"
    assert text.rstrip().endswith("\nspawn(queue)")
    text = text.rstrip().removesuffix("spawn(queue)") + before + "spawn(queue)\nprint(ech.out())\nprint(avg.result())\n"
    (tmp_path / "script.py").write_text(text)
    pending, said, pi = python(tmp_path, "script.py").splitlines()
    assert pending == "20 2"
    assert said == f"bash app says pi is ~ {float(pi):.4f}"
    assert 3.0 < float(pi) < 3.3
    assert (tmp_path / "_tests" / "test.db").is_file()
