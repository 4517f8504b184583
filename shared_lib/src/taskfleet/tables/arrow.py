"""Readers of Feather and Parquet files, one record batch at a time."""

from collections.abc import Iterator
from typing import Any

from taskfleet.errors import TableError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.batch import ColumnBatch

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
        yield from column_batches(batches, reader.schema.names, source, batch_rows)


def parquet_batches(table: TableBytes, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read a Parquet file; the pages of at most one row group are in memory."""
    from pyarrow.parquet import ParquetFile

    # With pre_buffer, the reader would keep the row groups that it has read.
    with (
        table.random_access() as file,
        ParquetFile(file, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES) as reader,
    ):
        names = reader.schema_arrow.names
        yield from column_batches(reader.iter_batches(batch_size=batch_rows), names, source, batch_rows)


def column_batches(batches: Iterator[Any], names: list[str], source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Convert record batches of pyarrow to batches of at most ``batch_rows`` rows."""
    check_unique(names, source)
    first_row = 1
    for record_batch in batches:
        for start in range(0, record_batch.num_rows, batch_rows):
            part = record_batch.slice(start, batch_rows)
            part.validate(full=True)  # a damaged file may have offsets outside its memory
            columns = {
                name: column for name, column in zip(names, part.columns, strict=True) if not _is_pandas_index(name)
            }
            yield ColumnBatch(source=source, first_row=first_row, columns=columns, length=part.num_rows)
            first_row += part.num_rows


def check_unique(names: list[str], source: str) -> None:
    """Check that column names are unique.

    Raises:
        TableError: They are not.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"{source} has more than one column {', '.join(map(repr, twice))}. Rename or drop the others.")


def _is_pandas_index(name: str) -> bool:
    """Return whether pandas stored its index in this column."""
    return name.startswith("__index_level_") and name.endswith("__")
