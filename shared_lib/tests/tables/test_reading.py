"""Tables from files and task factories, in every format."""

import gc
import gzip
import io
import json
import subprocess
import sys
import tracemalloc

import pandas
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import yaml
from taskfleet.errors import SettingsError, TableError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.batch import Rows
from taskfleet.tables.delimited import csv_batches
from taskfleet.tables.reading import count_rows, read_batches

ROWS = [
    {"task_id": "t1", "num1": 1, "num2": 0.5, "name": 'a "quoted", é', "on": True, "note": None},
    {"task_id": "t2", "num1": -(2**62), "num2": 1e300, "name": "two\nlines", "on": False, "note": "x"},
    {"task_id": "t3", "num1": 3, "num2": 2.0, "name": "", "on": True, "note": None},
]
EXPECTED = Rows(
    first_row=1,
    ids=["t1", "t2", "t3"],
    data=[
        '{"name":"a \\"quoted\\", é","note":null,"num1":1,"num2":0.5,"on":true}',
        '{"name":"two\\nlines","note":"x","num1":-4611686018427387904,"num2":1e+300,"on":false}',
        '{"name":"","note":null,"num1":3,"num2":2.0,"on":true}',
    ],
)


def fits(_names):
    return None


def texts(source, **options):
    return [text for batch in read_batches(source, **options) for text in batch.encode(fits).data]


def save(path, rows):
    """Write rows to a file the way its users do."""
    table = pa.Table.from_pylist(rows)
    if path.name.endswith(".gz"):
        plain = save(path.with_suffix(""), rows)
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path, chunksize=2)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix in (".parquet", ".pq"):
        pyarrow.parquet.write_table(table, path, row_group_size=2)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(rows, allow_unicode=True), encoding="utf-8")
    return path


ALL_SUFFIXES = [
    ".feather", ".arrow", ".parquet", ".pq", ".csv", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".csv.gz", ".json.gz",
    ".jsonl.gz",
]  # fmt: skip


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_the_same_table_gives_the_same_tasks_from_every_format(tmp_path, suffix):
    path = save(tmp_path / f"t{suffix}", ROWS)
    whole = next(read_batches(path)) if suffix != ".feather" else None
    if whole is not None and len(whole) == len(ROWS):
        assert whole.encode(fits) == EXPECTED
    for source in (path, str(path), path.as_uri()):
        encoded = [batch.encode(fits) for batch in read_batches(source)]
        assert [task_id for rows in encoded for task_id in rows.ids] == EXPECTED.ids
        assert [text for rows in encoded for text in rows.data] == EXPECTED.data


def test_the_same_table_gives_the_same_tasks_from_a_generator():
    (batch,) = read_batches(row for row in ROWS)
    assert batch.encode(fits) == EXPECTED


def test_a_table_that_pandas_has_written_reads_the_same_without_its_index(tmp_path):
    frame = pandas.DataFrame(ROWS)
    frame.to_feather(tmp_path / "t.feather")
    frame[frame["num1"] > 0].to_parquet(tmp_path / "t.parquet")
    assert texts(tmp_path / "t.feather") == EXPECTED.data
    assert texts(tmp_path / "t.parquet") == [EXPECTED.data[0], EXPECTED.data[2]]


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_no_batch_is_larger_than_asked_and_rows_are_counted_through(tmp_path, suffix):
    rows = [{"a": index} for index in range(7)]
    path = save(tmp_path / f"t{suffix}", rows)
    batches = list(read_batches(path, batch_rows=3))
    assert max(map(len, batches)) <= 3
    counted = [batch.row_number(index) for batch in batches for index in range(len(batch))]
    assert counted == list(range(1, 8))
    assert [batch.first_row for batch in batches] == [batch.row_number(0) for batch in batches]
    assert texts(path, batch_rows=3) == [f'{{"a":{index}}}' for index in range(7)]


