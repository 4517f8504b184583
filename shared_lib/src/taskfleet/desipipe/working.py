"""The process of a worker that runs the tasks of one manager: ``python -m taskfleet.desipipe.working ORDER``, see ``spawning``."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskfleet.api.working import work
from taskfleet.desipipe import places
from taskfleet.errors import TaskfleetError
from taskfleet.worker.hooks import make_hooks


def main(order: dict[str, Any]) -> int:
    """Work until the process that started this one has ended or stops it, or as long as there are tasks; return the exit code."""
    path, parent = Path(order["filename"]), order["parent"]
    os.chdir(order["folder"])
    try:
        work(
            replace(places.configuration(path, **order["settings"]), manager=order["manager"]),
            hooks=None if parent is None else make_hooks(None, None, lambda: os.getppid() != parent),
            changes={"working_directory": os.getcwd()},
        )
    except TaskfleetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
