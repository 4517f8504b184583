"""The store in a bucket."""

import json

import boto3
import numpy as np
import pandas as pd
import pyarrow.fs
import pytest
from taskfleet.errors import LostFileError, StoreError
from taskfleet.references import Store, decode, encode, names_of_files
from taskfleet.references.contents import Content
from taskfleet.references.store import MAP_BYTES
from taskfleet.tables.address import gs_filesystem, s3_filesystem

from .same import same

LARGE = b"0123456789" * 20_000


@pytest.fixture(params=["s3", "gs"])
def bucket(request):
    return request.getfixturevalue(f"{request.param}_bucket")


@pytest.fixture
def files(bucket):
    """Its file system."""
    return s3_filesystem("bucket") if bucket.startswith("s3") else gs_filesystem()


def names(files, bucket, folder):
    selector = pyarrow.fs.FileSelector(f"{bucket.partition('://')[2]}/{folder}", recursive=True, allow_not_found=True)
    return [one.path for one in files.get_file_info(selector) if one.is_file]


@pytest.mark.parametrize(
    "value",
    [
        LARGE,
        "x" * 100_000,
        bytearray(LARGE),
        np.arange(MAP_BYTES),
        np.asfortranarray(np.arange(20_000).reshape(100, -1)),
        pd.DataFrame({"a": np.arange(MAP_BYTES // 8), "b": "text"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_value_comes_back(bucket, files, value):
    store = Store(f"{bucket}/values")
    text = encode({"a": value}, store)
    assert len(text) < 1000
    again = decode(text, Store(f"{bucket}/values/"))["a"]
    assert same(value, again)
    if isinstance(again, np.ndarray):
        again[0] = 1
    [name] = names_of_files(text)
    assert f"{bucket.partition('://')[2]}/values/{name}" in names(files, bucket, "values")
    store.delete(name)
    store.delete(name)
    with pytest.raises(LostFileError, match=r"does not exist\. Run that task again"):
        decode(text, store)


def test_the_same_content_is_written_once(s3_bucket, s3_address):
    store = Store(f"{s3_bucket}/once")
    [name] = names_of_files(encode(LARGE, store))
    client = boto3.client("s3", endpoint_url=s3_address)
    written = client.head_object(Bucket="bucket", Key=f"once/{name}")["LastModified"]
    client.put_object_tagging(Bucket="bucket", Key=f"once/{name}", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    encode(LARGE, store)
    assert client.get_object_tagging(Bucket="bucket", Key=f"once/{name}")["TagSet"]
    assert client.head_object(Bucket="bucket", Key=f"once/{name}")["LastModified"] == written


@pytest.mark.parametrize("damage", [LARGE[:-1], LARGE + b"x", b"x" + LARGE[1:]])
def test_a_damaged_file_is_one_error(bucket, files, damage):
    store = Store(f"{bucket}/damaged")
    text = encode(LARGE, store)
    path = f"{bucket.partition('://')[2]}/damaged/{json.loads(text)['$file']['name']}"
    with files.open_output_stream(path) as stream:
        stream.write(damage)
    with pytest.raises(LostFileError, match=r"has .*\. Run that task again"):
        decode(text, store)
    if len(damage) != len(LARGE):
        encode(LARGE, store)
        assert decode(text, store) == LARGE
    files.delete_file(path)


def test_a_write_that_is_interrupted_leaves_nothing(bucket, files):
    calls = []

    def write(sink):
        sink(LARGE)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        sink(LARGE)

    with pytest.raises(KeyboardInterrupt):
        Store(f"{bucket}/half").write(Content(kind="bin", size=len(LARGE), write=write))
    assert names(files, bucket, "half") == []


def test_a_missing_bucket_is_one_error(s3_bucket):
    with pytest.raises(
        StoreError, match=r"in RESULTS_PATH=s3://missing/a: .*Check the address, the network, your credentials"
    ):
        encode(LARGE, Store("s3://missing/a"))
