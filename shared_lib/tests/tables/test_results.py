"""Tables of results."""

import csv
import json
import math
import os
import subprocess
import tracemalloc
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from taskfleet.errors import LedgerError, TableError
from taskfleet.tables.reading import read_batches
from taskfleet.tables.results import write_results

SUFFIXES = [".feather", ".arrow", ".parquet", ".pq", ".csv", ".json", ".jsonl", ".ndjson"]
ARROW_SUFFIXES = [".feather", ".parquet"]


def written(path, rows, columns=()):
    count = write_results(path, lambda: iter(rows), columns)
    assert count == len(rows)
    assert os.listdir(path.parent) == [path.name]
    return path


def arrow_table(path):
    return pyarrow.feather.read_table(path) if path.suffix == ".feather" else pyarrow.parquet.read_table(path)


def rows_of(path):
    return [json.loads(text) for batch in read_batches(path) for text in batch.encode(lambda _: None).data]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_back_what_was_written(tmp_path, suffix):
    rows = [
        {"flag": True, "count": 2**63 - 1, "price": 0.1, "name": 'a,"b"\nc', "empty": None, "part": 1.0},
        {"flag": None, "count": None, "price": 2.5, "name": "", "empty": None, "part": 2.0},
        {"flag": False, "count": -1, "price": None, "name": " é", "empty": None, "part": 3.0},
    ]
    assert rows_of(written(tmp_path / f"r{suffix}", rows)) == rows


@pytest.mark.parametrize("suffix", ARROW_SUFFIXES)
@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None], pa.bool_(), [True, None]),
        ([1, None], pa.int64(), [1, None]),
        ([1, 0.5], pa.float64(), [1.0, 0.5]),
        ([0.5, math.inf], pa.float64(), [0.5, math.inf]),
        (["a", None], pa.string(), ["a", None]),
        ([None, None], pa.string(), [None, None]),
        ([1, 2**70], pa.string(), ["1", str(2**70)]),
        ([2**70, None], pa.string(), [str(2**70), None]),
        ([0.5, 2**70], pa.string(), ["0.5", str(2**70)]),
        ([True, 1], pa.string(), ["true", "1"]),
        (["a", 1], pa.string(), ['"a"', "1"]),
        ([[1, {"ü": math.nan}], None], pa.string(), ['[1, {"ü": null}]', None]),
        (["a\ud800", "b"], pa.string(), ["a\\ud800", "b"]),
    ],
)
def test_a_column_of_these_values_gets_this_type(tmp_path, suffix, values, kind, expected):
    table = arrow_table(written(tmp_path / f"r{suffix}", [{"x": value} for value in values]))
    assert table.schema.field("x").type == kind
    assert table.column("x").to_pylist() == expected


@pytest.mark.parametrize("suffix", ARROW_SUFFIXES)
def test_columns_come_in_the_order_they_are_first_seen_after_the_given_ones(tmp_path, suffix):
    rows = [{"b": 1, "a": 2}, {"c": 3, "task_id": "x"}]
    table = arrow_table(written(tmp_path / f"r{suffix}", rows, columns=["task_id"]))
    assert table.to_pylist() == [
        {"task_id": None, "b": 1, "a": 2, "c": None},
        {"task_id": "x", "b": None, "a": None, "c": 3},
    ]
    assert table.column_names == ["task_id", "b", "a", "c"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_keeps_nested_values_and_is_valid_whatever_python_holds(tmp_path, suffix):
    path = written(
        tmp_path / f"r{suffix}", [{"x": [math.nan, {"k": math.inf}], "s": "\ud800é"}, {"x": 2**70}], ["first"]
    )
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    assert rows == [
        {"first": None, "x": [None, {"k": None}], "s": "\ud800é"},
        {"first": None, "x": 2**70},
    ]
    assert "NaN" not in text


def test_csv_tells_null_from_an_empty_text_and_keeps_floats_floats(tmp_path):
    path = written(tmp_path / "r.csv", [{"a": "", "b": 1.0, "c": True}, {"a": None, "b": 2.0, "c": None}])
    assert path.read_text() == 'a,b,c\n"",1.0,true\n,2.0,\n'


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_give_a_valid_file(tmp_path, suffix):
    path = written(tmp_path / f"r{suffix}", [], columns=["task_id", "result"])
    if suffix in (".jsonl", ".ndjson"):
        assert path.read_bytes() == b""
    else:
        assert rows_of(path) == []
    if suffix in ARROW_SUFFIXES:
        assert arrow_table(path).column_names == ["task_id", "result"]


@pytest.mark.parametrize("suffix", ARROW_SUFFIXES)
def test_rows_without_any_column_are_counted(tmp_path, suffix):
    written(tmp_path / f"r{suffix}", [{}, {}])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_rows_than_fit_in_a_batch_are_all_written(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("taskfleet.tables.result_values.BATCH_ROWS", 3)
    rows = [{"a": index} for index in range(10)]
    assert rows_of(written(tmp_path / f"r{suffix}", rows)) == rows


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("before", [0, 1, 25_000])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, suffix, before):
    path = tmp_path / f"r{suffix}"
    path.write_text("old")

    def rows():
        for index in range(before):
            yield {"a": index}
        raise LedgerError("gone")

    with pytest.raises(LedgerError, match="gone"):
        write_results(path, rows)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "old"


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv"])
@pytest.mark.parametrize("later", [{"b": 1}, {"a": "text"}, {"a": 2**70}])
def test_rows_that_change_between_the_passes_are_noticed(tmp_path, suffix, later):
    passes = iter([[{"a": 1}], [{"a": 1}, later]])
    with pytest.raises(TableError, match=r"changed while r\.\w+ was written"):
        write_results(tmp_path / f"r{suffix}", lambda: iter(next(passes)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("r.xlsx", r"the suffix '.xlsx', .* Use one of \.feather"),
        ("r", "no suffix"),
        ("r.yaml", "not a format for results"),
        ("missing/r.csv", "missing of r.csv does not exist"),
        ("folder.csv", "is a directory"),
    ],
)
def test_an_invalid_path_for_results_is_rejected(tmp_path, name, part):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match=part):
        write_results(tmp_path / name, lambda: iter([{"a": 1}]))
    assert os.listdir(tmp_path) == ["folder.csv"]


