"""Values as tables and texts show them."""

import datetime
import decimal
import math
import pathlib
import uuid
from dataclasses import dataclass
from enum import Enum

import pytest
from taskfleet.references import Store, encode
from taskfleet.references.plain import plain

UTC = datetime.UTC


@dataclass
class Star:
    name: str
    pair: tuple[int, int]


class Colour(Enum):
    RED = 1


def shown(value, tmp_path):
    import json

    return plain(json.loads(encode(value, Store(tmp_path))), lambda name: f"at/{name}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, None, "x", {"a": 1.5}], [1, None, "x", {"a": 1.5}]),
        ((1, (2,)), [1, [2]]),
        ({"a": {3}}, {"a": [3]}),
        (math.inf, math.inf),
        (-(2**20000), hex(-(2**20000))),
        ({1: "a"}, [[1, "a"]]),
        ({"$task": "a"}, {"$task": "a"}),
        (decimal.Decimal("1.50"), "1.50"),
        (pathlib.Path("/a/b"), "/a/b"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (datetime.datetime(2026, 1, 31, 12), "2026-01-31T12:00:00"),
        (datetime.datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00"),
        (
            datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone(-datetime.timedelta(hours=3.5))),
            "2026-01-31T00:00:00-03:30",
        ),
        (datetime.timedelta(days=1, seconds=2, microseconds=500_000), 86402.5),
        (Star("a", (1, 2)), {"name": "a", "pair": [1, 2]}),
        (Colour.RED, "RED"),
    ],
    ids=lambda value: f"{value!r:.30}" if not isinstance(value, int) else "integer",
)
def test_values_have_the_form_that_is_nearest(value, expected, tmp_path):
    assert shown(value, tmp_path) == expected


def test_nan_stays(tmp_path):
    assert math.isnan(shown([math.nan], tmp_path)[0])


def test_a_file_is_its_address(tmp_path):
    found = shown({"data": b"x" * 1_000_000}, tmp_path)
    [path] = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert found == {"data": f"at/{path.relative_to(tmp_path)}"}


def test_results_of_tasks_are_named():
    assert plain({"$task": "load-1"}) == "load-1"
    assert plain([{"$succeeded": "m"}]) == ["succeeded of the map m"]


@pytest.mark.parametrize("tree", [{"$float": "x"}, {"$file": 1}, {"$unknown": [1]}, {"$object": 3}, {"$datetime": []}])
def test_what_is_damaged_or_unknown_stays_as_it_is(tree):
    assert plain(tree) == tree
