"""Small inputs that would take all memory, all time or Python itself are refused in one sentence, at sizes that the guide states."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.feather
import pytest
from taskfleet.errors import InsertError, TableError
from taskfleet.tables import records
from taskfleet.tables.limits import MAX_COLUMNS, MAX_ROW_BYTES
from taskfleet.tables.reading import read_batches

LIMIT = MAX_ROW_BYTES


def texts(source):
    return [text for batch in read_batches(source) for text in batch.encode(lambda _: None).data]


def refused(path, part, *, kind=TableError):
    with pytest.raises(kind, match=part) as caught:
        texts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def ones(path, start, end, mib):
    """Write a gzipped file of many bytes with little memory."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(mib):
            file.write(b"1" * (1 << 20))
        file.write(end)


READ = """
import resource, sys
from taskfleet.errors import TaskfleetError
from taskfleet.tables.reading import read_batches
try:
    for batch in read_batches(sys.argv[1]):
        batch.encode(lambda names: None)
except TaskfleetError as error:
    print(error)
if sys.platform.startswith("linux"):  # ru_maxrss begins with the peak of the process that started this one
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20)
"""


def in_its_own_process(path):
    """Read a table in a process that may crash, and return the message and the peak of its memory in MiB."""
    answer = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, timeout=250, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    message, peak = answer.stdout.splitlines()
    return message, int(peak)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("t.csv.gz", b"a,b\n1,", b"\n"),
        ("t.json.gz", b'[{"a": 1}, {"a": "', b'"}]'),
        ("t.json.gz", b'[{"a": 1}, {"a": ', b"}]"),
        ("t.jsonl.gz", b'{"a": 1}\n{"a": "', b'"}\n'),
    ],
)
def test_a_huge_line_in_a_small_gzipped_file_is_refused_in_bounded_memory(tmp_path, name, start, end):
    ones(tmp_path / name, start, end, mib=512)
    assert (tmp_path / name).stat().st_size < 8 << 20
    message, peak_mib = in_its_own_process(tmp_path / name)
    assert "8 MiB. Store long values in files, and write their paths" in message
    assert peak_mib < 500
    if ".csv" not in name:
        assert message.startswith("Row 2 of ")


