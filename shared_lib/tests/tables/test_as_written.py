"""What a table says is what the task function receives, in every format; what would change is refused with its place."""

import csv
import dataclasses
import datetime
import decimal
import io
import json
import math
import re
import struct
import uuid
from collections import namedtuple

import hypothesis.strategies as st
import numpy
import pandas
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import yaml
from hypothesis import example, given, settings
from taskfleet.errors import InsertError, TableError
from taskfleet.functions import examine
from taskfleet.messages import tasks
from taskfleet.tables.filtering import filter_batches
from taskfleet.tables.numbers import keeps_digits
from taskfleet.tables.reading import read_batches

SECONDS = settings(max_examples=150, derandomize=True, deadline=None)
FILTERED = pytest.mark.parametrize("filtered", [False, True], ids=["", "filtered"])


def run_task(**columns):
    """A task function that accepts any column."""


FUNCTION = examine(run_task)


def received(source, *, filtered=False):
    """Return the keyword arguments of each call: the rows went through the ledger's texts and a message of a service queue."""
    batches = read_batches(source)
    if filtered:
        batches = filter_batches(batches, lambda table, _: table, None)
    data = [text for batch in batches for text in batch.encode(FUNCTION.column_mismatch).data]
    if not data:  # there are no messages without tasks
        return []
    queued = [tasks.QueuedTask(seq, "t", text) for seq, text in enumerate(data, start=1)]
    body = tasks.pack(tasks.TaskMessage(job_id="job", ledger="1", tasks=queued))
    carried = [FUNCTION.arguments(one.data, None) for one in tasks.unpack(body.encode().decode()).tasks]
    assert repr(carried) == repr([FUNCTION.arguments(text, None) for text in data])
    return carried


def same(found, expected):
    """Compare with types and signs: 1, 1.0, True and -0.0 differ; the order of keys does not matter."""
    return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


# JSON, JSON Lines, YAML, and generators: any value that JSON has.

WORDS = st.sampled_from(
    [
        "no",
        "NO",
        "yes",
        "on",
        "y",
        "~",
        "null",
        "",
        "0123",
        "1e3",
        ".5",
        "05:34:31.94",
        "2024-01-02",
        "<<",
        "=",
        "1_000",
        "0x1F",
    ]
)
#: PyYAML writes line breaks of YAML 1.1 as they are, which readers take for spaces.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=10) | WORDS
JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.dictionaries(TEXTS.filter(lambda name: name not in ("task_id", "id")), JSONS, max_size=4), max_size=4
)


@SECONDS
@given(ROWS, st.booleans(), st.sampled_from([None, 1]))
def test_json_arrives_as_written(folder, rows, ascii_only, indent):
    path = folder / "t.json"
    path.write_text(json.dumps(rows, ensure_ascii=ascii_only, indent=indent), encoding="utf-8")
    assert same(received(path), rows)
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    (folder / "t.jsonl").write_text(lines or "\n", encoding="utf-8")
    assert same(received(folder / "t.jsonl"), rows)


class Dumper(yaml.SafeDumper):
    """Puts quotes around texts that are numbers in YAML 1.2 only, such as 1e3 and 0o17."""


Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|0o[0-7]+$"),
    list("-+.0123456789"),
)


@SECONDS
@given(ROWS, st.booleans(), st.sampled_from([None, True, False]))
def test_yaml_arrives_as_written(folder, rows, unicode, flow):
    path = folder / "t.yaml"
    path.write_text(yaml.dump(rows, Dumper=Dumper, allow_unicode=unicode, default_flow_style=flow), encoding="utf-8")
    assert same(received(path), rows)


@SECONDS
@given(ROWS)
def test_dicts_of_a_generator_arrive_as_they_were_when_they_were_yielded(rows):
    def make_tasks():
        for row in rows:
            row = json.loads(json.dumps(row))
            yield row
            for value in row.values():
                if isinstance(value, list | dict):
                    value.clear()

    assert same(received(make_tasks()), rows)


# CSV and YAML: texts that may be numbers.

