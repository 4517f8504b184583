"""Encode a value as JSON text.

A value that consists of null, bools, numbers, text, lists and dicts goes to the C encoder of ``json`` as it is. Any other value is
converted first; its large parts are written to the store once everything is converted, so that a value that is not supported leaves no
files.
"""

import json
import json.encoder
import sys
from binascii import b2a_base64
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.references.contents import Content
from taskfleet.references.rules import Conversion, rule_of
from taskfleet.references.store import Store
from taskfleet.tables.limits import MAX_DIGITS
from taskfleet.tables.values import JSON, MAX_DEPTH, UnsupportedValueError

INLINE_BYTES = 65_536
"""The size of JSON text up to which it is not written to a file."""

#: Arrays and tables of up to this size are written inline: a file is more expensive.
_SMALL_BYTES = 4096

_PLAIN = frozenset({type(None), bool, int, float, str})
_CONTAINERS = frozenset({dict, list, tuple})
_TEXT = frozenset({str})
#: The tags of contents that are written inline.
_INLINE_TAGS = {"npy": "$npy", "bin": "$bytes", "frame": "$frame", "table": "$table", "batch": "$batch"}

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False)


def encode(
    value: object,
    store: Store,
    *,
    inline_bytes: int = INLINE_BYTES,
    pickle: bool = False,
    special: Callable[[object], JSON] | None = None,
) -> bytes:
    """Return a value as JSON text; see the package for its form.

    Args:
        value: The value.
        store: Where large values are written.
        inline_bytes: The size of the text up to which it is not written to a file.
        pickle: Whether a value that is not supported is pickled, as a whole.
        special: Returns what stands for a part of the value that has none of JSON's types; None for what the rules say. A text that has
            any such part is never written to a file, because others have to find it there.

    Raises:
        UnsupportedValueError: A part of the value is not supported; nothing was written.
        StoreError: A large value cannot be written.
        MissingPackageError: The value needs a package that is not installed.
    """
    data, is_whole = encode_plain(value), True
    if data is None:
        data, is_whole = _converted(value, store, inline_bytes, pickle, special)
    return data if len(data) <= inline_bytes or not is_whole else as_file(data, store)


def encode_plain(value: object) -> bytes | None:
    """Return a value as JSON text if it has only what JSON has, whatever its size; otherwise None."""
    if (type(value) in _PLAIN or _is_plain(value, 0)) and 0 < sys.get_int_max_str_digits() <= MAX_DIGITS:
        try:
            text = "".join(_pieces(value, 0))
            if '{"$' not in text or not _has_tag(value):
                return text.encode()
        except ValueError:  # NaN, infinity, half of a character, an integer with too many digits
            return None
    return None


def as_file(data: bytes, store: Store) -> bytes:
    """Write JSON text to the store; return that of the reference to it.

    Raises:
        StoreError: It cannot be written.
    """
    file = store.write(Content(kind="json", size=len(data), write=lambda write: write(data)))
    return _text_of({"$file": file.reference("json")})


def _converted(
    value: object, store: Store, inline_bytes: int, pickle: bool, special: Callable[[object], JSON] | None
) -> tuple[bytes, bool]:
    """Return the text of a value that has more than the types of JSON, and whether nothing special stands in it."""
    parts = _Parts(inline_bytes, special)
    try:
        tree = parts.to_json(value)
    except UnsupportedValueError:
        if not pickle:
            raise
        from taskfleet.references.pickles import pickled

        tree = pickled(value, store, inline_bytes)
    else:
        for place, content in parts.files:
            place["$file"] = store.write(content).reference(content.kind)
    return _text_of(tree), not parts.has_special


class _Parts(Conversion):
    """The conversion of one value; see ``rules.Conversion``."""

    def __init__(self, inline_bytes: int, special: Callable[[object], JSON] | None) -> None:
        self._inline_bytes = inline_bytes
        self._special = special
        self.has_special = False
        self.files: list[tuple[dict[str, Any], Content]] = []
        """Objects that get a ``$file``, and what is written there."""

    def to_json(self, value: object, path: tuple[str | int, ...] = ()) -> JSON:
        """Return a value as one that JSON has."""
        if self._special is not None and type(value) not in _PLAIN and type(value) not in _CONTAINERS:
            found = self._special(value)
            if found is not None:
                self.has_special = True
                return found
        return rule_of(type(value))(self, value, path)  # type: ignore[arg-type]  # classes are hashable

    def content(self, content: Content) -> JSON:
        """Return a content as an inline object if it is small, or as a reference to a file."""
        most = self._inline_bytes * 3 // 4 if content.kind == "bin" else min(_SMALL_BYTES, self._inline_bytes)
        if content.size > most:
            place: dict[str, Any] = {}
            self.files.append((place, content))
            return place
        return self.inline(content)

    def inline(self, content: Content) -> JSON:
        """Return a content as an inline object."""
        data = bytearray()
        content.write(data.extend)
        return {_INLINE_TAGS[content.kind]: b2a_base64(data, newline=False).decode()}

    def text(self, tree: JSON) -> str:
        """Return the text by which the items of a set are ordered."""
        return _encoder.encode(tree)


def _text_of(tree: JSON) -> bytes:
    return _encoder.encode(tree).encode()


def _make_pieces() -> Callable[[object, int], Iterable[str]]:
    """Return a function that encodes a value as pieces of text; its second argument is 0.

    It avoids the setup that ``JSONEncoder.encode`` repeats for each value.
    """
    c_make_encoder = getattr(json.encoder, "c_make_encoder", None)
    if c_make_encoder is None:  # not CPython
        return lambda value, _: (_encoder.encode(value),)
    pieces: Callable[[object, int], Iterable[str]] = c_make_encoder(
        None, _encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return pieces


_pieces = _make_pieces()


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether a value has only the types of JSON, and is not nested too deep."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind in _PLAIN
    if depth > MAX_DEPTH:
        return False
    return _PLAIN.issuperset(map(type, value)) or all(_is_plain(item, depth + 1) for item in value)


def _has_tag(value: Any) -> bool:
    """Return whether a plain value has a dict that looks like an object of this package."""
    if type(value) is dict:
        return (len(value) == 1 and next(iter(value)).startswith("$")) or any(map(_has_tag, value.values()))
    return type(value) is list and any(map(_has_tag, value))
