"""Files of the user with the name of a module of Python, or of a package that this library needs: one hides the other.

Which error follows depends on who imports the name first. Therefore ``taskfleet`` imports this module before everything else, and this
module imports only what the interpreter has loaded before it looked at the user's folder.
"""

import os
import sys

TYPE_CHECKING = False  # as in typing, which must not be imported here
if TYPE_CHECKING:
    from types import TracebackType


class NameClashError(ImportError):
    """A file next to the running script hides a module of Python. If nothing catches it, only its message is printed."""


def check_script_folder() -> None:
    """Check the folder that Python has added to ``sys.path`` for the running script or ``-m``.

    Raises:
        NameClashError: It has a file with the name of a module of Python.
    """
    if sys.flags.safe_path or not sys.path or sys.path[0] == os.path.dirname(os.__file__):
        return
    clash = python_clash(sys.path[0] or os.getcwd())
    if clash is not None:
        _print_message_only()
        raise NameClashError(clash)


def python_clash(folder: str) -> str | None:
    """Return what is wrong with the first file of a folder that has the name of a module of Python; None if there is none."""
    for name, path in _modules(folder):
        if name in sys.stdlib_module_names:
            return f"{path} has the name of Python's module {name!r}, and one hides the other. Rename it."
    return None


def package_clash(folder: str) -> str | None:
    """Return what is wrong with the first file of a folder that has the name of a module of a needed package; None if there is none."""
    from importlib.machinery import PathFinder

    elsewhere = [place for place in sys.path if os.path.realpath(place) != os.path.realpath(folder)]
    needed = None
    for name, path in _modules(folder):
        found = PathFinder.find_spec(name, elsewhere)
        if found is None or found.origin is None:
            continue
        needed = _needed_modules() if needed is None else needed
        if name in needed:
            return f"{path} has the name of the installed package {name!r}, and one hides the other. Rename it."
    return None


def _modules(folder: str) -> list[tuple[str, str]]:
    """Return the modules that can be imported from a folder, each with its path."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # not a folder, or not readable
        return []
    found = []
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".py"):
            found.append((name[:-3], path))
        elif name.isidentifier() and os.path.exists(os.path.join(path, "__init__.py")):
            found.append((name, path))
    return found


def _needed_modules() -> set[str]:
    """Return the modules of this library and of all installed packages that it can use, those of its extras included."""
    import re
    from importlib import metadata

    names, seen, modules = ["taskfleet"], set(), {"taskfleet", "numpy"}
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        modules |= {file.parts[0].removesuffix(".py") for file in distribution.files or ()}
        names += re.findall(r"(?m)^[\w.-]+", "\n".join(distribution.requires or ()))
    return modules


def _print_message_only() -> None:
    former = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
        if isinstance(error, NameClashError):
            print(f"error: {error}", file=sys.stderr)
        else:
            former(kind, error, trace)

    sys.excepthook = show