NUMBERS = st.text("0123456789", max_size=20).flatmap(
    lambda digits: st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", "", "+", "-"]),
        st.just(digits),
        st.sampled_from(["", ".", ".0", ".25"]) | st.text("0123456789", max_size=20).map(".{}".format),
        st.sampled_from(["", "", "", "e5", "E-05", "e+310", "e-330", "e99"]),
        st.sampled_from(["", "", "", "", "_0", ":00", "f"]),
    )
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
CELLS = st.one_of(
    NUMBERS,
    st.integers(-(2**70), 2**70).map(str),
    FLOATS.map(repr),
    st.builds("{:.18e}".format, FLOATS),
    st.builds("{:+.25g}".format, FLOATS),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: str(numpy.float32(value))),
    st.sampled_from(
        ["True", "false", "NO", "0123", "-0", "+41.27", "NA", "nan", "1_000", "0x1F", "0o17", "1e5", "12:30", "x"]
    ),
)
NULLS = ("", "NA", "nan", "~", "null")


def is_as_written(cell, value):
    """Whether a value is a cell as written: its text, or a number that has all its digits and its sign."""
    if isinstance(value, str):
        return value == cell
    if value is None:
        return cell in NULLS
    if isinstance(value, bool):
        return cell.lower() == str(value).lower()
    if cell.startswith(("0x", "0o")):
        return value == int(cell, 0)
    written = decimal.Decimal(cell)
    if re.match("[-+]?0[0-9]", cell) or math.copysign(1, value) != (-1 if cell.startswith("-") else 1):
        return False
    if isinstance(value, int):
        return written == value
    if not written:
        return value == 0
    # An oracle of its own: the float, in as many significant digits as the text has.
    digits = len(written.normalize().as_tuple().digits)
    return decimal.Decimal(f"{value:.{digits - 1}e}") == written or decimal.Decimal(repr(value)) == written


@SECONDS
@given(st.lists(CELLS, min_size=1, max_size=6))
@example(["+41.27", "-12.5"])
@example(["3.14159265358979323846", "1"])
@example(["9007199254740993", "0.5"])
@example(["1e400", "1"])
@example(["1e-400", "1"])
@example(["-0", "1"])
@example(["1.000000000000000056e-01", "2"])
def test_cells_of_csv_arrive_as_written_and_a_column_has_one_type(folder, cells):
    lines = io.StringIO()
    csv.writer(lines).writerows([["x", "pad"], *([cell, "p"] for cell in cells)])
    (folder / "t.csv").write_text(lines.getvalue())
    try:
        values = [row["x"] for row in received(folder / "t.csv")]
    except InsertError as error:
        assert "infinity" in str(error)  # noqa: PT017
        return
    assert all(map(is_as_written, cells, values))
    assert len({type(value) for value in values if value is not None}) <= 1


@SECONDS
@given(st.lists(CELLS, min_size=1, max_size=6))
def test_plain_scalars_of_yaml_arrive_as_written_or_are_refused_with_their_place(folder, cells):
    (folder / "t.yaml").write_text("".join(f"- x: {cell}\n" for cell in cells))
    for row, cell in enumerate(cells, start=1):
        (folder / "one.yaml").write_text(f"- x: {cell}\n")
        try:
            ((value,),) = [found.values() for found in received(folder / "one.yaml")]
        except InsertError as error:
            assert str(error).startswith("x is ")  # noqa: PT017
            with pytest.raises(InsertError, match=r"^x is .* in row \d of .*t\.yaml: .* Write it as text"):
                received(folder / "t.yaml")
            return
        assert is_as_written(cell, value), row


@SECONDS
@given(FLOATS)
def test_every_text_that_a_program_writes_for_a_float_is_that_float(value):
    texts = [repr(value), f"{value:.17g}", f"{value:.18e}", f"{value:.25e}", f"{decimal.Decimal(value)}"]
    if abs(value) < 1e300:
        texts.append(f"{value:.30f}" if abs(value) > 1e-10 or not value else f"{value:.340f}")
    for text in texts:
        assert keeps_digits(text, float(text)), text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("0.1", True),
        ("33.3333333333333333", False),
        ("33.33333333333333570180911920033395290374755859375", True),
        ("0.10000000000000001000", True),
        ("2460000.123456789012", False),
        ("1e308", True),
        ("1e309", False),
        ("0e999999999999", True),
        ("1e-999999999999", False),
        ("5e-324", True),
        ("2e-324", False),
        ("0." + "1" * 2000, False),
    ],
)
def test_a_float_keeps_these_digits(text, kept):
    assert keeps_digits(text, float(text)) is kept


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("1" * 4301, "it has 4,301 digits, and an integer at most 4,300"),
        ("-" + "1" * 9000, "it has 9,000 digits"),
        ("3.14159265358979323846", "a float does not keep all its digits"),
        ("1e400", "it is outside the range of a float"),
        ("1e-400", "it is outside the range of a float"),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.yaml"])
