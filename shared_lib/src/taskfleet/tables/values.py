"""What becomes of each value on its way from a table into the JSON text of a task.

================================================  =================================================================
in the table                                      in the task
================================================  =================================================================
null, ``None``, NaN, ``NaT``, ``pd.NA``           ``null``
bool                                              ``true``, ``false``
int, of any size                                  the integer, exactly
float                                             the shortest text that gives the same float; ±infinity is refused
str                                               the text; lone surrogates are refused
date, datetime, time, timestamp                   ISO 8601 text; a zone stays as its offset, nanoseconds if not zero
timedelta, duration                               seconds, as a float
``Decimal``                                       its text
``UUID``, a path                                  its text
list, tuple, numpy array, pandas Series or Index  a list
dict, struct, map                                 an object; keys must be text
numpy scalar                                      what the same Python value becomes
categorical, dictionary-encoded                   what its values become
bytes, set, complex, anything else                refused
================================================  =================================================================

The text is canonical: keys sorted, at every depth, no spaces, characters beyond ASCII as they are. The same table therefore
gives the same text whatever its file format or the order of its columns.
"""

import datetime
import json
import reprlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value that JSON can carry."""

Path: TypeAlias = tuple[str | int, ...]
"""The way from a task to a nested value: names of columns and keys, positions in lists (from 0)."""

MAX_DEPTH = 100
"""Levels of nesting; deeper values are nearly always a list or a dict that contains itself."""

_SECOND = datetime.timedelta(seconds=1)
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


class Refused(Exception):
    """A value that JSON cannot carry; whoever knows the row and the table turns this into an ``InsertError``."""

    def __init__(self, path: Path, value: object, why: str, remedy: str) -> None:
        """Keep what was refused, why, and what to do."""
        super().__init__(path, value, why, remedy)
        self.path = path
        self.value = value
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        """Say what is wrong, with the value, and what to do."""
        return self.sentence()

    def sentence(self, place: str = "") -> str:
        """Say the same with the place in it, such as ``row 3 of tasks.csv``."""
        kind = type(self.value).__name__
        where = place and f" in {place}"
        return f"{path_text(self.path)} is {shown(self.value)} ({kind}){where}: {self.why}; {self.remedy}"


def to_json(value: object, path: Path = ()) -> JSON:
    """Turn a value into what JSON can carry, by the rules of this module.

    Raises:
        Refused: no rule fits; `path` then leads to the innermost value at fault.
    """
    return _rule_of(type(value))(value, path)  # type: ignore[arg-type]  # classes are hashable


def json_text(value: JSON) -> str:
    """Write what `to_json` made as canonical JSON text."""
    return _encode(value)


def path_text(path: Path) -> str:
    """Write a path the way a user would: ``opts.scale[2]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    # A key may hold the lone surrogate that it is refused for, which no terminal prints.
    return text.removeprefix(".").encode(errors="backslashreplace").decode() or "the value"


def shown(value: object) -> str:
    """Return the value's repr, cut to what fits in a message."""
    return _short.repr(value)


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
            raise Refused(path, "an integer", "it has too many digits to be written", "write it as text") from None
    return number


def _real(value: float, path: Path) -> JSON:
    number = float(value)
    if number != number:
        return None
    if number in (float("inf"), float("-inf")):
        raise Refused(path, value, "JSON has no infinity", "write a finite number, or leave the value empty")
    return number


def _text(value: str, path: Path) -> JSON:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused(
                path, value, "it contains half of a character (a lone surrogate)", "write the whole character"
            ) from None
    return text


def _decimal(value: Any, path: Path) -> JSON:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise Refused(path, value, "JSON has no infinity", "write a finite number, or leave the value empty")
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
            raise Refused(path, value, f"its key {shown(key)} ({kind}) is not text", "write the keys as text")
        name = str.__str__(key)
        _text(name, (*path, name))
        result[name] = to_json(item, (*path, name))
    return result


def _check_depth(value: object, path: Path) -> None:
    if len(path) > MAX_DEPTH:
        raise Refused(path[:3], value, f"it is nested deeper than {MAX_DEPTH} levels", "write it flatter")


def _numpy_scalar(value: Any, path: Path) -> JSON:
    python = value.item()
    if type(python) is type(value):  # a long double stays what it is
        return _refuse(value, path)
    return to_json(python, path)


def _numpy_time(value: Any, path: Path) -> JSON:
    python = value.item()
    if not isinstance(python, int):
        return to_json(python, path)
    # An integer means that Python's classes are too coarse or too narrow for it.
    if value.dtype.name == "datetime64[ns]":
        second, _, nanoseconds = str(value).partition(".")
        return f"{second}.{nanoseconds.removesuffix('000')}".removesuffix(".000000")
    if value.dtype.name in ("timedelta64[ns]", "timedelta64[us]", "timedelta64[ms]", "timedelta64[s]"):
        return float(value / value.dtype.type(1, "s"))
    return _refuse(value, path)


def _numpy_array(value: Any, path: Path) -> JSON:
    return _array(value, path) if value.dtype.kind in "mM" and value.ndim else to_json(value.tolist(), path)


_REMEDIES = {
    "bytes": "write it as text, or put it in a file and write the file's path",
    "bytearray": "write it as text, or put it in a file and write the file's path",
    "set": "write a list",
    "frozenset": "write a list",
    "complex": "write the real and the imaginary part as two columns",
}


def _refuse(value: object, path: Path) -> JSON:
    remedy = _REMEDIES.get(type(value).__name__, "write a number, a text, a list or an object")
    raise Refused(path, value, "JSON has no such kind of value", remedy)


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

# By package and name, so that these packages are not imported for a table that has none of their values.
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
    return _refuse
