"""How values of each type become values that JSON has."""

import sys
from abc import ABC, abstractmethod
from binascii import b2a_base64
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from taskfleet.references import times
from taskfleet.references.contents import Content
from taskfleet.tables.values import JSON, Path, UnsupportedValueError, check_depth, shown

REMEDY = (
    "Return a supported type, or write a file and return its Path, or declare app(pickle=True), which needs the package cloudpickle "
    "(uv add 'taskfleet[cloudpickle]')."
)

#: Integers with more bits are written as hexadecimal digits: a process may be set to read only 640 decimal digits.
_MOST_BITS = 2_000


class Conversion(ABC):
    """One value that is being converted."""

    @abstractmethod
    def to_json(self, value: object, path: Path) -> JSON:
        """Return a part of the value as one that JSON has.

        Raises:
            UnsupportedValueError: Its type is not supported.
        """

    @abstractmethod
    def content(self, content: Content) -> JSON:
        """Return a content as an inline object if it is small, or as a reference to a file."""

    @abstractmethod
    def inline(self, content: Content) -> JSON:
        """Return a content as an inline object."""

    @abstractmethod
    def text(self, tree: JSON) -> str:
        """Return the JSON text of a converted value."""


Rule: TypeAlias = Callable[[Conversion, Any, Path], JSON]


def unsupported(value: object, path: Path, reason: str, remedy: str = REMEDY) -> UnsupportedValueError:
    """Return the error for a part of a value."""
    return UnsupportedValueError(path, value, reason, remedy)


def _itself(_conversion: Conversion, value: JSON, _path: Path) -> JSON:
    return value


def _integer(_conversion: Conversion, value: int, _path: Path) -> JSON:
    return value if value.bit_length() <= _MOST_BITS else {"$int": f"{value:x}"}


def real(value: float) -> JSON:
    """Return a float as one that JSON has."""
    return {"$float": repr(value)} if value != value or value in (float("inf"), float("-inf")) else value


def text(value: str) -> JSON:
    """Return text as one that JSON has."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"$text": b2a_base64(value.encode(errors="surrogatepass"), newline=False).decode()}
    return value


def _list(conversion: Conversion, value: list[Any], path: Path) -> JSON:
    check_depth(value, path)
    return [conversion.to_json(item, (*path, index)) for index, item in enumerate(value)]


def _tuple(conversion: Conversion, value: tuple[Any, ...], path: Path) -> JSON:
    return {"$tuple": _list(conversion, value, path)}  # type: ignore[arg-type]


def _set(conversion: Conversion, value: set[Any] | frozenset[Any], path: Path) -> JSON:
    check_depth(value, path)
    items = [conversion.to_json(item, (*path, _step(item))) for item in value]
    return {f"${type(value).__name__}": sorted(items, key=conversion.text)}


def _dict(conversion: Conversion, value: dict[Any, Any], path: Path) -> JSON:
    check_depth(value, path)
    if all(type(key) is str and text(key) is key for key in value):
        tree = {key: conversion.to_json(item, (*path, key)) for key, item in value.items()}
        return {"$dict": tree} if len(tree) == 1 and next(iter(tree)).startswith("$") else tree
    pairs: list[JSON] = []
    for key, item in value.items():
        step = _step(key)
        pairs.append([conversion.to_json(key, (*path, f"key {step}")), conversion.to_json(item, (*path, step))])
    return {"$map": pairs}


def _step(key: Any) -> str | int:
    """Return the part of a path for a key or an item of a set."""
    if type(key) is str or (isinstance(key, int) and key.bit_length() <= _MOST_BITS):
        return key
    try:
        return shown(key)
    except ValueError:  # an integer with more digits than this process may write
        return type(key).__name__


def _bytes(conversion: Conversion, value: bytes, _path: Path) -> JSON:
    return conversion.content(Content(kind="bin", size=len(value), write=lambda write: write(value)))


def _bytearray(conversion: Conversion, value: bytearray, path: Path) -> JSON:
    return {"$bytearray": _bytes(conversion, value, path)}  # type: ignore[arg-type]


def _no_rule(_conversion: Conversion, value: object, path: Path) -> JSON:
    raise unsupported(value, path, "this type cannot be passed between tasks")


def _lazily(module: str, name: str) -> Rule:
    """Return a rule of a module of this package that is only imported when it is needed."""

    def rule(conversion: Conversion, value: Any, path: Path) -> JSON:
        from importlib import import_module

        found: JSON = getattr(import_module(f"taskfleet.references.{module}"), name)(conversion, value, path)
        return found

    return rule


_BUILTIN: dict[type, Rule] = {
    type(None): _itself,
    bool: _itself,
    int: _integer,
    float: lambda _, value, __: real(value),
    str: lambda _, value, __: text(value),
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _set,
    dict: _dict,
    bytes: _bytes,
    bytearray: _bytearray,
    complex: lambda _, value, __: {"$complex": [real(value.real), real(value.imag)]},
    **times.RULES,
}

#: By module and name, to import a package only if it has made the value.
_EXACT: dict[tuple[str, str], Rule] = {
    ("decimal", "Decimal"): lambda _, value, __: {"$decimal": str(value)},
    ("uuid", "UUID"): lambda _, value, __: {"$uuid": str(value)},
    ("pathlib", "PosixPath"): lambda _, value, __: {"$path": text(str(value))},
    ("pathlib", "WindowsPath"): lambda _, value, __: {"$path": text(str(value))},
}

#: By package and name; also for derived classes, whose rule may reject them.
_DERIVED: dict[tuple[str, str], Rule] = {
    ("numpy", "generic"): _lazily("arrays", "scalar"),
    ("numpy", "ndarray"): _lazily("arrays", "array"),
    ("pandas", "DataFrame"): _lazily("frames", "frame"),
    ("pandas", "Series"): _lazily("frames", "series"),
    ("pandas", "Timestamp"): _lazily("frames", "timestamp"),
    ("pandas", "Timedelta"): _lazily("frames", "duration"),
    ("pandas", "NaTType"): lambda _, __, ___: {"$missing": "NaT"},
    ("pandas", "NAType"): lambda _, __, ___: {"$missing": "NA"},
    ("pyarrow", "Table"): _lazily("frames", "table"),
    ("pyarrow", "RecordBatch"): _lazily("frames", "batch"),
    ("enum", "Enum"): _lazily("classes", "member"),
}


@lru_cache(maxsize=512)
def rule_of(kind: type) -> Rule:
    """Return the rule for a type."""
    rule = _BUILTIN.get(kind) or _EXACT.get((kind.__module__.partition("._")[0], kind.__qualname__))
    if rule is not None and (
        kind in _BUILTIN or getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind
    ):
        return rule
    for base in kind.__mro__:
        rule = _DERIVED.get((base.__module__.partition(".")[0], base.__name__))
        if rule is not None:
            return rule
    if hasattr(kind, "__dataclass_fields__"):
        return _lazily("classes", "dataclass_object")
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _lazily("classes", "named_tuple")
    return _no_rule


def has_rule(kind: type) -> bool:
    """Return whether values of a type are supported; its rule may still reject some of them."""
    return rule_of(kind) is not _no_rule
