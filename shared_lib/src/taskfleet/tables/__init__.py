"""Tables of tasks: read in bounded memory, filtered, written as JSON texts; and the tables of results.

`read_batches` yields a table's rows in batches, whatever its format and wherever it is. `slice_batches` and `filter_batches` stand
between it and `Batch.encode`, which gives each task's id and the JSON text of its keyword arguments. None of them reads further
than its consumer asks, so a table may have ten million rows. `write_results` writes what became of the tasks.

A table that cannot be read raises ``TableError``; a row that cannot become a task raises ``InsertError``. Both say what is wrong,
in which row of which table (counted from 1, without a line of column names), and what to do. No other exception comes out of
here, also not in the middle of a table. What becomes of each value is told in `taskfleet.tables.values`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet.tables.batch import Batch, ColumnBatch, FaultOfColumns, ListBatch, Rows
    from taskfleet.tables.filtering import FilterTasks, filter_batches
    from taskfleet.tables.ids import content_id, content_ids
    from taskfleet.tables.reading import count_rows, read_batches, slice_batches
    from taskfleet.tables.results import write_results
    from taskfleet.tables.values import JSON

__all__ = [
    "JSON",
    "Batch",
    "ColumnBatch",
    "FaultOfColumns",
    "FilterTasks",
    "ListBatch",
    "Rows",
    "content_id",
    "content_ids",
    "count_rows",
    "filter_batches",
    "read_batches",
    "slice_batches",
    "write_results",
]

_HOMES = {
    "batch": ("Batch", "ColumnBatch", "FaultOfColumns", "ListBatch", "Rows"),
    "filtering": ("FilterTasks", "filter_batches"),
    "ids": ("content_id", "content_ids"),
    "reading": ("count_rows", "read_batches", "slice_batches"),
    "results": ("write_results",),
    "values": ("JSON",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: most commands, and every worker, need little or nothing of this package."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
