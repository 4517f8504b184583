"""Reader of CSV files, in two passes: the first determines the types of the columns, the second reads the values.

A column has integers, floats or bools (``true``, ``True``, ``TRUE``) if all its cells in the whole file do, and text otherwise; dates are
text. An empty cell is null; a quoted empty cell (``""``) is an empty text. In columns of numbers and bools, ``NA``, ``null``, ``None`` and
``NaN`` are null too. Numbers may have a sign and spaces around them. A column is text if that keeps a cell as written: a leading zero
(``007``), an integer beyond 64 bits, more digits than a float keeps; so is ``task_id``. A single pass would have to infer types from the
first rows and would fail at the first ``0.5`` in row 2,000,000.
"""

import atexit
import codecs
import io
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from taskfleet.errors import TableError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.arrow import check_names, column_batches
from taskfleet.tables.batch import ColumnBatch
from taskfleet.tables.limits import MAX_COLUMNS, MAX_ROW_BYTES
from taskfleet.tables.numbers import FLOAT, INTEGER, keeps_digits
from taskfleet.text import counted

_NULLS = pa.array(["", "NA", "N/A", "#N/A", "<NA>", "n/a", "null", "NULL", "None", "nan", "NaN", "NAN", "-nan", "-NaN"])
_BOOL = r"true|True|TRUE|false|False|FALSE"
_INFINITY = r"[-+]?(inf|Inf|INF|[Ii]nfinity)"
_KINDS = (
    (f"^({INTEGER})$", pa.int64()),
    (f"^({FLOAT}|{_INFINITY})$", pa.float64()),
    (f"^({_BOOL})$", pa.bool_()),
)
_NAME = rb'(?:"[^"]*(?:""[^"]*)*"(?!")|(?!"))[^,\r\n]*'
#: The first row that is not empty, as pyarrow finds it: a quote opens a name only at its start, and then the name may have line breaks.
_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*%b(?:,%b)*[\r\n]" % (_NAME, _NAME))
#: Nearly every header is in this many bytes.
_START_BYTES = 64 << 10
_LAST_READ_SECONDS = 1
_LEAVING_SECONDS = 0.3
_LONG_EXPONENT = r"[eE][-+]?[0-9]{3}"


@dataclass(slots=True)
class _Column:
    """The types that all cells of a column have had so far, and whether any cell has a value."""

    fits: list[bool]
    seen: bool = False
    too_large: bool = False

    def learn(self, cells: Any) -> None:
        """Update the types with the cells of a block."""
        if not any(self.fits):
            return
        cells = pc.utf8_trim_whitespace(cells)
        values = cells.filter(pc.invert(pc.is_in(cells, _NULLS))).drop_null()
        if not len(values):
            return
        self.seen = True
        for index, (pattern, _) in enumerate(_KINDS):
            if self.fits[index]:
                self.fits[index] = pc.all(pc.match_substring_regex(values, pattern)).as_py()
        if self.fits[0] and not self.too_large:
            try:
                _without_plus(values).cast(pa.int64())
            except pa.ArrowInvalid:
                self.too_large = True
        if self.fits[1]:
            self.fits[1] = _are_floats(values)

    def kind(self) -> Any:
        """Return the pyarrow type of the column."""
        if not self.seen:
            return pa.string()
        if self.fits[0] and self.too_large:
            return pa.string()
        return next((kind for (_, kind), fits in zip(_KINDS, self.fits, strict=True) if fits), pa.string())


def _are_floats(values: Any) -> bool:
    """Return whether floats keep all numbers."""
    unsure = pc.or_(pc.greater(pc.binary_length(values), 15), pc.match_substring_regex(values, _LONG_EXPONENT))
    finite = pc.invert(pc.match_substring_regex(values, _INFINITY))
    texts = values.filter(pc.and_(unsure, finite)).to_pylist()
    return all(keeps_digits(text, float(text)) for text in texts)


def _without_plus(values: Any) -> Any:
    return pc.utf8_ltrim(values, "+")


