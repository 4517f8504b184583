"""Encode what tasks return as JSON text: strict, compact, in the order of the keys.

Values that consist of Python's plain types are encoded by the C encoder of ``json``; everything else is converted first, by the rules of
``tables.values``. Before a value takes the short way it is examined, so that both ways give the same text or the same error.

In results, keys of objects may also be numbers, bools, None, dates and other values whose JSON form is one text: ``{1: "a"}`` becomes
``{"1":"a"}``.
"""

import json
import json.encoder
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from taskfleet.tables.limits import MAX_DIGITS
from taskfleet.tables.values import (
    MAX_DEPTH,
    Path,
    UnsupportedValueError,
    check_depth,
    shown,
    to_json,
)

_PLAIN = frozenset({type(None), bool, int, float, str})
_TEXT = frozenset({str})


class ResultEncoder:
    """Encodes one result after another."""

    def __init__(self) -> None:
        self._pieces = _make_pieces()

    def encode(self, value: object) -> bytes:
        """Return a result as JSON text.

        Raises:
            UnsupportedValueError: JSON cannot represent it, or two keys of an object would be the same text.
        """
        if _is_plain(value, 0) and 0 < sys.get_int_max_str_digits() <= MAX_DIGITS:
            try:
                return "".join(self._pieces(value, 0)).encode()
            except ValueError:  # NaN, infinity, half of a character, an integer of too many digits
                self._pieces = _make_pieces()  # the failed call leaves its markers of circular references behind
        return self.encode_converted(value)

    def encode_converted(self, value: object) -> bytes:
        """Do the same without the short way."""
        return "".join(self._pieces(to_json(_with_text_keys(value, ())), 0)).encode()


def _make_pieces() -> Callable[[object, int], Iterable[str]]:
    """Return a function that encodes a value as pieces of text; its second argument is 0.

    It avoids the setup that ``JSONEncoder.encode`` repeats for each value. It must not be used after it raised an exception.
    """
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    c_make_encoder = getattr(json.encoder, "c_make_encoder", None)
    if c_make_encoder is None:  # not CPython
        return lambda value, _: (encoder.encode(value),)
    pieces: Callable[[object, int], Iterable[str]] = c_make_encoder(
        {}, encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return pieces


def _is_plain(value: Any, depth: int) -> bool:
    """Return whether a value consists of Python's plain types, with text as keys, and is not nested too deep."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return kind in _PLAIN
    if depth > MAX_DEPTH:
        return False
    return _PLAIN.issuperset(map(type, value)) or all(_is_plain(item, depth + 1) for item in value)


def _with_text_keys(value: Any, path: Path) -> Any:
    """Return a value with the keys of its dicts as text; see ``to_json`` for its path."""
    if isinstance(value, dict):
        check_depth(value, path)
        result: dict[str, Any] = {}
        for key, item in value.items():
            text = _key_text(key, value, path)
            if text in result:
                raise UnsupportedValueError(
                    path, value, f"two of its keys are {shown(text)} as text", "Write keys that differ as text."
                )
            result[text] = _with_text_keys(item, (*path, text))
        return result
    if isinstance(value, list | tuple):
        check_depth(value, path)
        return [_with_text_keys(item, (*path, index)) for index, item in enumerate(value)]
    return value


def _key_text(key: Any, owner: object, path: Path) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None:
        return "null"
    plain: object = None
    with suppress(UnsupportedValueError):
        plain = to_json(key)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, int | float):
        return json.dumps(plain)
    reason = f"its key {shown(key)} ({type(key).__name__}) is not text"
    raise UnsupportedValueError(path, owner, reason, "Write the keys as text.")