def test_a_number_that_would_change_is_refused_with_row_and_column(tmp_path, name, number, reason):
    first, row = '{"a": 1}', f'{{"a": {{"b": [0, {number}]}}}}'
    text = {"t.json": f"[{first}, {row}]", "t.jsonl": f"{first}\n{row}\n", "t.yaml": f"- {first}\n- {row}\n"}[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InsertError) as caught:
        received(tmp_path / name)
    message = str(caught.value)
    assert message.startswith("a.b[1] is ")
    assert f"in row 2 of {tmp_path / name}: {reason}" in message
    assert message.endswith("Write it as text, or with fewer digits.")
    assert "\n" not in message


def test_a_number_of_4300_digits_and_the_sign_of_zero_arrive(tmp_path):
    number = "9" * 4300
    (tmp_path / "t.json").write_text(f'[{{"a": {number}, "b": -0, "c": -0.0, "d": 1E5}}]')
    assert repr(received(tmp_path / "t.json")) == f"[{{'a': {number}, 'b': -0.0, 'c': -0.0, 'd': 100000.0}}]"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.json", '[{"a": 1}, {"x": 1, "x": 2}]', "row 2: an object has the key 'x' more than once"),
        ("t.json", '[{"a": {"x": 1, "y": 0, "x": 1}}]', "row 1: an object has the key 'x' more than once"),
        ("t.jsonl", '{"x": 1, "x": 2}', "row 1: an object has the key 'x' more than once"),
        (
            "t.yaml",
            "- {a: 1}\n- {x: 1, x: 2}",
            "row 2: the key 'x' appears more than once in a mapping .*line 2, column 10",
        ),
        ("t.yaml", "- {a: {x: 1, 'x': 2}}", "row 1: the key 'x' appears more than once"),
        ("t.yaml", "- &a {a: 1}\n- {<<: *a, <<: *a}", "row 2: the key '<<' appears more than once"),
        ("t.csv", ",a\n0,1\n", r"Column 1 of .* has no name.*to_csv\(path, index=False\)"),
        ("t.csv", "a;b\n1,5;2\n", "has no comma, but ';'"),
        ("t.csv", 'a,b\n1,"x\n2,y\n3,z\n', r"Row 1 of .* has a cell with a quote .* none at its end"),
        ("t.json", '[{"a": "\\ud800"}]', "a is .* in row 1 .* lone surrogate"),
        ("t.jsonl", '{"a": "\\ud800"}', "a is .* in row 1 .* lone surrogate"),
        ("t.yaml", '- {a: "\\ud800"}', "row 1: .* invalid Unicode character|a is .* lone surrogate"),
        ("t.yaml", "- {1: 2}", r"column name 1 \(int\) in row 1"),
        ("t.yaml", "- {[a]: 2}", "row 1: a key is not text"),
        ("t.yaml", "- {a: !!binary aGVsbG8=}", "row 1: the tag '!!binary'"),
    ],
)
def test_what_a_parser_would_drop_or_join_is_refused_with_its_place(tmp_path, name, content, part):
    (tmp_path / name).write_text(content)
    with pytest.raises((TableError, InsertError), match=part):
        received(tmp_path / name)


