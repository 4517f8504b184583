"""Takes the arguments of ``App.map`` apart: which parameters have a value for each call, and which have one for all."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.errors import UsageError
from taskfleet.graph.arguments import STAR, Constant, Succeeded, bind
from taskfleet.graph.futures import Future

#: Values that are the same for all calls, although they can be iterated over.
_SINGLE = (str, bytes, bytearray, Mapping, Future, Constant, Succeeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapArguments:
    """The arguments of a map."""

    length: int
    """The number of calls."""
    columns: dict[str, Sequence[Any]]
    """By parameter, a value for each call."""
    constants: dict[str, Any]
    """By parameter, the value for all calls."""


def map_arguments(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> MapArguments:
    """Return the arguments of a map.

    Args:
        name: The name of the function.
        signature: Its parameters.
        args: As for ``App.map``.
        kwargs: As for ``App.map``.

    Raises:
        UsageError: The lengths differ, or there is nothing to map over.
        ArgumentsError: The arguments do not match the parameters.
    """
    if len(args) == 1 and (table := _table(args[0])) is not None:
        args, kwargs = (), {**table, **kwargs}
    columns: dict[str, Sequence[Any]] = {}
    constants: dict[str, Any] = {}
    named = bind(f"{name}.map", signature, args, kwargs)
    if STAR in named:
        raise UsageError(
            f"{name}.map cannot map over *args, whose values have no names. Map over a function with named parameters."
        )
    for key, value in named.items():
        items = _items(value)
        if items is None:
            constants[key] = value.value if isinstance(value, Constant) else value
        else:
            columns[key] = items
    if not columns:
        raise UsageError(
            f"{name}.map needs a sequence for at least one parameter: a range, a list, an array or what a map returned."
        )
    lengths = {key: len(items) for key, items in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {n:,}" for key, n in lengths.items())
        raise UsageError(
            f"{name}.map needs sequences of the same length, but {listed}. An argument that is the same for all calls is written as "
            "constant(…)."
        )
    return MapArguments(length=next(iter(lengths.values())), columns=columns, constants=constants)


def _items(value: Any) -> Sequence[Any] | None:
    """Return the values for the calls; None for a value that all calls have."""
    if isinstance(value, _SINGLE):
        return None
    if isinstance(value, Sequence):
        return value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and value.ndim:
        return value if value.ndim > 1 else _listed(value)
    if hasattr(value, "to_pylist") or (
        hasattr(value, "tolist") and hasattr(value, "index") and hasattr(value, "__len__")
    ):
        return _listed(value)
    return list(value) if hasattr(value, "__iter__") else None


def _listed(value: Any) -> list[Any]:
    """Return the values of an array or a column as Python has them."""
    found: list[Any] = value.to_pylist() if hasattr(value, "to_pylist") else value.tolist()
    return found


def _table(value: Any) -> dict[str, Any] | None:
    """Return the columns of a table by their names; None if a value is no table."""
    pandas, arrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    if arrow is not None and isinstance(value, arrow.Table):
        return {name: value.column(name) for name in value.column_names}
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return {str(name): value[name] for name in value.columns}
    return None
