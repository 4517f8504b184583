"""Functions that workers cannot import by name: a script or a notebook defines them, so they travel as a file of the store.

The ledger has such a function as ``stored:PYTHON:HASH:BYTES:MANAGER:NAME``: the minor version of Python that pickled it, the hash and the
size of the file, the manager that runs it, and its own name.
"""

import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.errors import FunctionError, LostFileError, MissingPackageError, StoreError, UnreadableValueError
from taskfleet.extras import require
from taskfleet.references.contents import Content, StoredFile, file_name
from taskfleet.references.store import Store
from taskfleet.script_import import StopImport, importing
from taskfleet.tracebacks import describe_users_error

PREFIX = "stored:"
#: The minor version of this Python.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class StoredFunction:
    """A function by value; what the file has is an object of this class, pickled.

    Args:
        data: The function, pickled.
        is_bash: Whether it returns a command.
        may_pickle: Whether its arguments and results may be pickled.
        folders: From where it imports modules, besides the project's folder.
    """

    def __init__(self, data: bytes, *, is_bash: bool, may_pickle: bool, folders: Sequence[str] = ()) -> None:
        self.is_bash = is_bash
        self.may_pickle = may_pickle
        self._folders = list(folders)
        self._data = data

    def load(self) -> Callable[..., Any]:
        """Return the function, which takes the data of a task."""
        for folder in reversed(self._folders):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        function: Callable[..., Any] = pickle.loads(self._data)
        return function


def is_stored(name: str) -> bool:
    """Return whether a name of the ledger is that of a stored function."""
    return name.startswith(PREFIX)


def save(data: bytes, store: Store, *, manager: str, name: str) -> str:
    """Write a pickled function to the store; return its name in the ledger."""
    file = store.write(Content(kind="pkl", size=len(data), write=lambda write: write(data)))
    return f"{PREFIX}{PYTHON}:{file.sha256}:{file.n_bytes}:{manager}:{name}"


def is_usable(name: str, store: Store, *, is_bash: bool, may_pickle: bool) -> bool:
    """Return whether the file of a stored function is there, of this version of Python, and of an app with these arguments."""
    if name.split(":", 2)[1] != PYTHON:
        return False
    try:
        stored: StoredFunction = pickle.loads(store.read(_file(name), bytes))
    except StoreError:
        return False
    return (stored.is_bash, stored.may_pickle) == (is_bash, may_pickle)


def _file(name: str) -> StoredFile:
    _, _, sha256, n_bytes, _ = name.split(":", 4)
    return StoredFile(name=file_name(sha256, "pkl"), n_bytes=int(n_bytes), sha256=sha256)


def load(name: str, store: Store) -> tuple[StoredFunction, Callable[..., Any]]:
    """Return a stored function, and what is called with the data of a task.

    Raises:
        FunctionError: It cannot be unpickled here.
        StoreError: Its file cannot be read.
    """
    _, python, _, _, _, short = name.split(":", 5)
    if python != PYTHON:
        raise FunctionError(
            f"{short} was stored by Python {python}, and this is Python {PYTHON}. Run the script that made the task again with this Python."
        )
    try:
        require("cloudpickle", short)
        with importing():
            stored: StoredFunction = pickle.loads(store.read(_file(name), bytes))
            return stored, stored.load()
    except LostFileError as error:
        lost = str(error).replace(", which is the result of a task,", "").removesuffix(". Run that task again")
        raise FunctionError(f"{short} cannot be restored: {lost}. Run the script again, which stores it") from None
    except MissingPackageError as error:
        raise FunctionError(str(error)) from None
    except StopImport:
        raise FunctionError(
            f"{short} needs a module that waits for the result of a call while it is imported. Put that under "
            "if __name__ == '__main__'."
        ) from None
    except UnreadableValueError:
        raise
    except Exception as error:  # whatever the modules that it needs raise
        raise FunctionError(f"{short} cannot be restored: {describe_users_error(error)}") from error