def test_a_batch_of_no_rows_makes_no_sense():
    with pytest.raises(ValueError, match="batch_rows is 0"):
        read_batches([], batch_rows=0)


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv", ".json", ".yaml"])
def test_a_table_without_rows_has_no_tasks(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    if suffix in (".json", ".yaml"):
        path.write_text("[]")
    else:
        save(path, pa.table({"a": pa.array([], pa.int64())}).to_pylist() or [{"a": 1}])
        empty = pa.table({"a": pa.array([], pa.int64())})
        if suffix == ".feather":
            pyarrow.feather.write_feather(empty, path)
        elif suffix == ".parquet":
            pyarrow.parquet.write_table(empty, path)
        else:
            path.write_text("a\n")
    assert texts(path) == []


# What each kind of cell in a CSV file means.


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "-2", ""], [1, -2, None]),
        ([" 1", "2 "], [1, 2]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["1.", ".5", "NA"], [1.0, 0.5, None]),
        (["1", "NaN", "null"], [1, None, None]),
        (["true", "False", "TRUE", ""], [True, False, True, None]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["0x10", "1_000"], ["0x10", "1_000"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
        (["2024-01-02", "2024-01-02 03:04:05"], ["2024-01-02", "2024-01-02 03:04:05"]),
        (['""', "x"], ["", "x"]),
        (["NA", "x", ""], ["NA", "x", None]),
        (["true", "1"], ["true", "1"]),
    ],
)
def test_the_whole_column_of_a_csv_file_decides_what_its_cells_are(tmp_path, cells, values):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{cell},0\n" for cell in cells))
    assert [json.loads(text)["x"] for text in texts(path)] == values


def test_a_csv_column_may_change_its_mind_late(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,pad\n" + f"1,{'p' * 100}\n" * 200_000 + "0.5,p\n")  # three blocks
    found = texts(path)
    assert found[0].endswith('"x":1.0}')
    assert found[-1] == '{"pad":"p","x":0.5}'


def test_csv_names_lose_their_spaces_and_ids_stay_as_written(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbftask_id, num1 ,num2\n007,1, 2\n1.50,3,4\n")
    (batch,) = read_batches(path)
    assert batch.encode(fits) == Rows(
        first_row=1, ids=["007", "1.50"], data=['{"num1":1,"num2":2}', '{"num1":3,"num2":4}']
    )


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ('\ufeff\r\n\r\n"a",b\r\n', ["a", "b"]),
        ("a,b\r", ["a", "b"]),
        ('"one\ntwo","say ""a, b"""\n', ["one\ntwo", 'say "a, b"']),
        ('a"b,"two\nlines"\n', ['a"b', "two\nlines"]),
        ('"a"b",c\n', ['ab"', "c"]),
        (f'"{"x" * 100_000}\n",b\n', ["x" * 100_000, "b"]),
    ],
)
def test_names_in_a_csv_header_may_be_quoted_and_have_line_breaks(tmp_path, header, names):
    path = tmp_path / "t.csv"
    path.write_bytes(f"{header}1,2\n".encode())
    assert [json.loads(text) for text in texts(path)] == [dict(zip(names, [1, 2], strict=True))]


def test_a_csv_file_is_read_twice_and_not_a_third_time_for_its_header():
    class Counted(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            sizes.append(len(data))
            return data

    sizes = []
    content = b"a,b\n" + (b"1," + b"x" * 100_000 + b"\n") * 400
    table = TableBytes(stream=lambda: Counted(content), random_access=None)
    assert sum(map(len, csv_batches(table, "t.csv", 1000))) == 400
    assert 2 * len(content) <= sum(sizes) <= 2 * len(content) + 100_000


# JSON and YAML.


def test_json_numbers_of_any_size_are_exact_and_fractions_floats(tmp_path):
    for name, text in (
        ("t.json", '[{"a": %s, "b": [1.5, {"c": 1E2}]}]'),
        ("t.jsonl", '{"a": %s, "b": [1.5, {"c": 1E2}]}'),
    ):
        (tmp_path / name).write_text("\ufeff" + text % 10**30, encoding="utf-8")
        assert texts(tmp_path / name) == [f'{{"a":{10**30},"b":[1.5,{{"c":100.0}}]}}']


def test_empty_json_lines_are_passed_over(tmp_path):
    (tmp_path / "t.jsonl").write_text('\n{"a": 1}\r\n  \n{"a": 2}')
    assert texts(tmp_path / "t.jsonl") == ['{"a":1}', '{"a":2}']


# Files that are not tables.


def truncated(path, rows):
    save(path, rows)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6) - 5])


