"""The user's shell scripts for machines, checked before anything is launched."""

import re
import shutil
import subprocess
from pathlib import Path

from taskfleet.errors import StartUpError


def read_script(setting: str, name: str | None, project: Path) -> str:
    """Return the content of a script.

    Args:
        setting: The setting that names it.
        name: The file, relative to the project; None or empty for none.
        project: The project's folder.

    Returns:
        The content; empty if there is none.

    Raises:
        StartUpError: It cannot be read, or its syntax is wrong.
    """
    if not name:
        return ""
    if "\n" in name:  # the script itself, in a configuration file of rms-cloud-tasks
        _check_syntax(setting, "(the script in the settings)", name)
        return name
    path = project / Path(name).expanduser()
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StartUpError(f"{setting}={name}: {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise StartUpError(f"{setting}={name}: {path} is not a script: it is not UTF-8 text.") from error
    _check_syntax(setting, name, content)
    return content


def _check_syntax(setting: str, name: str, content: str) -> None:
    """Check the syntax of a shell script, if bash is installed: an error would otherwise appear on each machine that is paid for."""
    bash = shutil.which("bash")
    if bash is None or re.match(r"#!(?!.*sh\b)", content):
        return
    found = subprocess.run([bash, "-n"], input=content, text=True, capture_output=True, check=False)
    if found.returncode:
        lines = [re.sub(r"^(\S*bash|bash): ", "", line) for line in found.stderr.splitlines()]
        raise StartUpError(f"{setting}={name} is not a valid shell script: {' '.join(lines)}")
