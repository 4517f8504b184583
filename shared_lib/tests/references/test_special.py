"""Parts of a value that stand for something else, as results of tasks in the arguments of others."""

import json

import numpy as np
from taskfleet.references import INLINE_BYTES, Store, encode


class Part:
    pass


def test_a_value_with_such_parts_is_written_inline_however_large_it_is(tmp_path):
    n = INLINE_BYTES // 10
    text = encode([Part() for _ in range(n)], Store(tmp_path), special=lambda _: {"$task": "some-id"})
    assert json.loads(text) == [{"$task": "some-id"}] * n
    assert not list(tmp_path.iterdir())


def test_other_parts_of_the_same_value_are_files(tmp_path):
    part = Part()
    value = {"part": part, "array": np.zeros(10_000), "text": "x" * INLINE_BYTES}
    tree = json.loads(encode(value, Store(tmp_path), special=lambda one: {"$task": "a"} if one is part else None))
    assert tree["part"] == {"$task": "a"}
    assert list(tree["array"]) == ["$file"]
    assert json.loads(encode("x" * INLINE_BYTES, Store(tmp_path), special=lambda _: None)).keys() == {"$file"}
