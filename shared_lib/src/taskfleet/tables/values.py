"""The conversion of table values to the JSON text of a task.

================================================  =================================================================
in the table                                      in the task
================================================  =================================================================
null, ``None``, NaN, ``NaT``, ``pd.NA``           ``null``
bool                                              ``true``, ``false``
int, of any size                                  the integer, exactly
float                                             the shortest text that gives the same float; ±infinity is rejected
str                                               the text; lone surrogates are rejected
date, datetime, time, timestamp                   ISO 8601 text, with the UTC offset of its zone, and nanoseconds if not zero
timedelta, duration                               seconds, as a float
``Decimal``                                       its text
``UUID``, a path                                  its text
list, tuple, numpy array, pandas Series or Index  a list
dict, struct, map                                 an object; keys must be text
numpy scalar                                      as the same Python value
categorical, dictionary-encoded                   as its values
bytes, set, complex, anything else                rejected
================================================  =================================================================

The text is canonical: sorted keys at every level, no spaces, no escapes for non-ASCII characters. The same table therefore gives the
same text in any file format and with any order of columns.
"""

import datetime
import json
import reprlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value that JSON can represent."""

Path: TypeAlias = tuple[str | int, ...]
"""The path from a task to a nested value: names of columns and keys, and list indices from 0."""

MAX_DEPTH = 100
"""Levels of nesting; a deeper value is almost always a list or dict that contains itself."""

_SECOND = datetime.timedelta(seconds=1)
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


class UnsupportedValueError(Exception):
    """A value that JSON cannot represent. Callers that know the row and the table raise an ``InsertError`` instead.

    Args:
        path: The path of the value.
        value: The value.
        reason: Why JSON cannot represent it.
        remedy: What to do, as a sentence.
    """

    def __init__(self, path: Path, value: object, reason: str, remedy: str) -> None:
        super().__init__(path, value, reason, remedy)
        self.path = path
        self.value = value
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message without a place."""
        return self.message()

    def message(self, place: str = "") -> str:
        """Return what is wrong and what to do, with a place such as ``row 3 of tasks.csv``."""
        kind = type(self.value).__name__
        where = place and f" in {place}"
        return f"{path_text(self.path)} is {shown(self.value)} ({kind}){where}: {self.reason}. {self.remedy}"


def to_json(value: object, path: Path = ()) -> JSON:
    """Convert a value to one that JSON can represent, by the rules of this module.

    Raises:
        UnsupportedValueError: No rule applies; its ``path`` is that of the innermost unsupported value.
    """
    return _rule_of(type(value))(value, path)  # type: ignore[arg-type]  # classes are hashable


def json_text(value: JSON) -> str:
    """Return a result of ``to_json`` as canonical JSON text."""
    return _encode(value)


