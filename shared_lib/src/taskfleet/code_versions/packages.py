"""The versions of Python and of the packages with which a worker runs tasks."""

import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

#: Folders with the metadata of installed packages. Reading the metadata itself would take a hundred times as long.
#: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
_METADATA = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)-(?P<version>[A-Za-z0-9.+!_]+)\.(?:dist-info|egg-info)")


@cache
def installed_packages() -> Mapping[str, str]:
    """Return the version of Python as ``python``, and those of the packages on ``sys.path`` by their normalized names, in order."""
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for path in Path(folder or ".").iterdir():
                metadata = _METADATA.fullmatch(path.name)
                if metadata:
                    found.setdefault(re.sub(r"[-_.]+", "-", metadata["name"]).lower(), metadata["version"])
    return {"python": platform.python_version(), **dict(sorted(found.items()))}
