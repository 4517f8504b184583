"""Reading of batches from an address or an iterable, and slicing of batches."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from taskfleet.errors import TableError, TaskfleetError
from taskfleet.tables.address import Address, TableBytes, check_local, opened, parse_address, table_error
from taskfleet.tables.batch import Batch

logger = logging.getLogger(__name__)


def read_batches(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]], *, batch_rows: int = 50_000
) -> Iterator[Batch]:
    """Read a table in batches of at most ``batch_rows`` rows.

    Args:
        source: A path, an address (``file://``, ``s3://``, ``gs://``, ``https://``), or an iterable of mappings.
        batch_rows: Limits the memory; at least 1.

    Raises:
        TableError: At once for an invalid address, and for a local file that is missing, a directory or empty; during the iteration for
            all other errors.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows is {batch_rows}; it must be at least 1")
    if isinstance(source, str | os.PathLike):
        address = parse_address(source)
        check_local(address)
        return _file_batches(address, batch_rows)
    is_frame = type(source).__name__ == "DataFrame" and type(source).__module__.startswith("pandas")
    if is_frame or isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
        hint = "Call it and pass its result." if callable(source) else "Pass an address, or an iterable of dicts."
        if is_frame:
            hint = "Pass table.to_dict('records')."
        raise TableError(f"An object of type {type(source).__name__} is not a table. {hint}")
    from taskfleet.tables.records import iterable_records, list_batches

    made_by = getattr(source, "__qualname__", None)
    name = f"the generator {made_by}" if made_by else f"the {type(source).__name__} of tasks"
    return list_batches(iterable_records(source, name), name, batch_rows)


def count_rows(source: str | os.PathLike[str]) -> int | None:
    """Return the number of rows of a local Feather or Parquet file, without reading them; None for other tables."""
    address = parse_address(source)
    if address.scheme != "local" or address.format not in ("feather", "parquet"):
        return None
    import pyarrow.dataset

    try:
        rows: int = pyarrow.dataset.dataset(address.location, format=address.format).count_rows()
    except Exception:  # the reader will report the error
        return None
    return rows


def slice_batches(batches: Iterable[Batch], skip: int, limit: int | None) -> Iterator[Batch]:
    """Skip the first ``skip`` rows and yield at most ``limit`` rows; None means all.

    No batch is read that is not used.
    """
    left = limit
    if left is not None and left <= 0:
        return
    for batch in batches:
        if skip >= len(batch):
            skip -= len(batch)
            continue
        stop = len(batch) if left is None else min(len(batch), skip + left)
        part = batch.slice(skip, stop) if skip or stop < len(batch) else batch
        skip = 0
        yield part
        if left is not None:
            left -= len(part)
            if left == 0:
                return


def _file_batches(address: Address, batch_rows: int) -> Iterator[Batch]:
    """Read the table at an address; raise exceptions of other libraries as TableError."""
    rows_read = 0
    try:
        with opened(address) as table:
            for batch in _format_batches(table, address, batch_rows):
                yield batch
                rows_read += len(batch)
                logger.debug("Read %s rows of %s", rows_read, address.text)
    except TaskfleetError:
        raise
    except Exception as error:
        raise table_error(error, address, rows_read) from error


def _format_batches(table: TableBytes, address: Address, batch_rows: int) -> Iterator[Batch]:
    if address.format in ("feather", "parquet"):
        from taskfleet.tables import arrow

        read = arrow.feather_batches if address.format == "feather" else arrow.parquet_batches
        return read(table, address.text, batch_rows)
    if address.format == "csv":
        from taskfleet.tables.delimited import csv_batches

        return csv_batches(table, address.text, batch_rows)
    from taskfleet.tables import records

    readers = {"json": records.json_records, "jsonl": records.jsonl_records, "yaml": records.yaml_records}
    return records.list_batches(readers[address.format](table, address.text), address.text, batch_rows)
