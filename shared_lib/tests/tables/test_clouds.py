"""Tables at s3:// and gs://, through the real clients, from servers that speak the services' protocols."""

import codecs
import gzip
import io
import json
import urllib.request

import pyarrow
import pyarrow.csv
import pyarrow.feather
import pyarrow.fs
import pyarrow.parquet
import pytest
from taskfleet.errors import TableError
from taskfleet.tables.address import s3_filesystem
from taskfleet.tables.reading import read_batches

pytestmark = pytest.mark.slow

ROWS = 70_000
TABLE = pyarrow.table({"num1": range(ROWS), "num2": [1] * ROWS})


def feather_bytes():
    sink = io.BytesIO()
    pyarrow.feather.write_feather(TABLE, sink, chunksize=20_000)
    return sink.getvalue()


def parquet_bytes():
    sink = io.BytesIO()
    pyarrow.parquet.write_table(TABLE, sink)
    return sink.getvalue()


def csv_bytes():
    sink = io.BytesIO()
    pyarrow.csv.write_csv(TABLE, sink)
    return sink.getvalue()


LINES = [json.dumps(row) for row in TABLE.to_pylist()]
JSON = f"[{','.join(LINES)}]".encode()
FILES = {
    "t.feather": feather_bytes(),
    "t.parquet": parquet_bytes(),
    "t.csv": csv_bytes(),
    "t.csv.gz": gzip.compress(csv_bytes()),
    "t.json": JSON,
    "mark.json": codecs.BOM_UTF8 + JSON,
    "t.json.gz": gzip.compress(JSON),
    "t.jsonl": "\n".join(LINES).encode(),
    "t.yaml": "".join(f"- {line}\n" for line in LINES).encode(),
}


@pytest.fixture
def s3(s3_address, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        monkeypatch.setenv(name, value)
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=s3_address.partition("://")[2],
        scheme="http",
        region="eu-central-1",
        allow_bucket_creation=True,
    )
    files.create_dir("tables")

    def put(name):
        with s3_filesystem("tables/x").open_output_stream(f"tables/a folder/#1 {name}", compression=None) as stream:
            stream.write(FILES[name])
        return f"s3://tables/a folder/#1 {name}"

    return put


@pytest.fixture
def gs(gs_address, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_address)

    def put(name):
        request = urllib.request.Request(
            f"{gs_address}/upload/storage/v1/b/code/o?uploadType=media&name={name}", data=FILES[name], method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()
        return f"gs://code/{name}"

    return put


@pytest.mark.parametrize("service", ["s3", "gs"])
@pytest.mark.parametrize("name", FILES)
def test_a_table_in_a_bucket_is_read_in_batches(service, name, request):
    address = request.getfixturevalue(service)(name)
    batches = list(read_batches(address, batch_rows=20_000))
    assert sum(map(len, batches)) == ROWS
    rows = batches[-1].encode(lambda _: None)
    assert rows.row_number(len(rows.data) - 1) == ROWS
    assert rows.data[-1] == f'{{"num1":{ROWS - 1},"num2":1}}'


@pytest.mark.parametrize("service", ["s3", "gs"])
def test_a_table_that_is_not_in_the_bucket_is_one_error(service, request):
    address = request.getfixturevalue(service)("t.csv").rpartition("/")[0] + "/nowhere.feather"
    with pytest.raises(TableError, match=r"nowhere\.feather"):
        list(read_batches(address))
