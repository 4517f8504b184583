"""Stretches of a table, and the user's filter_tasks."""

import json

import pandas
import pyarrow as pa
import pyarrow.feather
import pytest
from taskfleet.errors import InsertError, SettingsError
from taskfleet.tables.filtering import filter_batches
from taskfleet.tables.reading import read_batches, slice_batches


def fits(_names):
    return None


def texts(batches):
    return [text for batch in batches for text in batch.encode(fits).data]


def numbers(batches):
    found = [batch.encode(fits) for batch in batches]
    return [rows.row_number(index) for rows in found for index in range(len(rows.data))]


@pytest.fixture(params=["columns", "records"])
def table_of(request, tmp_path):
    """A function that makes the same table of either kind of batch."""

    def make(rows, batch_rows=4):
        if request.param == "records":
            return read_batches(rows, batch_rows=batch_rows)
        pyarrow.feather.write_feather(pa.Table.from_pylist(rows), tmp_path / "t.feather")
        return read_batches(tmp_path / "t.feather", batch_rows=batch_rows)

    return make


@pytest.mark.parametrize(
    ("skip", "limit", "expected"),
    [
        (0, None, range(10)),
        (3, None, range(3, 10)),
        (4, 2, range(4, 6)),
        (2, 5, range(2, 7)),
        (9, 5, range(9, 10)),
        (10, None, []),
        (99, 1, []),
        (0, 0, []),
    ],
)
def test_a_slice_has_these_rows_with_their_places(table_of, skip, limit, expected):
    rows = [{"a": index} for index in range(10)]
    parts = list(slice_batches(table_of(rows), skip, limit))
    assert texts(parts) == [f'{{"a":{index}}}' for index in expected]
    assert numbers(parts) == [index + 1 for index in expected]


def test_a_slice_reads_no_further_than_it_needs():
    made = []

    def tasks():
        for index in range(1_000_000):
            made.append(index)
            yield {"a": index}

    assert len(texts(slice_batches(read_batches(tasks(), batch_rows=5), 2, 8))) == 8
    assert len(made) == 10
    assert texts(slice_batches(read_batches(tasks(), batch_rows=5), 0, 0)) == []
    assert len(made) == 10


def test_a_filter_keeps_rows_and_their_places(table_of):
    rows = [{"a": index, "name": f"n{index}"} for index in range(10)]
    kept = list(filter_batches(table_of(rows), lambda table, _: table[table["a"] % 3 == 0], None))
    assert texts(kept) == [json.dumps(rows[index], separators=(",", ":")) for index in (0, 3, 6, 9)]
    assert numbers(kept) == [1, 4, 7, 10]
    again = list(filter_batches(slice_batches(kept, 1, 2), lambda table, _: table, None))
    assert numbers(again) == [4, 7]


def test_the_filter_is_given_the_output_path_and_frames_of_the_batches(table_of):
    seen = []

    def filter_tasks(table, output_path):
        seen.append((list(table.index), list(table.columns), output_path))
        return table

    list(filter_batches(table_of([{"a": 1, "b": 2}] * 6), filter_tasks, "out"))
    assert seen == [([1, 2, 3, 4], ["a", "b"], "out"), ([5, 6], ["a", "b"], "out")]


def test_changed_and_added_columns_are_kept_and_dropped_ones_are_gone(table_of):
    def filter_tasks(table, _):
        table["a"] = table["a"] * 2
        table["new"] = [f"row {index}" for index in table.index]
        return table.drop(columns="c").sort_values("a", ascending=False)

    parts = list(
        filter_batches(table_of([{"a": 1, "b": True, "c": 0}, {"a": 2, "b": None, "c": 0}]), filter_tasks, None)
    )
    assert texts(parts) == ['{"a":4,"b":null,"new":"row 2"}', '{"a":2,"b":true,"new":"row 1"}']
    assert numbers(parts) == [2, 1]


def test_nothing_changes_its_kind_on_the_way_through_pandas(table_of):
    rows = [
        {"i": 2**62 + 1, "n": None, "b": None, "f": 0.1, "s": "a", "l": [1, 2], "o": {"k": [None]}, "z": None},
        {"i": -5, "n": 2**62 + 1, "b": True, "f": None, "s": None, "l": [], "o": {"k": [1]}, "z": None},
    ]
    seen = {}

    def filter_tasks(table, _):
        seen.update(table.dtypes.astype(str))
        return table

    assert texts(filter_batches(table_of(rows), filter_tasks, None)) == texts(table_of(rows))
    assert {name: seen[name] for name in "inb"} == {"i": "int64", "n": "Int64", "b": "boolean"}


