"""The environment and the command line of another process that works on the same job."""

import os
import sys
from pathlib import Path

from taskfleet.settings.declaring import POOL_GROUPS
from taskfleet.settings.describing import describe
from taskfleet.settings.reader import Configuration


def worker_environment(configuration: Configuration) -> dict[str, str]:
    """Return the variables that a worker on another machine needs: the user's own, and the job's settings that are not defaults."""
    return configuration.exports | _worker_settings(configuration)


def environment_here(configuration: Configuration) -> dict[str, str]:
    """Return the whole environment with which a command on this computer runs the same job, wherever its settings come from."""
    return {**configuration.exports, **os.environ, **_worker_settings(configuration)}


def worker_command(project: Path) -> list[str]:
    """Return the command that runs a worker of a project on this computer."""
    script = project / "run.py"
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "taskfleet", "launch_worker"]


def _worker_settings(configuration: Configuration) -> dict[str, str]:
    pool_settings = {field.name for field in describe() if field.group in POOL_GROUPS}
    return {name: text for name, text in configuration.texts.items() if name not in pool_settings}
