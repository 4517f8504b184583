"""Small projects, whose functions are imported as a project's are, and the versions of their code."""

import contextlib
import functools
import importlib
import itertools
import sys

from taskfleet.code_versions.describing import describe_code

_count = itertools.count()


def write(folder, files):
    """Writes a project into a new folder, and returns it: no two versions of a file have the same path."""
    project = folder / f"version-{next(_count)}"
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return project


@contextlib.contextmanager
def imported(project, function="task:run", search_path=()):
    """Provides a function of a project, and forgets the project's modules afterwards."""
    before = set(sys.modules)
    places = [str(project), *(str(project / one) for one in search_path)]
    sys.path[:0] = places
    importlib.invalidate_caches()
    module, _, name = function.partition(":")
    try:
        yield functools.reduce(getattr, name.split("."), importlib.import_module(module))
    finally:
        del sys.path[: len(places)]
        for one in set(sys.modules) - before:
            if str(getattr(sys.modules[one], "__file__", "") or "").startswith(str(project)):
                del sys.modules[one]


def version(folder, files, function="task:run", **options):
    """Returns the version of a function of a new project."""
    files = {"task.py": files} if isinstance(files, str) else files
    project = write(folder, files)
    with imported(project, function, **options) as found:
        return describe_code(found, project)
