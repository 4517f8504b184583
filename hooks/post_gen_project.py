"""Copy the library into the project, remove the optional files that were not requested, and print the next commands."""

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
[TEMPLATE_REPO] = json.loads(r"""{{ [template_repo] | tojson }}""")
LIBRARY = Path(TEMPLATE_REPO, "shared_lib")

#: Files in a checkout of the library that a project does not need.
NOT_COPIED = shutil.ignore_patterns(
    "tests", "__pycache__", "*.py[co]", "*.egg-info", "build", "dist", ".*", "uv.lock", "*.orig", "*.rej"
)

#: Optional files, each with the answer that decides about it.
OPTIONAL = {
    "Dockerfile": ANSWERS["use_docker"],
    ".dockerignore": ANSWERS["use_docker"],
    "flow.py": ANSWERS["use_flow"],
}

NEXT = """\
uv sync
uv run poe insert_tasks
uv run poe launch_worker
uv run poe status
uv run poe results -o results.feather"""
if ANSWERS["use_flow"]:
    NEXT += "\nuv run python flow.py"


def main():
    if not (LIBRARY / "pyproject.toml").is_file():
        sys.exit(f"error: the template has no library at {LIBRARY}. Get the whole repository, not this folder alone.")
    shutil.rmtree("shared_lib", ignore_errors=True)  # exists with --overwrite-if-exists
    shutil.copytree(LIBRARY, "shared_lib", ignore=NOT_COPIED)
    for name, wanted in OPTIONAL.items():
        if not wanted:
            Path(name).unlink()
    for cache in [*Path().glob(".*_cache"), *Path().glob("**/__pycache__")]:
        shutil.rmtree(cache)  # left in the template's folder by an editor or a linter
    print("\nThe project is ready. Next:\n", *[f"cd {shlex.quote(where())}", *NEXT.splitlines()], sep="\n    ")


def where():
    """Return the project's folder as the user can type it: its name if it is in the current directory of the shell, else its path."""
    project = Path.cwd()
    here = os.environ.get("PWD")  # cookiecutter has changed the directory; PWD is still the shell's
    return project.name if here and Path(here).resolve() == project.parent else str(project)


if __name__ == "__main__":
    main()
