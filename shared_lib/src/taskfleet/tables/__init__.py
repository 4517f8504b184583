"""Reading of task tables in bounded memory, their conversion to JSON, and writing of result tables.

``read_batches`` yields the rows of a table in batches, in any format and from any location. ``slice_batches`` and ``filter_batches``
process batches before ``Batch.encode``, which returns the id and the JSON text of the keyword arguments of each task. All of them are
lazy: they read only what the consumer requests, so a table may have ten million rows. ``write_results`` writes a table of results.

A table that cannot be read raises ``TableError``; a row that cannot become a task raises ``InsertError``. Both messages say what is
wrong, in which row of which table (counted from 1, without the header), and what to do. No other exception is raised, even in the middle
of a table. ``taskfleet.tables.values`` documents the conversion of values.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet.tables.batch import Batch, ColumnBatch, ColumnCheck, ListBatch, Rows
    from taskfleet.tables.filtering import FilterTasks, filter_batches
    from taskfleet.tables.ids import content_id, content_ids
    from taskfleet.tables.reading import count_rows, read_batches, slice_batches
    from taskfleet.tables.results import write_results
    from taskfleet.tables.values import JSON

__all__ = [
    "JSON",
    "Batch",
    "ColumnBatch",
    "ColumnCheck",
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
    "batch": ("Batch", "ColumnBatch", "ColumnCheck", "ListBatch", "Rows"),
    "filtering": ("FilterTasks", "filter_batches"),
    "ids": ("content_id", "content_ids"),
    "reading": ("count_rows", "read_batches", "slice_batches"),
    "results": ("write_results",),
    "values": ("JSON",),
}


def __getattr__(name: str) -> Any:
    """Import a name on first access: workers and most commands need little of this package."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
