"""From rows to ids and texts."""

import datetime
import decimal
import json
import math
import uuid

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from taskfleet.errors import InsertError
from taskfleet.tables.batch import ColumnBatch, ListBatch, Rows
from taskfleet.tables.ids import content_id, content_ids
from taskfleet.tables.reading import read_batches


def fits(_names):
    return None


def of_columns(columns, first_row=1, **more):
    arrays = {name: value if isinstance(value, pa.Array | list) else pa.array(value) for name, value in columns.items()}
    length = len(next(iter(arrays.values()), ()))
    return ColumnBatch(source="t.feather", first_row=first_row, columns=arrays, length=length, **more)


def of_records(*records):
    (batch,) = read_batches(list(records))
    return batch


def test_columns_become_sorted_compact_objects():
    batch = of_columns({"b": pa.array([1, None]), "a": pa.array(["é", '"'])})
    assert batch.encode(fits) == Rows(first_row=1, ids=None, data=['{"a":"é","b":1}', '{"a":"\\"","b":null}'])


def test_a_task_id_column_is_the_id_and_numbers_become_text():
    assert of_columns({"task_id": pa.array([7, 8]), "a": pa.array([1, 2])}).encode(fits) == Rows(
        first_row=1, ids=["7", "8"], data=['{"a":1}', '{"a":2}']
    )
    assert of_records({"task_id": 7, "a": 1}, {"task_id": "x", "a": 2}).encode(fits).ids == ["7", "x"]


@pytest.mark.parametrize("name", ["task_id", "id"])
def test_the_pair_form_gives_id_and_arguments(name):
    expected = Rows(first_row=1, ids=["p", "q"], data=['{"a":2,"b":1}', '{"a":4,"b":3}'])
    records = [{name: "p", "data": {"b": 1, "a": 2}}, {name: "q", "data": {"a": 4, "b": 3}}]
    assert of_records(*records).encode(fits) == expected
    columns = {name: pa.array(["p", "q"]), "data": pa.array([record["data"] for record in records])}
    assert of_columns(columns).encode(fits) == expected
    pairs = pa.array([list(record["data"].items()) for record in records], pa.map_(pa.string(), pa.int64()))
    assert of_columns({**columns, "data": pairs}).encode(fits) == expected


def test_id_and_data_are_plain_arguments_when_data_is_no_mapping():
    expected = Rows(first_row=1, ids=None, data=['{"data":5,"id":1}'])
    assert of_records({"id": 1, "data": 5}).encode(fits) == expected
    assert of_columns({"id": [1], "data": pa.array([5])}).encode(fits) == expected


def test_an_id_column_beside_others_is_an_argument():
    assert of_records({"id": 1, "data": {}, "x": 2}).encode(fits).ids is None


@pytest.mark.parametrize(
    ("task_id", "part"),
    [
        (None, "task_id is null"),
        (math.nan, "task_id is null"),
        ("", "task_id is empty"),
        ("x" * 513, "has 513 characters. Write at most 512"),
        ("a\nb", "control character"),
        ("a\x85", "control character"),
        (True, "True (bool) is not an ID"),
        ([1], "(list) is not an ID"),
    ],
)
def test_an_invalid_id_is_an_error_with_its_row(task_id, part):
    with pytest.raises(InsertError) as caught:
        of_records({"task_id": "ok", "a": 1}, {"task_id": task_id, "a": 1}).encode(fits)
    assert part in str(caught.value)
    assert "row 2 of the list of tasks" in str(caught.value)
    values = [task_id] if task_id is True or isinstance(task_id, list) else ["ok", task_id]
    column = values if task_id is not None and not isinstance(task_id, str) else pa.array(values)
    with pytest.raises(InsertError) as caught:
        of_columns({"task_id": column}, first_row=11).encode(fits)
    assert part in str(caught.value)
    assert f"row {10 + len(values)} of t.feather" in str(caught.value)


def test_the_longest_id_is_allowed():
    assert of_columns({"task_id": pa.array(["é" * 512])}).encode(fits).ids == ["é" * 512]


@pytest.mark.parametrize("first_has_it", [True, False])
def test_either_all_rows_have_an_id_or_none_has_also_across_batches(first_has_it):
    with_id, without = {"task_id": "a", "x": 1}, {"x": 1}
    rows = [with_id, without] if first_has_it else [without, with_id]
    first, second = read_batches(rows, batch_rows=1)
    first.encode(fits)
    with pytest.raises(InsertError, match=r"^Row 2 of the list of tasks has .* Give every row a task_id, or none\.$"):
        second.encode(fits)