def test_a_reader_of_csv_that_stops_early_leaves_no_thread_that_reads(tmp_path):
    with gzip.open(tmp_path / "t.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"a,b\n1,2\n" + (b"x" * 99 + b",1\n") * 10_000 + b"1,2,3\n" + (b"x" * 99 + b",1\n") * 1_000_000)
    message, _ = in_its_own_process(tmp_path / "t.csv.gz")
    assert message.startswith("Row 10002 of ")


def test_an_integer_of_4301_digits_does_not_end_python(tmp_path):
    (tmp_path / "t.json").write_text('[{"num1": ' + "1" * 4301 + ', "num2": 2}]')
    message, _ = in_its_own_process(tmp_path / "t.json")
    assert message.startswith("num1 is 111")
    assert f"in row 1 of {tmp_path / 't.json'}: it has 4,301 digits" in message


def bomb(first, last, *, levels=7):
    lines = [first]
    lines += [f"- {{x: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, levels + 1)]
    return "\n".join([*lines, last])


@pytest.mark.parametrize(
    "text",
    [
        bomb("- {x: &a0 [x, x, x, x, x, x, x, x, x, x]}", "- {num1: *a7, num2: 1}"),
        bomb("- {x: &a0 [x, x, x, x, x, x, x, x, x, x]}", "- {num1: *a7, num2: 1}", levels=50),
        f"- {{x: &a {'y' * (1 << 20)}, l: [*a, *a, *a, *a, *a, *a, *a, *a, *a]}}",
        "- {x: &a0 {a: 1}}\n"
        + "".join(f"- {{x: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 30)}]}}}}\n" for n in range(1, 8)),
    ],
    ids=["lists", "more lists", "texts", "merges"],
)
def test_aliases_of_yaml_may_not_expand_beyond_the_longest_row(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    refused(tmp_path / "t.yaml", r"Row \d of .* is too long: a row may have at most 8 MiB")


def test_aliases_of_yaml_that_expand_to_a_row_of_allowed_length_are_fine(tmp_path):
    (tmp_path / "t.yaml").write_text(f"- &a {{x: {'y' * 1000}}}\n- {{l: [{', '.join(['*a'] * 100)}]}}\n" * 1)
    assert len(texts(tmp_path / "t.yaml")[1]) > 100_000


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("t.json", '[{"a": "', '"}]'),
        ("t.jsonl", '{"a": "', '"}'),
        ("t.yaml", "- {a: '", "'}"),
        ("t.csv", "a,b\n1,", "\n"),
    ],
)
def test_a_row_may_have_8_mib_and_no_more(tmp_path, name, start, end):
    path = tmp_path / name
    path.write_text(start + "x" * (LIMIT - 20) + end)
    assert len(texts(path)) == 1
    path.write_text(start + "x" * (2 * LIMIT + 20) + end)
    refused(path, r"8 MiB. Store long values in files, and write their paths")


@pytest.mark.parametrize("levels", [90, 150, 5_000, 2_000_000])
@pytest.mark.parametrize("opening", ["[", '{"b": '])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.yaml"])
def test_nesting_is_limited_in_every_format(tmp_path, name, levels, opening):
    closing = "]" if opening == "[" else "}"
    row = '{"a": ' + opening * levels + "1" + closing * levels + "}"
    if levels * len(opening) > LIMIT:
        row = row[: LIMIT // 2]
    (tmp_path / name).write_text({"t.json": f"[{row}]", "t.jsonl": row, "t.yaml": f"- {row}"}[name])
    if levels == 90:
        assert len(texts(tmp_path / name)) == 1
    else:
        refused(tmp_path / name, "(?i)row 1.*(nested|depth)", kind=(TableError, InsertError))


def test_a_table_may_not_have_more_columns_than_stated(tmp_path):
    (tmp_path / "t.csv").write_text("a," * 3_000_000 + "a\n")
    refused(tmp_path / "t.csv", "has more than 8 MiB or 10,000 columns")
    names = [f"c{index}" for index in range(MAX_COLUMNS + 1)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n")
    refused(tmp_path / "t.csv", "10,000 columns")
    pyarrow.feather.write_feather(pa.table([pa.array([1])] * len(names), names=names), tmp_path / "t.feather")
    refused(tmp_path / "t.feather", "has 10,001 columns. Write at most 10,000")


def test_a_batch_ends_at_its_size_and_rows_are_counted_through(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH_BYTES", 1000)
    rows = [{"a": "x" * 300} for _ in range(10)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "t.yaml").write_text("".join(f"- {json.dumps(row)}\n" for row in rows))
    for name in ("t.json", "t.jsonl", "t.yaml"):
        batches = list(read_batches(tmp_path / name))
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert [batch.first_row for batch in batches] == [1, 5, 9]


@pytest.mark.parametrize("kind", ["dictionary", "run-end"])
def test_a_value_that_is_stored_once_for_many_rows_makes_batches_small(tmp_path, kind):
    long = pa.array(["x" * 1_000_000])
    if kind == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), long)
    else:
        column = pa.RunEndEncodedArray.from_arrays(pa.array([1000], pa.int32()), long)
    table = pa.table({"x": column})
    with pa.ipc.new_file(tmp_path / "t.feather", table.schema) as writer:
        writer.write_table(table)
    batches = list(read_batches(tmp_path / "t.feather"))
    assert max(map(len, batches)) <= 67
    assert sum(map(len, batches)) == 1000


def test_a_batch_of_wide_rows_of_columns_ends_at_its_size(tmp_path):
    table = pa.table({"x": ["y" * 1_000_000] * 200})
    pyarrow.feather.write_feather(table, tmp_path / "t.feather", compression="uncompressed")
    assert max(map(len, read_batches(tmp_path / "t.feather"))) <= 67
