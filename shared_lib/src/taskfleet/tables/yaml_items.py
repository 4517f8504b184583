"""Incremental reader of a YAML sequence, by the core schema of YAML 1.2; PyYAML loads whole documents by YAML 1.1 only.

YAML 1.1 takes ``NO`` for a bool, ``05:34:31.94`` for a number of seconds and ``0123`` for an octal number. In the core schema, only
``true``, ``false``, ``null``, ``~`` and numbers are not text (https://yaml.org/spec/1.2.2/#103-core-schema). There are two differences: a
number with leading zeros is text as well, and merge keys (``<<``) of YAML 1.1 are supported.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml

from taskfleet.tables.limits import MAX_ROW_BYTES, TooLargeError
from taskfleet.tables.numbers import FLOAT, INTEGER, integer, real
from taskfleet.tables.values import MAX_DEPTH, shown

_KINDS = {yaml.MappingStartEvent: "a mapping", yaml.ScalarEvent: "a single value", yaml.AliasEvent: "an alias"}
_TAGS = "tag:yaml.org,2002:"

_is_integer = re.compile(INTEGER).fullmatch
_is_float = re.compile(FLOAT).fullmatch
_is_octal = re.compile("0o[0-7]+").fullmatch
_is_hexadecimal = re.compile("0x[0-9a-fA-F]+").fullmatch

_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
    **{sign + text: float(sign + "inf") for sign in ("", "+", "-") for text in (".inf", ".Inf", ".INF")},
}


class NotASequenceError(Exception):
    """The document is not a sequence; the message names what it is."""


class SeveralDocumentsError(Exception):
    """The stream has more than one document."""


def sequence_items(stream: BinaryIO) -> Iterator[tuple[Any, int]]:
    """Yield the items of the only document of a stream, each with its size in characters, aliases included.

    Anchors are kept from item to item; the rest of an item is freed.

    Raises:
        NotASequenceError: The document is not a sequence.
        SeveralDocumentsError: There is a second document.
        TooLargeError: An item is longer than MAX_ROW_BYTES, or becomes longer by its aliases.
        yaml.YAMLError: The document has a syntax error, a key twice in a mapping, or a tag that is not of the core schema.
    """
    items = _Items(stream)
    items.next()  # the start of the stream
    if isinstance(items.next(), yaml.StreamEndEvent):  # else the start of the document
        raise NotASequenceError("nothing")
    first = items.next()
    if not isinstance(first, yaml.SequenceStartEvent):
        raise NotASequenceError(_KINDS[type(first)])
    while not isinstance(event := items.next(), yaml.SequenceEndEvent):
        yield items.item(event)
    items.next()  # the end of the document
    if not isinstance(items.next(), yaml.StreamEndEvent):
        raise SeveralDocumentsError


class _Input:
    """A stream that ends with an error when an item is too long; libyaml keeps all of an item's text."""

    name = "the table"  # in PyYAML's messages

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.left = 2 * MAX_ROW_BYTES  # the parser reads ahead

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise TooLargeError
        return data


class _Items:
    """Constructs values from the events of a parser, which is that of libyaml if it is installed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._input = _Input(stream)
        parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(self._input)
        self.next = parser.get_event
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._size = 0

    def item(self, event: Any) -> tuple[Any, int]:
        """Return the value that starts with an event, and its size."""
        self._size = 0
        value = self._value(event, 0)
        self._input.left = 2 * MAX_ROW_BYTES
        return value, self._size

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _error(event, f"undefined alias {shown(event.anchor)}, or one inside its own value")
            value, size = self._anchors[event.anchor]
            self._add(size)
            return value
        if depth > MAX_DEPTH:
            raise _error(event, f"nested deeper than {MAX_DEPTH} levels")
        self._anchors.pop(event.anchor, None)
        before = self._size
        if isinstance(event, yaml.ScalarEvent):
            self._add(len(event.value) + 1)
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            _check_tag(event, "seq")
            self._add(2)
            value = []
            while not isinstance(first := self.next(), yaml.SequenceEndEvent):
                value.append(self._value(first, depth + 1))
        else:
            _check_tag(event, "map")
            self._add(2)
            value = self._mapping(depth)
        if event.anchor:
            self._anchors[event.anchor] = value, self._size - before
        return value

    def _mapping(self, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: dict[Any, Any] | None = None
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            value = self._value(self.next(), depth + 1)
            if key == "<<" and _is_plain(event):
                if merged is not None:
                    raise _error(event, "the key '<<' appears more than once in a mapping")
                merged = _merged(event, value)
                continue
            if isinstance(key, list | dict):
                raise _error(event, "a key is not text")
            if key in result:
                raise _error(event, f"the key {shown(key)} appears more than once in a mapping")
            result[key] = value
        return {**merged, **result} if merged else result

    def _add(self, size: int) -> None:
        self._size += size
        if self._size > MAX_ROW_BYTES:
            raise TooLargeError


def _merged(event: Any, value: Any) -> dict[Any, Any]:
    """Return the entries of the mappings at a merge key; the first mapping with a key has priority."""
    mappings = value if isinstance(value, list) else [value]
    result: dict[Any, Any] = {}
    for mapping in reversed(mappings):
        if not isinstance(mapping, dict):
            raise _error(event, "the value of '<<' is neither a mapping nor a list of mappings")
        result.update(mapping)
    return result


def _scalar(event: Any) -> Any:
    tag, text = event.tag, event.value
    if _is_plain(event):
        return _resolved(text)
    if tag in (None, "!", f"{_TAGS}str"):
        return text
    value = _resolved(text)
    kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value))
    if kind and tag == f"{_TAGS}{kind}":
        return value
    if kind == "int" and tag == f"{_TAGS}float":
        return real(text)
    raise _tag_error(event)


def _is_plain(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.tag is None and event.implicit[0]


def _resolved(text: str) -> Any:
    """Return the value of a scalar without quotes and tag."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _is_integer(text):
        return integer(text)
    if _is_float(text):
        return real(text)
    if _is_octal(text) or _is_hexadecimal(text):
        return int(text, 0)
    return text


def _check_tag(event: Any, kind: str) -> None:
    if event.tag not in (None, f"{_TAGS}{kind}"):
        raise _tag_error(event)


def _tag_error(event: Any) -> Exception:
    tag = event.tag.replace(_TAGS, "!!")
    return _error(
        event, f"the tag {shown(tag)} does not fit or is not supported; write text, a number, a list or a mapping"
    )


def _error(event: Any, problem: str) -> Exception:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
