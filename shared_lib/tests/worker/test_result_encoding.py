"""Results become JSON in two ways, which must agree, and nothing changes silently on the way."""

import collections
import datetime
import decimal
import enum
import fractions
import json
import math
import re
import sys
import uuid
from pathlib import PurePosixPath

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from taskfleet.tables.values import UnsupportedValueError
from taskfleet.worker.result_encoding import ResultEncoder

Point = collections.namedtuple("Point", "x y")


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Real(float):
    def __float__(self):
        return 0.0


class Whole(int):
    def __int__(self):
        return 0


def encoded(value):
    return ResultEncoder().encode(value).decode()


def outcome(encode, value):
    try:
        return encode(value)
    except UnsupportedValueError as error:
        return error.message("the result")


any_text = st.text(st.characters(exclude_categories=()), max_size=5)
keys = st.one_of(
    any_text, st.integers(), st.floats(), st.booleans(), st.none(), st.sampled_from(["1", "true", "null", "1.5"])
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 2**53 + 1]),
    st.integers(4298, 4301).map(lambda digits: 10**digits),
    st.floats(),
    any_text,
    st.binary(max_size=2),
    st.complex_numbers(),
    st.fractions(),
    st.decimals(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.sampled_from(
        [Colour.RED, Level.HIGH, Real(2.5), Whole(7), PurePosixPath("/a"), {1}, object, print, pandas.NA, pandas.NaT]
    ),
    npst.array_dtypes().flatmap(
        lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=0, max_dims=2, max_side=2, min_side=0))
    ),
    npst.scalar_dtypes().flatmap(npst.from_dtype),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(any_text, inner, max_size=3).map(collections.OrderedDict),
    ),
    max_leaves=8,
)


@given(values)
def test_the_short_way_and_the_conversion_give_the_same_text_or_the_same_error(value):
    encoder = ResultEncoder()
    assert outcome(encoder.encode, value) == outcome(encoder.encode_converted, value)


@given(values)
def test_a_result_that_is_accepted_can_be_read_and_has_no_key_twice(value):
    text = outcome(ResultEncoder().encode, value)
    if isinstance(text, str):  # an error
        text.encode()
        return

    def unique(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    json.loads(text, object_pairs_hook=unique, parse_constant=lambda name: pytest.fail(name))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_any_json_value_is_read_back_as_it_was_returned(value):
    assert repr(json.loads(encoded(value))) == repr(value)


def same(read, value):
    """Whether a JSON value says exactly what a scalar of numpy is."""
    kind = value.dtype.kind
    if kind in "mM":
        if numpy.isnat(value):
            return read is None
        if kind == "M":
            unit = numpy.datetime_data(value.dtype)[0]
            return isinstance(read, str) and numpy.datetime64(read).astype(f"M8[{unit}]") == value
        per = {"W": 604800, "D": 86400, "h": 3600, "m": 60, "s": 1}
        parts = {"ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15, "as": 10**18}
        unit, count = numpy.datetime_data(value.dtype)[0], int(value.astype("i8"))
        exact = fractions.Fraction(count * per.get(unit, 1), parts.get(unit, 1))
        return isinstance(read, float) and read == float(exact)
    if kind == "f":
        return (
            read is None if math.isnan(value) else isinstance(read, float) and numpy.array(read, value.dtype) == value
        )
    if kind == "b":
        return read is bool(value)
    return isinstance(read, int if kind in "iu" else str) and read == value.item()


plain_dtypes = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.unicode_string_dtypes(max_len=3),
    npst.datetime64_dtypes(max_period="h", min_period="ns"),
    npst.timedelta64_dtypes(max_period="D", min_period="as"),
)


@st.composite
def plain_arrays(draw):
    kind = draw(plain_dtypes)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=2, max_side=3, min_side=0))
    options = {"allow_infinity": False} if kind.kind == "f" else {}
    if kind.kind == "U":
        options = {"alphabet": st.characters(exclude_categories=("Cs",))}
    if kind.kind == "M":
        first, last = (numpy.datetime64(text).astype(kind).astype("i8") for text in ("1700-01-01", "2200-01-01"))
        cells = st.integers(int(first), int(last)) | st.just(-(2**63))
        return draw(npst.arrays("i8", shape, elements=cells)).view(kind.newbyteorder("="))
    return draw(npst.arrays(kind, shape, elements=npst.from_dtype(kind, **options)))