@pytest.mark.parametrize("with_libyaml", [True, False])
def test_yaml_has_the_types_of_its_core_schema(tmp_path, monkeypatch, with_libyaml):
    if not with_libyaml:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    (tmp_path / "t.yaml").write_text(
        """
        - &first {ra: 05:34:31.94, zip: 0123, country: NO, on: yes, day: 2024-01-02, dec: +41.27, none: ~, nan: .nan}
        - {e: 1e3, f: .5, g: 1_000, h: 0x1F, o: 0o17, b: 0b11, t: !!str 12, x: !!float 3, q: '1', empty: , z: -0, T: TRUE}
        - {<<: *first, zip: '1'}
        - {<<: [{a: 1}, {a: 2, b: 2}], c: [*first, !!null '']}
        """
    )
    first = {
        "ra": "05:34:31.94",
        "zip": "0123",
        "country": "NO",
        "on": "yes",
        "day": "2024-01-02",
        "dec": 41.27,
        "none": None,
        "nan": None,
    }
    second = {"e": 1000.0, "f": 0.5, "g": "1_000", "h": 31, "o": 15, "b": "0b11", "t": "12", "x": 3.0, "q": "1"}
    second |= {"empty": None, "z": -0.0, "T": True}
    expected = [first, second, {**first, "zip": "1"}, {"a": 1, "b": 2, "c": [first, None]}]
    assert same(received(tmp_path / "t.yaml"), expected)


def test_spaces_around_numbers_do_not_make_a_csv_column_text(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n 1, NA, x \n2 ,-nan,\n,  ,y\n3, +2.5,z\n")
    assert [list(row.values()) for row in received(tmp_path / "t.csv")] == [
        [1, None, " x "],
        [2, None, None],
        [None, None, "y"],
        [3, 2.5, "z"],
    ]


# Arrow, pandas and numpy.

MICROSECONDS = st.integers(0, 86_400 * 10**6 - 1)
NANOSECONDS = st.integers(0, 86_400 * 10**9 - 1) | st.sampled_from([0, 1000, 86_399 * 10**9])
EPOCH = datetime.datetime(1970, 1, 1)


def iso_time(nanoseconds):
    time = (EPOCH + datetime.timedelta(microseconds=nanoseconds // 1000)).time()
    if rest := nanoseconds % 1000:
        return f"{time:%H:%M:%S}.{time.microsecond:06}{rest:03}"
    return time.isoformat()


def iso_timestamp(nanoseconds):
    moment = EPOCH + datetime.timedelta(microseconds=nanoseconds // 1000)
    if rest := nanoseconds % 1000:
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}{rest:03}"
    return moment.isoformat()


def float32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


SMALL = st.integers(-100, 100)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = [
    (st.integers(-128, 127), pa.int8(), int),
    (st.integers(0, 2**64 - 1), pa.uint64(), int),
    (st.integers(-(2**63), 2**63 - 1), pa.int64(), int),
    (st.booleans(), pa.bool_(), bool),
    (FLOATS, pa.float64(), float),
    (st.floats(width=32, allow_nan=False, allow_infinity=False), pa.float32(), float32),
    (st.sampled_from([0.5, -2.0, 0.0999755859375]).map(numpy.float16), pa.float16(), float),
    (PLAIN, pa.string(), str),
    (PLAIN, pa.large_string(), str),
    (PLAIN, pa.string_view(), str),
    (PLAIN, pa.dictionary(pa.int8(), pa.string()), str),
    (st.dates(), pa.date32(), str),
    (st.dates(), pa.date64(), str),
    (MICROSECONDS, pa.time64("us"), lambda value: iso_time(value * 1000)),
    (NANOSECONDS, pa.time64("ns"), iso_time),
    (st.integers(0, 86_399), pa.time32("s"), lambda value: iso_time(value * 10**9)),
    (st.integers(-(2**62), 2**62), pa.timestamp("ns"), iso_timestamp),
    (st.integers(-(10**9), 10**9), pa.duration("ms"), lambda value: value / 1000),
    (st.decimals(-999, 999, places=2), pa.decimal128(5, 2), str),
    (st.decimals(-999, 999, places=2), pa.decimal256(50, 2), str),
    (st.lists(SMALL, max_size=3), pa.list_(pa.int16()), list),
    (st.lists(SMALL, max_size=3), pa.large_list(pa.int16()), list),
    (st.lists(SMALL, max_size=3), pa.list_view(pa.int16()), list),
    (st.lists(SMALL, min_size=2, max_size=2), pa.list_(pa.int16(), 2), list),
    (st.dictionaries(PLAIN, SMALL, max_size=3), pa.map_(pa.string(), pa.int16()), dict),
    (
        st.fixed_dictionaries({"x y": SMALL, "b": st.lists(PLAIN, max_size=2)}),
        pa.struct([("x y", pa.int16()), ("b", pa.list_(pa.string()))]),
        dict,
    ),
    (st.uuids().map(lambda value: value.bytes), pa.uuid(), lambda value: str(uuid.UUID(bytes=value))),
]


@pytest.mark.parametrize(("values", "kind", "expected"), KINDS, ids=[str(kind) for _, kind, _ in KINDS])
@settings(max_examples=15, derandomize=True, deadline=None)
@given(data=st.data(), name=st.sampled_from(["x", " X", "task", "é\ufeff", "a b"]))
def test_every_arrow_type_arrives_as_written(folder, values, kind, expected, data, name):
    cells = data.draw(st.lists(st.none() | values, min_size=1, max_size=5))
    table = pa.table({name: pa.array(cells, kind)})
    pyarrow.feather.write_feather(table, folder / "t.feather")
    rows = [{name: None if cell is None else expected(cell)} for cell in cells]
    assert same(received(folder / "t.feather"), rows)
    assert same(received(folder / "t.feather", filtered=True), rows)
    if kind not in (pa.string_view(), pa.list_view(pa.int16())):
        pyarrow.parquet.write_table(table, folder / "t.parquet", store_schema=True)
        assert same(received(folder / "t.parquet"), rows)


UNSUPPORTED = [
    (pa.array([pa.MonthDayNano([1, 2, 3])]), "intervals of months"),
    (pa.array([[pa.MonthDayNano([1, 2, 3])]]), "intervals of months"),
    (pa.array([[1]], pa.list_(pa.time64("ns"))), "times in nanoseconds inside lists or structs"),
    (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int64(), [2, 2]), pa.array([[1, 2, 3, 4]], pa.list_(pa.int64(), 4))
        ),
        "extension type 'arrow.fixed_shape_tensor'",
    ),
    (pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "t", "v"), pa.array([1])), "extension type 'arrow.opaque'"),
]


