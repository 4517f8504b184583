"""Decode JSON text to the value that was encoded."""

import json
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any

from taskfleet.errors import UnreadableValueError
from taskfleet.references.contents import StoredFile, parse_reference
from taskfleet.references.store import Store
from taskfleet.references.times import READERS
from taskfleet.tables.values import one_line


def decode(text: bytes | str, store: Store, *, pickle: bool = False) -> Any:
    """Return the value of JSON text, as ``encode`` wrote it.

    Args:
        text: The JSON text.
        store: Where large values are.
        pickle: Whether pickles may be read, which can execute any code.

    Raises:
        UnreadableValueError: A newer version wrote it, it needs a class that is missing, it is a pickle and may not be, or it is damaged.
        LostFileError: A file is missing or damaged.
        StoreError: A file cannot be read.
        MissingPackageError: The value needs a package that is not installed.
    """
    try:
        return _Reading(store, pickle).text(text)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise UnreadableValueError(
            f"A stored value is damaged ({reason}). Run the task that returned it again"
        ) from error


def decode_plain(text: str) -> Any:
    """Return the value of JSON text if it has only what JSON has, so that neither files nor classes are needed; otherwise None."""
    return None if '"$' in text else json.loads(text)


class _Reading:
    """The decoding of one value."""

    def __init__(self, store: Store, may_pickle: bool) -> None:
        self._store = store
        self._may_pickle = may_pickle

    def text(self, text: bytes | str) -> Any:
        """Return the value of JSON text."""
        if isinstance(text, bytes):
            text = text.decode()
        tree = json.loads(text)
        return self.value(tree) if '"$' in text else tree

    def value(self, tree: Any) -> Any:
        """Return the value of a part of the text."""
        kind = type(tree)
        if kind is list:
            return [self.value(item) for item in tree]
        if kind is not dict:
            return tree
        if len(tree) == 1:
            [(key, content)] = tree.items()
            if key.startswith("$"):
                return self._tagged(key, content)
        return {key: self.value(item) for key, item in tree.items()}

    def _tagged(self, tag: str, content: Any) -> Any:
        reader = _READERS.get(tag)
        if reader is not None:
            return reader(self, content)
        simple = READERS.get(tag)
        if simple is None:
            raise UnreadableValueError(
                f"A stored value has the tag {tag[:50]!r}, which this version of taskfleet does not know: a newer version wrote it. Use "
                "the same version here"
            )
        return simple(content)

    def dict(self, content: Any) -> Any:
        """Return a dict that looks like an object of this package."""
        return {key: self.value(item) for key, item in content.items()}

    def object(self, content: Any) -> Any:
        """Return an object of a dataclass, or a named tuple."""
        from taskfleet.references.classes import restored_object

        name, state = content
        return restored_object(name, self.dict(state))

    def member(self, content: Any) -> Any:
        """Return a member of an enumeration."""
        from taskfleet.references.classes import restored_member

        name, member, *value = content
        return restored_member(name, member, *map(self.value, value))

    def scalar(self, content: Any) -> Any:
        """Return a numpy scalar."""
        from taskfleet.references.arrays import restored_scalar

        return restored_scalar(self.value(content))

    def pickle(self, content: Any) -> Any:
        """Return a pickled value."""
        from taskfleet.references.pickles import restored_inline

        return restored_inline(content, is_allowed=self._may_pickle)

    def series(self, content: Any) -> Any:
        """Return a Series of pandas."""
        from taskfleet.references.frames import restored_series

        name, frame = content
        return restored_series(self.value(name), self.value(frame))

    def bytearray(self, content: Any) -> bytearray:
        """Return a bytearray; a large one is read into its own memory."""
        if "$file" in content:
            return self._store.read(parse_reference(content["$file"])[0], bytearray)
        return bytearray(self.value(content))

    def file(self, content: Any) -> Any:
        """Return the value in a file of the store."""
        file, kind = parse_reference(content)
        if kind == "bin":
            return self._store.read(file, bytes)
        if kind == "json":
            return self.text(self._store.read(file, bytes))
        if kind == "pkl":
            from taskfleet.references.pickles import check_python, restored

            check_python(content["python"], is_allowed=self._may_pickle)
            return restored(self._store.read(file, bytes))
        return self._columns_or_array(file, kind)

    def _columns_or_array(self, file: StoredFile, kind: str) -> Any:
        path = self._store.mapped_path(file)
        if kind == "npy":
            from taskfleet.references.arrays import from_bytes, mapped

            try:
                return from_bytes(self._store.read(file, bytearray)) if path is None else mapped(path)
            except ValueError as error:
                raise self._store.lost(file, f"is damaged ({one_line(error, 200)})") from error
        from taskfleet.references.frames import restored

        try:
            return restored(self._store.read(file, bytes) if path is None else path, kind)
        except ValueError as error:
            raise self._store.lost(file, f"is damaged ({one_line(error, 200)})") from error


def _inline_array(_reading: _Reading, content: Any) -> Any:
    from taskfleet.references.arrays import from_bytes

    return from_bytes(_bytes(_reading, content))


def _inline_table(kind: str) -> Callable[[_Reading, Any], Any]:
    def read(reading: _Reading, content: Any) -> Any:
        from taskfleet.references.frames import restored

        return restored(_bytes(reading, content), kind)

    return read


def _bytes(_reading: _Reading, content: Any) -> bytes:
    return a2b_base64(content, strict_mode=True)


def _decimal(_reading: _Reading, content: Any) -> Any:
    from decimal import Decimal

    return Decimal(content)


def _path(reading: _Reading, content: Any) -> Any:
    from pathlib import Path

    return Path(reading.value(content))


def _uuid(_reading: _Reading, content: Any) -> Any:
    from uuid import UUID

    return UUID(content)


def _pandas(name: str) -> Callable[[_Reading, Any], Any]:
    def read(_reading: _Reading, content: Any) -> Any:
        from taskfleet.references import frames

        return getattr(frames, name)(content)

    return read


_READERS: Mapping[str, Callable[[_Reading, Any], Any]] = {
    "$tuple": lambda reading, content: tuple(reading.value(content)),
    "$set": lambda reading, content: set(reading.value(content)),
    "$frozenset": lambda reading, content: frozenset(reading.value(content)),
    "$map": lambda reading, content: {reading.value(key): reading.value(value) for key, value in content},
    "$dict": _Reading.dict,
    "$int": lambda _, content: int(content, 16),
    "$float": lambda _, content: float(content),
    "$text": lambda reading, content: _bytes(reading, content).decode(errors="surrogatepass"),
    "$complex": lambda reading, content: complex(*map(reading.value, content)),
    "$bytes": _bytes,
    "$bytearray": _Reading.bytearray,
    "$decimal": _decimal,
    "$path": _path,
    "$uuid": _uuid,
    "$object": _Reading.object,
    "$enum": _Reading.member,
    "$scalar": _Reading.scalar,
    "$npy": _inline_array,
    "$frame": _inline_table("frame"),
    "$table": _inline_table("table"),
    "$batch": _inline_table("batch"),
    "$series": _Reading.series,
    "$timestamp": _pandas("restored_timestamp"),
    "$duration": _pandas("restored_duration"),
    "$missing": _pandas("restored_missing"),
    "$pickle": _Reading.pickle,
    "$file": _Reading.file,
}