def test_the_columns_are_asked_about_once_per_distinct_set():
    asked = []
    of_records({"a": 1, "b": 2}, {"a": 1}, {"b": 1, "a": 2}, {"a": 3}).encode(asked.append)
    assert asked == [frozenset("ab"), frozenset("a")]
    asked.clear()
    of_columns({"a": [1, 2], "task_id": ["x", "y"]}).encode(asked.append)
    assert asked == [frozenset("a")]


def test_the_error_of_a_column_check_names_row_and_source():
    def fault(names):
        return "num2 is missing" if "num2" not in names else None

    with pytest.raises(InsertError, match=r"^num2 is missing \(row 2 of the list of tasks\)$"):
        of_records({"num2": 1}, {"num1": 1}).encode(fault)
    with pytest.raises(InsertError, match=r"^num2 is missing \(row 5 of t\.feather\)$"):
        of_columns({"num1": [1]}, first_row=5).encode(fault)


@pytest.mark.parametrize(
    ("column", "parts"),
    [
        (pa.array([1.0, -math.inf]), ["x is -inf (float)", "row 42 of t.feather", "no infinity"]),
        (pa.array([b"", b"ab"]).slice(1), ["x is b'ab' (bytes)", "row 41"]),
        (pa.array([None, {"scale": [0.5, math.inf]}]), ["x.scale[1] is inf (float)", "row 42"]),
        (pa.array([[], [(1, 2)]], pa.map_(pa.int64(), pa.int64())), ["key 1 (int) is not text", "row 42"]),
        (pa.array([[], [("k", 2), ("k", 3)]], pa.map_(pa.string(), pa.int64())), ["x in row 42", "duplicate"]),
        (pa.array([0, 2**60], pa.timestamp("s")), ["x in row 42", "cannot be read"]),
        ([1, 1j], ["x is 1j (complex)", "row 42"]),
    ],
)
def test_the_error_of_an_unsupported_value_names_row_and_column(column, parts):
    with pytest.raises(InsertError) as caught:
        of_columns({"a": pa.nulls(len(column)), "x": column}, first_row=41).encode(fits)
    for part in parts:
        assert part in str(caught.value)


def test_the_error_of_an_unsupported_value_in_a_record_names_row_and_path():
    with pytest.raises(
        InsertError, match=r"^opts\.scale\[2\] is inf \(float\) in row 2 of the list of tasks: JSON has no"
    ):
        of_records({"a": 1}, {"opts": {"scale": [1, 2, math.inf]}}).encode(fits)


def test_a_column_name_that_is_not_text_is_rejected():
    with pytest.raises(InsertError, match=r"column name 1 \(int\) in row 1 .* not text"):
        of_records({1: 2}).encode(fits)


def test_a_column_name_with_a_lone_surrogate_is_rejected_with_a_printable_message():
    for batch in (of_records({"y\ud800": 1}), of_columns({"y\ud800": [1]})):
        with pytest.raises(InsertError, match=r"^y\\ud800 is .* in row 1 of .* surrogate") as caught:
            batch.encode(fits)
        str(caught.value).encode()


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pa.array(["x", None, "y"]).dictionary_encode(), ['"x"', "null", '"y"']),
        (pa.array([True, None, False]), ["true", "null", "false"]),
        (pa.array([2**64 - 1, None], pa.uint64()), ["18446744073709551615", "null"]),
        (pa.array([-5], pa.int8()), ["-5"]),
        (pa.array([0.1, None, math.nan, 1e22]), ["0.1", "null", "null", "1e+22"]),
        (pa.array([0.5], pa.float16()), ["0.5"]),
        (pa.nulls(2), ["null", "null"]),
        (pa.array(["a", "ü"], pa.large_string()), ['"a"', '"ü"']),
        (pa.array(["a\tb", "\x7f"], pa.string_view()), ['"a\\tb"', '"\x7f"']),
        (pa.array([datetime.date(2024, 1, 2)]), ['"2024-01-02"']),
        (pa.array([datetime.time(1, 2)]), ['"01:02:00"']),
        (pa.array([1], pa.timestamp("ns")), ['"1970-01-01T00:00:00.000000001"']),
        (pa.array([0], pa.timestamp("ms", "Europe/Paris")), ['"1970-01-01T01:00:00+01:00"']),
        (pa.array([1500], pa.duration("ms")), ["1.5"]),
        (pa.array([decimal.Decimal("1.50")]), ['"1.50"']),
        (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), ['"00000000-0000-0000-0000-000000000001"']),
        (pa.array([{"b": 1, "a": [None, 2]}]), ['{"a":[null,2],"b":1}']),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), ['{"k":1}']),
        (pa.array([[[("k", 1)]]], pa.list_(pa.map_(pa.string(), pa.int64()))), ['[{"k":1}]']),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_a_column_of_each_kind_becomes_this_json(column, texts):
    assert of_columns({"x": column}).encode(fits).data == [f'{{"x":{text}}}' for text in texts]


