"""Values of results: their kinds, the columns they make, and how they are written as text."""

import json
import math
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeAlias

from taskfleet.tables.values import JSON

Row: TypeAlias = dict[str, JSON]


RowSource: TypeAlias = Callable[[], Iterator[Row]]


Kinds: TypeAlias = dict[str, set[str]]
"""For each column, in order, the kinds of its values: bool, int, large (an integer beyond 64 bits), float, str, other."""


BATCH_ROWS = 10_000


def _kind(value: JSON) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "int" if -(2**63) <= value < 2**63 else "large"
    return type(value).__name__ if isinstance(value, bool | float | str) else "other"


def column_type(kinds: set[str]) -> str:
    """Return what a column with values of these kinds becomes: bool, int, float, str, text (of integers) or json."""
    if len(kinds) <= 1:
        only = next(iter(kinds), "str")
        return {"large": "text", "other": "json"}.get(only, only)
    return {frozenset({"int", "float"}): "float", frozenset({"int", "large"}): "text"}.get(frozenset(kinds), "json")


def column_value(value: JSON, kind: str) -> Any:
    """Return a value as a column of this kind holds it."""
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
    """Gather rows into lists of at most BATCH_ROWS."""
    while part := list(islice(rows, BATCH_ROWS)):
        yield part


def json_line(value: JSON) -> str:
    """Write a value as JSON on one line; lone surrogates as escapes, NaN and infinity as null."""
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
