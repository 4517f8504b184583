"""Functions that workers cannot import: lambdas, functions inside functions, and those of notebooks and other sessions without a file.

They are stored as pickles, one for each version of their code. The code, and the values that it holds, belong to the identity of a call: of
two functions of one name, as a notebook or a loop defines them, each has its own tasks.
"""

import io
import json
import re
import sys
from collections.abc import Callable
from hashlib import blake2b
from types import FunctionType
from typing import Any

from taskfleet.code_versions.objects import code_digest
from taskfleet.errors import StoreError, UsageError
from taskfleet.extras import require
from taskfleet.ledger import calls, code
from taskfleet.ledger.database import Database
from taskfleet.references import Store
from taskfleet.tables.values import one_line
from taskfleet.text import counted
from taskfleet.worker import stored_functions
from taskfleet.worker.stored_functions import StoredFunction

MOST_BYTES = 1 << 20
_NEEDED_BY = "A function that workers cannot import (a lambda, one inside another function, or one of a notebook)"
_DIGEST_LENGTH = 16


def is_session() -> bool:
    """Return whether the main program is no file: a notebook, standard input or ``python -c``."""
    return getattr(sys.modules["__main__"], "__file__", "<").startswith("<")  # <stdin>


def name_of(function: Any, module: str, version: str | None) -> str:
    """Return the name of a function by value: ``module:function@digest``.

    Args:
        function: The function.
        module: The module that defines it.
        version: The version that its app declares. It replaces the digest of the code, unless there may be several functions of this name.

    Raises:
        MissingPackageError: cloudpickle is not installed.
        UsageError: It is no function.
    """
    qualname = getattr(function, "__qualname__", "")
    if not hasattr(function, "__code__"):
        raise UsageError(f"{function!r:.100} cannot be stored. Wrap it in a function.")
    require("cloudpickle", _NEEDED_BY)
    is_unique = "<" not in qualname
    digest = version if version and is_unique else code_digest(function, _object_digest)
    identity = blake2b(f"{version or ''}\n{digest}".encode(), digest_size=_DIGEST_LENGTH // 2).hexdigest()
    short = re.sub(r"<(\w+)>", r"\1", qualname.replace("<locals>.", ""))
    return f"{module}:{short}@{identity}"


def register(database: Database, store: Store, app: Any) -> int:
    """Store the function of an app, unless the job has it; return its number in the ledger.

    Args:
        database: The job's ledger.
        store: Where it is stored.
        app: The app; see ``apps.App``.

    Raises:
        UsageError: It cannot be stored.
    """
    name = app.name
    if "<" not in app.function.__qualname__:
        _say_what_is_kept(database, name)
    place = calls.stored_as(database, name)
    if not place or not stored_functions.is_usable(place, store, is_bash=app.is_bash, may_pickle=app.may_pickle):
        place = _save(store, app)
    mpi = {"mpi": app.mpi} if app.mpi else {}
    options = json.dumps({"stored": place, "version": name.rpartition("@")[2], **mpi})
    return calls.register_by_value(database, name, options, app.manager)


def _save(store: Store, app: Any) -> str:
    """Store the function of an app; return the name by which workers load it."""
    name = app.name
    if not store.address:
        raise UsageError(
            f"{name} cannot be imported by workers, and there is no place from where they could read it. Set RESULTS_PATH to a bucket "
            "(s3://…, gs://…) or to a folder that the workers and this machine share, or move the function into a module of the project."
        )
    data = _pickled(name, app.function)
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"{name} takes {len(data) / 2**20:.1f} MiB with the values that it uses, and at most 1 MiB is allowed. Pass large values as "
            "arguments."
        )
    stored = StoredFunction(data, is_bash=app.is_bash, may_pickle=app.may_pickle)
    try:
        return stored_functions.save(_pickled(name, stored), store, manager="", name=name)
    except StoreError as error:
        raise UsageError(f"{name} cannot be stored: {error}") from None


def _say_what_is_kept(database: Database, name: str) -> None:
    """Tell the user of tasks that other code of a new version of a function has done."""
    n = 0 if calls.stored_as(database, name) else code.count_done_by_other_versions(database, name)
    if n:
        print(
            f"{name.partition(':')[2].partition('@')[0]}: {counted(n, 'task')} {'was' if n == 1 else 'were'} done by other code. Their "
            "results are kept, and calls of the new code are other tasks.",
            file=sys.stderr,
        )


def _pickled(name: str, value: Any) -> bytes:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:  # whatever the classes of its parts raise
        raise UsageError(
            f"{name} cannot be stored, because a value that it uses cannot be pickled ({one_line(error, 300)}). Pass data as arguments, "
            "and create other objects inside the function."
        ) from None
    return data


def _object_digest(value: Any, digest: Callable[[Any], str]) -> str:
    """Return the digest of an object that a function uses; the same for all objects of a type that cannot be pickled."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, part: object) -> str | None:
            """Replace what has pickles that differ from run to run."""
            return digest(part) if isinstance(part, type | FunctionType | set | frozenset) else None

    file = io.BytesIO()
    try:
        Pickler(file).dump(value)
    except Exception:  # the error comes when the function is stored, if the object belongs to it
        return ""
    return blake2b(file.getvalue(), digest_size=16).hexdigest()
