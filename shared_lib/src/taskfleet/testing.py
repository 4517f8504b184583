"""Helpers for the tests of a project: ``check_table`` checks that a table matches a task function."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from taskfleet.errors import InsertError
from taskfleet.functions import examine


def check_table(source: str | Path | Iterable[Mapping[str, Any]], function: Callable[..., Any]) -> int:
    """Check every row of a table against a task function, as an insertion would.

    Args:
        source: A path, an address, or rows.
        function: The task function.

    Returns:
        The number of rows.

    Raises:
        TaskfleetError: The table cannot be read, a column does not match, a value is not supported, or an ID occurs twice.
    """
    from taskfleet.tables.reading import read_batches

    task_function = examine(function)
    seen: set[str] = set()
    total = 0
    for batch in read_batches(source):
        rows = batch.encode(task_function.column_mismatch)
        total += len(rows.data)
        for index, task_id in enumerate(rows.ids or ()):
            if task_id in seen:
                raise InsertError(
                    f"task_id {task_id!r} occurs twice, the second time in row {rows.row_number(index):,}."
                )
            seen.add(task_id)
    return total