def test_times_and_decimals_of_a_file_come_through_a_filter_unchanged(tmp_path):
    columns = {
        "ns": pa.array([1, None], pa.timestamp("ns")),
        "tz": pa.array([1, 2], pa.timestamp("ms", "Europe/Paris")),
        "date": pa.array([1, 2], pa.date32()),
        "dec": pa.array(["1.50", "2"]).cast(pa.decimal128(5, 2)),
        "span": pa.array([1, 2], pa.duration("ns")),
        "cat": pa.array(["x", None]).dictionary_encode(),
        "u8": pa.array([1, None], pa.uint8()),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    }
    path = tmp_path / "t.feather"
    pyarrow.feather.write_feather(pa.table(columns), path)
    kept = filter_batches(read_batches(path), lambda table, _: table.iloc[::-1], None)
    assert texts(kept) == texts(read_batches(path))[::-1]


def test_a_key_that_a_record_lacks_stays_away():
    rows = [{"a": 1}, {"a": 2, "b": 5}, {"a": 3, "b": None}, {"a": 10**30, "c": [1]}]
    assert texts(filter_batches(read_batches(rows), lambda table, _: table, None)) == texts(read_batches(rows))


def test_whole_numbers_beside_fractions_stay_whole():
    rows = [{"a": 1}, {"a": 2.5}, {"a": 2**60 + 1}]
    kept = filter_batches(read_batches(rows), lambda table, _: table[table["a"] != 2.5], None)
    assert texts(kept) == ['{"a":1}', f'{{"a":{2**60 + 1}}}']


def test_a_filter_may_look_at_the_pair_form_and_ids_stay_ids(table_of):
    rows = [{"task_id": f"t{index}", "data": {"x": index}} for index in range(3)]
    kept = filter_batches(table_of(rows), lambda table, _: table[table["task_id"] != "t1"], None)
    (encoded,) = [batch.encode(fits) for batch in kept]
    assert (encoded.ids, encoded.data) == (["t0", "t2"], ['{"x":0}', '{"x":2}'])


def test_batches_of_which_nothing_is_left_are_left_out(table_of):
    assert list(filter_batches(table_of([{"a": 1}] * 9), lambda table, _: table[:0], None)) == []


def test_errors_after_a_filter_name_the_row_of_the_source(table_of):
    rows = [{"a": index} for index in range(5)]

    def filter_tasks(table, _):
        table["a"] = table["a"].astype(float).replace(3.0, float("inf"))
        return table[table["a"] > 1]

    kept = filter_batches(table_of(rows, batch_rows=50), filter_tasks, None)
    with pytest.raises(InsertError, match=r"^a is inf \(float\) in row 4 of "):
        texts(kept)


def test_an_exception_in_the_filter_is_named_and_chained(table_of):
    with pytest.raises(
        InsertError, match=r"filter_tasks raised an exception for rows 1 to 2 of .*: KeyError: 'nope'\n"
    ) as caught:
        list(filter_batches(table_of([{"a": 1}] * 2), lambda table, _: table["nope"], None))
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_librarys_own_errors_pass_through_a_filter(table_of):
    def filter_tasks(_table, _):
        raise SettingsError("mine")

    with pytest.raises(SettingsError, match="mine"):
        list(filter_batches(table_of([{"a": 1}]), filter_tasks, None))


@pytest.mark.parametrize(
    ("result", "part"),
    [
        (lambda table: None, r"returned None \(NoneType\) instead of a DataFrame"),
        (lambda table: table["a"], r"\(Series\) instead of a DataFrame"),
        (lambda table: table.reset_index(drop=True), "Keep the index"),
        (lambda table: pandas.concat([table, table]), "return each row at most once"),
        (lambda table: table.set_index(["a", "b"]), "Keep the index"),
        (lambda table: pandas.concat([table, table["a"]], axis=1), "more than one column a"),
    ],
)
def test_a_result_that_is_not_a_subset_of_the_rows_is_rejected(table_of, result, part):
    rows = [{"a": index, "b": index} for index in range(3)]
    with pytest.raises(InsertError, match=part):
        list(filter_batches(table_of(rows), lambda table, _: result(table), None))


def test_a_column_that_the_filter_names_by_a_number_is_rejected(table_of):
    kept = filter_batches(table_of([{"a": 1}]), lambda table, _: table.rename(columns={"a": 1}), None)
    with pytest.raises(InsertError, match=r"column name 1 \(int\) in row 1 "):
        texts(kept)
