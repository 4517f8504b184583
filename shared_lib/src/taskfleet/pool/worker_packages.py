"""Which of a project's locked packages a worker on a machine does not need.

Machines run this module with the vendored library before anything is installed, so it imports only the standard library and modules that
do the same. It prints arguments for ``uv sync``::

    python -m taskfleet.pool.worker_packages [PACKAGE...]    keep these packages for queue services; without any, keep all
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from taskfleet.errors import BundleError, MissingPackageError
from taskfleet.extras import OPTIONAL_PACKAGES

_LIBRARY = "taskfleet"
#: The dependencies of the library that each worker imports. Its other dependencies read tables, show progress and start machines.
_ALWAYS = frozenset({"python-dotenv"})
#: The packages for queue services.
_SERVICES = frozenset(OPTIONAL_PACKAGES[module].distribution for module in ("botocore", "google.pubsub_v1", "psycopg"))
#: The group that ``uv sync --no-dev`` leaves out.
_DEV = "dev"

_Packages = Mapping[str, Sequence[Mapping[str, Any]]]
#: A package, and one of its extras; empty for the package itself.
_Node = tuple[str, str]


def read_lock(project: Path) -> Sequence[Mapping[str, Any]]:
    """Return the packages of a project's uv.lock.

    Raises:
        BundleError: There is none, or it cannot be read.
    """
    lock = project / "uv.lock"
    if not lock.is_file():
        raise BundleError(f"There is no uv.lock in {project}, which lists what machines install. Create it: uv lock")
    try:
        packages: Sequence[Mapping[str, Any]] = tomllib.loads(lock.read_text(encoding="utf-8")).get("package", [])
    except (OSError, ValueError) as error:
        raise BundleError(f"{lock} cannot be read ({error}). Create it again: uv lock") from error
    return packages


def unneeded_packages(lock: Sequence[Mapping[str, Any]], services: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the packages that ``uv sync --no-dev`` would install and a worker does not import.

    A worker needs python-dotenv, the packages for queue services, and what the project's own dependencies reach. Everything else
    is in the lock only because the library needs it on the user's computer.

    Args:
        lock: The packages of uv.lock.
        services: The packages for queue services to keep; all of them if empty.

    Raises:
        MissingPackageError: The lock does not have one of these packages.
    """
    packages: dict[str, list[Mapping[str, Any]]] = {}
    for package in lock:
        packages.setdefault(package["name"], []).append(package)
    roots = [package for package in lock if _is_project(package)]
    declared = [entry for root in roots for entry in _declared(root)]
    installed = _reached(packages, declared, only=None)
    for distribution, extra in OPTIONAL_PACKAGES.values():
        if roots and distribution in services and distribution not in installed:
            raise MissingPackageError(
                f"QUEUE_URL needs the package {distribution} on machines, and uv.lock does not have it. Add it to the project: "
                f"uv add 'taskfleet[{extra}]'",
                extra=extra,
            )
    return tuple(sorted(installed - _reached(packages, declared, only=_ALWAYS | (set(services) or _SERVICES))))


def _is_project(package: Mapping[str, Any]) -> bool:
    return "." in (package.get("source", {}).get(kind) for kind in ("virtual", "editable"))


def _declared(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the project's dependencies, and those of all its groups but that for development: uv may install them by default."""
    yield from root.get("dependencies", ())
    for group, entries in root.get("dev-dependencies", {}).items():
        if group != _DEV:
            yield from entries


def _reached(packages: _Packages, entries: Iterable[Mapping[str, Any]], *, only: Set[str] | None) -> set[str]:
    """Return the names of all packages that some dependencies lead to.

    Args:
        packages: The lock's packages by name; there may be several versions of one.
        entries: Where to begin.
        only: The dependencies of the library to follow, those of its extras included; None for those that the lock asks for.
    """
    seen: set[_Node] = set()
    open_nodes = [node for entry in entries for node in _nodes(entry)]
    while open_nodes:
        node = open_nodes.pop()
        if node not in seen:
            seen.add(node)
            open_nodes += [found for entry in _dependencies(packages, node, only) for found in _nodes(entry)]
    return {name for name, _ in seen}


def _nodes(entry: Mapping[str, Any]) -> Iterator[_Node]:
    yield entry["name"], ""
    for extra in entry.get("extra", ()):
        yield entry["name"], extra


def _dependencies(packages: _Packages, node: _Node, only: Set[str] | None) -> Iterator[Mapping[str, Any]]:
    name, extra = node
    for package in packages.get(name, ()):
        optional = package.get("optional-dependencies", {})
        if only is None or name != _LIBRARY:
            yield from optional.get(extra, ()) if extra else package.get("dependencies", ())
        else:
            every = [*package.get("dependencies", ()), *(entry for group in optional.values() for entry in group)]
            yield from (entry for entry in every if entry["name"] in only)


if __name__ == "__main__":
    try:
        for unneeded in unneeded_packages(read_lock(Path()), sys.argv[1:]):
            print(f"--no-install-package\n{unneeded}")
    except (BundleError, MissingPackageError) as error:
        sys.exit(str(error))
