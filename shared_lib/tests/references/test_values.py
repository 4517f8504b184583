"""What a task returns is what the next task gets: every value of Python's types comes back equal, with its type."""

import datetime
import decimal
import json
import math
import pathlib
import subprocess
import sys
import zoneinfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from taskfleet.errors import UnreadableValueError
from taskfleet.references import decode, encode, names_of_files
from taskfleet.tables.values import UnsupportedValueError

from .same import same

ZONES = [
    None,
    datetime.UTC,
    datetime.timezone(datetime.timedelta(hours=5, minutes=45, microseconds=1)),
    datetime.timezone(datetime.timedelta(hours=-1), "named"),
    zoneinfo.ZoneInfo("Europe/Berlin"),
]
TEXT = st.text(alphabet=st.characters(), max_size=8) | st.sampled_from(
    ["$tuple", "$dict", "$", "\ud800", "\ud83d\ude00", "a\x00", ""]
)
SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.builds(pow, st.sampled_from([-7, 10]), st.integers(min_value=300, max_value=5000))
    | st.floats()
    | st.complex_numbers()
    | TEXT
    | st.binary(max_size=20)
    | st.dates()
    | st.times(timezones=st.sampled_from(ZONES))
    | st.builds(datetime.datetime.replace, st.datetimes(timezones=st.sampled_from(ZONES)), fold=st.sampled_from([0, 1]))
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.builds(pathlib.Path, TEXT.filter(lambda text: "\x00" not in text))
)
HASHABLE = st.recursive(
    SIMPLE.filter(lambda value: not (isinstance(value, decimal.Decimal) and value.is_snan())),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(TEXT, inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.builds(bytearray, st.binary(max_size=3))
    ),
    max_leaves=12,
)


@given(VALUES)
@example({"$tuple": [1, 2]})
@example({"$dict": {"$dict": {"$file": {"name": "ab/abc.npy"}}}})
@example([{"$unknown": None}, {"$": 1, "a": 2}])
@example({1: "one", "1": "text", None: "nothing"})
@example([math.nan, -0.0, math.inf, -math.inf])
@example([10**4299, -(10**4300), -(10**5000)])
@example({10**5000: {-(10**5000), (10**4300,)}})
@example(datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZONES[-1]))
def test_every_value_comes_back_with_its_type(shared_store, value):
    text = encode(value, shared_store)
    again = decode(text, shared_store)
    assert same(value, again), (value, text, again)
    assert encode(again, shared_store) == text
    assert names_of_files(text) == set()


@given(VALUES)
def test_every_value_comes_back_from_a_file(shared_store, value):
    text = encode(value, shared_store, inline_bytes=0)
    assert list(json.loads(text)) == ["$file"]
    assert same(value, decode(text, shared_store))


@given(VALUES)
def test_the_text_is_json_without_nan(shared_store, value):
    json.loads(encode(value, shared_store), parse_constant=pytest.fail)


@given(VALUES)
def test_sorted_keys_do_not_change_what_has_an_order(shared_store, value):
    text = json.dumps(json.loads(encode([value, {"b": 1, "a": (2,)}], shared_store)), sort_keys=True)
    assert decode(text, shared_store)[1] == {"a": (2,), "b": 1}


def test_plain_values_are_plain_json(store):
    value = {"a": [1, 2.5, None, True, "é"], "b": {}, "c": {"$one": 1, "two": 2}}
    assert encode(value, store) == '{"a":[1,2.5,null,true,"é"],"b":{},"c":{"$one":1,"two":2}}'.encode()


def test_a_set_has_the_same_text_in_every_process(tmp_path):
    code = (
        "from taskfleet.references import encode, Store\n"
        "print(encode({'one', 'two', 'three', 'four', ('five', None)}, Store('nowhere')).decode())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed)},
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1
    assert list(tmp_path.iterdir()) == []


class Text(str):
    pass


class Count(int):
    pass


def infinite():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "the value is <object object at "),
        ({"a": [0, {"b": lambda: 0}]}, "a[1].b is <function "),
        ((1, {2: {3}, 4: object}), "[1][4] is <class 'object'> (type)"),
        (Text("a"), "the value is 'a' (Text)"),
        ([Count(1)], "[0] is 1 (Count)"),
        (pathlib.PureWindowsPath("a"), "the value is PureWindowsPath('a')"),
        ({"when": datetime.datetime(2024, 1, 1, tzinfo=type("Own", (datetime.tzinfo,), {})())}, "its zone is a Own"),
        ({10**5000: {1: {object}}}, "an integer of about 5,001 digits[1].<class 'object'> is <class 'object'>"),
        ([Count(10**5000)], "[0] is <Count instance at "),
        (infinite(), "it is nested deeper than 100 levels"),
        ({"a": infinite()}, "it is nested deeper than 100 levels"),
    ],
)
def test_what_is_not_supported_is_one_error_that_says_where_and_what_to_do(store, value, message):
    with pytest.raises(UnsupportedValueError) as caught:
        encode(value, store)
    text = caught.value.message("the result")
    assert message in text
    assert "in the result: " in text


def test_the_error_of_an_unsupported_type_names_the_three_ways(store):
    with pytest.raises(UnsupportedValueError) as caught:
        encode({"model": object()}, store)
    for way in (
        "Return a supported type",
        "write a file and return its Path",
        "app(pickle=True)",
        "taskfleet[cloudpickle]",
    ):
        assert way in str(caught.value)


def test_an_unsupported_part_leaves_no_files(store, tmp_path):
    with pytest.raises(UnsupportedValueError):
        encode([b"x" * 100_000, object()], store)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"$new": 1}', "has the tag '$new', which this version of taskfleet does not know: a newer version wrote it"),
        ('[{"a": {"$hologram": {}}}]', "'$hologram'"),
        ("[1,", "is damaged (JSONDecodeError"),
        ('{"$complex": [1]', "is damaged"),
        ('{"$bytes": "%"}', "is damaged"),
        ('{"$date": "tomorrow"}', "is damaged"),
        ('{"$set": [[]]}', "is damaged (TypeError"),
        ('{"$npy": "aGVsbG8="}', "is damaged"),
        ('{"$frame": "aGVsbG8="}', "is damaged"),
        (
            '{"$datetime": ["2024-01-01T00:00:00", "Mars/Olympus", 0]}',
            "this system does not know the time zone Mars/Olympus",
        ),
        ('{"$file": {}}', "is not that of a file of the store"),
        ('{"$file": "ab"}', "is not that of a file of the store"),
    ],
)
def test_text_that_cannot_be_decoded_is_one_error(store, text, message):
    with pytest.raises(UnreadableValueError) as caught:
        decode(text, store)
    assert message in str(caught.value)
