"""Readers of tables with one record at a time: JSON, JSON Lines, YAML, and generators."""

import codecs
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, BinaryIO

from taskfleet.errors import TableError, TaskfleetError
from taskfleet.tables.address import TableBytes
from taskfleet.tables.batch import ListBatch, gives_id
from taskfleet.tables.json_items import NotAListError, NotJSONError, json_items, json_value
from taskfleet.tables.limits import BATCH_BYTES, MAX_ROW_BYTES, TooLargeError
from taskfleet.tables.values import one_line, shown
from taskfleet.text import counted
from taskfleet.tracebacks import describe_users_error

Record = tuple[dict[str, Any], int]
"""The keyword arguments of a task, and their size in characters; 0 if it is unknown."""

_UNCHANGING = (type(None), bool, int, float, str)


def list_batches(records: Iterable[Record], source: str, batch_rows: int) -> Iterator[ListBatch]:
    """Group records into batches of limited rows and size; the first record decides whether the table has ids."""
    first_row = 1
    with_ids = False
    part: list[dict[str, Any]] = []
    size = 0
    for record, characters in records:
        if first_row == 1 and not part:
            with_ids = gives_id(record)
        part.append(record)
        size += characters
        if len(part) == batch_rows or size >= BATCH_BYTES:
            yield ListBatch(source=source, first_row=first_row, records=part, with_ids=with_ids)
            first_row += len(part)
            part, size = [], 0
    if part:
        yield ListBatch(source=source, first_row=first_row, records=part, with_ids=with_ids)


def iterable_records(source: Iterable[Any], name: str) -> Iterator[Record]:
    """Check and copy the records of a generator, which may change and yield the same objects repeatedly."""
    row = 0
    try:
        for row, record in enumerate(source, start=1):
            if not isinstance(record, Mapping):
                kind = type(record).__name__
                raise TableError(f"Row {row} of {name} is {shown(record)} ({kind}), not a mapping. {_remedy(record)}")
            yield {key: value if type(value) in _UNCHANGING else _copy(value) for key, value in record.items()}, 0
    except TaskfleetError:
        raise
    except Exception as error:
        raise TableError(
            f"{name} raised an exception after {counted(row, 'row')}: {describe_users_error(error)}"
        ) from error


def _copy(value: object) -> object:
    try:
        return deepcopy(value)
    except Exception:  # its conversion to JSON reports what is wrong
        return value


def _remedy(record: object) -> str:
    if hasattr(record, "_asdict"):
        return "Yield its _asdict()."
    if hasattr(record, "__dataclass_fields__"):
        return "Yield dataclasses.asdict(…) of it."
    if type(record).__name__ == "Series":
        return "Yield the dicts of table.to_dict('records')."  # a row of iterrows() has lost the types of its columns
    return "Yield one dict of keyword arguments per task."


def json_records(table: TableBytes, source: str) -> Iterator[Record]:
    """Read a JSON file with one list of objects."""
    row = 0
    with table.stream() as file:
        try:
            for row, (value, size) in enumerate(json_items(file), start=1):
                yield _record(value, row, source), size
        except NotAListError as error:
            raise TableError(
                f"{source} has {error} at its top level instead of a list. Write [{{...}}, {{...}}], or one object per line "
                "in a .jsonl file."
            ) from None
        except TooLargeError as error:
            raise _too_large(source, row + 1, error) from None
        except (NotJSONError, UnicodeDecodeError) as error:
            raise _syntax_error(source, "JSON", row + 1, error) from error


def jsonl_records(table: TableBytes, source: str) -> Iterator[Record]:
    """Read JSON Lines; empty lines are skipped."""
    row = 0
    with table.stream() as file:
        for number, line in enumerate(_lines(file), start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not text.strip():
                continue
            row += 1
            if len(line) > MAX_ROW_BYTES:
                raise _too_large(source, row, TooLargeError())
            try:
                value = json_value(text.decode())
            except (NotJSONError, UnicodeDecodeError) as error:
                raise _syntax_error(f"Line {number} of {source}", "JSON", row, error) from error
            yield _record(value, row, source), len(text)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; longer ones than a row may be are cut."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        yield line


def yaml_records(table: TableBytes, source: str) -> Iterator[Record]:
    """Read a YAML file with one sequence of mappings, by the rules of ``yaml_items``."""
    import yaml

    from taskfleet.tables.yaml_items import NotASequenceError, SeveralDocumentsError, sequence_items

    row = 0
    with table.stream() as file:
        try:
            for row, (value, size) in enumerate(sequence_items(file), start=1):
                yield _record(value, row, source), size
        except NotASequenceError as error:
            raise TableError(
                f"{source} has {error} at its top level instead of a sequence. Write one '- ' item per task."
            ) from None
        except SeveralDocumentsError:
            raise TableError(
                f"{source} has more than one YAML document (another '---' after row {row}). Join them in one sequence."
            ) from None
        except TooLargeError as error:
            raise _too_large(source, row + 1, error) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise _syntax_error(source, "YAML", row + 1, error) from error


def _record(value: Any, row: int, source: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    kind = type(value).__name__
    raise TableError(
        f"Row {row} of {source} is {shown(value)} ({kind}), not an object. Write the keyword arguments of one task per row."
    )


def _too_large(source: str, row: int, error: TooLargeError) -> TableError:
    return TableError(f"Row {row} of {source} is too long: {error}")


def _syntax_error(source: str, language: str, row: int, error: Exception) -> TableError:
    reason = one_line(error, 300)
    return TableError(f"{source} is not valid {language} at row {row}: {reason}. Correct it there, or write it again.")
