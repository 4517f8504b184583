"""Batches of table rows, and the ids and JSON texts of their tasks.

``ColumnBatch`` stores columns (Feather, Parquet, CSV). ``ListBatch`` stores one dict per row (JSON, YAML, generators); its rows may have
different keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from taskfleet.errors import InsertError
from taskfleet.tables.ids import id_text
from taskfleet.tables.values import UnsupportedValueError, json_text, one_line, shown, to_json

if TYPE_CHECKING:
    from typing import Self

ColumnCheck: TypeAlias = Callable[[frozenset[str]], str | None]
"""Returns what is wrong with the names of a task's arguments; None if they fit the function."""

_ID_NAMES = ("task_id", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRows:
    """Some rows of a source, with their numbers."""

    first_row: int
    """The number of the first row in the source, from 1."""
    numbers: Sequence[int] | None = None
    """The numbers of the rows in the source; None if they are consecutive from ``first_row``."""

    def row_number(self, index: int) -> int:
        """Return the number in the source, from 1, of the row at ``index``."""
        return self.first_row + index if self.numbers is None else self.numbers[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(NumberedRows):
    """The tasks of a batch, in the order of its rows."""

    ids: list[str] | None
    """The ids of the tasks; None if the table has none."""
    data: list[str]
    """The keyword arguments of the tasks, as canonical JSON texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(NumberedRows, ABC):
    """Some rows of a table."""

    source: str
    """The name of the table in messages."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def slice(self, start: int, stop: int) -> "Self":
        """Return the rows from ``start`` to ``stop`` (excluded), as indices in this batch."""

    @abstractmethod
    def encode(self, check_columns: ColumnCheck) -> Rows:
        """Return the rows as tasks.

        If a row has exactly the keys ``task_id`` (or ``id``) and ``data``, and ``data`` is a mapping, these are the id and the arguments.
        Otherwise a column ``task_id`` is the id, and all other columns are arguments.

        Args:
            check_columns: Called once for each distinct set of argument names in the batch.

        Raises:
            InsertError: Names do not fit, an id is invalid or missing, or JSON cannot represent a value; the message names the row.
        """

    def _place(self, index: int) -> str:
        return f"row {self.row_number(index)} of {self.source}"

    def _sliced(self, start: int, stop: int) -> dict[str, Any]:
        numbers = None if self.numbers is None else self.numbers[start:stop]
        return {"first_row": self.row_number(start) if start < len(self) else self.first_row, "numbers": numbers}

    def _check_names(self, names: frozenset[str], index: int, check_columns: ColumnCheck) -> None:
        for name in names:
            if not isinstance(name, str):
                kind = type(name).__name__
                raise InsertError(
                    f"The column name {shown(name)} ({kind}) in {self._place(index)} is not text. Write it as text."
                )
            try:
                to_json(name, (name,))
            except UnsupportedValueError as error:
                raise InsertError(error.message(self._place(index))) from None
        if mismatch := check_columns(names):
            raise InsertError(f"{mismatch} ({self._place(index)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnBatch(Batch):
    """Rows stored as columns: pyarrow arrays, or lists of Python values for columns that a filter created."""

    columns: Mapping[str, Any]
    length: int

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.length

    def slice(self, start: int, stop: int) -> "ColumnBatch":
        """Return the rows from ``start`` to ``stop`` (excluded), as indices in this batch."""
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        length = len(range(self.length)[start:stop])
        return replace(self, columns=columns, length=length, **self._sliced(start, stop))

    def as_list(self) -> "ListBatch":
        """Return the rows as a ``ListBatch``."""
        from taskfleet.tables.columns import python_values

        lists = [python_values(column, self._value_error(name)) for name, column in self.columns.items()]
        names = list(self.columns)
        records = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
        return ListBatch(
            source=self.source,
            first_row=self.first_row,
            numbers=self.numbers,
            records=records or [{} for _ in range(self.length)],
            with_ids="task_id" in self.columns or (bool(records) and gives_id(records[0])),
        )

    def encode(self, check_columns: ColumnCheck) -> Rows:
        """Return the rows as tasks; see ``Batch.encode``."""
        from taskfleet.tables.columns import field_columns, id_texts, object_texts

        arguments = dict(self.columns)
        ids = None
        if (pair_id := _pair_id(self.columns.keys())) and self.length:
            fields = field_columns(self.columns["data"])
            if fields is None:
                return self.as_list().encode(check_columns)
            ids, arguments = arguments[pair_id], fields
        elif "task_id" in arguments:
            ids = arguments.pop("task_id")
        if self.length:
            self._check_names(frozenset(arguments), 0, check_columns)
        return Rows(
            first_row=self.first_row,
            ids=None if ids is None else id_texts(ids, self._id_error),
            data=object_texts(arguments, self.length, self._value_error),
            numbers=self.numbers,
        )

    def _id_error(self, index: int, text: str) -> InsertError:
        return InsertError(f"{text} ({self._place(index)})")

    def _value_error(self, name: str) -> Callable[[int, Exception], InsertError]:
        def value_error(index: int, error: Exception) -> InsertError:
            if isinstance(error, UnsupportedValueError):
                error.path = (name, *error.path)
                return InsertError(error.message(self._place(index)))
            return InsertError(
                f"{name} in {self._place(index)} cannot be read: {one_line(error, 200)}. Write it as text or as a number."
            )

        return value_error


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBatch(Batch):
    """Rows stored as one dict each. ``with_ids`` is whether the table has ids, which its very first row decides."""

    records: list[dict[str, Any]]
    with_ids: bool

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.records)

    def slice(self, start: int, stop: int) -> "ListBatch":
        """Return the rows from ``start`` to ``stop`` (excluded), as indices in this batch."""
        return replace(self, records=self.records[start:stop], **self._sliced(start, stop))

    def encode(self, check_columns: ColumnCheck) -> Rows:
        """Return the rows as tasks; see ``Batch.encode``."""
        ids: list[str] = []
        data: list[str] = []
        checked: set[frozenset[str]] = set()
        for index, record in enumerate(self.records):
            id_name, arguments = split_record(record)
            names = frozenset(arguments)
            if names not in checked:
                self._check_names(names, index, check_columns)
                checked.add(names)
            if (id_name is not None) != self.with_ids:
                raise InsertError(self._uneven_ids(index))
            try:
                if id_name is not None:
                    ids.append(id_text(record[id_name]))
                data.append(json_text(to_json(arguments)))
            except UnsupportedValueError as error:
                raise InsertError(error.message(self._place(index))) from None
            except ValueError as error:
                raise InsertError(f"{error} ({self._place(index)})") from None
        return Rows(first_row=self.first_row, ids=ids if self.with_ids else None, data=data, numbers=self.numbers)

    def _uneven_ids(self, index: int) -> str:
        place = f"Row {self.row_number(index)} of {self.source}"
        if self.with_ids:
            return f"{place} has no task_id, but the rows before it have one. Give every row a task_id, or none."
        return f"{place} has a task_id, but the rows before it have none. Give every row a task_id, or none."


def gives_id(record: Mapping[str, Any]) -> bool:
    """Return whether a row has an id for its task."""
    return split_record(record)[0] is not None


def split_record(record: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the key of a row's id, None if it has none, and its arguments."""
    pair_id = _pair_id(record.keys())
    if pair_id and isinstance(record["data"], Mapping):
        return pair_id, dict(record["data"])
    if "task_id" in record:
        return "task_id", {name: value for name, value in record.items() if name != "task_id"}
    return None, dict(record)


def _pair_id(names: Any) -> str | None:
    """Return the key of the id if the names are exactly an id and ``data``."""
    if len(names) == 2 and "data" in names:
        return next((name for name in _ID_NAMES if name in names), None)
    return None
