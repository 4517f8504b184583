"""Dataclasses, named tuples and members of enumerations come back as objects of their classes; nothing else is imported or called."""

import collections
import json
import sys
from dataclasses import dataclass

import pytest
from taskfleet.errors import UnreadableValueError
from taskfleet.references import decode, encode
from taskfleet.tables.values import UnsupportedValueError

from . import some_classes
from .some_classes import (
    Access,
    Colour,
    Derived,
    Frozen,
    Level,
    Mode,
    MorePoint,
    OfDict,
    Plain,
    Point,
    Star,
    Unset,
)

MODULE = some_classes.__name__


@pytest.mark.parametrize(
    "value",
    [
        Point(1.0, (2, None)),
        Star("a", Point(1, [Point(2, 3)]), {"red"}, scale=3),
        Frozen((1, {2})),
        Frozen({1: Frozen(None)}),
        Derived(1, 2),
        Plain(7),
        [Colour.RED, {Colour.BLUE: Colour.ALSO_BLUE}],
        Level.LOW,
        Mode.FAST,
        Star.Inner.ONE,
        Access.READ,
        Access.READ | Access.WRITE,
        Access(0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_come_back(passed, value):
    again = passed(value)
    assert again == value
    assert type(again) is type(value)


def test_an_object_keeps_what_it_has_besides_its_fields_and_is_not_initialised_again(passed):
    star = Star("ab", Point(0), scale=2)
    assert star.size == 4
    star.note = "seen"
    again = passed(star)
    assert (
        vars(again) == vars(star) == {"name": "abab", "position": Point(0), "colours": set(), "size": 4, "note": "seen"}
    )


def test_a_frozen_object_is_still_frozen(passed):
    with pytest.raises(AttributeError):
        passed(Frozen(1)).value = 2


@pytest.mark.parametrize("value", [Point(float("nan")), Level.LOW])
def test_the_text_names_the_class(store, value):
    [content] = json.loads(encode(value, store)).values()
    assert content[0] == f"{MODULE}:{type(value).__name__}"


@dataclass
class InAFunction:
    x: int


def local():
    @dataclass
    class Local:
        x: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            local(),
            "test_classes:local.<locals>.Local cannot be imported by this name. Define Local at the top level of a module",
        ),
        (collections.namedtuple("Nameless", "a")(1), "Nameless cannot be imported by this name"),
        (Unset(), "its field value has no value"),
        (OfDict(1), "its class is derived from a built-in one"),
        (sys.version_info, "this type cannot be passed between tasks"),
        (ValueError("a"), "this type cannot be passed between tasks"),
    ],
)
def test_objects_that_would_not_come_back(store, value, message):
    with pytest.raises(UnsupportedValueError) as caught:
        encode([value], store)
    assert message in str(caught.value)
    assert str(caught.value).startswith("[0] is ")


def test_a_class_of_the_script_is_not_supported(store, monkeypatch):
    monkeypatch.setattr(InAFunction, "__module__", "__main__")
    with pytest.raises(UnsupportedValueError, match="is in the script, which other processes do not import"):
        encode(InAFunction(1), store)


def test_a_named_tuple_with_attributes_is_not_cut(store):
    point = MorePoint(1, 2)
    point.z = 3
    with pytest.raises(UnsupportedValueError, match="it has more than its fields"):
        encode(point, store)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"$object": ["os:system", {"command": "true"}]}', "is no class here"),
        ('{"$object": ["subprocess:Popen", {"args": "true"}]}', "is no dataclass or named tuple here"),
        ('{"$object": ["MODULE:Other", {"value": 1}]}', "is no dataclass or named tuple here"),
        ('{"$enum": ["MODULE:Other", null, 1]}', "is no enumeration here"),
        ('{"$enum": ["MODULE:Colour", "GREEN"]}', "has no member GREEN here"),
        ('{"$enum": ["MODULE:Access", null, "x"]}', "has no member"),
        ('{"$object": ["MODULE:Missing", {}]}', "cannot be imported here (AttributeError"),
        ('{"$object": ["no_such_module:A", {}]}', "cannot be imported here (ModuleNotFoundError"),
        ('{"$object": ["", {}]}', "cannot be imported here"),
        ('{"$object": ["MODULE:Star", {"name": "a"}]}', "has other fields than when the value was stored"),
        ('{"$object": ["MODULE:Derived", {"a": 1, "b": 2, "c": 3}]}', "has other fields"),
        ('{"$object": ["MODULE:Point", {"x": 1}]}', "has other fields"),
        ('{"$object": ["MODULE:Derived", {"a": 1, "b": 2, "__class__": 3}]}', "has other fields"),
    ],
)
def test_text_names_only_data(store, text, message):
    with pytest.raises(UnreadableValueError) as caught:
        decode(text.replace("MODULE", MODULE), store)
    assert message in str(caught.value)
