r"""Tables that come one record at a time: JSON, JSON lines, YAML, and the iterables of a task factory.

JSON arrays are read by ijson, which never holds more than a record. It has two limits: a lone half of a surrogate pair
(``"\ud800"``) reaches us as ``?``, and arrays nested tens of thousands deep exhaust the memory.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from taskfleet.errors import TableError, TaskfleetError
from taskfleet.tables.address import Place
from taskfleet.tables.batch import ListBatch, gives_id
from taskfleet.tables.values import shown


def list_batches(records: Iterable[dict[str, Any]], source: str, batch_rows: int) -> Iterator[ListBatch]:
    """Gather records into batches; the first one decides whether the table gives ids."""
    records = iter(records)
    first_row = 1
    with_ids = False
    while part := list(islice(records, batch_rows)):
        if first_row == 1:
            with_ids = gives_id(part[0])
        yield ListBatch(source=source, first_row=first_row, records=part, with_ids=with_ids)
        first_row += len(part)


def iterable_records(source: Iterable[Any], name: str) -> Iterator[dict[str, Any]]:
    """Check what a task factory yields, and copy it, since a factory may fill the same dict again and again."""
    row = 0
    try:
        for row, record in enumerate(source, start=1):
            if not isinstance(record, Mapping):
                kind = type(record).__name__
                raise TableError(
                    f"row {row} of {name} is {shown(record)} ({kind}), not a mapping; yield one dict of keyword "
                    "arguments per task"
                )
            yield dict(record)
    except TaskfleetError:
        raise
    except Exception as error:
        raise TableError(
            f"{name} raised {type(error).__name__}: {error} after {row} rows; mend the task factory"
        ) from error


def json_records(place: Place, source: str) -> Iterator[dict[str, Any]]:
    """Read a JSON file that holds one list of objects."""
    import ijson

    with place.stream() as file:
        start = file.read(4096)
        mark = codecs.BOM_UTF8 if start.startswith(codecs.BOM_UTF8) else b""
        start = start.removeprefix(mark).lstrip(b" \t\r\n")
        while not start and (more := file.read(4096)):
            start = more.lstrip(b" \t\r\n")
    if not start.startswith(b"["):
        found = "an object" if start.startswith(b"{") else f"{start[:20]!r}"
        raise TableError(
            f"{source} has {found} at its top level instead of a list; write [{{...}}, {{...}}], or one object per line "
            "in a .jsonl file"
        )
    row = 0
    with place.stream() as file:
        file.read(len(mark))  # streams from buckets cannot seek
        try:
            for row, value in enumerate(ijson.items(file, "item"), start=1):
                yield _with_floats(_record(value, row, source))
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _syntax_error(source, "JSON", row + 1, error) from error


def jsonl_records(place: Place, source: str) -> Iterator[dict[str, Any]]:
    """Read JSON lines; empty lines are passed over."""
    row = 0
    with place.stream() as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not text.strip():
                continue
            row += 1
            try:
                value = json.loads(text.decode(), parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise _syntax_error(f"line {number} of {source}", "JSON", row, error) from error
            yield _record(value, row, source)


def yaml_records(place: Place, source: str) -> Iterator[dict[str, Any]]:
    """Read a YAML file that holds one sequence of mappings, by the rules of ``yaml.safe_load``."""
    import yaml

    from taskfleet.tables.yaml_items import SeveralDocuments, WrongTop, sequence_items

    row = 0
    with place.stream() as file:
        try:
            for row, value in enumerate(sequence_items(file), start=1):
                yield _record(value, row, source)
        except WrongTop as error:
            raise TableError(
                f"{source} has {error} at its top level instead of a sequence; write one '- ' item per task"
            ) from None
        except SeveralDocuments:
            raise TableError(
                f"{source} has more than one YAML document (another '---' after row {row}); join them in one sequence"
            ) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise _syntax_error(source, "YAML", row + 1, error) from error


def _record(value: Any, row: int, source: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    kind = type(value).__name__
    raise TableError(
        f"row {row} of {source} is {shown(value)} ({kind}), not an object; write the keyword arguments of one task per row"
    )


def _syntax_error(source: str, language: str, row: int, error: Exception) -> TableError:
    reason = " ".join(str(error).split())[:300]
    return TableError(f"{source} is not valid {language} at row {row}: {reason}; correct it there, or write it again")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (write null, or a finite number)")


def _with_floats(value: Any) -> Any:
    """Replace, in place, the Decimals by which ijson keeps whole numbers of any size apart from floats."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, Decimal):
            value[key] = float(item)
        elif isinstance(item, dict | list):
            _with_floats(item)
    return value
