"""Values that only pickle can represent, of apps that declare ``pickle=True``.

``{"$pickle": ["3.11", base64]}``, or a file. A pickle is read by the same minor version of Python only.
"""

import pickle
import sys
from binascii import a2b_base64, b2a_base64
from typing import Any

from taskfleet.errors import UnreadableValueError
from taskfleet.extras import require
from taskfleet.references.contents import Content
from taskfleet.references.rules import unsupported
from taskfleet.references.store import Store
from taskfleet.tables.values import JSON, one_line

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def pickled(value: object, store: Store, inline_bytes: int) -> JSON:
    """Return a pickled value as an object that JSON has; a large one is written to the store.

    Raises:
        UnsupportedValueError: It cannot be pickled.
        StoreError: It cannot be written.
        MissingPackageError: cloudpickle is not installed.
    """
    require("cloudpickle", "app(pickle=True)")
    import cloudpickle

    try:
        data = cloudpickle.dumps(value)
    except Exception as error:  # whatever the classes of its parts raise
        reason = one_line(error, 300)
        raise unsupported(
            value,
            (),
            f"it cannot be pickled ({reason})",
            "Return a value of data only, or write a file and return its Path.",
        ) from error
    if len(data) * 4 // 3 <= inline_bytes:
        return {"$pickle": [_PYTHON, b2a_base64(data, newline=False).decode()]}
    file = store.write(Content(kind="pkl", size=len(data), write=lambda write: write(data)))
    return {"$file": file.reference("pkl") | {"python": _PYTHON}}


def check_python(version: Any, *, is_allowed: bool) -> None:
    """Check that a pickle may be read.

    Args:
        version: The version of Python that wrote it.
        is_allowed: Whether the app declares ``pickle=True``.

    Raises:
        UnreadableValueError: It may not.
        MissingPackageError: cloudpickle is not installed.
    """
    if not is_allowed:
        raise UnreadableValueError(
            "A stored value is a pickle, which is only read for app(pickle=True). Declare it for this app, too"
        )
    if version != _PYTHON:
        raise UnreadableValueError(
            f"A stored value was pickled by Python {version}, and this is Python {_PYTHON}. Use the same version, or run its task again"
        )
    require("cloudpickle", "app(pickle=True)")


def restored(data: bytes) -> Any:
    """Return a pickled value.

    Raises:
        UnreadableValueError: It cannot be restored here.
    """
    try:
        return pickle.loads(data)
    except Exception as error:  # whatever the classes of its parts raise
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise UnreadableValueError(
            f"A pickled value cannot be restored here ({reason}). Use the same code and packages as the task that returned it"
        ) from error


def restored_inline(parts: Any, *, is_allowed: bool) -> Any:
    """Return the value of a ``$pickle`` object."""
    version, data = parts
    check_python(version, is_allowed=is_allowed)
    return restored(a2b_base64(data, strict_mode=True))
