"""Fast conversion of columns to JSON texts.

pyarrow formats integers, bools, and texts without characters to escape; Python's repr formats floats. Columns of other types are
converted value by value with the rules in ``values``. Both ways give the same text.

Texts and floats are exchanged with pyarrow as memory buffers: ``pa.scalar``, ``pa.array`` and ``to_numpy`` import pandas, which takes
longer than a small insertion, and ``to_pylist`` is slow in older releases.
"""

import datetime
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from taskfleet.tables.ids import MAX_ID_CHARACTERS, id_text
from taskfleet.tables.values import UnsupportedValueError, json_text, to_json

ErrorFactory: TypeAlias = Callable[[int, Exception], Exception]
"""Returns the exception to raise for the value at an index of a column, given the cause."""

# 32-bit offsets would limit a batch to 2 GiB of text.
_TEXT = pa.large_string()


def _array(texts: Sequence[str]) -> Any:
    whole = "".join(texts)
    sizes = map(len, texts) if whole.isascii() else (len(text.encode()) for text in texts)
    offsets = array("q", accumulate(sizes, initial=0))
    return pa.Array.from_buffers(_TEXT, len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(whole.encode())])


def _scalar(text: str) -> Any:
    return _array([text])[0]


def _strings(texts: Any) -> list[str]:
    """Return an array of type _TEXT without nulls as a list."""
    if not len(texts):
        return []
    _, offsets, characters = texts.buffers()
    ends = memoryview(offsets).cast("q")[texts.offset : texts.offset + len(texts) + 1].tolist()
    raw = bytes(memoryview(characters or b"")[ends[0] : ends[-1]])
    if first := ends[0]:
        ends = [end - first for end in ends]
    if not raw.isascii():
        return [raw[start:end].decode() for start, end in pairwise(ends)]
    whole = raw.decode()
    return [whole[start:end] for start, end in pairwise(ends)]


_NULL = _scalar("null")
_EMPTY = _scalar("")
_QUOTE = _scalar('"')
_NAN = pa.Array.from_buffers(pa.float64(), 1, [None, pa.py_buffer(array("d", [math.nan]))])[0]
_ESCAPED = r'["\\\x00-\x1f]'
_CONTROL = r"[\x00-\x1f\x7f-\x{9f}]"


def object_texts(columns: Mapping[str, Any], length: int, error_of: Callable[[str], ErrorFactory]) -> list[str]:
    """Return ``length`` rows as JSON objects."""
    if not columns:
        return ["{}"] * length
    pieces: list[Any] = []
    opening = "{"
    for name in sorted(columns):
        pieces.append(_scalar(f"{opening}{json_text(name)}:"))
        pieces.append(_texts(columns[name], error_of(name)))
        opening = ","
    texts = pc.binary_join_element_wise(*pieces, _scalar("}"), _EMPTY)
    return _strings(texts)


def id_texts(column: Any, error_of: Callable[[int, str], Exception]) -> list[str]:
    """Return a column of task ids as texts, by the rules of ``ids.id_text``."""
    if _is_arrow(column) and (pa.types.is_integer(column.type) or _is_text(column.type)) and column.null_count == 0:
        texts = column.cast(_TEXT)
        lengths = pc.min_max(pc.utf8_length(texts)).as_py()
        usable = not len(texts) or (lengths["min"] >= 1 and lengths["max"] <= MAX_ID_CHARACTERS)
        if usable and not pc.any(pc.match_substring_regex(texts, _CONTROL)).as_py():
            return _strings(texts)
    ids = []
    for index, value in enumerate(python_values(column, lambda index, error: error_of(index, str(error)))):
        try:
            ids.append(id_text(value))
        except UnsupportedValueError as error:
            raise error_of(index, f"task_id is invalid: {error.reason}. {error.remedy}") from None
        except ValueError as error:
            raise error_of(index, str(error)) from None
    return ids


def field_columns(column: Any) -> dict[str, Any] | None:
    """Return the fields of a struct column as columns; None if rows have to be inspected one by one."""
    if not _is_arrow(column) or not pa.types.is_struct(column.type) or column.null_count:
        return None
    names = [field.name for field in column.type]
    return dict(zip(names, column.flatten(), strict=True)) if len(set(names)) == len(names) else None


def python_values(column: Any, error_of: ErrorFactory) -> list[Any]:
    """Return the values of a column as Python objects; maps become dicts."""
    if not _is_arrow(column):
        return list(column)
    if column.type == pa.time64("ns"):
        return list(map(_time, column.cast(pa.int64()).to_pylist()))
    # "map<" may also be part of a field's name, which is harmless.
    options = {"maps_as_pydicts": "strict"} if "map<" in str(column.type) else {}
    try:
        return list(column.to_pylist(**options))
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException):
        values = []
        for index, scalar in enumerate(column):
            try:
                values.append(scalar.as_py(**options))
            except (ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
                raise error_of(index, error) from error
        return values


def _time(nanoseconds: int | None) -> datetime.time | str | None:
    """Return a time of day; as text if Python's class cannot represent its nanoseconds."""
    if nanoseconds is None:
        return None
    microseconds, rest = divmod(nanoseconds, 1000)
    time = (datetime.datetime.min + datetime.timedelta(microseconds=microseconds)).time()
    return f"{time.isoformat('microseconds')}{rest:03}" if rest else time


def _texts(column: Any, error_of: ErrorFactory) -> Any:
    """Return the JSON texts of the values."""
    if not _is_arrow(column):
        return _each(column, error_of)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _texts(column.dictionary_decode(), error_of)
    if pa.types.is_null(kind):
        return pa.repeat(_NULL, len(column))
    if pa.types.is_integer(kind):
        return column.cast(_TEXT).fill_null(_NULL)
    if pa.types.is_boolean(kind):
        return pc.if_else(column, _scalar("true"), _scalar("false")).fill_null(_NULL)
    if pa.types.is_floating(kind):
        return _float_texts(column, error_of)
    if _is_text(kind):
        texts = column.cast(_TEXT)
        if not pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
            return pc.binary_join_element_wise(_QUOTE, texts, _QUOTE, _EMPTY).fill_null(_NULL)
    return _each(python_values(column, error_of), error_of)


def _float_texts(column: Any, error_of: ErrorFactory) -> Any:
    numbers = column.cast(pa.float64()).fill_null(_NAN)
    stop = numbers.offset + len(numbers)
    values = memoryview(numbers.buffers()[1] or b"").cast("B").cast("d")[numbers.offset : stop].tolist()
    texts = [repr(value) if value == value else "null" for value in values]
    for text in ("inf", "-inf"):
        if text in texts:
            return _each(values, error_of)
    return _array(texts)


def _each(values: list[Any], error_of: ErrorFactory) -> Any:
    texts = []
    for index, value in enumerate(values):
        try:
            texts.append(json_text(to_json(value)))
        except UnsupportedValueError as error:
            raise error_of(index, error) from None
    return _array(texts)


def _is_arrow(column: Any) -> bool:
    return isinstance(column, pa.Array)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
