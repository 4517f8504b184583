"""Readers of JSON: one value in a text, and the items of a list one at a time.

Both reject what Python's parser changes silently: of equal keys it keeps the last, and it rounds numbers.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from taskfleet.tables.limits import MAX_ROW_BYTES, TooLargeError
from taskfleet.tables.numbers import INEXACT, integer, real
from taskfleet.tables.values import shown

_CHUNK_BYTES = 1 << 18
_TAIL = 16
"""An item that is cut off fails at most this many characters before the end, unless it is cut inside a string."""

_space = re.compile(r"[ \t\r\n]*").match
_inexact = re.compile(INEXACT).search


class NotAListError(Exception):
    """The text is not a list; the message names what it is."""


class NotJSONError(Exception):
    """The text is not JSON; the message names the reason and the characters there."""


def json_value(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        NotJSONError: It is not JSON, or an object has a key twice.
    """
    try:
        return _decoder(text).decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(error) from error
    except (ValueError, RecursionError) as error:
        raise NotJSONError(_reason(error)) from error


def json_items(stream: BinaryIO) -> Iterator[tuple[Any, int]]:
    """Yield the items of a list, each with the number of its characters. Only one item is in memory.

    Raises:
        NotAListError: The text is not a list.
        NotJSONError: It is not JSON, or an object has a key twice.
        TooLargeError: An item is longer than MAX_ROW_BYTES.
        UnicodeDecodeError: It is not UTF-8.
    """
    text = _Text(stream)
    if text.next() != "[":
        start = text.buffer[text.position :][:20]
        raise NotAListError("an object" if start.startswith("{") else shown(start) if start else "nothing")
    text.position += 1
    if text.next() != "]":
        yield text.item()
        while text.next() == ",":
            text.position += 1
            text.next()
            yield text.item()
        if text.next() != "]":
            raise _not_json(json.JSONDecodeError("Expecting ',' delimiter", text.buffer, text.position))
    text.position += 1
    if text.next():
        raise _not_json(json.JSONDecodeError("Extra data", text.buffer, text.position))


class _Text:
    """The part of a text that was read and not used yet."""

    def __init__(self, stream: BinaryIO) -> None:
        self.buffer = ""
        self.position = 0
        self._stream = stream
        self._ended = False
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = _plain

    def next(self) -> str:
        """Go to the next character that is not a space and return it; at the end, an empty text."""
        while True:
            found = _space(self.buffer, self.position)
            assert found
            self.position = found.end()
            if self.position < len(self.buffer) or self._ended:
                return self.buffer[self.position : self.position + 1]
            self._read()

    def item(self) -> tuple[Any, int]:
        """Return the value at the position and its length, and go to its end."""
        while True:
            start, size = self.position, len(self.buffer)
            try:
                value, end = self._decoder.raw_decode(self.buffer, start)
            except json.JSONDecodeError as error:
                cut_off = error.pos >= size - _TAIL or error.msg.startswith("Unterminated string")
                if self._ended or not cut_off:
                    raise _not_json(error) from error
            except (ValueError, RecursionError) as error:
                raise NotJSONError(_reason(error)) from error
            else:
                if end < size or self._ended:  # else a number could continue
                    if end - start > MAX_ROW_BYTES:
                        raise TooLargeError
                    self.position = end
                    return value, end - start
            if size - start > MAX_ROW_BYTES:
                raise TooLargeError
            self._read()

    def _read(self) -> None:
        """Drop what was used, and double what is left."""
        left = self.buffer[self.position :]
        data = self._stream.read(max(_CHUNK_BYTES, len(left)))
        self._ended = not data
        self.buffer = left + self._decode(data, final=self._ended)
        self.position = 0
        self._decoder = _decoder(self.buffer)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in result if names.count(name) > 1)
        raise ValueError(f"an object has the key {shown(twice)} more than once")
    return result


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON (use null, or a finite number)")


_plain = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_reject_constant)
_careful = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_reject_constant, parse_int=integer, parse_float=real
)


def _decoder(text: str) -> json.JSONDecoder:
    """Return the parser for a text; the one without hooks for numbers is several times as fast."""
    return _careful if _inexact(text) else _plain


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _not_json(error: json.JSONDecodeError) -> NotJSONError:
    there = error.doc[max(0, error.pos - 15) : error.pos + 15]
    reason = error.msg.removesuffix(" at")  # as some of Python's reasons end
    return NotJSONError(f"{reason} at {there!r}" if there else reason)