def test_results_go_to_local_files_only():
    with pytest.raises(TableError, match=r"s3://bucket/r\.csv\. Write a local file"):
        write_results("s3://bucket/r.csv", lambda: iter([]))


def test_a_folder_without_permission_is_rejected(tmp_path, permissions):
    tmp_path.chmod(0o500)
    with pytest.raises(TableError, match="Permission denied"):
        write_results(tmp_path / "r.csv", lambda: iter([]))
    tmp_path.chmod(0o700)


def test_a_name_too_long_for_the_disk_is_rejected(tmp_path):
    with pytest.raises(TableError, match="cannot be written: File name too long"):
        write_results(tmp_path / ("x" * 300 + ".csv"), lambda: iter([]))


@pytest.fixture
def little_room():
    """Files may not grow beyond 100 kB as long as the test runs."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv", ".json", ".jsonl"])
def test_a_full_disk_is_reported(tmp_path, little_room, suffix, rows):
    noise = [{"a": os.urandom(100_000).hex()} for _ in range(rows)]
    with pytest.raises(TableError, match=r"r\.\w+ cannot be written: .*File too large.* Free disk space"):
        write_results(tmp_path / f"r{suffix}", lambda: iter(noise))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv", ".json", ".jsonl"])
def test_many_rows_are_written_in_little_memory(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("taskfleet.tables.result_values.BATCH_ROWS", 100)

    def rows():
        return ({"a": index, "text": "x" * 2000} for index in range(10_000))

    write_results(tmp_path / f"warm{suffix}", lambda: iter([{"a": 1}]))
    allocated = pa.total_allocated_bytes()
    tracemalloc.start()
    assert write_results(tmp_path / f"r{suffix}", rows) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20  # of 20 MB
    assert pa.total_allocated_bytes() - allocated < 1 << 20


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv", ".json", ".jsonl"])
def test_a_few_large_results_are_written_in_little_memory(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("taskfleet.tables.result_values.BATCH_CHARACTERS", 1 << 20)

    def rows():
        return ({"a": ["x" * 400_000], "b": "y" * 400_000} for _ in range(30))

    write_results(tmp_path / f"warm{suffix}", lambda: iter([{"a": 1}]))
    tracemalloc.start()
    assert write_results(tmp_path / f"r{suffix}", rows) == 30
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20  # of 24 MB
    assert len(rows_of(tmp_path / f"r{suffix}")) == 30


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


def test_formulas_are_escaped_in_csv_on_request_only(tmp_path):
    rows = [{"=name": text, "number": -1.5, "harmless": f"a{text}"} for text in FORMULAS]
    as_they_are, escaped = tmp_path / "as they are.csv", tmp_path / "escaped.csv"
    write_results(as_they_are, lambda: iter(rows))
    write_results(escaped, lambda: iter(rows), escape_formulas=True)

    def read(path):
        with path.open(newline="") as file:
            return list(csv.reader(file))

    assert read(as_they_are) == [["=name", "number", "harmless"], *([t, "-1.5", f"a{t}"] for t in FORMULAS)]
    assert read(escaped) == [["'=name", "number", "harmless"], *([f"'{t}", "-1.5", f"a{t}"] for t in FORMULAS)]
    for suffix in (".jsonl", ".parquet"):
        write_results(tmp_path / f"a{suffix}", lambda: iter(rows), escape_formulas=True)
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["=name"] == "=1+1"


@contextmanager
def reader_of(pipe, *command, output=subprocess.DEVNULL):
    """Run a command that reads a pipe, and end it if nothing was written there."""
    process = subprocess.Popen([*command, pipe], stdout=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("by_link", [False, True])
def test_a_named_pipe_is_written_into_and_stays(tmp_path, suffix, by_link):
    rows = [{"a": index, "text": "x" * 100} for index in range(10_000)]  # more than a pipe holds
    pipe, link, received = (tmp_path / f"{name}{suffix}" for name in ("pipe", "link", "received"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with received.open("wb") as file, reader_of(pipe, "cat", output=file) as reader:
        assert write_results(link if by_link else pipe, lambda: iter(rows)) == 10_000
        assert pipe.is_fifo()
        assert link.is_symlink()
        assert reader.wait() == 0
    assert rows_of(received) == rows
    assert len(os.listdir(tmp_path)) == 3


def test_a_reader_of_a_pipe_that_goes_away_is_an_error_of_the_pipe(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    broken = pytest.raises(TableError, match=r"pipe\.csv cannot be written: Broken pipe\. Its reader ended")
    with reader_of(pipe, "head", "-c", "10"), broken:
        write_results(pipe, lambda: ({"a": "x" * 1000} for _ in range(10_000)))
    assert pipe.is_fifo()
