"""Reader of CSV files, in two passes: the first determines the types of the columns, the second reads the values.

A column has integers, floats or bools (``true``, ``True``, ``TRUE``) if all its cells in the whole file do, and text otherwise; dates are
text. An empty cell is null; a quoted empty cell (``""``) is an empty text. In columns of numbers and bools, ``NA``, ``null``, ``None`` and
``NaN`` are null too. Integers with leading zeros (``007``), columns with integers beyond 64 bits, and ``task_id`` are text. A single pass
would have to infer types from the first rows and would fail at the first ``0.5`` in row 2,000,000.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from taskfleet.errors import TableError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.arrow import check_unique, column_batches
from taskfleet.tables.batch import ColumnBatch
from taskfleet.text import counted

_BLOCK_BYTES = 8 << 20
_NULLS = pa.array(["", "NA", "N/A", "#N/A", "n/a", "null", "NULL", "None", "nan", "NaN", "NAN"])
_INTEGER = r"^\s*-?(0|[1-9][0-9]*)\s*$"
_FLOAT = r"^\s*-?(((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|inf|Inf|INF|[Ii]nfinity)\s*$"
_BOOL = r"^\s*(true|True|TRUE|false|False|FALSE)\s*$"
_KINDS = ((_INTEGER, pa.int64()), (_FLOAT, pa.float64()), (_BOOL, pa.bool_()))


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
        values = cells.filter(pc.invert(pc.is_in(cells, _NULLS))).drop_null()
        if not len(values):
            return
        self.seen = True
        for index, (pattern, _) in enumerate(_KINDS):
            if self.fits[index]:
                self.fits[index] = pc.all(pc.match_substring_regex(values, pattern)).as_py()
        if self.fits[0]:
            try:
                pc.utf8_trim_whitespace(values).cast(pa.int64())
            except pa.ArrowInvalid:
                self.too_large = True

    def kind(self) -> Any:
        """Return the pyarrow type of the column."""
        if not self.seen:
            return pa.string()
        if self.fits[0] and self.too_large:
            return pa.string()
        return next((kind for (_, kind), fits in zip(_KINDS, self.fits, strict=True) if fits), pa.string())


def csv_batches(table: TableBytes, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read a CSV file with a header."""
    with table.stream() as file:
        header = _reader(file, source, None).schema.names
    names = [name.strip() for name in header]
    check_unique(names, source)
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


def _blocks(table: TableBytes, source: str, header: list[str]) -> Iterator[Any]:
    with table.stream() as file:
        yield from _reader(file, source, header)


def _reader(file: BinaryIO, source: str, header: list[str] | None) -> Any:
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
        "read_options": pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
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
        raise (TableError(errors[0]) if errors else error) from error
    return reader if header is None else _checked(reader, errors)


def _checked(reader: Any, errors: list[str]) -> Iterator[Any]:
    try:
        yield from reader
    except pa.ArrowInvalid as error:
        raise (TableError(errors[0]) if errors else error) from error


def _typed(cells: Any, kind: Any) -> Any:
    if pa.types.is_string(kind):
        return cells
    values = pc.if_else(pc.is_in(cells, _NULLS), pa.scalar(None, pa.string()), cells)
    return pc.utf8_trim_whitespace(values).cast(kind)
