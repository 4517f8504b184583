"""Tables of pandas and pyarrow come back with their index, names and types, or are refused with the reason."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from taskfleet.references import decode, encode, names_of_files
from taskfleet.references.store import MAP_BYTES
from taskfleet.tables.values import UnsupportedValueError

from .same import same

DAYS = pd.date_range("2024-03-30", periods=3, freq="D", tz="Europe/Berlin")


def frame(values, **options):
    return pd.DataFrame({"a": values}, **options)


FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": [True, False]}),
    "small types": pd.DataFrame(
        {"a": np.array([1, 2], "u1"), "b": np.array([1, 2], "f2"), "c": np.array([1, 2], "f4")}
    ),
    "numbers of columns": pd.DataFrame(np.arange(6).reshape(2, 3)),
    "steps of columns": pd.DataFrame(np.arange(6).reshape(2, 3), columns=pd.RangeIndex(0, 6, 2, name="step")),
    "integers as names": pd.DataFrame({3: [1], 1: [2]}),
    "several levels of names": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
    ),
    "name of the columns": pd.DataFrame({"a": [1]}, columns=pd.Index(["a"], name="which")),
    "objects as names": pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], dtype=object)),
    "text": frame(["x", None, "é"]),
    "objects of text": frame(pd.Series(["x", None, "é"], dtype=object)),
    "objects of bytes": frame(pd.Series([b"x", None], dtype=object)),
    "objects of nothing": frame(pd.Series([None, None], dtype=object)),
    "no objects": frame(pd.Series([], dtype=object)),
    "times": pd.DataFrame(
        {"a": DAYS, "b": DAYS.tz_localize(None).as_unit("ns"), "c": [pd.NaT] * 3, "d": DAYS - DAYS[0]}
    ),
    "categories": frame(pd.Categorical(["b", "a", None], categories=["b", "a", "c"], ordered=True)),
    "nullable": pd.DataFrame(
        {"a": pd.array([1, None], "Int8"), "b": pd.array([True, None], "boolean"), "c": pd.array(["x", None], "string")}
    ),
    "arrow types": pd.DataFrame(
        {"a": pd.array([1, None], "int64[pyarrow]"), "b": pd.array(["x", None], "string[pyarrow]")}
    ),
    "periods": frame(pd.period_range("2024", periods=2, freq="M")),
    "intervals": frame(pd.interval_range(0, 2)),
    "range index": frame([1, 2], index=pd.RangeIndex(10, 14, 2, name="row")),
    "labels": frame([1, 2], index=pd.Index(["x", "y"], name="id")),
    "times as index": frame([1, 2, 3], index=DAYS),
    "several indices": frame([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    "index that is also a column": frame([1, 2], index=pd.Index([3, 4], name="a")),
    "no rows": frame(np.array([], "i4")),
    "text in Python objects": pd.DataFrame(
        {
            "a": pd.array(["x", None], pd.StringDtype("python")),
            "b": pd.array(["x", None], pd.StringDtype("python", na_value=np.nan)),
            "c": pd.array(["x", None], pd.StringDtype("pyarrow")),
        }
    ),
    "no columns": pd.DataFrame(index=range(3)),
    "no columns, with a name": pd.DataFrame(index=pd.RangeIndex(1, 7, 3, name="row")),
    "nothing": pd.DataFrame(),
    "part of another": pd.DataFrame({"a": np.arange(10), "b": list("abcdefghij")})[3:7:2],
}
FRAMES["attributes"] = frame([1])
FRAMES["attributes"].attrs["unit"] = "m"


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("inline_bytes", [65_536, 0], ids=["inline", "file"])
def test_a_frame_comes_back(passed, name, inline_bytes):
    again = passed([FRAMES[name]], inline_bytes=inline_bytes)[0]
    assert same(FRAMES[name], again)
    assert type(again.index) is type(FRAMES[name].index)
    assert type(again.columns) is type(FRAMES[name].columns)
    assert again.columns.dtype == FRAMES[name].columns.dtype
    assert again.attrs == FRAMES[name].attrs


SERIES = {
    "name": pd.Series([1, 2], name="a"),
    "no name": pd.Series([0.5], index=["x"]),
    "tuple as name": pd.Series([1], name=("a", 1)),
    "text": pd.Series(["a", None], dtype=object, name=3),
    "times": pd.Series([1, 2, 3], index=DAYS),
    "empty": pd.Series([], dtype="f4"),
}


@pytest.mark.parametrize("name", SERIES)
def test_a_series_comes_back(passed, name):
    assert same(SERIES[name], passed({"a": SERIES[name]})["a"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (frame(pd.Series([1, "a"], dtype=object)), "the column 'a' has objects of the types int, str"),
        (frame(pd.Series([1, 2], dtype=object)), "the column 'a' has objects of the types int"),
        (frame(pd.Series([[1], [2]], dtype=object)), "has objects of the types list"),
        (frame(pd.Series([datetime.date(2024, 1, 1), None], dtype=object)), "has objects of the types NoneType, date"),
        (frame(pd.Series(["a", np.nan], dtype=object)), "has objects of the types float, str"),
        (frame(pd.Series([decimal.Decimal("1.0")], dtype=object)), "has objects of the types Decimal"),
        (frame(np.array([1j])), "Arrow cannot represent it"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Arrow cannot represent it (Duplicate column names"),
        (
            pd.DataFrame([[1, 2]], columns=pd.Index([1, "b"], dtype=object)),
            "it would come back changed: the names of its columns",
        ),
        (frame([1, 2], index=pd.Index([1, "b"], dtype=object)), "the index has objects of the types int, str"),
        (frame([1], index=pd.Index([decimal.Decimal(1)], dtype=object)), "the index has objects of the types Decimal"),
        (frame([1], index=pd.Index([1], dtype=object)), "the index has objects of the types int"),
        (frame([1], index=pd.MultiIndex.from_tuples([(1, "a")], names=["x", 2])), "it would come back changed: "),
        (
            frame(pd.Categorical(["a"], dtype=pd.CategoricalDtype(pd.Index(["a"], dtype=object)))),
            "it would come back changed: the type of its column 'a', CategoricalDtype(categories=['a']",
        ),
        (frame([1], index=pd.RangeIndex(1, name=3)), "the name of its index, 3, would be text"),
        (frame(pd.arrays.SparseArray([0, 1])), "Arrow cannot represent it (Sparse pandas data"),
        (frame(pd.Series(["\ud800"], dtype=object)), "Arrow cannot represent it"),
    ],
)
def test_a_frame_that_would_not_come_back_is_refused_with_the_reason(store, value, message, tmp_path):
    with pytest.raises(UnsupportedValueError) as caught:
        encode([{"b": value}], store)
    assert message in str(caught.value)
    assert str(caught.value).startswith("[0].b is ")
    assert "app(pickle=True)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_would_not_come_back_can_be_pickled(passed):
    value = frame(pd.Series([1, "a", [2]], dtype=object))
    assert same(value, passed(value, pickle=True))


class Own(pd.DataFrame):
    pass


def test_a_derived_class_is_refused(store):
    with pytest.raises(UnsupportedValueError, match=r"it is more than a DataFrame. Return pandas.DataFrame\(…\) of it"):
        encode(Own({"a": [1]}), store)


def test_a_large_frame_is_a_file_and_may_be_changed(store):
    value = pd.DataFrame({"a": np.arange(MAP_BYTES // 4, dtype=float), "b": "text"})
    text = encode(value, store)
    assert len(text) < 1000
    again = decode(text, store)
    assert same(value, again)
    again.loc[0, "a"] = -1.0
    again["b"] = 1
    assert same(value, decode(text, store))


def test_a_large_table_is_mapped(store):
    value = pa.table({"a": np.arange(MAP_BYTES), "b": pa.array(["x", None] * (MAP_BYTES // 2)).dictionary_encode()})
    text = encode(value, store)
    before = pa.total_allocated_bytes()
    again = decode(text, store)
    assert pa.total_allocated_bytes() - before < MAP_BYTES
    assert same(value, again)


TABLES = {
    "table": pa.table({"a": [1, None], "b": [["x"], []]}, metadata={"k": "v"}),
    "no rows": pa.table({"a": pa.array([], pa.decimal128(5, 2))}),
    "no columns": pa.table({}),
    "chunks": pa.table({"a": pa.chunked_array([[1], [2, 3]])}),
    "different dictionaries": pa.table(
        {"a": pa.chunked_array([pa.array(["x"]).dictionary_encode(), pa.array(["y", "x"]).dictionary_encode()])}
    ),
    "batch": pa.record_batch({"a": [1, 2]}),
    "empty batch": pa.record_batch({"a": pa.array([], pa.int8())}),
    "part": pa.table({"a": range(1000)})[10:12],
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("inline_bytes", [65_536, 0], ids=["inline", "file"])
def test_a_table_of_pyarrow_comes_back(passed, name, inline_bytes):
    value, again = TABLES[name], passed(TABLES[name], inline_bytes=inline_bytes)
    if name == "different dictionaries":
        value = value.unify_dictionaries()
    assert same(value, again)


def test_a_part_of_a_table_does_not_take_the_space_of_the_whole(store):
    part = pa.table({"a": range(1_000_000)})[10:1000]
    [name] = names_of_files(encode(part, store))
    assert store._place().path(name).stat().st_size < 20_000


MOMENTS = [
    pd.Timestamp("2024-01-01 00:00:00.000000001", tz="Europe/Berlin"),
    pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert("Europe/Berlin"),
    pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin"),
    pd.Timestamp("1500-01-01").as_unit("s"),
    pd.Timedelta(-1, "ns"),
    pd.Timedelta(days=3).as_unit("s"),
]


@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_moments_of_pandas_come_back(passed, value):
    again = passed([value])[0]
    assert same(value, again)
    assert repr(again) == repr(value)
    assert again.unit == value.unit


def test_missing_values_of_pandas_come_back(passed):
    missing = passed({"a": pd.NA, "b": pd.NaT})
    assert missing["a"] is pd.NA
    assert missing["b"] is pd.NaT
