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
time of day whose zone has no fixed offset        rejected
timedelta, duration                               seconds, as the nearest float; months and years are rejected
``Decimal``                                       its text
``UUID``, a path                                  its text
list, tuple, numpy array, pandas Series or Index  a list; a Series with labels of its own is rejected
dict, struct, map                                 an object; keys must be text
numpy scalar, array of zero dimensions            as the same Python value
numpy structured scalar or element                an object
masked                                            ``null``
categorical, dictionary-encoded                   as its values
bytes, set, complex, anything else                rejected
================================================  =================================================================

The text is canonical: sorted keys at every level, no spaces, no escapes for non-ASCII characters. The same table therefore gives the
same text in any file format and with any order of columns.
"""

import datetime
import json
import reprlib
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TypeAlias

from taskfleet.tables.limits import MAX_DIGITS

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""A value that JSON can represent."""

Path: TypeAlias = tuple[str | int, ...]
"""The path from a task to a nested value: names of columns and keys, and list indices from 0."""

MAX_DEPTH = 100
"""Levels of nesting; a deeper value is almost always a list or dict that contains itself."""


class _Short(reprlib.Repr):
    """Short texts of values for messages."""

    def repr_int(self, x: int, level: int) -> str:
        """Return the digits of an integer, or how many there are if Python writes no integers of so many."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"an integer of about {x.bit_length() * 0.30103 + 1:,.0f} digits"


_SECOND = datetime.timedelta(seconds=1)
_short = _Short()
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
    """Return the repr of a value on one line, shortened for a message."""
    return _short.repr(value).replace("\n", " ")


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
    number = int.__int__(value)
    if number.bit_length() > 2_000:
        most = min(MAX_DIGITS, sys.get_int_max_str_digits() or MAX_DIGITS)  # of this process
        if abs(number) >= 10**most:
            raise UnsupportedValueError(path, number, f"it has more than {most:,} digits", "Write it as text.")
    return number


def _real(value: float, path: Path) -> JSON:
    number = float.__float__(value)
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


def _unreadable(value: Any, path: Path) -> JSON:
    raise UnsupportedValueError(path, value, value.reason, "Write it as text, or with fewer digits.")


def _array(values: Iterable[object], path: Path) -> JSON:
    check_depth(values, path)
    return [to_json(value, (*path, index)) for index, value in enumerate(values)]


def _object(value: dict[object, object], path: Path) -> JSON:
    check_depth(value, path)
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


def check_depth(value: object, path: Path) -> None:
    """Raise an UnsupportedValueError if a list or object is nested too deep."""
    if len(path) > MAX_DEPTH:
        raise UnsupportedValueError(
            path[:3], value, f"it is nested deeper than {MAX_DEPTH} levels", "Reduce the nesting."
        )


def _time(value: datetime.time, path: Path) -> JSON:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise UnsupportedValueError(
            path, value, "its zone has no offset without a date", "Write the date with it, or leave out the zone."
        )
    return value.isoformat()


def _numpy_scalar(value: Any, path: Path) -> JSON:
    if value.dtype.names is not None:
        return _numpy_fields(value, path)
    python = value.item()
    if type(python) is type(value):  # a long double has no Python equivalent
        return _reject(value, path)
    return to_json(python, path)


def _numpy_fields(value: Any, path: Path) -> JSON:
    """Convert a structured scalar, or array of zero dimensions."""
    return _object({name: value[name] for name in value.dtype.names}, path)


def _numpy_time(value: Any, path: Path) -> JSON:
    python = value.item()
    if not isinstance(python, int):
        return to_json(python, path)
    # An integer: the resolution or the range of Python's classes is too small.
    if value.dtype.name == "datetime64[ns]":
        second, _, nanoseconds = str(value).partition(".")
        return f"{second}.{nanoseconds.removesuffix('000')}".removesuffix(".000000")
    return _reject(value, path)


#: Units of numpy's durations: so many of one are so many seconds.
_UNITS = {
    "W": (1, 604_800),
    "D": (1, 86_400),
    "h": (1, 3_600),
    "m": (1, 60),
    "s": (1, 1),
    "ms": (10**3, 1),
    "us": (10**6, 1),
}
_UNITS |= {"ns": (10**9, 1), "ps": (10**12, 1), "fs": (10**15, 1), "as": (10**18, 1)}


def _numpy_duration(value: Any, path: Path) -> JSON:
    unit, step = sys.modules["numpy"].datetime_data(value.dtype)
    if value != value:
        return None
    if unit not in _UNITS:
        return _reject(value, path)
    many, seconds = _UNITS[unit]
    result: float = int(value.astype("int64")) * step * seconds / many  # of integers, so rounded once
    return result


def _numpy_array(value: Any, path: Path) -> JSON:
    has_fields = value.dtype.names is not None
    if not has_fields and value.dtype.kind not in "mM":
        plain = value.tolist()
        # an array of zero dimensions that holds an array may hold itself
        return _reject(value, path) if not value.ndim and hasattr(plain, "ndim") else to_json(plain, path)
    if not value.ndim:
        return _numpy_fields(value, path) if has_fields else to_json(value[()], path)
    if not hasattr(value, "mask"):
        value = value.view(sys.modules["numpy"].ndarray)  # the rows of a matrix are matrices again
    return _array(value, path)


def _pandas_list(value: Any, path: Path) -> JSON:
    if "time64[ns]" in str(value.dtype).replace("datetime64", ""):
        raise UnsupportedValueError(
            path, value, "Python's times have no nanoseconds", "Write text, or times with microseconds."
        )
    return _array(value.tolist(), path)


def _pandas_series(value: Any, path: Path) -> JSON:
    if not value.index.equals(sys.modules["pandas"].RangeIndex(len(value))):
        raise UnsupportedValueError(
            path, value, "a list has no place for its index", "Write .tolist() without, or .to_dict() with its index."
        )
    return _pandas_list(value, path)


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
    datetime.time: _time,
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
    ("taskfleet", "Number"): _unreadable,
    ("pandas", "NAType"): _null,
    ("pandas", "NaTType"): _null,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_list,
    ("pandas", "ExtensionArray"): _pandas_list,
    ("pandas", "Timedelta"): lambda value, path: _numpy_duration(value.to_timedelta64(), path),
    ("numpy", "datetime64"): _numpy_time,
    ("numpy", "timedelta64"): _numpy_duration,
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