def path_text(path: Path) -> str:
    """Return a path in the notation of Python: ``opts.scale[2]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    # A key may contain a lone surrogate, which is rejected and which no terminal can print.
    return text.removeprefix(".").encode(errors="backslashreplace").decode() or "the value"


def shown(value: object) -> str:
    """Return the repr of a value, shortened for a message."""
    return _short.repr(value)


def one_line(error: Exception, most: int) -> str:
    """Return the text of an exception on one line, without a full stop at its end and cut to ``most`` characters."""
    return " ".join(str(error).split())[:most].removesuffix(".")


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False, check_circular=False
).encode

Rule: TypeAlias = Callable[[Any, Path], JSON]


def _null(_value: object, _path: Path) -> JSON:
    return None


def _integer(value: int, path: Path) -> JSON:
    number = int(value)
    if number.bit_length() > 10_000:
        try:
            str(number)
        except ValueError:
            raise UnsupportedValueError(path, "an integer", "it has too many digits", "Write it as text.") from None
    return number


def _real(value: float, path: Path) -> JSON:
    number = float(value)
    if number != number:
        return None
    if number in (float("inf"), float("-inf")):
        raise UnsupportedValueError(
            path, value, "JSON has no infinity", "Write a finite number, or leave the value empty."
        )
    return number


def _text(value: str, path: Path) -> JSON:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnsupportedValueError(
                path, value, "it contains a lone surrogate (half of a character)", "Write the whole character."
            ) from None
    return text


def _decimal(value: Any, path: Path) -> JSON:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise UnsupportedValueError(
            path, value, "JSON has no infinity", "Write a finite number, or leave the value empty."
        )
    return str(value)


def _array(values: Iterable[object], path: Path) -> JSON:
    _check_depth(values, path)
    return [to_json(value, (*path, index)) for index, value in enumerate(values)]


def _object(value: dict[object, object], path: Path) -> JSON:
    _check_depth(value, path)
    result: dict[str, JSON] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            kind = type(key).__name__
            raise UnsupportedValueError(
                path, value, f"its key {shown(key)} ({kind}) is not text", "Write the keys as text."
            )
        name = str.__str__(key)
        _text(name, (*path, name))
        result[name] = to_json(item, (*path, name))
    return result


def _check_depth(value: object, path: Path) -> None:
    if len(path) > MAX_DEPTH:
        raise UnsupportedValueError(
            path[:3], value, f"it is nested deeper than {MAX_DEPTH} levels", "Reduce the nesting."
        )


def _numpy_scalar(value: Any, path: Path) -> JSON:
    python = value.item()
    if type(python) is type(value):  # a long double has no Python equivalent
        return _reject(value, path)
    return to_json(python, path)


def _numpy_time(value: Any, path: Path) -> JSON:
    python = value.item()
    if not isinstance(python, int):
        return to_json(python, path)
    # An integer: the resolution or the range of Python's classes is too small.
    if value.dtype.name == "datetime64[ns]":
        second, _, nanoseconds = str(value).partition(".")
        return f"{second}.{nanoseconds.removesuffix('000')}".removesuffix(".000000")
    if value.dtype.name in ("timedelta64[ns]", "timedelta64[us]", "timedelta64[ms]", "timedelta64[s]"):
        return float(value / value.dtype.type(1, "s"))
    return _reject(value, path)


def _numpy_array(value: Any, path: Path) -> JSON:
    return _array(value, path) if value.dtype.kind in "mM" and value.ndim else to_json(value.tolist(), path)


_REMEDIES = {
    "bytes": "Write it as text, or store it in a file and write the path.",
    "bytearray": "Write it as text, or store it in a file and write the path.",
    "set": "Write a list.",
    "frozenset": "Write a list.",
    "complex": "Write the real and the imaginary part as two columns.",
}


def _reject(value: object, path: Path) -> JSON:
    remedy = _REMEDIES.get(type(value).__name__, "Write a number, text, a list or an object.")
    raise UnsupportedValueError(path, value, "JSON has no such type", remedy)


_BUILTIN: dict[type, Rule] = {
    type(None): _null,
    bool: lambda value, _: bool(value),
    int: _integer,
    float: _real,
    str: _text,
    datetime.datetime: lambda value, _: str(value.isoformat()),
    datetime.date: lambda value, _: str(value.isoformat()),
    datetime.time: lambda value, _: str(value.isoformat()),
    datetime.timedelta: lambda value, _: float(value / _SECOND),
    PurePath: lambda value, path: _text(str(value), path),
    list: _array,
    tuple: _array,
    dict: _object,
}

# By package and name, to import these packages only for tables with their values.
_FOREIGN: dict[tuple[str, str], Rule] = {
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): lambda value, _: str(value),
    ("pandas", "NAType"): _null,
    ("pandas", "NaTType"): _null,
    ("pandas", "Series"): lambda value, path: _array(value.tolist(), path),
    ("pandas", "Index"): lambda value, path: _array(value.tolist(), path),
    ("pandas", "ExtensionArray"): lambda value, path: _array(value.tolist(), path),
    ("numpy", "datetime64"): _numpy_time,
    ("numpy", "timedelta64"): _numpy_time,
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "ndarray"): _numpy_array,
}


@lru_cache(maxsize=512)
def _rule_of(kind: type) -> Rule:
    for base in kind.__mro__:
        rule = _BUILTIN.get(base) or _FOREIGN.get((base.__module__.partition(".")[0], base.__name__))
        if rule is not None:
            return rule
    return _reject
