"""The types of result values and of their columns, and their text form."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from taskfleet.tables.values import JSON

Row: TypeAlias = dict[str, JSON]
RowSource: TypeAlias = Callable[[], Iterator[Row]]
Kinds: TypeAlias = dict[str, set[str]]
"""The types of the values of each column, in column order.

bool, int, long (an integer that a float may not represent), large (one beyond 64 bits), float, str, other.
"""

BATCH_ROWS = 10_000
BATCH_CHARACTERS = 32 << 20
"""Results may be large; pyarrow's text columns take 2 GiB at a time."""

T = TypeVar("T")


def value_kind(value: JSON) -> str:
    """Return the type of a value, as in ``Kinds``."""
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**53) <= value <= 2**53:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "large"
    return type(value).__name__ if isinstance(value, bool | float | str) else "other"


def column_type(kinds: set[str]) -> str:
    """Return the type of a column with values of these types: bool, int, float, str, text (of integers) or json."""
    if len(kinds) <= 1:
        only = next(iter(kinds), "str")
        return {"long": "int", "large": "text", "other": "json"}.get(only, only)
    if kinds <= {"int", "long", "large"}:
        return "text" if "large" in kinds else "int"
    return "float" if kinds == {"int", "float"} else "json"


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


def batches_of(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Group what becomes of rows into lists of at most BATCH_ROWS, and of little more than BATCH_CHARACTERS."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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
