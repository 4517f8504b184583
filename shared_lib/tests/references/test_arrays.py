"""Arrays and scalars of numpy come back with their types and layouts, small ones inline and large ones from files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from taskfleet.references import decode, encode, names_of_files
from taskfleet.references.store import MAP_BYTES
from taskfleet.tables.values import UnsupportedValueError

from .same import same

SIMPLE_TYPES = (
    of_numpy.scalar_dtypes()
    | of_numpy.unicode_string_dtypes()
    | of_numpy.byte_string_dtypes()
    | of_numpy.datetime64_dtypes()
    | of_numpy.timedelta64_dtypes()
)
TYPES = SIMPLE_TYPES | of_numpy.array_dtypes(SIMPLE_TYPES, min_size=1, max_size=3)


@given(TYPES, of_numpy.array_shapes(min_dims=0, min_side=0, max_side=4), st.sampled_from("CF"), st.data())
def test_an_array_comes_back_with_its_type_and_layout(shared_store, kind, shape, order, data):
    array = np.asarray(data.draw(of_numpy.arrays(kind, shape)), order=order)
    again = decode(encode([array], shared_store), shared_store)[0]
    assert same(array, again)
    assert again.flags.writeable
    from_file = decode(encode(array, shared_store, inline_bytes=0), shared_store)
    assert same(array, from_file)
    assert from_file.flags.writeable


@given(SIMPLE_TYPES, st.data())
def test_a_scalar_comes_back_with_its_type(shared_store, kind, data):
    array = data.draw(of_numpy.arrays(kind.newbyteorder("="), ()))
    value = array[()]
    again = decode(encode({"a": value}, shared_store), shared_store)["a"]
    assert same(value, again)


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.5),
        np.float64("nan"),
        np.int64(2**63 - 1),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("a\x00"),
        np.bytes_(b"a\x00"),
        np.datetime64("NaT"),
        np.timedelta64(3, "ns"),
        np.longdouble(1) / 3,
        np.zeros(1, [("a", "i4"), ("b", "f8", (2,))])[0],
    ],
    ids=repr,
)
def test_scalars_are_small(store, value):
    text = encode(value, store)
    assert len(text) < 300
    assert same(decode(text, store), value)


LARGE = {
    "plain": np.arange(MAP_BYTES // 8 + 7, dtype=float),
    "fortran": np.asfortranarray(np.arange(MAP_BYTES, dtype="i2").reshape(1024, -1)),
    "not contiguous": np.arange(MAP_BYTES, dtype="i2").reshape(1024, -1)[::2, ::2].repeat(2, 0),
    "reversed": np.arange(MAP_BYTES, dtype="i4")[::-1],
    "big-endian": np.arange(MAP_BYTES, dtype=">u4"),
    "times": np.arange(MAP_BYTES).astype("M8[us]"),
    "structured": np.zeros(MAP_BYTES, [("a", "i4"), ("é", "f8", (2,))]),
    "text": np.full(MAP_BYTES, "é"),
    "bool": np.ones(MAP_BYTES * 2, bool),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_array_is_mapped_and_may_be_changed_without_changing_the_file(store, name):
    array = LARGE[name]
    assert array.nbytes >= MAP_BYTES
    text = encode({"array": array}, store)
    assert len(text) < 1000
    [file] = names_of_files(text)
    assert file.endswith(".npy")
    again = decode(text, store)["array"]
    assert same(np.asarray(array, order="F" if name == "fortran" else "C"), again)
    assert isinstance(again.base, np.memmap)
    again[:3] = again[3:6]
    assert same(np.asarray(array, order="F" if name == "fortran" else "C"), decode(text, store)["array"])


def test_numpy_reads_the_file(store, tmp_path):
    array = np.random.default_rng(1).random((300, 70))
    [name] = names_of_files(encode(array, store))
    assert np.array_equal(np.load(tmp_path / "results" / name), array)


def test_a_map_of_a_file_is_an_array(passed, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5))
    assert same(passed(np.load(tmp_path / "a.npy", mmap_mode="r")), np.arange(5))


def test_metadata_of_a_type_is_no_warning(passed):
    kind = np.dtype("i4", metadata={"unit": "m"})
    assert passed(np.ones(3, kind)).tolist() == [1, 1, 1]
    assert passed(np.ones(30_000, np.dtype([("a", kind)]))).dtype == np.dtype([("a", "i4")])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1, "a", None], dtype=object), "its type object has Python objects. Return a list, or"),
        (np.zeros(2, [("a", object)]), "has Python objects"),
        (np.ma.masked_array([1, 2], [True, False]), "it is more than an array. Return numpy.asarray"),
        (np.rec.array([(1, 2)], dtype=[("a", int), ("b", int)]), "it is more than an array"),
        (np.zeros(2, {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}), "cannot be saved by numpy"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "has Python objects"),
    ],
    ids=["objects", "field of objects", "masked", "records", "fields out of order", "variable text"],
)
def test_arrays_that_would_not_come_back(store, value, message):
    with pytest.raises(UnsupportedValueError) as caught:
        encode({"a": [value]}, store)
    assert message in str(caught.value)
    assert str(caught.value).startswith("a[0] is ")


def test_many_small_arrays_are_one_file(store):
    text = encode([np.arange(400) for _ in range(100)], store)
    assert json.loads(text)["$file"]["as"] == "json"
    assert len(names_of_files(text, store)) == 1


def test_names_are_found_in_json_files(store):
    array = np.zeros(10_000)
    text = encode([array, {"$file": "mine"}, "x" * 100_000], store)
    assert len(names_of_files(text)) == 1
    assert {name.rpartition(".")[2] for name in names_of_files(text, store)} == {"json", "npy"}