@pytest.mark.parametrize(("column", "part"), UNSUPPORTED, ids=[str(column.type) for column, _ in UNSUPPORTED])
def test_an_arrow_type_whose_values_would_change_is_refused(tmp_path, column, part):
    pyarrow.feather.write_feather(pa.table({"a": [1], "x": column}), tmp_path / "t.feather")
    with pytest.raises(TableError, match=rf"^The column x of .*t\.feather has .*{part}.* Write "):
        received(tmp_path / "t.feather")


@pytest.mark.parametrize("known", [True, False])
def test_an_extension_type_that_only_its_program_knows_is_refused(tmp_path, known):
    months = pa.field(
        "month", pa.int64(), metadata={"ARROW:extension:name": "acme.month", "ARROW:extension:metadata": ""}
    )
    table = pa.table([pa.array([648])], pa.schema([months]))
    if known:
        table = pa.Table.from_pandas(pandas.DataFrame({"month": pandas.period_range("2024-01", periods=1, freq="M")}))
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(
        TableError, match=r"The column month of .* has the extension type '(pandas\.period|acme\.month)'"
    ):
        received(tmp_path / "t.parquet")


FRAME = {
    "i": [1, 2, 3],
    "f": [0.5, None, 1e300],
    "s": ["NA", "007", ""],
    "n": pandas.array([1, None, 2**62 + 1], "Int64"),
    "b": pandas.array([True, None, False], "boolean"),
    "c": pandas.Categorical(["x", "y", "x"]),
    "t": pandas.to_datetime(["2024-03-31T01:30:00.000000001", "2024-01-01", None], format="ISO8601"),
    "z": pandas.to_datetime(["2024-07-01", "2024-01-01", None]).tz_localize("Europe/Paris"),
    "d": pandas.to_timedelta([1, 2, None], unit="s"),
}
FRAME_ROWS = [
    {
        "i": 1,
        "f": 0.5,
        "s": "NA",
        "n": 1,
        "b": True,
        "c": "x",
        "t": "2024-03-31T01:30:00.000000001",
        "z": "2024-07-01T00:00:00+02:00",
        "d": 1.0,
    },
    {
        "i": 2,
        "f": None,
        "s": "007",
        "n": None,
        "b": None,
        "c": "y",
        "t": "2024-01-01T00:00:00",
        "z": "2024-01-01T00:00:00+01:00",
    },
    {"i": 3, "f": 1e300, "s": "", "n": 2**62 + 1, "b": False, "c": "x", "t": None, "z": None, "d": None},
]
FRAME_ROWS[1]["d"] = 2.0


