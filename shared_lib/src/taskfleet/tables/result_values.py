"""The types of result values and of their columns, and their text form."""

import json
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeAlias

from taskfleet.tables.values import JSON

Row: TypeAlias = dict[str, JSON]
RowSource: TypeAlias = Callable[[], Iterator[Row]]
Kinds: TypeAlias = dict[str, set[str]]
"""The types of the values of each column, in column order: bool, int, large (an integer beyond 64 bits), float, str, other."""


BATCH_ROWS = 10_000


def value_kind(value: JSON) -> str:
    """Return the type of a value, as in ``Kinds``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -(2**63) <= value < 2**63 else "large"
    return type(value).__name__ if isinstance(value, bool | float | str) else "other"


def column_type(kinds: set[str]) -> str:
    """Return the type of a column with values of these types: bool, int, float, str, text (of integers) or json."""
    if len(kinds) <= 1:
        only = next(iter(kinds), "str")
        return {"large": "text", "other": "json"}.get(only, only)
    return {frozenset({"int", "float"}): "float", frozenset({"int", "large"}): "text"}.get(frozenset(kinds), "json")


def column_value(value: JSON, kind: str) -> Any:
    """Return a value as it is stored in a column of this type."""
    if value is None:
        return None
    if kind == "float":
        return float(value)  # type: ignore[arg-type]
    if kind == "json":
        return json_line(value)
    if kind in ("str", "text"):
        return str(value).encode(errors="backslashreplace").decode()
    return value


def batches_of(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Group rows into lists of at most BATCH_ROWS."""
    while part := list(islice(rows, BATCH_ROWS)):
        yield part


def json_line(value: JSON) -> str:
    """Return a value as JSON on one line; lone surrogates become escapes, NaN and infinity null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def _finite(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
