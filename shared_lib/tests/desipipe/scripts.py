"""Scripts of users, run as they run them."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

IMPORTS = "from taskfleet.desipipe import Queue, TaskManager, Environment, Future, FileManager, spawn, setup_logging\n"


def run(folder: Path, text: str, *, name: str = "script.py", fails: bool = False, **environ: str) -> str:
    """Run a script in a folder; return its standard output, or with ``fails`` its standard error."""
    path = folder / name
    path.write_text(IMPORTS + textwrap.dedent(text))
    return python(folder, str(path), fails=fails, **environ)


def python(folder: Path, *words: str, fails: bool = False, **environ: str) -> str:
    """Run Python in a folder; see ``run``."""
    base = {key: value for key, value in os.environ.items() if key not in ("JOB_ID", "LEDGER_PATH", "SLOTS")}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**base, "DESIPIPE_QUEUE_DIR": str(folder / "queues"), "PYTHONUNBUFFERED": "1", **environ},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def console(folder: Path, *words: str, fails: bool = False) -> str:
    """Run ``taskfleet`` with some words in a folder; see ``run``."""
    return python(folder, "-P", "-m", "taskfleet.desipipe", *words, fails=fails)
