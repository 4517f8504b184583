"""Tables of pandas and pyarrow, as files of Arrow's IPC format, and single values of pandas.

=============================================  ======================================================================================
``{"$frame": base64}``                         a DataFrame, with its index, names, types and attributes
``{"$series": [name, frame]}``                 a Series
``{"$table": base64}``, ``{"$batch": …}``      a Table or RecordBatch of pyarrow
``{"$timestamp": [count, unit, zone]}``        a Timestamp since 1970 in UTC
``{"$duration": [count, unit]}``               a Timedelta
``{"$missing": "NA"}``                         ``NA`` or ``NaT``
=============================================  ======================================================================================

Not every DataFrame survives the conversion to Arrow. So its structure, without the rows, is converted back before it is written, and
compared; columns of Python objects may only have text, or only bytes, besides None.
"""

import io
import json
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from taskfleet.errors import MissingPackageError
from taskfleet.references.contents import Content, Write
from taskfleet.references.rules import Conversion, unsupported
from taskfleet.references.times import restored_zone, zone_json
from taskfleet.tables.values import JSON, Path, one_line

#: The metadata of an Arrow file that has what pandas' own metadata lacks.
_KEY = b"taskfleet"
_REMEDY = (
    "Change the column or index (astype, reset_index), or write a file and return its Path, or declare app(pickle=True), which needs the "
    "package cloudpickle (uv add 'taskfleet[cloudpickle]')."
)


