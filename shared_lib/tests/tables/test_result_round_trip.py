"""Tables of results, read back by the usual readers of their formats."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas
import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.tables.results import write_results

integers = st.integers() | st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63)])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2.0**53, -0.0, 5e-324])
texts = st.text(max_size=5) | st.sampled_from(
    [
        "",
        " ",
        "0123",
        "1",
        "1.0",
        "true",
        "null",
        "NA",
        "nan",
        "None",
        "2024-01-01",
        'a"b',
        "a,b",
        "a\r\nb",
        "\r",
        "\0",
        "[1]",
        '"x"',
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
#: Columns of one type, of two, and of anything.
columns = st.sampled_from(
    [st.booleans(), integers, floats, texts, integers | floats, integers | texts, anything]
).flatmap(lambda cells: st.lists(st.none() | cells, min_size=4, max_size=4))
tables = st.dictionaries(texts.filter(bool), columns, min_size=1, max_size=3).map(
    lambda given: [dict(zip(given, cells, strict=True)) for cells in zip(*given.values(), strict=True)]
)


def exactly(one):
    """A form in which 1, 1.0, True and -0.0 differ."""
    return repr(one)


def check_cell(cell, value, others):
    """A cell without a type of its own says exactly what the value is, given the other values of the column."""
    known = [other for other in others if other is not None]
    if all(isinstance(other, str) for other in known):
        assert cell == value
    elif all(isinstance(other, int) and not isinstance(other, bool) for other in known):
        assert cell == str(value)
    else:
        assert exactly(json.loads(cell)) == exactly(value)


def read(suffix, rows):
    with TemporaryDirectory() as folder:
        path = Path(folder, f"r{suffix}")
        assert write_results(path, lambda: iter(rows)) == len(rows)
        if suffix == ".feather":
            return pyarrow.feather.read_table(path), pandas.read_feather(path)
        if suffix == ".parquet":
            return pyarrow.parquet.read_table(path), pandas.read_parquet(path)
        if suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                by_csv = list(csv.reader(file))
            options = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(rows[0], pyarrow.string()), null_values=[""], strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            )  # fmt: skip
            parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
            by_arrow = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=options)
            return by_csv, pandas.read_csv(path, dtype=str, keep_default_na=False), by_arrow
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@given(rows=tables)
def test_json_gives_back_exactly_what_was_returned(suffix, rows):
    assert exactly(read(suffix, rows)) == exactly(rows)


@pytest.mark.parametrize("suffix", [".feather", ".parquet"])
@given(rows=tables)
def test_typed_columns_give_back_exactly_what_was_returned(suffix, rows):
    table, frame = read(suffix, rows)
    assert table.column_names == list(frame.columns) == list(rows[0])
    for name in rows[0]:
        values = [row[name] for row in rows]
        kind = table.schema.field(name).type
        for cell, value in zip(table.column(name).to_pylist(), values, strict=True):
            if value is None:
                assert cell is None
            elif kind == pyarrow.float64() and isinstance(value, int):
                assert exactly(int(cell)) == exactly(value)
            elif kind == pyarrow.string():
                check_cell(cell, value, values)
            else:
                assert exactly(cell) == exactly(value)


@given(rows=tables)
def test_cells_of_csv_give_back_exactly_what_was_returned(rows):
    rows = [{"task_id": "t", **row} for row in rows]  # a line is never empty
    (header, *by_csv), frame, by_arrow = read(".csv", rows)
    assert header == list(rows[0])
    for index, name in enumerate(header):
        values = [row[name] for row in rows]
        for row, value in enumerate(values):
            cell = by_csv[row][index]
            assert frame.iloc[row, index] == cell
            assert by_arrow.column(index)[row].as_py() == (None if value is None else cell)
            if isinstance(value, int) and not isinstance(value, bool) and cell != str(value):
                assert float(cell) == value  # a column that has floats, too
            elif value is not None:
                check_cell(cell, value, values)


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv"])
def test_large_integers_keep_their_digits_beside_floats(suffix):
    rows = [{"x": 2**53 + 1}, {"x": 0.5}]
    read_back = read(suffix, rows)
    cells = [row[0] for row in read_back[0][1:]] if suffix == ".csv" else read_back[0].column("x").to_pylist()
    assert cells == ["9007199254740993", "0.5"]


def test_texts_that_look_like_something_else_are_quoted_in_csv():
    looks = ["0123", "1", "-1.5e3", ".5", "true", "NULL", "nan", "N/A", "inf", ""]
    plain = ["a", "task-1", "truely", "2024-01-01", "1 apple", "e5"]
    with TemporaryDirectory() as folder:
        path = Path(folder, "r.csv")
        write_results(path, lambda: iter([{"x": text, "n": 1, "big": 2**70} for text in [*looks, *plain]]))
        lines = path.read_text().splitlines()
    expected = [f'"{text}"' for text in looks] + plain
    assert lines == ["x,n,big", *(f"{text},1,{2**70}" for text in expected)]
