"""The items of a YAML sequence, one at a time: PyYAML itself loads whole documents only."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

_KINDS = {yaml.MappingStartEvent: "a mapping", yaml.ScalarEvent: "a single value", yaml.AliasEvent: "an alias"}


class WrongTop(Exception):
    """The document is no sequence; the message says what it is."""


class SeveralDocuments(Exception):
    """Another document follows the first."""


class _Items(Composer, SafeConstructor, Resolver):
    """Builds objects by the rules of ``yaml.safe_load`` from the events of libyaml's parser, where it is installed."""

    def __init__(self, stream: BinaryIO) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        parser: Any = getattr(yaml, "CParser", yaml.SafeLoader)(stream)
        self.check_event = parser.check_event
        self.peek_event = parser.peek_event
        self.get_event = parser.get_event


def sequence_items(stream: BinaryIO) -> Iterator[Any]:
    """Yield the items of the stream's only document.

    Anchors stay known from one item to the next; everything else of an item is forgotten.

    Raises:
        WrongTop: the document is no sequence.
        SeveralDocuments: there is a second document.
        yaml.YAMLError: a syntax error.
    """
    items: Any = _Items(stream)
    items.get_event()  # the start of the stream
    if items.check_event(yaml.StreamEndEvent):
        raise WrongTop("nothing")
    items.get_event()  # the start of the document
    if not items.check_event(yaml.SequenceStartEvent):
        raise WrongTop(_KINDS[type(items.peek_event())])
    sequence = items.get_event()
    index = 0
    while not items.check_event(yaml.SequenceEndEvent):
        node = items.compose_node(sequence, index)
        yield items.construct_document(node)
        index += 1
    items.get_event()  # the end of the sequence
    items.get_event()  # the end of the document
    if not items.check_event(yaml.StreamEndEvent):
        raise SeveralDocuments
