"""The comparison of values with their types."""

import dataclasses
import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa


def same(one, other):
    """Return whether two values are equal, of the same types, and NaN where the other is."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        same_layout = one.shape == other.shape and one.dtype == other.dtype and one.flags.fnc == other.flags.fnc
        return same_layout and one.tobytes() == other.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_column_type="equiv", check_freq=True)
        return all(same(list(one[name]), list(other[name])) for name in one if one[name].dtype == "object")
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_freq=True)
        return same(one.name, other.name)
    if isinstance(one, pa.Table | pa.RecordBatch):
        return one.equals(other, check_metadata=True)
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, decimal.Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, datetime.datetime | datetime.time):
        zones = [getattr(moment.tzinfo, "key", repr(moment.tzinfo)) for moment in (one, other)]
        return (
            one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold and zones[0] == zones[1]
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and all(map(same, one.values(), other.values()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(item, its) for its in other) for item in one)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    return one is other or bool(one == other)