def test_a_table_of_ids_alone_gives_tasks_without_arguments():
    assert of_columns({"task_id": ["a", "b"]}).encode(fits) == Rows(first_row=1, ids=["a", "b"], data=["{}", "{}"])


def test_a_slice_keeps_the_place_of_its_rows():
    batch = of_columns({"a": [1, 2, 3, 4]}, first_row=10)
    part = batch.slice(1, 3)
    assert (len(part), part.first_row, part.encode(fits).data) == (2, 11, ['{"a":2}', '{"a":3}'])
    assert len(batch.slice(2, 2)) == 0
    rows = of_records({"a": 1}, {"a": 2}).slice(1, 9)
    assert (len(rows), rows.first_row) == (1, 2)


def test_numbers_that_do_not_follow_each_other_reach_the_rows():
    batch = of_columns({"a": [1, 2, 3]}, first_row=4, numbers=[4, 7, 9]).slice(1, 3)
    rows = batch.encode(fits)
    assert (rows.first_row, rows.row_number(0), rows.row_number(1)) == (7, 7, 9)


def test_a_batch_without_rows_gives_no_tasks():
    assert of_columns({"a": pa.array([], pa.int64()), "task_id": pa.array([], pa.string())}).encode(fits).data == []


def test_a_content_id_is_made_of_the_text_alone():
    assert content_id('{"a":1}') == content_id('{"a":1}') != content_id('{"a":2}')
    assert content_ids(["x", "ü"]) == [content_id("x"), content_id("ü")]
    assert [len(content_id("x")), set(content_id("x")) <= set("0123456789abcdef")] == [20, True]


# Times of Python's own range, which is what both paths can read.
_times = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))
_kinds = st.sampled_from(
    [
        (st.integers(-(2**63), 2**63 - 1), pa.int64()),
        (st.integers(0, 255), pa.uint8()),
        (st.integers(0, 2**64 - 1), pa.uint64()),
        (st.booleans(), pa.bool_()),
        (st.floats(), pa.float64()),
        (st.floats(width=32), pa.float32()),
        (st.floats(allow_infinity=False), pa.float64()),
        (st.text(), pa.string()),
        (st.text('ab"\\\n\x00é'), pa.large_string()),
        (st.text(max_size=3), pa.dictionary(pa.int32(), pa.string())),
        (_times, pa.timestamp("us")),
        (_times, pa.timestamp("us", "Europe/Paris")),
        (st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)), pa.duration("us")),
        (st.decimals(-999, 999, places=2), pa.decimal128(10, 2)),
        (st.lists(st.floats(allow_nan=True, allow_infinity=False)), pa.list_(pa.float64())),
        (st.fixed_dictionaries({"b": st.integers(0, 9), "a": st.text()}), pa.struct([("b", "int64"), ("a", "string")])),
        (st.binary(max_size=2), pa.binary()),
        (st.none(), pa.null()),
    ]
)
_names = st.sampled_from(["a", "b", 'q"', "é", "task_id", "data", "id", "A"])


@st.composite
def tables(draw):
    length = draw(st.integers(1, 6))
    columns = {}
    for name in draw(st.lists(_names, unique=True, min_size=1, max_size=4)):
        values, kind = draw(_kinds)
        cells = draw(st.lists(st.one_of(values, st.none()), min_size=length, max_size=length))
        columns[name] = pa.array(cells, kind)
    start = draw(st.integers(0, length - 1))
    return of_columns(columns).slice(start, length)


@settings(max_examples=300, deadline=None)
@given(tables())
def test_the_quick_way_gives_the_same_as_the_rules_value_by_value(batch):
    slow = batch.as_list()
    assert isinstance(slow, ListBatch)
    try:
        expected = slow.encode(fits)
    except InsertError:
        with pytest.raises(InsertError):
            batch.encode(fits)
        return
    assert batch.encode(fits) == expected
    for text in expected.data:
        json.loads(text)