@given(plain_arrays())
def test_an_array_of_any_dimension_is_read_back_exactly(array):
    read = json.loads(encoded(array))
    flat = numpy.array([read, None], dtype=object)[:1] if not array.ndim else [read]
    for _ in range(array.ndim):
        flat = [item for part in flat for item in part]
    scalars = [array[()]] if not array.ndim else list(array.reshape(-1))
    assert len(flat) == len(scalars)
    for item, scalar in zip(flat, scalars, strict=True):
        assert same(item, scalar), (item, scalar)


@given(plain_arrays())
def test_an_array_its_scalars_a_masked_array_and_a_series_agree(array):
    text = encoded(array)
    assert encoded(numpy.ma.array(array)) == text
    assert encoded({"x": array}) == f'{{"x":{text}}}'
    if array.ndim == 0:
        assert encoded(array[()]) == text
    else:
        assert encoded(list(array)) == text
    fields = numpy.zeros(array.shape, [("t", array.dtype), ("n", "i4")])
    fields["t"] = array
    if array.ndim == 0:
        assert encoded(fields) == encoded(fields[()]) == f'{{"t":{text},"n":0}}'
    elif array.ndim == 1:
        assert json.loads(encoded(fields)) == [{"t": item, "n": 0} for item in json.loads(text)]
        if array.dtype.kind not in "mM" or numpy.datetime_data(array.dtype) in (
            ("ns", 1),
            ("us", 1),
            ("ms", 1),
            ("s", 1),
        ):
            assert json.loads(encoded(pandas.Series(array.astype(array.dtype.newbyteorder("="))))) == json.loads(text)


arrow = pandas.ArrowDtype
nullable = st.sampled_from(
    [
        ("Int64", st.integers(-(2**63), 2**63 - 1)),
        ("UInt64", st.integers(0, 2**64 - 1)),
        ("Int8", st.integers(-128, 127)),
        ("Float64", st.floats(allow_nan=False, allow_infinity=False)),
        ("boolean", st.booleans()),
        ("string", st.text(max_size=3)),
        ("category", st.text(max_size=3)),
        ("object", st.integers() | st.booleans() | st.text(max_size=3)),
        (arrow(pyarrow.int64()), st.integers(-(2**63), 2**63 - 1)),
        (arrow(pyarrow.uint64()), st.integers(0, 2**64 - 1)),
        (arrow(pyarrow.bool_()), st.booleans()),
        (arrow(pyarrow.float64()), st.floats(allow_nan=False, allow_infinity=False)),
        (arrow(pyarrow.string()), st.text(max_size=3)),
        (arrow(pyarrow.list_(pyarrow.int64())), st.lists(st.integers(0, 2**62), max_size=2)),
    ]
)


@given(nullable.flatmap(lambda pair: st.tuples(st.just(pair[0]), st.lists(st.none() | pair[1], max_size=3))))
def test_pandas_values_of_any_type_are_read_back_exactly(case):
    kind, cells = case
    array = pandas.array(cells, dtype=kind)
    for value in (array, pandas.Series(array), pandas.Index(array) if kind != "object" else array):
        assert repr(json.loads(encoded(value))) == repr(cells)


@given(st.lists(st.none() | st.integers(0, 2**62), min_size=1, max_size=3), st.sampled_from(["UTC", "Europe/Paris"]))
def test_pandas_times_are_read_back_exactly(numbers, zone):
    counts = numpy.array([-(2**63) if number is None else number for number in numbers])
    series = pandas.Series(counts.view("M8[ns]")).dt.tz_localize("UTC").dt.tz_convert(zone)
    for value in (series, series.array, pandas.Index(series), series.astype(arrow(pyarrow.timestamp("ns", zone)))):
        times = json.loads(encoded(value))
        assert [None if text is None else pandas.Timestamp(text).as_unit("ns").value for text in times] == numbers
    durations = pandas.Series(counts.view("m8[ns]"))
    exact = [None if number is None else number / 10**9 for number in numbers]
    for value in (durations, durations.array, pandas.Index(durations), list(durations)):
        assert json.loads(encoded(value)) == exact