@FILTERED
def test_every_column_of_a_dataframe_arrives_as_written(tmp_path, filtered):
    frame = pandas.DataFrame(FRAME)
    frame.to_feather(tmp_path / "t.feather")
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (tmp_path / "t.feather", tmp_path / "t.parquet", frame.to_dict("records")):
        assert same(received(source, filtered=filtered), FRAME_ROWS)


def test_a_named_index_that_pandas_stored_as_a_column_is_passed(tmp_path):
    pandas.DataFrame({"a": [1, 2]}, index=pandas.Index(["x", "y"], name="star")).to_parquet(tmp_path / "t.parquet")
    assert received(tmp_path / "t.parquet") == [{"a": 1, "star": "x"}, {"a": 2, "star": "y"}]


@pytest.mark.parametrize(
    ("index", "part"),
    [
        (
            pandas.RangeIndex(5, 7, name="num1"),
            r"The index 'num1' of the DataFrame in .* is not a column.*reset_index\(\)",
        ),
        (pandas.Index(["x", "y"]), r"The index of the DataFrame in .* has labels \(.*string\), but no name"),
        (pandas.DatetimeIndex(["2024-01-01", "2024-01-02"]), r"has labels \(timestamp.*reset_index\(drop=True\)"),
    ],
    ids=["range", "text", "time"],
)
def test_an_index_that_would_be_lost_is_refused(tmp_path, index, part):
    pandas.DataFrame({"a": [1, 2]}, index=index).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TableError, match=part):
        received(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "metadata", [b"{", b"[]", b'{"index_columns": 5}', b'{"index_columns": [{"name": 1}, 2]}', b"\xff", b"[" * 99999]
)
def test_metadata_of_pandas_that_is_damaged_does_not_matter(tmp_path, metadata):
    table = pa.table({"a": [1]}).replace_schema_metadata({b"pandas": metadata})
    pyarrow.feather.write_feather(table, tmp_path / "t.feather")
    assert received(tmp_path / "t.feather") == [{"a": 1}]


Star = namedtuple("Star", ["a"])


@dataclasses.dataclass
class Task:
    a: int


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        (pandas.DataFrame({"a": [1]}), r"type DataFrame is not a table\. Pass table\.to_dict\('records'\)"),
        ([pandas.Series({"a": 1})], r"Yield the dicts of table\.to_dict\('records'\)\."),
        ([Star(1)], r"Yield its _asdict\(\)\."),
        ([Task(1)], r"Yield dataclasses\.asdict\(…\) of it\."),
    ],
    ids=["DataFrame", "Series", "namedtuple", "dataclass"],
)
def test_rows_that_are_no_dicts_are_refused_with_a_remedy(source, remedy):
    with pytest.raises(TableError, match=remedy):
        received(source)


def test_the_remedies_for_rows_that_are_no_dicts_work():
    assert received(pandas.DataFrame({"a": [1], "b": [0.5]}).to_dict("records")) == [{"a": 1, "b": 0.5}]
    assert received([Star(1)._asdict()]) == received([dataclasses.asdict(Task(1))]) == [{"a": 1}]


NUMPY = st.sampled_from([numpy.int8, numpy.uint64, numpy.int64, numpy.float32, numpy.float64, numpy.bool_, numpy.str_])


@SECONDS
@given(st.lists(st.tuples(NUMPY, st.integers(0, 100)), min_size=1, max_size=5))
def test_numpy_scalars_and_arrays_arrive_as_the_same_python_values(pairs):
    scalars = [kind(value) for kind, value in pairs]
    expected = [scalar.item() for scalar in scalars]
    arrays = [numpy.array([scalar, scalar]) for scalar in scalars]
    assert same(received({"x": scalar} for scalar in scalars), [{"x": value} for value in expected])
    assert same(received({"x": array} for array in arrays), [{"x": [value, value]} for value in expected])
