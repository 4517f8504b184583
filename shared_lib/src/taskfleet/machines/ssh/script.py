"""The scripts of a machine: ``start.sh`` becomes the worker, and ``after.sh`` runs after it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

#: What BEFORE_WORKER exports is also for AFTER_WORKER.
_EXPORTS = '"$TASKFLEET_FOLDER/exports"'
_INSTALL = """\
cd "$TASKFLEET_FOLDER/project" || exit 1
unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
for pause in 2 5 15 0; do
  uv sync -q --frozen --no-dev && break
  [ "$pause" = 0 ] && { echo "uv sync failed"; exit 1; }
  sleep "$pause"
done
export UV_NO_SYNC=1"""


def scripts(
    *, project: Path | None, command: Sequence[str], before_worker: str = "", after_worker: str = ""
) -> dict[str, str]:
    """Return the scripts of a machine, by their names.

    Args:
        project: The folder of the project, if the host sees it; None to install the bundle in the machine's folder.
        command: Starts a worker there; without a bundle only.
        before_worker: The user's lines of bash to run first.
        after_worker: Those to run last.
    """
    place = _INSTALL if project is None else f"cd {shlex.quote(str(project))} || exit 1"
    words = ".venv/bin/python run.py" if project is None else shlex.join(command)
    lines = ["export PYTHONUNBUFFERED=1", place]
    if before_worker:
        lines += ["set -e", before_worker.rstrip(), "set +e"]
    if not after_worker:
        return {"start.sh": "\n".join([*lines, f"exec {words}", ""])}
    lines += [f"(umask 077; export -p > {_EXPORTS})", f"exec {words}", ""]
    folder = '"$TASKFLEET_FOLDER/project"' if project is None else shlex.quote(str(project))
    after = [f"[ -f {_EXPORTS} ] && source {_EXPORTS}", f"cd {folder} || exit 1", after_worker.rstrip(), ""]
    return {"start.sh": "\n".join(lines), "after.sh": "\n".join(after)}
