"""Application of the user's ``filter_tasks(table, output_path)`` to the batches of a table.

The function gets each batch as a pandas DataFrame whose index is the row numbers in the table, from 1, and returns a DataFrame with some
of these rows. Unchanged columns are taken from the batch itself, so that pandas does not change their types; changed and new columns are
taken from the returned DataFrame.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from taskfleet.errors import InsertError, TaskfleetError
from taskfleet.extras import require
from taskfleet.tables.batch import Batch, ColumnBatch, ListBatch, gives_id
from taskfleet.tables.values import UnsupportedValueError, one_line, shown, to_json
from taskfleet.tracebacks import describe_users_error

FilterTasks: TypeAlias = Callable[[Any, Any], Any]
"""``filter_tasks(table, output_path)``: DataFrame in, DataFrame out."""


def filter_batches(batches: Iterable[Batch], filter_tasks: FilterTasks, output_path: Any) -> Iterator[Batch]:
    """Yield the rows of each batch that the user's function returns. Rows keep their numbers; empty batches are omitted.

    Args:
        batches: Read one at a time.
        filter_tasks: The user's function. It gets columns of integers or bools with nulls as Int64 and boolean.
        output_path: Passed to the function unchanged.

    Raises:
        MissingPackageError: At once; pandas is not installed.
        InsertError: During the iteration; the function raised an exception, or did not return a DataFrame with rows of its table.
    """
    require("pandas", "filter_tasks")
    return _filtered(batches, filter_tasks, output_path)


def _filtered(batches: Iterable[Batch], filter_tasks: FilterTasks, output_path: Any) -> Iterator[Batch]:
    for batch in batches:
        if not len(batch):
            continue
        last = batch.row_number(len(batch) - 1)
        place = f"for rows {batch.row_number(0)} to {last} of {batch.source}"
        table = _frame(batch, place)
        try:
            result = filter_tasks(table.copy(), output_path)
        except TaskfleetError:
            raise
        except Exception as error:
            raise InsertError(f"filter_tasks raised an exception {place}: {describe_users_error(error)}") from error
        positions = _positions(table, result, place)
        if len(positions):
            yield _rebuilt(batch, table, result, positions)


def _positions(table: Any, result: Any, place: str) -> Any:
    """Return the positions of the returned rows in the table.

    Raises:
        InsertError: The result is not a DataFrame, or its index has values that are not in the table's index.
    """
    import pandas

    if not isinstance(result, pandas.DataFrame):
        raise InsertError(
            f"filter_tasks returned {shown(result)} ({type(result).__name__}) instead of a DataFrame {place}. "
            "Return the rows to keep, such as table[table['num1'] > 3]."
        )
    if not result.columns.is_unique:
        twice = sorted(map(str, result.columns[result.columns.duplicated()]))
        raise InsertError(
            f"filter_tasks returned more than one column {', '.join(twice)} {place}. Drop or rename them."
        )
    positions = table.index.get_indexer(result.index) if result.index.nlevels == 1 else [-1]
    if not result.index.is_unique or (len(result) and min(positions) < 0):
        raise InsertError(
            f"filter_tasks returned a DataFrame whose index is not a subset of its table's index {place}. Keep the index "
            "(no reset_index, no ignore_index=True), and return each row at most once."
        )
    return positions


def _rebuilt(batch: Batch, table: Any, result: Any, positions: Any) -> Batch:
    same = {name for name in result.columns if _is_unchanged(table, result, name, positions)}
    new = {name: result[name].tolist() for name in result.columns if name not in same}
    numbers = array("q", result.index.tolist())
    if isinstance(batch, ColumnBatch):
        kept = {name: _taken(batch.columns[name], positions) for name in same}
        columns = {name: kept[name] if name in kept else new[name] for name in result.columns}
        return ColumnBatch(
            source=batch.source, first_row=numbers[0], numbers=numbers, columns=columns, length=len(numbers)
        )
    assert isinstance(batch, ListBatch)
    records = []
    for index, position in enumerate(positions):
        before = batch.records[position]
        record = {}
        for name in result.columns:
            if name in same:
                if name in before:
                    record[name] = before[name]
            elif name in before or name not in table or not _is_null(new[name][index]):
                record[name] = new[name][index]
        records.append(record)
    columns_give_ids = "task_id" in result or ("id" in result and "data" in result)
    with_ids = (batch.with_ids and columns_give_ids) or gives_id(records[0])
    return ListBatch(source=batch.source, first_row=numbers[0], numbers=numbers, records=records, with_ids=with_ids)


def _is_unchanged(table: Any, result: Any, name: Any, positions: Any) -> bool:
    # A change in place of a value in an object column changes both tables.
    if name not in table or result[name].dtype == object:
        return False
    return bool(table[name].iloc[positions].equals(result[name]))


def _taken(column: Any, positions: Any) -> Any:
    if not isinstance(column, list):
        import pyarrow as pa

        try:
            return column.take(positions)
        except pa.ArrowNotImplementedError:  # views, for example
            column = _values(column)
    return [column[position] for position in positions]


def _is_null(value: object) -> bool:
    try:
        return to_json(value) is None
    except UnsupportedValueError:
        return False


def _frame(batch: Batch, place: str) -> Any:
    import pandas

    index = pandas.Index([batch.row_number(position) for position in range(len(batch))], dtype="int64")
    try:
        if isinstance(batch, ColumnBatch):
            columns = {name: _series_of_column(column) for name, column in batch.columns.items()}
        else:
            assert isinstance(batch, ListBatch)
            names = dict.fromkeys(name for record in batch.records for name in record)
            columns = {name: _series_of_values([record.get(name) for record in batch.records]) for name in names}
        for series in columns.values():
            series.index = index
        return pandas.DataFrame(columns, index=index)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError) as error:
        raise InsertError(
            f"pandas cannot represent the table {place}: {one_line(error, 300)}. Write such columns as text or as numbers."
        ) from error


def _values(column: Any) -> list[Any]:
    from taskfleet.tables.columns import python_values

    return python_values(column, lambda _, error: error)


def _series_of_column(column: Any) -> Any:
    import pandas
    import pyarrow as pa

    if isinstance(column, list):
        return _series_of_values(column)
    kind = column.type
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType) or kind == pa.time64("ns"):
        return pandas.Series(_values(column), dtype=object)
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        name = "boolean" if pa.types.is_boolean(kind) else str(kind).capitalize().replace("Uint", "UInt")
        return column.to_pandas(types_mapper=lambda _: pandas.api.types.pandas_dtype(name))
    return column.to_pandas()


def _series_of_values(values: list[Any]) -> Any:
    import pandas

    kinds = set(map(type, values))
    has_null = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {bool}:
        return pandas.Series(values, dtype="boolean" if has_null else "bool")
    if kinds == {int}:
        fits = all(value is None or -(2**63) <= value < 2**63 for value in values)
        return pandas.Series(values, dtype=("Int64" if has_null else "int64") if fits else object)
    if kinds in ({float}, {int, float}):
        try:
            return pandas.Series([None if value is None else float(value) for value in values], dtype="float64")
        except OverflowError:
            return pandas.Series(values, dtype=object)
    return pandas.Series(values) if kinds == {str} else pandas.Series(values, dtype=object)
