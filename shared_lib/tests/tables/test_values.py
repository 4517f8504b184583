"""What becomes of each value."""

import datetime
import decimal
import enum
import json
import math
import uuid
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import numpy
import pandas
import pyarrow
import pytest
from taskfleet.tables.values import UnsupportedValueError, json_text, to_json

PARIS = ZoneInfo("Europe/Paris")


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (math.nan, "null"),
        (numpy.float32("nan"), "null"),
        (pandas.NaT, "null"),
        (pandas.NA, "null"),
        (numpy.datetime64("NaT"), "null"),
        (numpy.timedelta64("NaT"), "null"),
        (decimal.Decimal("NaN"), "null"),
        (True, "true"),
        (numpy.bool_(False), "false"),
        (0, "0"),
        (-(2**63), "-9223372036854775808"),
        (10**40, "1" + "0" * 40),
        (numpy.uint64(2**64 - 1), "18446744073709551615"),
        (Colour.RED, "3"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (-0.0, "-0.0"),
        (2.0, "2.0"),
        (numpy.float64(0.1), "0.1"),
        (numpy.float32(0.5), "0.5"),
        ("", '""'),
        ('a"\\\n\x7fé😀', '"a\\"\\\\\\n\x7fé😀"'),
        (numpy.str_("a"), '"a"'),
        (datetime.date(2024, 2, 29), '"2024-02-29"'),
        (datetime.datetime(2024, 2, 29, 1, 2, 3), '"2024-02-29T01:02:03"'),
        (datetime.datetime(2024, 7, 1, 12, tzinfo=PARIS), '"2024-07-01T12:00:00+02:00"'),
        (datetime.datetime(2024, 7, 1, tzinfo=datetime.UTC), '"2024-07-01T00:00:00+00:00"'),
        (datetime.time(1, 2, 3, 4), '"01:02:03.000004"'),
        (pandas.Timestamp("2024-07-01 12:00", tz="Europe/Paris"), '"2024-07-01T12:00:00+02:00"'),
        (pandas.Timestamp(1_000_000_001), '"1970-01-01T00:00:01.000000001"'),
        (numpy.datetime64("2024-07-01"), '"2024-07-01"'),
        (numpy.datetime64("2024-07-01T12:00:00", "s"), '"2024-07-01T12:00:00"'),
        (numpy.datetime64(1, "ns"), '"1970-01-01T00:00:00.000000001"'),
        (datetime.timedelta(minutes=1, milliseconds=500), "60.5"),
        (pandas.Timedelta(1, "ns"), "1e-09"),
        (numpy.timedelta64(1500, "ms"), "1.5"),
        (numpy.timedelta64(1, "ns"), "1e-09"),
        (decimal.Decimal("1.50"), '"1.50"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (PurePosixPath("/a/b"), '"/a/b"'),
        (Path("a"), '"a"'),
        ([1, (2, [3.5, None])], "[1,[2,[3.5,null]]]"),
        (numpy.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
        (numpy.array(5), "5"),
        (numpy.array(numpy.datetime64(1, "ns")), '"1970-01-01T00:00:00.000000001"'),
        (numpy.array([(1, "a")], [("n", "i4"), ("k", "U1")]), '[{"k":"a","n":1}]'),
        (numpy.array([(1, "a")], [("n", "i4"), ("k", "U1")])[0], '{"k":"a","n":1}'),
        (numpy.ma.array([1, 2], mask=[False, True]), "[1,null]"),
        (numpy.timedelta64(2**53 + 1, "ns"), "9007199.254740993"),
        (numpy.array([1, 10**9 + 1], "datetime64[ns]")[1:], '["1970-01-01T00:00:01.000000001"]'),
        (numpy.array(["a", None], dtype=object), '["a",null]'),
        (pandas.Series([1, None], dtype="Int64"), "[1,null]"),
        (pandas.Index(["b", "a"]), '["b","a"]'),
        (pandas.Categorical(["x", "y", "x"]), '["x","y","x"]'),
        ({"b": {"z": 1, "a": [{"d": 1, "c": 2}]}, "a": None}, '{"a":null,"b":{"a":[{"c":2,"d":1}],"z":1}}'),
    ],
    ids=repr,
)
def test_a_value_becomes_this_json(value, text):
    assert json_text(to_json(value)) == text
    json.loads(text)


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (math.inf, ["x is inf (float)", "no infinity", "finite number"]),
        (numpy.float64("-inf"), ["x is", "-inf (float)", "no infinity"]),
        (decimal.Decimal("Infinity"), ["(Decimal)", "no infinity"]),
        ("a\ud800", ["(str)", "surrogate", "whole character"]),
        ({"a\udfff": 1}, ["(str)", "surrogate"]),
        (b"ab", ["x is b'ab' (bytes)", "as text"]),
        ({1, 2}, ["(set)", "Write a list"]),
        (frozenset(), ["(frozenset)", "Write a list"]),
        (1j, ["1j (complex)", "two columns"]),
        (numpy.complex128(1j), ["(complex)", "two columns"]),
        (object, ["(type)", "number, text, a list or an object"]),
        (range(3), ["range(0, 3) (range)"]),
        (numpy.longdouble(1), ["(longdouble)"]),
        (pandas.Period("2024"), ["(Period)"]),
        (pandas.DataFrame({"a": [1]}), ["(DataFrame)"]),
        ({1: 2}, ["its key 1 (int) is not text", "keys as text"]),
        ({"scale": [0, 1, math.inf]}, ["x.scale[2] is inf (float)"]),
        ([[b""]], ["x[0][0] is b'' (bytes)"]),
        (10**5000, ["x is an integer of about 5,001 digits (int): it has more than 4,300 digits", "as text"]),
        (-(10**4300), ["x is an integer of about 4,301 digits (int)", "as text"]),
        ([10**4300, b""], ["x[0] is an integer of about"]),
        (datetime.time(1, tzinfo=PARIS), ["(time)", "no offset without a date"]),
        (pandas.Series([1], index=["a"]), ["(Series)", "no place for its index", ".to_dict()"]),
        (
            pandas.Series([datetime.time(1)], dtype=pandas.ArrowDtype(pyarrow.time64("ns"))),
            ["(Series)", "no nanoseconds"],
        ),
        (numpy.timedelta64(1, "M"), ["(timedelta64)"]),
        (b"z" * 10_000, ["...", "(bytes)"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unsupported_value_is_rejected_with_its_path_and_a_remedy(value, parts):
    with pytest.raises(UnsupportedValueError) as caught:
        to_json(value, ("x",))
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert len(message) < 400


def test_a_list_that_contains_itself_is_rejected():
    endless = []
    endless.append(endless)
    with pytest.raises(UnsupportedValueError, match="deeper than 100 levels"):
        to_json(endless)