@pytest.mark.parametrize("suffix", [suffix for suffix in ALL_SUFFIXES if suffix not in (".csv", ".yaml", ".yml")])
def test_a_truncated_file_is_reported_as_damaged(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    truncated(path, ROWS * 100)
    with pytest.raises(TableError) as caught:
        texts(path)
    assert str(caught.value).count(str(path)) == 1
    assert "write it again" in str(caught.value)


NOT_TEXT = b"\x00\xff\x80{["
OTHER_FORMATS = [NOT_TEXT, b"ARROW1\x00\x00\xff\xff", b"PAR1xxxxPAR1", b"\x1f\x8b\x08\x00"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    # To a CSV reader the others are a line of column names.
    [(suffix, one) for suffix in ALL_SUFFIXES for one in OTHER_FORMATS if suffix != ".csv" or one == NOT_TEXT],
)
def test_bytes_of_another_format_are_a_table_error(tmp_path, suffix, content):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content * 5)
    with pytest.raises(TableError, match=f"t{suffix}"):
        texts(path)


@pytest.mark.parametrize("suffix", [".feather", ".arrow", ".parquet"])
def test_damaged_files_raise_no_exceptions_of_other_libraries(tmp_path, suffix):
    path = save(tmp_path / f"t{suffix}", ROWS * 20)
    good = path.read_bytes()
    for position in range(0, len(good), max(1, len(good) // 150)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        try:
            list(read_batches(path))
        except TableError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_a_missing_file_a_directory_and_an_empty_file_are_rejected_at_once(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    with pytest.raises(TableError, match=r"does not exist\. Check the path \(relative paths start at"):
        read_batches(path)
    path.touch()
    with pytest.raises(TableError, match=r"is empty \(0 bytes\)"):
        read_batches(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(TableError, match=r"is a directory\. Name one file"):
        read_batches(path)


def test_a_file_without_permission_is_reported(tmp_path, permissions):
    path = save(tmp_path / "t.json", ROWS)
    path.chmod(0)
    with pytest.raises(TableError, match="permission denied"):
        texts(path)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("tasks.xlsx", ["tasks.xlsx has the suffix '.xlsx'", ".feather", ".yaml", ".csv.gz"]),
        ("tasks", ["tasks has no suffix"]),
        ("tasks.feather.gz", ["the suffix '.feather.gz'"]),
        ("ftp://host/t.csv", ["ftp:// is not supported", "s3://"]),
        ("https://host/t.xlsx?key=secret", ["https://host/t.xlsx has the suffix"]),
    ],
)
def test_an_invalid_address_is_rejected_at_once(address, parts):
    with pytest.raises(TableError) as caught:
        read_batches(address)
    for part in parts:
        assert part in str(caught.value)
    assert "secret" not in str(caught.value)


def test_legacy_feather_files_are_rejected_with_a_remedy(tmp_path):
    (tmp_path / "t.feather").write_bytes(b"FEA1" + b"\0" * 100 + b"FEA1")
    with pytest.raises(TableError, match=r"legacy Feather file \(version 1\)\. Write it again with"):
        texts(tmp_path / "t.feather")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.json", '{"a": 1}', "has an object at its top level instead of a list"),
        ("t.json", "  5", "has '5' at its top level"),
        ("t.json", '[{"a": 1}, 7]', r"Row 2 of .*t\.json is 7 \(int\), not an object"),
        ("t.json", '[{"a": 1}, {"a": }]', "not valid JSON at row 2: .*Correct it there"),
        ("t.json", '[{"a": NaN}]', "not valid JSON at row 1"),
        ("t.json", '[{"a": 1}] x', "not valid JSON at row 2: Extra data at"),
        ("t.json", "   ", "has nothing at its top level"),
        ("t.jsonl", '{"a": 1}\n[1]\n', r"Row 2 of .* is \[1\] \(list\), not an object"),
        ("t.jsonl", '{"a": 1}\n\n{"a": 1', r"Line 3 of .*t\.jsonl is not valid JSON at row 2"),
        ("t.jsonl", '{"a": NaN}', "NaN is not JSON"),
        ("t.jsonl", '{"a": 1}\n{"a": ' + "[" * 100_000, "not valid JSON at row 2"),
        ("t.jsonl", b'{"a": "\xff"}', "not valid JSON at row 1: 'utf-8' codec"),
        ("t.json", b'[{"a": "\xff"}]', "not valid JSON at row 1: 'utf-8' codec"),
        ("t.yaml", "a: 1", "has a mapping at its top level instead of a sequence"),
        ("t.yaml", "hello", "has a single value at its top level"),
        ("t.yaml", "# nothing", "has nothing at its top level"),
        ("t.yaml", "- {a: 1}\n- 5", r"Row 2 of .* is 5 \(int\), not an object"),
        ("t.yaml", "- {a: 1}\n- {a: [}", "not valid YAML at row 2: .*line 2"),
        ("t.yaml", "- {a: 1}\n- {a: *nobody}", "not valid YAML at row 2: .*undefined alias"),
        (
            "t.yaml",
            "- {a: !!python/object:os.system {}}",
            "not valid YAML at row 1: the tag '!!python/object:os.system'",
        ),
        ("t.yaml", "- {a: 1}\n---\n- {a: 2}", r"more than one YAML document \(another '---' after row 1\)"),
        ("t.yaml", b"- {a: \xff}", "not valid YAML at row 1"),
        ("t.yaml", "- " + "[" * 50_000, "not valid YAML at row 1"),
        ("t.csv", "a,b\n1,2\n\n3,4,5\n", r"Row 2 of .*t\.csv has 3 cells instead of 2 \('3,4,5'\)"),
        ("t.csv", "a,a\n1,2\n", "more than one column 'a'"),
        ("t.csv", "a, a\n1,2\n", "more than one column 'a'"),
        ("t.csv", b"a,b\n1,\xff\n", r"Line 2 of .*t\.csv is not UTF-8 .* Write the table in UTF-8"),
        ("t.csv", "\n\n", "cannot be read as a csv file"),
    ],
)
def test_the_error_of_a_file_without_a_table_names_the_row(tmp_path, name, content, part):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TableError, match=part) as caught:
        texts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_full_batches_before_an_error_are_yielded(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\noops\n')
    batches = read_batches(tmp_path / "t.jsonl", batch_rows=2)
    assert len(next(batches)) == 2
    with pytest.raises(TableError, match="row 4"):
        next(batches)


def test_a_damaged_parquet_page_tells_after_which_row(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"a": [f"{number:050d}" for number in range(2000)]})
    pyarrow.parquet.write_table(table, path, row_group_size=1000, use_dictionary=False)
    second = pyarrow.parquet.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[second : second + 20] = b"\xff" * 20  # the page's header
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"cannot be read as a parquet file after row 1000: "):
        texts(path, batch_rows=1000)