def csv_batches(table: TableBytes, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read a CSV file with a header."""
    header = _header(table, source)
    names = [name.strip() for name in header]
    if "" in names:
        raise TableError(
            f"Column {names.index('') + 1} of {source} has no name. Write its name into the first line, or drop it; if it is the "
            "index of a DataFrame, write the table with to_csv(path, index=False)."
        )
    check_names(names, source)
    columns = [_Column(fits=[name != "task_id"] * len(_KINDS)) for name in names]
    for block in _blocks(table, source, header):
        for column, cells in zip(columns, block.columns, strict=True):
            column.learn(cells)
    kinds = [column.kind() for column in columns]
    batches = (
        pa.record_batch([_typed(cells, kind) for cells, kind in zip(block.columns, kinds, strict=True)], names=names)
        for block in _blocks(table, source, header)
    )
    yield from column_batches(batches, names, source, batch_rows)


def _header(table: TableBytes, source: str) -> list[str]:
    """Return the names of the columns as written; only the start of the table is read.

    Raises:
        TableError: The header is too long, or has too many columns or another separator.
    """
    start, found = b"", None
    with table.stream() as file:
        for size in (_START_BYTES, MAX_ROW_BYTES + 1):
            start += file.read(size - len(start))
            if found := _HEADER.match(start):
                break
    line = found[0] if found else start
    # Before pyarrow reads it, because each column takes memory.
    if len(line) > MAX_ROW_BYTES or line.count(b",") >= MAX_COLUMNS:
        raise TableError(
            f"The first line of {source} has more than {MAX_ROW_BYTES >> 20} MiB or {MAX_COLUMNS:,} columns. "
            'Write the names of the columns there, and one task per line; if a name begins with a quote ("), close it.'
        )
    if b"," not in line and (other := next((mark for mark in b";\t|" if mark in line), None)):
        raise TableError(
            f"The first line of {source} has no comma, but {chr(other)!r}. Write the table with commas between its cells."
        )
    with _Input(io.BytesIO(line), source) as file:
        names: list[str] = _reader(file, source, None).schema.names
    return names


def _blocks(table: TableBytes, source: str, header: list[str]) -> Iterator[Any]:
    row = 0
    cell = None
    with _Input(table.stream(), source) as file:
        for block in _reader(file, source, header):
            yield block
            if block.num_rows:
                row += block.num_rows
                cell = block.columns[-1][block.num_rows - 1].as_py()
        if cell and ("\n" in cell or "\r" in cell) and not file.last.rstrip(b"\r\n").endswith(b'"'):
            raise TableError(
                f'Row {row} of {source} has a cell with a quote (") at its start and none at its end: the cell contains the rest '
                "of the file. Close the quote."
            )


def _let_threads_leave() -> None:
    time.sleep(_LEAVING_SECONDS)


class _Input(io.RawIOBase):
    """A stream that checks that its bytes are UTF-8, before pyarrow does without naming the line, and keeps the last of them.

    pyarrow reads ahead in a thread, also after an error and after the last block that anybody wants. Python aborts if that thread is in
    ``read`` when Python ends, so the end of the context waits for it.
    """

    def __init__(self, stream: BinaryIO, source: str) -> None:
        self._stream = stream
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._line = 1
        self._stopped = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.last = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = b""
        try:
            with self._lock:
                if not self._stopped:
                    data = self._stream.read(size)
                    self._check(data)
        except BaseException:
            data = b""
            raise
        finally:
            if not data:
                self._ended.set()
        return data

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = True
        if kind is not None or not self._ended.is_set():
            # The thread must also have left Python when Python ends, which nothing reports.
            atexit.unregister(_let_threads_leave)
            atexit.register(_let_threads_leave)
        # If the thread has read enough, it does not come back; a read ahead takes milliseconds.
        self._ended.wait(_LAST_READ_SECONDS)
        with self._lock:
            self._stream.close()

    def _check(self, data: bytes) -> None:
        try:
            self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = self._line + error.object[: error.start].count(b"\n")
            there = error.object[max(0, error.start - 15) : error.start + 15]
            raise TableError(
                f"Line {line} of {self._source} is not UTF-8 ({there!r}). Write the table in UTF-8."
            ) from error
        self._line += data.count(b"\n")
        self.last = (self.last + data[-64:])[-64:]


def _reader(file: _Input, source: str, header: list[str] | None) -> Any:
    """Open a stream of record batches; all columns are text if the header is given."""

    def reject(row: Any) -> str:
        # pyarrow counts the header as row 1.
        errors.append(
            f"Row {row.number - 1} of {source} has {counted(row.actual_columns, 'cell')} instead of {row.expected_columns} "
            f"({row.text[:60]!r}). Quote cells that contain a comma, and give every row all its cells."
        )
        return "error"

    errors: list[str] = []
    options = {
        # One thread: with several, pyarrow reports no row numbers.
        "read_options": pa_csv.ReadOptions(use_threads=False, block_size=MAX_ROW_BYTES),
        "parse_options": pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=reject),
        "convert_options": pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in header or ()},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }
    try:
        reader = pa_csv.open_csv(file, **options)
    except pa.ArrowInvalid as error:
        raise _error(error, errors, source) from error
    return reader if header is None else _checked(reader, errors, source)


def _checked(reader: Any, errors: list[str], source: str) -> Iterator[Any]:
    try:
        yield from reader
    except pa.ArrowInvalid as error:
        raise _error(error, errors, source) from error


def _error(error: Exception, errors: list[str], source: str) -> Exception:
    if errors:
        return TableError(errors[0])
    if "straddl" in str(error):
        return TableError(
            f"{source} has a row of more than {MAX_ROW_BYTES >> 20} MiB. Store long values in files, and write their paths; "
            'if no row is so long, a quote (") is not closed.'
        )
    return error


def _typed(cells: Any, kind: Any) -> Any:
    if pa.types.is_string(kind):
        return cells
    cells = pc.utf8_trim_whitespace(cells)
    values = pc.if_else(pc.is_in(cells, _NULLS), pa.scalar(None, pa.string()), cells)
    return _without_plus(values).cast(kind)
