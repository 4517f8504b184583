"""Readers of Feather and Parquet files, one record batch at a time."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from taskfleet.errors import TableError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.arrow_types import unsupported_type
from taskfleet.tables.batch import ColumnBatch
from taskfleet.tables.limits import BATCH_BYTES, MAX_COLUMNS

logger = logging.getLogger(__name__)

_PARQUET_BUFFER_BYTES = 4 << 20


def feather_batches(table: TableBytes, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read an Arrow IPC file (Feather version 2) or stream; a local file is memory-mapped."""
    import pyarrow as pa

    with table.random_access() as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"FEA1"):
            raise TableError(
                f"{source} is a legacy Feather file (version 1). Write it again with pandas' to_feather or with "
                "pyarrow.feather.write_feather(table, path)."
            )
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(file)
            batches = iter(reader)
        _check_schema(reader.schema, source)
        yield from column_batches(batches, reader.schema.names, source, batch_rows)


def parquet_batches(table: TableBytes, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read a Parquet file; the pages of at most one row group are in memory."""
    from pyarrow.parquet import ParquetFile

    # With pre_buffer, the reader would keep the row groups that it has read.
    with (
        table.random_access() as file,
        ParquetFile(file, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES) as reader,
    ):
        _check_schema(reader.schema_arrow, source)
        names = reader.schema_arrow.names
        yield from column_batches(reader.iter_batches(batch_size=batch_rows), names, source, batch_rows)


def column_batches(batches: Iterator[Any], names: list[str], source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Convert record batches of pyarrow to batches of at most ``batch_rows`` rows, or fewer if the rows are long."""
    check_names(names, source)
    first_row = 1
    for record_batch in batches:
        record_batch.validate(full=True)  # a damaged file may have offsets outside its memory
        step = min(batch_rows, max(1, BATCH_BYTES // _row_bytes(record_batch)))
        for start in range(0, record_batch.num_rows, step):
            part = record_batch.slice(start, step)
            columns = {
                name: column for name, column in zip(names, part.columns, strict=True) if not _is_pandas_index(name)
            }
            yield ColumnBatch(source=source, first_row=first_row, columns=columns, length=part.num_rows)
            first_row += part.num_rows


def _row_bytes(record_batch: Any) -> int:
    """Return an estimate of the mean bytes of a row, at least 1; values that are stored once for many rows count for each of them."""
    size = record_batch.nbytes // max(1, record_batch.num_rows)
    return max(1, int(size) + sum(map(_shared_value_bytes, record_batch.columns)))


def _shared_value_bytes(column: Any) -> int:
    """Return the bytes of the largest of the values that a column stores once for many rows, 0 if it stores none so."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        values = column.dictionary
    elif pa.types.is_run_end_encoded(column.type):
        values = column.values
    else:
        return 0
    try:
        return int(pc.max(pc.binary_length(values)).as_py() or 0)
    except NotImplementedError:  # not text
        return int(values.nbytes // max(1, len(values)))


def check_names(names: list[str], source: str) -> None:
    """Check that column names are unique, and not too many.

    Raises:
        TableError: They are not.
    """
    if len(names) > MAX_COLUMNS:
        raise TableError(f"{source} has {len(names):,} columns. Write at most {MAX_COLUMNS:,}, or one column of lists.")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise TableError(f"{source} has more than one column {', '.join(map(repr, twice))}. Rename or drop the others.")


def _check_schema(schema: Any, source: str) -> None:
    """Check that nothing of a schema would be lost: types, and the index of a DataFrame.

    Raises:
        TableError: A column has an unsupported type, or the index has names or labels.
    """
    for field in schema:
        if _is_pandas_index(field.name):
            _check_index(field.type, source)
        elif reason := unsupported_type(field):
            raise TableError(f"The column {field.name} of {source} {reason}")
    for name in _range_names(schema):
        raise TableError(
            f"The index {name!r} of the DataFrame in {source} is not a column of the file. Write table.reset_index() to pass it to "
            "the tasks, or table.reset_index(drop=True)."
        )


def _is_pandas_index(name: str) -> bool:
    """Return whether pandas stored an index without a name in this column."""
    return name.startswith("__index_level_") and name.endswith("__")


def _check_index(kind: Any, source: str) -> None:
    import pyarrow as pa

    if not pa.types.is_integer(kind):
        raise TableError(
            f"The index of the DataFrame in {source} has labels ({kind}), but no name. Set table.index.name and write "
            "table.reset_index() to pass them to the tasks, or write table.reset_index(drop=True)."
        )
    logger.info("The index of the DataFrame in %s is not passed to the tasks, because it has no name", source)


def _range_names(schema: Any) -> Iterator[str]:
    """Yield the names of indices that pandas stored as a range in the metadata."""
    try:
        stored = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        entries = list(stored.get("index_columns", ()))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return
    for entry in entries:
        if isinstance(entry, dict) and isinstance(name := entry.get("name"), str) and name not in schema.names:
            yield name
