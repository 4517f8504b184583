"""Objects of classes that can be imported by their name: dataclasses, named tuples, members of enumerations.

=============================================  ======================================================================================
``{"$object": ["module:Class", {name: …}]}``   a dataclass or named tuple, with the values of its fields and other attributes
``{"$enum": ["module:Class", "NAME"]}``        a member of an enumeration
``{"$enum": ["module:Class", null, value]}``   a combination of flags
=============================================  ======================================================================================

An object is restored without a call of its class: neither ``__init__`` nor ``__post_init__`` runs, as with ``copy`` and ``pickle``. The
text can only name classes of these three kinds, so the only code that it can have run is the import of an installed module.
"""

import sys
from importlib import import_module
from typing import Any

from taskfleet.errors import UnreadableValueError
from taskfleet.references.rules import Conversion, unsupported
from taskfleet.script_import import script_name
from taskfleet.tables.values import JSON, Path

_MISSING = object()


def dataclass_object(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return an object of a dataclass as one that JSON has."""
    kind = type(value)
    name = _class_name(value, path)
    try:
        object.__new__(kind)
    except TypeError:
        raise unsupported(value, path, "its class is derived from a built-in one") from None
    state = {field: getattr(value, field, _MISSING) for field in kind.__dataclass_fields__ if _is_stored(kind, field)}
    state |= getattr(value, "__dict__", {})
    for field, part in state.items():
        if part is _MISSING:
            raise unsupported(value, path, f"its field {field} has no value")
        _check_attribute(field, value, path)
    return {"$object": [name, {field: conversion.to_json(part, (*path, field)) for field, part in state.items()}]}


def named_tuple(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a named tuple as one that JSON has."""
    if len(value) != len(value._fields) or getattr(value, "__dict__", None):
        raise unsupported(value, path, "it has more than its fields")
    parts = zip(value._fields, value, strict=True)
    return {
        "$object": [
            _class_name(value, path),
            {field: conversion.to_json(part, (*path, field)) for field, part in parts},
        ]
    }


def member(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a member of an enumeration as one that JSON has."""
    kind = type(value)
    name = _class_name(value, path)
    if kind.__members__.get(value.name) is value:
        return {"$enum": [name, value.name]}
    return {"$enum": [name, None, conversion.to_json(value.value, (*path, "value"))]}


def restored_object(name: Any, state: Any) -> Any:
    """Return a dataclass object or named tuple.

    Args:
        name: The name of its class.
        state: The values of its attributes.

    Raises:
        UnreadableValueError: The class does not exist here, or has other fields.
    """
    kind: Any = _class(name)
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        if set(kind._fields) != set(state):
            raise _changed(name)
        return tuple.__new__(kind, (state[field] for field in kind._fields))
    if not hasattr(kind, "__dataclass_fields__"):
        raise UnreadableValueError(
            f"{name} is no dataclass or named tuple here. Use the same code as the task that returned it"
        )
    if any(field not in state for field in kind.__dataclass_fields__ if _is_stored(kind, field)):
        raise _changed(name)
    result = object.__new__(kind)
    for field, part in state.items():
        if field.startswith("__"):
            raise _changed(name)
        try:
            object.__setattr__(result, field, part)
        except AttributeError:
            raise _changed(name) from None
    return result


def restored_member(name: Any, member_name: Any, *value: Any) -> Any:
    """Return a member of an enumeration.

    Args:
        name: The name of the enumeration.
        member_name: The name of the member; None for a combination of flags.
        value: Its value.

    Raises:
        UnreadableValueError: The enumeration or the member does not exist here.
    """
    from enum import Enum

    kind = _class(name)
    if not issubclass(kind, Enum):
        raise UnreadableValueError(f"{name} is no enumeration here. Use the same code as the task that returned it")
    try:
        return kind[member_name] if member_name is not None else kind(*value)
    except (KeyError, ValueError):
        shown = member_name if member_name is not None else value
        raise UnreadableValueError(
            f"{name} has no member {shown} here. Use the same code as the task that returned it"
        ) from None


def _class_name(value: object, path: Path) -> str:
    """Return ``module:qualname`` of the class of a value.

    Raises:
        UnsupportedValueError: It cannot be imported by this name.
    """
    kind = type(value)
    module = (script_name() if kind.__module__ == "__main__" else "") or kind.__module__
    name = f"{module}:{kind.__qualname__}"
    remedy = f"Define {kind.__name__} at the top level of a module of the project."
    if module == "__main__":
        raise unsupported(
            value, path, f"its class {name} is in the script, which other processes do not import", remedy
        )
    found: Any = sys.modules.get(kind.__module__)
    for step in kind.__qualname__.split("."):
        found = getattr(found, step, None)
    if found is not kind:
        raise unsupported(value, path, f"its class {name} cannot be imported by this name", remedy)
    return name


def _class(name: Any) -> type[Any]:
    """Return the class with a name.

    Raises:
        UnreadableValueError: There is none.
    """
    module, _, qualname = name.partition(":")
    try:
        found: Any = sys.modules.get(module) or import_module(module)
        for step in qualname.split("."):
            found = getattr(found, step)
    except Exception as error:  # whatever the module raises when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise UnreadableValueError(
            f"The class {name} of a stored value cannot be imported here ({reason}). Use the same code as the task that returned it"
        ) from error
    if not isinstance(found, type):
        raise UnreadableValueError(f"{name} is no class here. Use the same code as the task that returned it")
    return found


def _is_stored(kind: Any, field: str) -> bool:
    """Return whether a field is one of the object, not of the class (``ClassVar``) or only a parameter (``InitVar``)."""
    return bool(kind.__dataclass_fields__[field]._field_type.name == "_FIELD")


def _check_attribute(field: object, value: object, path: Path) -> None:
    if not isinstance(field, str) or field.startswith("__"):
        raise unsupported(value, path, f"its attribute {field} has a name that Python reserves")


def _changed(name: str) -> UnreadableValueError:
    return UnreadableValueError(
        f"The class {name} has other fields than when the value was stored. Run the task that returned it again, or use the same code"
    )
