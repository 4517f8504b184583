"""Incremental reader of a YAML sequence; PyYAML itself loads whole documents only."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

_KINDS = {yaml.MappingStartEvent: "a mapping", yaml.ScalarEvent: "a single value", yaml.AliasEvent: "an alias"}


class NotASequenceError(Exception):
    """The document is not a sequence; the message names what it is."""


class SeveralDocumentsError(Exception):
    """The stream has more than one document."""


class _Items(Composer, SafeConstructor, Resolver):
    """Constructs objects by the rules of ``yaml.safe_load``, with the parser of libyaml if it is installed."""

    def __init__(self, stream: BinaryIO) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        parser: Any = getattr(yaml, "CParser", yaml.SafeLoader)(stream)
        self.check_event = parser.check_event
        self.peek_event = parser.peek_event
        self.get_event = parser.get_event


def sequence_items(stream: BinaryIO) -> Iterator[Any]:
    """Yield the items of the only document of a stream.

    Anchors are kept from item to item; the rest of an item is freed.

    Raises:
        NotASequenceError: The document is not a sequence.
        SeveralDocumentsError: There is a second document.
        yaml.YAMLError: The document has a syntax error.
    """
    items: Any = _Items(stream)
    items.get_event()  # the start of the stream
    if items.check_event(yaml.StreamEndEvent):
        raise NotASequenceError("nothing")
    items.get_event()  # the start of the document
    if not items.check_event(yaml.SequenceStartEvent):
        raise NotASequenceError(_KINDS[type(items.peek_event())])
    sequence = items.get_event()
    index = 0
    while not items.check_event(yaml.SequenceEndEvent):
        node = items.compose_node(sequence, index)
        yield items.construct_document(node)
        index += 1
    items.get_event()  # the end of the sequence
    items.get_event()  # the end of the document
    if not items.check_event(yaml.StreamEndEvent):
        raise SeveralDocumentsError
