"""Writer of result tables, in two passes: the first determines the columns and their types, the second writes the rows.

In Feather, Parquet and CSV, a column has the type of its values if all are bools, integers, numbers or texts; every column may have nulls.
Integers beyond 64 bits make it a text column; other mixtures, lists and objects make it a column of JSON texts, so do floats together with
integers beyond 2**53, which a float may not represent. A column without values is a text column. JSON and JSON Lines keep all values,
except NaN and infinity, which become null.

CSV has no types: a cell that is empty is null, and a text is quoted if it is empty or looks like a number, a bool or null.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from taskfleet.errors import TableError
from taskfleet.files import open_private
from taskfleet.tables.address import FORMATS
from taskfleet.tables.result_values import (
    Kinds,
    Row,
    RowSource,
    batches_of,
    column_type,
    column_value,
    json_line,
    value_kind,
)

Cell: TypeAlias = bool | int | float | str | None
"""A value as a column of CSV has it."""

#: Texts that readers of CSV may take for something else.
_AMBIGUOUS = re.compile(
    r"[+-]?[0-9.][0-9.,_]*([eE][+-]?[0-9]+)?\Z|([+-]?inf(inity)?|[+-]?nan|true|false|null|none|na|n/a|#n/a|<na>|nat)\Z",
    re.IGNORECASE,
)
#: How texts begin that spreadsheets take for formulas.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_WRITABLE = tuple(suffix for suffix, name in FORMATS.items() if name != "yaml")


def write_results(
    path: str | os.PathLike[str], rows: RowSource, columns: Sequence[str] = (), *, escape_formulas: bool = False
) -> int:
    """Write a table of results in the format of the path's suffix and return the number of rows.

    The file is written atomically: first under another name in the same folder, then renamed.

    Args:
        path: A local path; an existing file is replaced, and a named pipe or a device is written into.
        rows: Returns an iterator over the rows. It is called twice for Feather, Parquet and CSV, and must return the same rows both times.
            Its exceptions are passed on, except that an OSError is reported as an error of the disk.
        columns: Columns that come first and exist even if no row has them.
        escape_formulas: Whether texts in CSV that a spreadsheet would take for formulas get an apostrophe before them.

    Raises:
        TableError: The suffix is not supported, the folder is missing, the file cannot be written, or the rows differed between the
            passes.
    """
    target = _target(path)
    format_name = FORMATS[target.suffix.lower()]
    with _replacing(target) as part:
        if format_name in ("json", "jsonl"):
            return _write_json(part, rows(), columns, as_list=format_name == "json")
        kinds = _learn(rows(), columns)
        if format_name == "csv":
            return _write_csv(part, _same(rows(), kinds, target), kinds, escape_formulas=escape_formulas)
        from taskfleet.tables.result_columns import write_arrow

        return write_arrow(part, _same(rows(), kinds, target), kinds, format_name)


def _target(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if "://" in text:
        raise TableError(f"Results cannot be written to {text}. Write a local file and copy it there.")
    target = Path(text).expanduser()
    if target.suffix.lower() not in _WRITABLE:
        ending = f"the suffix {target.suffix!r}" if target.suffix else "no suffix"
        raise TableError(f"{text} has {ending}, which is not a format for results. Use one of {' '.join(_WRITABLE)}")
    return target


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Provide the path of a new file, which replaces ``target`` when the context ends and is deleted after an exception.

    A pipe or a device is not replaced, but written into.
    """
    is_stream = os.path.exists(target) and not os.path.isfile(target)  # False for a name that is too long
    part = Path(tempfile.gettempdir()) if is_stream else target.parent
    part /= f".taskfleet-{os.urandom(6).hex()}.part"
    made = False
    try:
        if not target.parent.is_dir():
            raise TableError(
                f"The folder {target.parent} of {target.name} does not exist. Create it, or correct the path."
            )
        if target.is_dir():
            raise TableError(f"{target} is a directory. Name a file in it.")
        with open(part, "xb", opener=open_private if is_stream else None):
            made = True
        yield part
        if is_stream:
            with open(part, "rb") as source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
        else:
            os.replace(part, target)
    except Exception as error:
        if not isinstance(error, OSError) and not _is_arrow_error(error):
            raise
        reason = getattr(error, "strerror", None) or error
        remedy = "Free disk space, or choose another folder or name."
        if isinstance(error, BrokenPipeError):
            remedy = "Its reader ended before it had everything."
        raise TableError(f"{target} cannot be written: {reason}. {remedy}") from error
    finally:
        if made:
            part.unlink(missing_ok=True)


def _is_arrow_error(error: Exception) -> bool:
    return type(error).__module__.startswith("pyarrow")


def _learn(rows: Iterable[Row], columns: Sequence[str]) -> Kinds:
    kinds: Kinds = {name: set() for name in columns}
    for row in rows:
        for name, value in row.items():
            known = kinds.setdefault(name, set())
            if value is not None:
                known.add(value_kind(value))
    return kinds


def _same(rows: Iterable[Row], kinds: Kinds, target: Path) -> Iterator[Row]:
    """Yield the rows if they have the columns and types of the first pass."""
    for row in rows:
        for name, value in row.items():
            if name not in kinds or (value is not None and value_kind(value) not in kinds[name]):
                raise TableError(
                    f"The results changed while {target.name} was written (column {name!r}). Run the command again."
                )
        yield row


def _write_json(part: Path, rows: Iterator[Row], columns: Sequence[str], *, as_list: bool) -> int:
    count = 0
    empty: Row = dict.fromkeys(columns)
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        for lines in batches_of((json_line({**empty, **row}) for row in rows), len):
            opening = ("[\n" if count == 0 else ",\n") if as_list else ""
            file.write(opening + (",\n" if as_list else "\n").join(lines) + ("" if as_list else "\n"))
            count += len(lines)
        file.write(("\n]\n" if count else "[]\n") if as_list else "")
    return count


def _write_csv(part: Path, rows: Iterator[Row], kinds: Kinds, *, escape_formulas: bool) -> int:
    count = 0
    types = {name: column_type(known) for name, known in kinds.items()}
    cell = _escaped_cell if escape_formulas else _cell
    with open(part, "w", encoding="utf-8", newline="") as file:
        file.write(
            ",".join([_cell(_without_formula(name) if escape_formulas else name, "json") for name in types]) + "\n"
        )
        texts = (
            ",".join([cell(column_value(row.get(name), kind), kind) for name, kind in types.items()]) for row in rows
        )
        for lines in batches_of(texts, len):
            file.write("\n".join(lines) + "\n")
            count += len(lines)
    return count


def _without_formula(text: str) -> str:
    """Return a text in which no spreadsheet finds a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _escaped_cell(value: Cell, kind: str) -> str:
    """Return the text of a cell without formulas; JSON and the digits of large integers are none."""
    return _cell(_without_formula(value) if kind == "str" and isinstance(value, str) else value, kind)


def _cell(value: Cell, kind: str) -> str:
    """Return the text of a cell in a column of this type: empty for null, quoted for an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if isinstance(value, str) and (_needs_quotes(text) or (kind == "str" and _AMBIGUOUS.match(text))):
        return '"' + text.replace('"', '""') + '"'
    return text


def _needs_quotes(text: str) -> bool:
    return not text or text != text.strip() or any(sign in text for sign in ',"\r\n')
