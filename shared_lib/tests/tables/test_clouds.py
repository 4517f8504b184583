"""Tables at s3:// and gs://, through the real clients, from servers that speak the services' protocols."""

import io
import socket
import subprocess
import sys
import time
import urllib.request

import pyarrow
import pyarrow.feather
import pyarrow.fs
import pytest
from taskfleet.errors import TableError
from taskfleet.tables import read_batches

pytestmark = pytest.mark.slow

ROWS = 70_000


def feather_bytes():
    table = pyarrow.table({"num1": range(ROWS), "num2": [1] * ROWS})
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink, chunksize=20_000)
    return sink.getvalue()


@pytest.fixture(scope="module")
def serve():
    """Return a function that starts a server on a free port of this machine and waits until it answers."""
    servers = []

    def _serve(*command):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command, f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        servers.append(server)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return f"http://127.0.0.1:{port}"
        pytest.fail(f"{command} did not start")

    yield _serve
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture
def s3(serve, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": serve("-m", "moto.server", "--host=127.0.0.1"),
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
def gs(serve, monkeypatch):
    command = "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main())"
    address = serve("-c", command, "start", "--host=127.0.0.1", "--in-memory", "--default-bucket=tables")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    request = urllib.request.Request(
        f"{address}/upload/storage/v1/b/tables/o?uploadType=media&name=t.feather", data=feather_bytes(), method="POST"
    )
    urllib.request.urlopen(request, timeout=10).close()
    return "gs://tables/t.feather"


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
