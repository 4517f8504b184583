"""How a script of the user is imported by processes that need its functions only.

A script that makes a graph may define the functions that the graph calls, so workers import it. There, its calls make no tasks, and what
waits for a result ends the import: everything that workers need is defined by then.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn


class StopImport(BaseException):
    """Ends the import of a script; not an ``Exception``, so that the script does not catch it by mistake."""


_is_worker = False
_is_importing = False
_script_name = ""
#: The scripts whose import ended early.
_stopped: set[str] = set()


def become_worker() -> None:
    """Note that this process runs tasks, or imports modules for processes that do."""
    global _is_worker
    _is_worker = True


def is_worker() -> bool:
    """Return whether this process runs tasks, or imports modules for processes that do."""
    return _is_worker


def is_importing() -> bool:
    """Return whether such a process is importing a module of the user."""
    return _is_importing


def stop_import() -> NoReturn:
    """End the import of a script, in a worker."""
    raise StopImport


class Absent:
    """Stands for a future while a worker imports a script: whatever waits for it ends the import."""

    def __repr__(self) -> str:
        """Return what it stands for."""
        return "<the future of a call in the script>"

    def __getattr__(self, name: str) -> Any:
        """End the import of the script."""
        if name.startswith("__"):
            raise AttributeError(name)
        stop_import()

    def __len__(self) -> int:
        """End the import of the script."""
        stop_import()

    def __iter__(self) -> Any:
        """End the import of the script."""
        stop_import()

    def __getitem__(self, index: Any) -> Any:
        """Stand for a part."""
        return self


@contextmanager
def importing() -> Iterator[None]:
    """Note, for the time of a ``with`` statement, that what runs belongs to the import of a module, not to a task."""
    global _is_importing
    before, _is_importing = _is_importing, True
    try:
        yield
    finally:
        _is_importing = before


def import_module(name: str) -> ModuleType:
    """Import a module; in a worker, a script that ended its import early counts as imported."""
    if not _is_worker or name in sys.modules:
        return importlib.import_module(name)
    with importing():
        return importlib.import_module(name) if "." in name else _import_script(name)


def _import_script(name: str) -> ModuleType:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return importlib.import_module(name)  # which raises the usual error
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StopImport:
        _stopped.add(name)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules[name]


def was_stopped(name: str) -> bool:
    """Return whether the import of a script ended early."""
    return name in _stopped


def note_script(project: str) -> None:
    """Let the running script be imported by the name that workers know it by, if it is a module of the project: it is the same module.

    Otherwise, a module that imports it would run it a second time.
    """
    global _script_name
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    name = path and script_module(path, project)
    if name and not _is_worker:
        _script_name = name
        sys.modules.setdefault(name, main)


def script_name() -> str:
    """Return the name by which workers import the running script; empty if they cannot."""
    return _script_name


def script_module(path: str, project: str) -> str | None:
    """Return the name by which a script in a project's folder can be imported; None if it is elsewhere or no module."""
    folder, file = os.path.split(os.path.realpath(path))
    name, suffix = os.path.splitext(file)
    return name if suffix == ".py" and name.isidentifier() and folder == os.path.realpath(project) else None