def table(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a table of pyarrow as an object that JSON has."""
    if type(value) is not sys.modules["pyarrow"].Table:
        raise unsupported(value, path, "it is more than a table")
    return conversion.content(_content("table", value.unify_dictionaries()))


def batch(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a record batch of pyarrow as an object that JSON has."""
    if type(value) is not sys.modules["pyarrow"].RecordBatch:
        raise unsupported(value, path, "it is more than a record batch")
    return conversion.content(_content("batch", value))


def frame(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a DataFrame as an object that JSON has."""
    pandas = sys.modules["pandas"]
    if type(value) is not pandas.DataFrame:
        raise unsupported(value, path, "it is more than a DataFrame", "Return pandas.DataFrame(…) of it.")
    objects: list[int] = []
    texts: list[list[Any]] = []
    for place, (name, kind) in enumerate(zip(value.columns, value.dtypes, strict=True)):
        if kind == "object":
            _check_objects(value.iloc[:, place], f"the column {name!r}", value, path)
            objects.append(place)
        elif isinstance(kind, pandas.StringDtype) and kind.storage == "python":
            texts.append([place, kind.na_value is pandas.NA])
    extra: dict[str, Any] = {"objects": objects, "texts": texts, "columns": str(value.columns.dtype)}
    if type(value.columns) is pandas.RangeIndex:
        extra["range"] = [value.columns.start, value.columns.stop, value.columns.step]
    for number in range(value.index.nlevels):
        level = value.index.levels[number] if value.index.nlevels > 1 else value.index
        if level.dtype == "object":
            _check_objects(level, "the index", value, path)
    if (frequency := getattr(value.index, "freqstr", None)) is not None:
        extra["freq"] = frequency
    pa = _pyarrow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names and attributes, which are compared below
            converted = pa.Table.from_pandas(value)
            if not converted.num_columns:
                index = value.index
                extra["only_index"] = {"start": index.start, "stop": index.stop, "step": index.step, "name": index.name}
            converted = converted.replace_schema_metadata(
                {**converted.schema.metadata, _KEY: json.dumps(extra).encode()}
            )
            back = _to_pandas(converted.slice(0, 0) if converted.num_columns else converted)
            difference = next(_differences(value, back), None)
    except Exception as error:  # of many classes
        raise unsupported(value, path, f"Arrow cannot represent it ({one_line(error, 300)})", _REMEDY) from error
    if difference:
        raise unsupported(value, path, f"it would come back changed: {difference}", _REMEDY)
    return conversion.content(_content("frame", converted))


def series(conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a Series as an object that JSON has."""
    pandas = sys.modules["pandas"]
    if type(value) is not pandas.Series:
        raise unsupported(value, path, "it is more than a Series", "Return pandas.Series(…) of it.")
    name = conversion.to_json(value.name, (*path, "name"))
    return {"$series": [name, frame(conversion, value.to_frame("values"), path)]}


def timestamp(_conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a Timestamp as an object that JSON has."""
    if type(value) is not sys.modules["pandas"].Timestamp:
        raise unsupported(value, path, "it is more than a Timestamp")
    return {"$timestamp": [int(value.asm8.view("i8")), value.unit, zone_json(value.tzinfo, value, path)]}


def duration(_conversion: Conversion, value: Any, path: Path) -> JSON:
    """Return a Timedelta as an object that JSON has."""
    if type(value) is not sys.modules["pandas"].Timedelta:
        raise unsupported(value, path, "it is more than a Timedelta")
    return {"$duration": [int(value.asm8.view("i8")), value.unit]}


def restored(source: bytes | FilePath, kind: str) -> Any:
    """Return a table, batch or frame.

    Args:
        source: An Arrow file, or its path, to map it into memory.
        kind: ``table``, ``batch`` or ``frame``.

    Raises:
        ValueError: This is no such file.
        OSError: It cannot be mapped.
    """
    pa = _pyarrow()
    file = pa.memory_map(str(source), "r") if isinstance(source, FilePath) else pa.BufferReader(source)
    reader = pa.ipc.open_file(file)
    if kind == "batch":
        return reader.get_batch(0)
    whole = reader.read_all()
    return whole if kind == "table" else _to_pandas(whole)


def restored_series(name: Any, values: Any) -> Any:
    """Return a Series from a frame with one column."""
    return values.iloc[:, 0].rename(name)


def restored_timestamp(parts: Any) -> Any:
    """Return a Timestamp."""
    import numpy
    import pandas

    count, unit, zone = parts
    result = pandas.Timestamp(numpy.datetime64(count, unit))
    return result if zone is None else result.tz_localize("UTC").tz_convert(restored_zone(zone))


def restored_duration(parts: Any) -> Any:
    """Return a Timedelta."""
    import numpy
    import pandas

    count, unit = parts
    return pandas.Timedelta(numpy.timedelta64(count, unit))


def restored_missing(name: Any) -> Any:
    """Return ``NA`` or ``NaT``."""
    import pandas

    return {"NA": pandas.NA, "NaT": pandas.NaT}[name]


def _content(kind: str, value: Any) -> Content:
    return Content(kind=kind, size=value.nbytes, write=partial(_write, value))


def _write(value: Any, write: Write) -> None:
    pa = _pyarrow()
    with pa.PythonFile(_Sink(write), mode="w") as file, pa.ipc.new_file(file, value.schema) as writer:
        writer.write(value)


class _Sink(io.RawIOBase):
    """A file that passes on what is written to it."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._write(data)
        return memoryview(data).nbytes


def _to_pandas(table: Any) -> Any:
    """Return the DataFrame of a table, with what pandas' own metadata lacks."""
    import pandas

    extra = json.loads(table.schema.metadata[_KEY])
    result = table.to_pandas()
    attributes = result.attrs
    for place in extra["objects"]:
        values = pandas.Series(table.column(place).to_pylist(), index=result.index, dtype=object)
        result.isetitem(place, values)
    for place, has_na in extra["texts"]:  # pyarrow would keep them in its own memory
        kind = pandas.StringDtype("python", **({} if has_na else {"na_value": float("nan")}))
        result.isetitem(place, result.iloc[:, place].astype(kind))
    if "only_index" in extra:  # a file without columns has no rows
        result = pandas.DataFrame(index=pandas.RangeIndex(**extra["only_index"]), columns=result.columns)
        result.attrs = attributes
    if "range" in extra:
        result.columns = pandas.RangeIndex(*extra["range"], name=result.columns.name)
    elif str(result.columns.dtype) != extra["columns"]:
        result.columns = result.columns.astype(extra["columns"])
    if "freq" in extra and len(result.index):
        result.index.freq = extra["freq"]
    return result


def _check_objects(values: Any, what: str, whole: Any, path: Path) -> None:
    """Check that a column or index of Python objects has only text, or only bytes, besides None.

    Raises:
        UnsupportedValueError: It has others.
    """
    kinds = set(map(type, values))
    others = kinds - {type(None)}
    if others != {str} and others != {bytes} and kinds != {type(None)} and kinds:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise unsupported(whole, path, f"{what} has objects of the types {shown}", _REMEDY)


def _differences(value: Any, back: Any) -> Iterator[str]:
    """Yield how the structure of a DataFrame would change."""
    if not value.columns.equals(back.columns) or list(value.columns.names) != list(back.columns.names):
        yield "the names of its columns"
        return
    if type(value.columns) is not type(back.columns) or value.columns.dtype != back.columns.dtype:
        yield f"the type of the names of its columns, {value.columns.dtype}, would be {back.columns.dtype}"
    for name, kind, other in zip(value.columns, value.dtypes, back.dtypes, strict=True):
        if kind != other:
            yield f"the type of its column {name!r}, {kind!r}, would be {other!r}"
    yield from _index_differences(value.index, back.index)
    if value.attrs != back.attrs:
        yield "its attrs"


def _index_differences(index: Any, back: Any) -> Iterator[str]:
    pandas = sys.modules["pandas"]
    if type(index) is pandas.RangeIndex:  # its range is in the metadata, and does not fit a table without rows
        if not isinstance(index.name, str | None):
            yield f"the name of its index, {index.name!r}, would be text"
        return
    if type(index) is not type(back) or list(index.names) != list(back.names):
        yield f"its index, {type(index).__name__} with the names {list(index.names)}, would be {type(back).__name__} {list(back.names)}"
        return
    levels = [
        (one.levels[n].dtype for n in range(one.nlevels)) if one.nlevels > 1 else [one.dtype] for one in (index, back)
    ]
    for kind, other in zip(*levels, strict=True):
        if kind != other:
            yield f"the type of its index, {kind!r}, would be {other!r}"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:  # machines of a pool install only what the project's own dependencies need
        raise MissingPackageError(
            "Tables as values of tasks need the package pyarrow, which is not installed here. Add it to the project: uv add pyarrow",
            extra="",
        ) from error
    return pyarrow