# Task factories.


def test_a_generator_is_asked_for_no_more_than_a_batch():
    made = []

    def make_tasks():
        for index in range(10**9):
            made.append(index)
            yield {"a": index}

    batches = read_batches(make_tasks(), batch_rows=10)
    assert made == []
    assert len(next(batches)) == 10
    assert len(made) == 10


def test_a_generator_may_yield_the_same_dict_again():
    def make_tasks():
        task = {}
        for index in range(2):
            task["a"] = index
            yield task

    assert texts(make_tasks()) == ['{"a":0}', '{"a":1}']


def test_a_generator_that_fails_is_named_with_its_exception():
    def make_tasks():
        yield {"a": 1}
        raise KeyError("b")

    with pytest.raises(TableError, match=r"make_tasks raised an exception after 1 row: KeyError: 'b'\n") as caught:
        texts(make_tasks())
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_librarys_own_errors_pass_through_a_generator():
    def make_tasks():
        yield {"a": 1}
        raise SettingsError("mine")

    with pytest.raises(SettingsError, match="mine"):
        texts(make_tasks())


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ([{"a": 1}, (1, 2)], r"Row 2 of the list of tasks is \(1, 2\) \(tuple\), not a mapping"),
        (pandas.DataFrame({"a": [1]}), r"type DataFrame is not a table\. Pass table\.to_dict\('records'\)"),
        ({"a": 1}, r"type dict is not a table\. Pass an address"),
        (None, "type NoneType is not a table"),
        (5, "type int is not a table"),
        (b"t.csv", "type bytes is not a table"),
        (lambda: None, r"type function is not a table\. Call it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_that_are_not_tables_are_rejected(source, part):
    with pytest.raises(TableError, match=part):
        texts(source)


# Cost.


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".yaml"])
def test_only_a_batch_of_records_is_in_memory(tmp_path, suffix):
    count = 500 if suffix == ".yaml" else 5_000
    path = save(tmp_path / f"t{suffix}", [{"a": index, "text": "x" * 1000} for index in range(count)])
    texts(save(tmp_path / f"warm{suffix}", [{"a": 1}]))
    gc.collect()
    tracemalloc.start()
    rows = sum(len(batch.encode(fits).data) for batch in read_batches(path, batch_rows=50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == count
    assert peak < path.stat().st_size / 2


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv"])
def test_only_a_few_record_batches_are_in_memory(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    table = pa.table({"a": range(200_000), "text": [f"{index:0500d}x" for index in range(200_000)]})  # 100 MB
    if suffix == ".feather":
        pyarrow.feather.write_feather(table, path, chunksize=10_000)
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=10_000, use_dictionary=False)
    else:
        pyarrow.csv.write_csv(table, path)
    del table
    gc.collect()
    before = pa.total_allocated_bytes()
    most = rows = 0
    for batch in read_batches(path, batch_rows=2_000):
        rows += len(batch.encode(fits).data)
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 200_000
    assert most < 50 << 20


def test_importing_the_room_imports_none_of_the_heavy_packages():
    code = (
        "import sys, taskfleet.tables, taskfleet.tables.reading, taskfleet.tables.values, taskfleet.tables.results\n"
        "print([name for name in ('pyarrow', 'pandas', 'numpy', 'yaml') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_table_of_json_lines_needs_neither_pyarrow_nor_pandas(tmp_path):
    path = save(tmp_path / "t.jsonl", ROWS)
    code = (
        f"import sys\nfrom taskfleet.tables.reading import read_batches\n"
        f"print(sum(len(b.encode(lambda names: None).data) for b in read_batches({str(path)!r})))\n"
        "print([name for name in ('pyarrow', 'pandas', 'numpy', 'yaml') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "3\n[]\n"


def test_a_table_of_plain_columns_becomes_tasks_without_pandas(tmp_path):
    columns = {
        "i": [1, None],
        "f": [0.5, None],
        "b": [True, None],
        "s": ["x", None],
        "q": ['"', "ü"],
        "task_id": ["a", "b"],
    }
    pyarrow.feather.write_feather(pa.table(columns), tmp_path / "t.feather")
    code = (
        f"import sys\nfrom taskfleet.tables.reading import read_batches\n"
        f"[rows] = [batch.encode(lambda names: None) for batch in read_batches({str(tmp_path / 't.feather')!r})]\n"
        "print(ascii(rows.data[0]), rows.ids, 'pandas' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    data = '{"b":true,"f":0.5,"i":1,"q":"\\\\"","s":"x"}'
    assert answer.stdout == f"'{data}' ['a', 'b'] False\n"


@pytest.mark.parametrize(("suffix", "rows"), [("feather", 5), ("parquet", 5), ("csv", None), ("feather broken", None)])
def test_rows_are_counted_where_that_needs_no_reading(tmp_path, suffix, rows):
    suffix, _, broken = suffix.partition(" ")
    path = tmp_path / f"t.{suffix}"
    table = pa.table({"a": range(5)})
    {"feather": pyarrow.feather.write_feather, "parquet": pyarrow.parquet.write_table}.get(
        suffix, lambda _table, path: path.write_text("a\n1\n")
    )(table, path)
    if broken:
        path.write_bytes(b"nothing of the kind")
    assert count_rows(path) == rows
