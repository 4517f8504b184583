"""A stretch of a table's rows, and the ids and JSON texts of the tasks in it.

Two kinds carry the same promises: `ColumnBatch` keeps columns (feather, parquet, CSV), `ListBatch` keeps one dict per row
(JSON, YAML, task factories), whose rows may have different keys.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from taskfleet.errors import InsertError
from taskfleet.tables.ids import id_text
from taskfleet.tables.values import Refused, json_text, shown, to_json

if TYPE_CHECKING:
    from typing import Self

FaultOfColumns: TypeAlias = Callable[[frozenset[str]], str | None]
"""Given the names of a task's arguments, say what is wrong with them; None when they fit."""

_ID_NAMES = ("task_id", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The tasks of one batch, in the order of its rows."""

    first_row: int
    """The first row's place in the source, from 1."""
    ids: list[str] | None
    """Each task's id, or None when the table gives none."""
    data: list[str]
    """Each task's keyword arguments, as canonical JSON text."""
    numbers: Sequence[int] | None = None
    """Each row's place in the source; None when they follow one another from `first_row`."""

    def row_number(self, index: int) -> int:
        """Return the place in the source, from 1, of the row at `index`."""
        return self.first_row + index if self.numbers is None else self.numbers[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(ABC):
    """Some rows of a table. `first_row` and `numbers` mean what they mean in `Rows`; `source` names the table in messages."""

    source: str
    first_row: int
    numbers: Sequence[int] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Count the rows."""

    def row_number(self, index: int) -> int:
        """Return the place in the source, from 1, of the row at `index`."""
        return self.first_row + index if self.numbers is None else self.numbers[index]

    @abstractmethod
    def slice(self, start: int, stop: int) -> "Self":
        """Return the rows from `start` up to but not including `stop`, counted from 0 in this batch."""

    @abstractmethod
    def encode(self, column_mismatch: FaultOfColumns) -> Rows:
        """Write each row as a task.

        A row with exactly the keys ``task_id`` (or ``id``) and ``data``, where ``data`` is a mapping, gives its id and its
        arguments outright; otherwise a column ``task_id`` is the id and all other columns are arguments.

        Args:
            column_mismatch: asked once for every distinct set of argument names in the batch.

        Raises:
            InsertError: names that do not fit, a bad or missing id, or a value JSON cannot carry; with its row.
        """

    def _place(self, index: int) -> str:
        return f"row {self.row_number(index)} of {self.source}"

    def _sliced(self, start: int, stop: int) -> dict[str, Any]:
        numbers = None if self.numbers is None else self.numbers[start:stop]
        return {"first_row": self.row_number(start) if start < len(self) else self.first_row, "numbers": numbers}

    def _check_names(self, names: frozenset[str], index: int, column_mismatch: FaultOfColumns) -> None:
        for name in names:
            if not isinstance(name, str):
                kind = type(name).__name__
                raise InsertError(
                    f"the column name {shown(name)} ({kind}) in {self._place(index)} is not text; write it as text"
                )
            try:
                to_json(name, (name,))
            except Refused as error:
                raise InsertError(error.sentence(self._place(index))) from None
        if fault := column_mismatch(names):
            raise InsertError(f"{fault} ({self._place(index)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnBatch(Batch):
    """Rows kept as columns; each a pyarrow Array, or a list of Python values where a filter has made a new one."""

    columns: Mapping[str, Any]
    length: int

    def __len__(self) -> int:
        """Count the rows."""
        return self.length

    def slice(self, start: int, stop: int) -> "ColumnBatch":
        """Return the rows from `start` up to but not including `stop`, counted from 0 in this batch."""
        columns = {name: column[start:stop] for name, column in self.columns.items()}
        length = len(range(self.length)[start:stop])
        return replace(self, columns=columns, length=length, **self._sliced(start, stop))

    def as_list(self) -> "ListBatch":
        """Return the same rows as one dict each."""
        from taskfleet.tables.columns import python_values

        lists = [python_values(column, self._value_fault(name)) for name, column in self.columns.items()]
        names = list(self.columns)
        records = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
        return ListBatch(
            source=self.source,
            first_row=self.first_row,
            numbers=self.numbers,
            records=records or [{} for _ in range(self.length)],
            with_ids="task_id" in self.columns or (bool(records) and gives_id(records[0])),
        )

    def encode(self, column_mismatch: FaultOfColumns) -> Rows:
        """Write each row as a task; see `Batch.encode`."""
        from taskfleet.tables.columns import field_columns, id_texts, object_texts

        arguments = dict(self.columns)
        ids = None
        if (pair_id := _pair_id(self.columns.keys())) and self.length:
            fields = field_columns(self.columns["data"])
            if fields is None:
                return self.as_list().encode(column_mismatch)
            ids, arguments = arguments[pair_id], fields
        elif "task_id" in arguments:
            ids = arguments.pop("task_id")
        if self.length:
            self._check_names(frozenset(arguments), 0, column_mismatch)
        return Rows(
            first_row=self.first_row,
            ids=None if ids is None else id_texts(ids, self._id_fault),
            data=object_texts(arguments, self.length, self._value_fault),
            numbers=self.numbers,
        )

    def _id_fault(self, index: int, fault: str) -> InsertError:
        return InsertError(f"{fault} ({self._place(index)})")

    def _value_fault(self, name: str) -> Callable[[int, Exception], InsertError]:
        def fault(index: int, error: Exception) -> InsertError:
            if isinstance(error, Refused):
                error.path = (name, *error.path)
                return InsertError(error.sentence(self._place(index)))
            reason = " ".join(str(error).split())[:200]
            return InsertError(
                f"{name} in {self._place(index)} cannot be read: {reason}; write it as text or as a number"
            )

        return fault


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBatch(Batch):
    """Rows kept as one dict each; `with_ids` says whether the table gives ids, which its very first row decides."""

    records: list[dict[str, Any]]
    with_ids: bool

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.records)

    def slice(self, start: int, stop: int) -> "ListBatch":
        """Return the rows from `start` up to but not including `stop`, counted from 0 in this batch."""
        return replace(self, records=self.records[start:stop], **self._sliced(start, stop))

    def encode(self, column_mismatch: FaultOfColumns) -> Rows:
        """Write each row as a task; see `Batch.encode`."""
        ids: list[str] = []
        data: list[str] = []
        fitting: set[frozenset[str]] = set()
        for index, record in enumerate(self.records):
            id_name, arguments = split_record(record)
            names = frozenset(arguments)
            if names not in fitting:
                self._check_names(names, index, column_mismatch)
                fitting.add(names)
            if (id_name is not None) != self.with_ids:
                raise InsertError(self._uneven_ids(index))
            try:
                if id_name is not None:
                    ids.append(id_text(record[id_name]))
                data.append(json_text(to_json(arguments)))
            except Refused as error:
                raise InsertError(error.sentence(self._place(index))) from None
            except ValueError as error:
                raise InsertError(f"{error} ({self._place(index)})") from None
        return Rows(first_row=self.first_row, ids=ids if self.with_ids else None, data=data, numbers=self.numbers)

    def _uneven_ids(self, index: int) -> str:
        place = self._place(index)
        if self.with_ids:
            return f"{place} has no task_id although the rows before it have one; give every row a task_id, or none"
        return f"{place} has a task_id although the rows before it have none; give every row a task_id, or none"


def gives_id(record: Mapping[str, Any]) -> bool:
    """Say whether a row gives its task an id."""
    return split_record(record)[0] is not None


def split_record(record: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Split a row into the name of the key that holds its id, if any, and the arguments."""
    pair_id = _pair_id(record.keys())
    if pair_id and isinstance(record["data"], Mapping):
        return pair_id, dict(record["data"])
    if "task_id" in record:
        return "task_id", {name: value for name, value in record.items() if name != "task_id"}
    return None, dict(record)


def _pair_id(names: Any) -> str | None:
    """Return the name of the id when `names` are exactly those of the pair form."""
    if len(names) == 2 and "data" in names:
        return next((name for name in _ID_NAMES if name in names), None)
    return None
