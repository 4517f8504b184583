"""Writer of result tables as Feather and Parquet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from taskfleet.tables.result_values import Kinds, Row, batches_of, column_type, column_value

_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string(), "text": pa.string()}


def write_arrow(part: Path, rows: Iterator[Row], kinds: Kinds, format_name: str) -> int:
    """Write the rows to the file ``part``, a batch at a time, and return their number."""
    types = {name: column_type(known) for name, known in kinds.items()}
    schema = pa.schema([(name, _TYPES.get(kind, pa.string())) for name, kind in types.items()])
    count = 0
    with open(part, "wb") as file, _writer(file, schema, format_name) as writer:
        cells = ([column_value(row.get(name), kind) for name, kind in types.items()] for row in rows)
        for batch in batches_of(cells, _characters):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(_record_batch(columns, schema, len(batch)))
            count += len(batch)
    return count


def _characters(cells: list[Any]) -> int:
    return sum([len(cell) for cell in cells if isinstance(cell, str)])


def _record_batch(columns: list[Any], schema: Any, length: int) -> Any:
    if columns:
        return pa.record_batch(columns, schema=schema)
    return pa.RecordBatch.from_struct_array(pa.array([{}] * length, pa.struct([])))


def _writer(file: Any, schema: Any, format_name: str) -> Any:
    if format_name == "feather":
        return pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    from pyarrow.parquet import ParquetWriter

    return ParquetWriter(file, schema)
