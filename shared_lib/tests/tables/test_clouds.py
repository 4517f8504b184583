"""Tables at s3:// and gs://, through the real clients, from servers that speak the services' protocols."""

import io
import urllib.request

import pyarrow
import pyarrow.feather
import pyarrow.fs
import pytest
from taskfleet.errors import TableError
from taskfleet.tables.reading import read_batches

pytestmark = pytest.mark.slow

ROWS = 70_000


def feather_bytes():
    table = pyarrow.table({"num1": range(ROWS), "num2": [1] * ROWS})
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink, chunksize=20_000)
    return sink.getvalue()


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
    import os

    from taskfleet.tables.address import s3_filesystem

    files = pyarrow.fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"].partition("://")[2],
        scheme="http",
        region="eu-central-1",
        allow_bucket_creation=True,
    )
    files.create_dir("tables")
    with s3_filesystem("tables/t.feather").open_output_stream("tables/a folder/t#1.feather") as stream:
        stream.write(feather_bytes())
    return "s3://tables/a folder/t#1.feather"


@pytest.fixture
def gs(gs_address, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_address)
    request = urllib.request.Request(
        f"{gs_address}/upload/storage/v1/b/code/o?uploadType=media&name=t.feather", data=feather_bytes(), method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()
    return "gs://code/t.feather"


@pytest.mark.parametrize("service", ["s3", "gs"])
def test_a_table_in_a_bucket_is_read_in_batches(service, request):
    address = request.getfixturevalue(service)
    batches = list(read_batches(address, batch_rows=20_000))
    assert sum(map(len, batches)) == ROWS
    rows = batches[-1].encode(lambda _: None)
    assert rows.row_number(len(rows.data) - 1) == ROWS
    assert rows.data[-1] == f'{{"num1":{ROWS - 1},"num2":1}}'


@pytest.mark.parametrize("service", ["s3", "gs"])
def test_a_table_that_is_not_in_the_bucket_is_one_error(service, request):
    address = request.getfixturevalue(service).rpartition("/")[0] + "/nowhere.feather"
    with pytest.raises(TableError, match=r"nowhere\.feather"):
        list(read_batches(address))
