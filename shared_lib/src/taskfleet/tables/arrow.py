"""Feather and parquet files, one record batch at a time."""

from collections.abc import Iterator
from typing import Any

from taskfleet.errors import TableError
from taskfleet.tables.address import Place
from taskfleet.tables.batch import ColumnBatch

_PARQUET_BUFFER_BYTES = 4 << 20


def feather_batches(place: Place, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read an Arrow IPC file (feather version 2) or stream; a local one is mapped into memory, not read whole."""
    import pyarrow as pa

    with place.random_access() as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(b"FEA1"):
            raise TableError(
                f"{source} is a legacy feather file (version 1); write it again with pandas' to_feather or with "
                "pyarrow.feather.write_feather(table, path)"
            )
        if magic == b"ARROW1":
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            reader = pa.ipc.open_stream(file)
            batches = iter(reader)
        yield from column_batches(batches, reader.schema.names, source, batch_rows)


def parquet_batches(place: Place, source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Read a parquet file; at most one row group's pages are in memory."""
    from pyarrow.parquet import ParquetFile

    # Without pre_buffer=False, the reader would gather the row groups it has passed.
    with (
        place.random_access() as file,
        ParquetFile(file, pre_buffer=False, buffer_size=_PARQUET_BUFFER_BYTES) as reader,
    ):
        names = reader.schema_arrow.names
        yield from column_batches(reader.iter_batches(batch_size=batch_rows), names, source, batch_rows)


def column_batches(batches: Iterator[Any], names: list[str], source: str, batch_rows: int) -> Iterator[ColumnBatch]:
    """Turn pyarrow's record batches into ours, of at most `batch_rows` rows."""
    check_unique(names, source)
    first_row = 1
    for record_batch in batches:
        for start in range(0, record_batch.num_rows, batch_rows):
            part = record_batch.slice(start, batch_rows)
            part.validate(full=True)  # a damaged file may hold offsets that lead outside its memory
            columns = {
                name: column for name, column in zip(names, part.columns, strict=True) if not _is_pandas_index(name)
            }
            yield ColumnBatch(source=source, first_row=first_row, columns=columns, length=part.num_rows)
            first_row += part.num_rows


def check_unique(names: list[str], source: str) -> None:
    """Refuse two columns of one name.

    Raises:
        TableError: there are some.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"{source} has more than one column {', '.join(map(repr, twice))}; rename or drop the others")


def _is_pandas_index(name: str) -> bool:
    """Say whether pandas has made this column to keep its index in; nobody's function has a parameter of that name."""
    return name.startswith("__index_level_") and name.endswith("__")
