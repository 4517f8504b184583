"""The environment and the command line of another process that works on the same job."""

import os
import shlex
import sys
from pathlib import Path

from taskfleet.processes.shell import variables_after
from taskfleet.settings.declaring import POOL_GROUPS
from taskfleet.settings.describing import describe
from taskfleet.settings.manager_files import manager_script
from taskfleet.settings.parsers import EMBEDDED
from taskfleet.settings.reader import FROM_FILES_VARIABLE, Configuration

#: Variables of bash itself.
_OF_SHELL = ("PWD", "OLDPWD", "SHLVL", "_")


def worker_environment(configuration: Configuration) -> dict[str, str]:
    """Return the variables that a worker on another machine needs: the user's own, and the job's settings that are not defaults."""
    results = {"RESULTS_PATH": configuration.results_path}  # which may follow from BUCKET, a setting of the pool
    derived = results if "://" in configuration.results_path else {}
    return configuration.exports | _worker_settings(configuration) | derived


def environment_here(configuration: Configuration) -> dict[str, str]:
    """Return the whole environment with which a command on this computer runs the same job, wherever its settings come from."""
    return {**configuration.exports, **os.environ, **_worker_settings(configuration), **from_files(configuration)}


def from_files(configuration: Configuration, *others: str) -> dict[str, str]:
    """Return the variable that lets files of managers override what the environment of another process has from the other files.

    Args:
        configuration: The settings.
        others: The names of settings that are in the environment of the other process and that these files override too.
    """
    return {FROM_FILES_VARIABLE: " ".join(sorted({*configuration.from_files, *others}))}


def enter_environment(configuration: Configuration) -> None:
    """Let the script of the manager, if it has one, set the environment of this process and of those that it starts.

    Raises:
        CommandError: The script failed.
    """
    script = manager_script(configuration.project, configuration.manager)
    if script is None:
        return
    lines = f"set -e\ncd {shlex.quote(str(configuration.project))}\nsource {shlex.quote(str(script))}"
    after = variables_after(lines, {**configuration.exports, **os.environ}, what=str(script))
    for name in os.environ.keys() - after.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in after.items() if name not in _OF_SHELL})


def worker_command(project: Path) -> list[str]:
    """Return the command that runs a worker of a project on this computer."""
    script = project / "run.py"
    words = [str(script)] if script.is_file() else ["-P", "-m", "taskfleet", "launch_worker"]
    return [sys.executable, *words]


def end_command() -> list[str]:
    """Return the command that runs at the end of a machine without a controller; see ``taskfleet.api.machine_end``."""
    return [sys.executable, "-P", "-m", "taskfleet.api.machine_end"]


def _worker_settings(configuration: Configuration) -> dict[str, str]:
    pool_settings = {field.name for field in describe() if field.group in POOL_GROUPS}
    if EMBEDDED.fullmatch(configuration.settings.queue_url) is None:
        pool_settings.discard("BUCKET")  # which has the control document
    return {name: text for name, text in configuration.texts.items() if name not in pool_settings}