nested_itself = numpy.empty((), dtype=object)
nested_itself[()] = nested_itself


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (numpy.array(numpy.datetime64("2024-03-31T01:30", "ns")), '"2024-03-31T01:30:00"'),
        (numpy.array(numpy.timedelta64(1500, "ns")), "1.5e-06"),
        (numpy.array("NaT", "M8[ns]"), "null"),
        (numpy.array([(1, 2.5)], [("b", "i4"), ("a", "f8")]), '[{"b":1,"a":2.5}]'),
        (numpy.array([(1, 7)], [("a", "i4"), ("t", "M8[ns]")])[0], '{"a":1,"t":"1970-01-01T00:00:00.000000007"}'),
        (numpy.array((1, [2, 3]), [("a", "i4"), ("b", "i2", 2)]), '{"a":1,"b":[2,3]}'),
        (numpy.rec.array([(1, "x")], [("a", "i4"), ("b", "U1")]), '[{"a":1,"b":"x"}]'),
        (numpy.ma.array([1, 2], mask=[False, True]), "[1,null]"),
        (numpy.ma.array([1, 2], "M8[ns]", mask=[True, False]), '[null,"1970-01-01T00:00:00.000000002"]'),
        (numpy.ma.array([(1, 2)], [("a", "i4"), ("b", "i4")], mask=[(True, False)]), '[{"a":null,"b":2}]'),
        (numpy.ma.masked, "null"),
        (numpy.array([[1]], "M8[s]").view(numpy.matrix), '[["1970-01-01T00:00:01"]]'),
        (numpy.array({"a": [1]}, dtype=object), '{"a":[1]}'),
        (pandas.Timedelta(2**53 + 1, "ns"), "9007199.254740993"),
        (pandas.Series(["a"], index=[0]), '["a"]'),
        (Point(1, 2), "[1,2]"),
        ({Colour.RED: Level.HIGH}, '{"red":3}'),
        ([Real(2.5), Whole(7)], "[2.5,7]"),
        ({2024: 1, True: 2, None: 3, 0.5: 4}, '{"2024":1,"true":2,"null":3,"0.5":4}'),
        ({numpy.int64(5): 1, numpy.float32(0.5): 2}, '{"5":1,"0.5":2}'),
        (collections.Counter([3, 3]), '{"3":2}'),
        (
            {datetime.date(2024, 2, 29): 1, uuid.UUID(int=1): 2},
            '{"2024-02-29":1,"00000000-0000-0000-0000-000000000001":2}',
        ),
        ({decimal.Decimal("1.50"): decimal.Decimal("1E+2")}, '{"1.50":"1E+2"}'),
        ("\x00\u2028\x85\ufeff", '"\\u0000\u2028\x85\ufeff"'),
        (10**4299, "1" + "0" * 4299),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_returned_value_becomes_this_json(value, text):
    assert encoded(value) == text


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1: "a", "1": "b"}, "two of its keys are '1' as text"),
        ({"a": [{True: 1, "true": 2}]}, r"^a\[0\] is .* two of its keys are 'true' as text"),
        ({math.nan: 1}, r"its key nan \(float\) is not text"),
        ({(1, 2): 3}, r"its key \(1, 2\) \(tuple\) is not text"),
        ({b"a": 3}, r"its key b'a' \(bytes\) is not text"),
        (nested(101), "deeper than 100 levels"),
        (nested(3000), "deeper than 100 levels"),
        (nested_itself, "ndarray"),
        (pandas.Series([1], index=["a"]), "no place for its index.*to_dict"),
        (pandas.DataFrame({"a": [1]}), "DataFrame"),
        (numpy.timedelta64(1, "Y"), "timedelta64"),
        (numpy.datetime64(10**7, "D"), "datetime64"),
        (numpy.array(1, "g"), "no such type"),
        (numpy.array(b"a"), "bytes"),
        (numpy.void(b"abc"), "bytes"),
        (pandas.Period("2024"), "Period"),
        (pandas.Interval(0, 1), "Interval"),
        (fractions.Fraction(1, 3), "Fraction"),
        (10**4300, r"is an integer of about 4,301 digits \(int\) in the result: it has more than 4,300 digits"),
        ([math.inf], "no infinity"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_would_change_is_refused_with_its_place(value, reason):
    with pytest.raises(UnsupportedValueError) as caught:
        ResultEncoder().encode(value)
    message = caught.value.message("the result")
    assert re.search(reason, message), message
    assert "\n" not in message


@pytest.mark.parametrize("limit", [0, 640, 100_000])
def test_the_processs_own_limit_of_digits_does_not_matter(limit):
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        with pytest.raises(UnsupportedValueError, match=r"it has more than .* digits"):
            ResultEncoder().encode([10**4300])
        assert encoded([10**600]) == f"[{10**600}]"
    finally:
        sys.set_int_max_str_digits(before)


def test_an_encoder_can_be_used_after_a_refused_value():
    encoder = ResultEncoder()
    inner = [math.nan]
    for _ in range(2):
        assert encoder.encode({"a": inner}) == b'{"a":[null]}'
        with pytest.raises(UnsupportedValueError):
            encoder.encode({"a": inner, "b": math.inf})
