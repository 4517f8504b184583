"""Values that only pickle can represent: for apps that declare it, and by the same version of Python."""

import json
import pickle
import sys
import threading

import numpy as np
import pytest
from taskfleet.errors import MissingPackageError, UnreadableValueError
from taskfleet.references import decode, encode, names_of_files
from taskfleet.tables.values import UnsupportedValueError

from .some_classes import Other

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_is_not_supported_is_pickled_as_a_whole(passed, size):
    shared = Other([0] * size)
    one, other = passed([shared, shared], pickle=True)
    assert one == shared
    assert one is other


def test_a_function_by_value(passed):
    number = 3
    assert passed(lambda x: x + number, pickle=True)(1) == 4


def test_what_is_supported_is_not_pickled(store):
    assert b"$pickle" not in encode([(1,), np.arange(3)], store, pickle=True)


def test_only_one_file_is_written(store):
    text = encode([np.zeros(10_000), Other(1)], store, pickle=True)
    [name] = names_of_files(text)
    assert name.endswith(".pkl")
    assert json.loads(text)["$file"]["python"] == VERSION
    assert sum(1 for _ in store._place()._root.glob("*/*")) == 1


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_pickle_is_not_read_without_the_declaration(store, size):
    text = encode(Other([0] * size), store, pickle=True)
    with pytest.raises(UnreadableValueError, match=r"is only read for app\(pickle=True\)"):
        decode(text, store)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_pickle_of_another_python_is_not_read(store, size):
    text = encode(Other([0] * size), store, pickle=True).replace(f'"{VERSION}"'.encode(), b'"3.8"')
    with pytest.raises(UnreadableValueError, match=rf"pickled by Python 3.8, and this is Python {VERSION}"):
        decode(text, store, pickle=True)


def test_what_cannot_be_pickled(store):
    with pytest.raises(UnsupportedValueError, match="it cannot be pickled"):
        encode(threading.Lock(), store, pickle=True)


def broken():
    raise RuntimeError("not here")


class Broken:
    def __reduce__(self):
        return broken, ()


def test_what_cannot_be_restored(store):
    with pytest.raises(UnreadableValueError, match="cannot be restored here \\(RuntimeError: not here\\)"):
        decode(encode(Broken(), store, pickle=True), store, pickle=True)


def test_without_the_package(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(MissingPackageError, match=r"app\(pickle=True\) needs .* uv add 'taskfleet\[cloudpickle\]'"):
        encode(Other(1), store, pickle=True)
    assert encode((1,), store, pickle=True) == b'{"$tuple":[1]}'


def test_a_cycle_is_pickled(passed):
    value = [1]
    value.append(value)
    again = passed(value, pickle=True)
    assert again[1] is again
    assert pickle.dumps(again) == pickle.dumps(value)
