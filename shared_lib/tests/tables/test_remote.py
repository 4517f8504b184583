"""Tables behind web addresses and in buckets, served on the loopback."""

import codecs
import contextlib
import gzip
import os
import re
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from taskfleet.errors import TableError
from taskfleet.tables import download, web
from taskfleet.tables.reading import read_batches

TABLE = pa.table({"a": range(1000), "b": [f"x{index}" for index in range(1000)]})
EXPECTED = [f'{{"a":{index},"b":"x{index}"}}' for index in range(1000)]
NAMES = [f"t{suffix}" for suffix in (".feather", ".parquet", ".csv", ".json", ".jsonl", ".yaml")]
NAMES += ["mark.json", "t.csv.gz", "t.json.gz", "t.jsonl.gz"]


def texts(source):
    return [text for batch in read_batches(source) for text in batch.encode(lambda _: None).data]


class Handler(BaseHTTPRequestHandler):
    """Answers with the files in `server.files`; ranges and S3's list of a bucket included."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path, _, query = self.path.partition("?")
        self.server.asked.append((self.command, path, query))
        if path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path in self.server.endless:
            self.endless(self.server.endless[path])
            return
        if path == "/broken/t.csv":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a\n1\n")
            self.close_connection = True
            return
        body, status = self.server.files.get(path), 200
        if path == "/secret/t.csv":
            body, status = b"<Error><Code>AccessDenied</Code></Error>", 403
        elif body is None and "list-type" in query:
            body = b"<ListBucketResult><Name>bucket</Name><KeyCount>0</KeyCount></ListBucketResult>"
        elif body is None:
            body, status = b"<Error><Code>NoSuchKey</Code></Error>", 404
        headers = {
            "ETag": '"1"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Content-Type": "binary/octet-stream",
        }
        if (wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))) and status == 200:
            first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body, status = body[first : last + 1], 206
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def endless(self, part):
        """Send a part again and again until the client goes away."""
        with contextlib.suppress(OSError):
            if self.server.with_headers:
                self.send_response(200)
                self.end_headers()
            while True:
                self.wfile.write(part)

    def log_message(self, *_):
        """Keep the tests' output quiet."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the table in every format under /bucket/, and an empty place for temporary files."""
    files = {}
    for suffix in (".feather", ".parquet", ".csv"):
        path = tmp_path / f"t{suffix}"
        if suffix == ".feather":
            pyarrow.feather.write_feather(TABLE, path)
        elif suffix == ".parquet":
            pyarrow.parquet.write_table(TABLE, path)
        else:
            pyarrow.csv.write_csv(TABLE, path)
        files[f"/bucket/t{suffix}"] = path.read_bytes()
    files["/bucket/t.jsonl"] = "\n".join(EXPECTED).encode()
    files["/bucket/t.yaml"] = "".join(f"- {text}\n" for text in EXPECTED).encode()
    files["/bucket/t.json"] = b"[" + ",\n".join(EXPECTED).encode() + b"]"
    files["/bucket/mark.json"] = codecs.BOM_UTF8 + b"\n" + files["/bucket/t.json"]
    for name in ("t.csv", "t.json", "t.jsonl"):
        files[f"/bucket/{name}.gz"] = gzip.compress(files[f"/bucket/{name}"])
    files["/bucket/empty.csv"] = b""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked, served.temporary = files, [], temporary
    served.redirects, served.endless, served.with_headers = {}, {}, True
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.mark.parametrize("name", NAMES)
def test_a_table_behind_a_web_address_is_fetched_read_and_forgotten(server, name):
    assert texts(f"{server.url}/bucket/{name}?signature=abc") == EXPECTED
    assert [path for _, path, _ in server.asked] == [f"/bucket/{name}"]
    assert list(server.temporary.iterdir()) == []


def test_a_downloaded_table_is_deleted_when_its_reader_stops_early(server):
    batches = read_batches(f"{server.url}/bucket/t.jsonl", batch_rows=10)
    next(batches)
    assert len(list(server.temporary.iterdir())) == 1
    batches.close()
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/bucket/missing.csv", r"the server responded with 404 Not Found\. Check the URL"),
        ("/secret/t.csv", "the server responded with 403 Forbidden.* whether the file is public"),
        ("/broken/t.csv", "downloaded incompletely: 4 of 1000 bytes"),
        ("/bucket/empty.csv", r"is empty \(0 bytes\)"),
    ],
)
def test_the_error_of_a_url_without_a_table_names_the_reason(server, path, part):
    with pytest.raises(TableError, match=part) as caught:
        texts(f"{server.url}{path}?signature=abc")
    assert f"{server.url}{path}" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert list(server.temporary.iterdir()) == []


def test_a_password_in_a_url_is_not_shown(server):
    with pytest.raises(TableError) as caught:
        texts("http://user:hunter2@127.0.0.1:1/t.csv")
    assert "http://127.0.0.1:1/t.csv" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/t.csv", "http://nobody.invalid/t.csv", "http:///t.csv", "http://[/t.csv"]
)
def test_an_unreachable_host_is_reported(server, address):
    with pytest.raises(TableError, match=r"cannot be downloaded: .* Check the URL and the network"):
        texts(address)


def test_a_redirect_on_the_same_network_is_followed(server):
    server.redirects = {"/old/t.jsonl": "/bucket/t.jsonl", "/older/t.jsonl": f"{server.url}/old/t.jsonl"}
    assert texts(f"{server.url}/older/t.jsonl") == EXPECTED


@pytest.mark.parametrize(
    ("target", "part"),
    [
        (
            "http://169.254.169.254/latest/meta-data/iam/security-credentials/?token=abc",
            "169.254.169.254 is a metadata service or",
        ),
        ("http://2852039166/latest/", "169.254.169.254 is a metadata service or"),
        ("http://[::ffff:169.254.169.254]/", "is a metadata service or a link-local address; tables are not read"),
        ("http://[64:ff9b::a9fe:a9fe]/", "is a metadata service or"),
        ("http://[fd00:ec2::254]/latest", "fd00:ec2::254 is a metadata service or"),
        ("http://[fe80::1]/", "fe80::1 is a metadata service or"),
        ("http://metadata.google.internal/computeMetadata/v1/", "metadata.google.internal is a metadata service or"),
        ("http://Metadata.Google.Internal./", "metadata.google.internal is a metadata service or"),
        ("file:///etc/passwd", "redirected from http:// to file://, which is not followed"),
        ("ftp://127.0.0.1/t.csv", "redirected from http:// to ftp://"),
        ("data:text/csv,a", "redirected from http:// to data://"),
    ],
)
def test_a_redirect_to_a_metadata_service_or_another_protocol_is_refused(server, target, part):
    server.redirects = {"/bucket/moved.csv": target}
    with pytest.raises(TableError, match=re.escape(part)) as caught:
        texts(f"{server.url}/bucket/moved.csv")
    assert str(caught.value).startswith(f"{server.url}/bucket/moved.csv cannot be downloaded: ")
    assert "abc" not in str(caught.value)
    assert len(server.asked) == 1
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "[fe80::1]"])
def test_a_metadata_service_is_no_place_of_a_table_and_is_not_asked_through_a_proxy_either(server, monkeypatch, host):
    monkeypatch.setenv("http_proxy", server.url)
    with pytest.raises(TableError, match="is a metadata service or a link-local address"):
        texts(f"http://{host}/t.csv")
    assert server.asked == []


def test_a_table_is_read_through_a_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://tables.example/t.csv"] = server.files["/bucket/t.csv"]
    assert texts("http://tables.example/t.csv") == EXPECTED


@pytest.mark.parametrize(
    ("first", "then", "allowed"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "10.0.0.1", False),
        ("8.8.8.8", "127.0.0.1", False),
        ("2001:4860:4860::8888", "::1", False),
        ("8.8.8.8", "::ffff:10.0.0.1", False),
        ("10.0.0.1", "192.168.1.1", True),
        ("10.0.0.1", "8.8.8.8", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "10.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "169.254.1.1", False),
        ("fd12::1", "fd00:ec2::254", False),
    ],
)
def test_a_redirect_may_not_lead_from_a_public_address_into_a_network(first, then, allowed):
    route = web.Route()
    route.check(web.reach(first), first)
    if allowed:
        route.check(web.reach(then), then)
    else:
        with pytest.raises(web.RefusedError):
            route.check(web.reach(then), then)


def test_an_endless_download_is_refused_at_its_size_and_leaves_nothing(server, monkeypatch):
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1 << 23)
    server.endless = {"/bucket/endless.csv": b"0" * (1 << 20)}
    with pytest.raises(
        TableError, match=r"has more than 0.0078125 GiB, the most that is downloaded\. Download it with another"
    ):
        texts(f"{server.url}/bucket/endless.csv")
    assert list(server.temporary.iterdir()) == []


def test_a_download_that_says_that_it_is_too_large_is_refused_at_once(server, monkeypatch):
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1000)
    with pytest.raises(TableError, match="the most that is downloaded"):
        texts(f"{server.url}/bucket/t.csv")


@pytest.mark.parametrize(
    ("with_headers", "part"), [(True, "less than .* bytes per second"), (False, "no response within 0.5 s")]
)
def test_a_server_that_sends_drops_is_given_up(server, monkeypatch, with_headers, part):
    monkeypatch.setattr(download, "_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(download, "_MIN_BYTES_PER_SECOND", 1 << 60)
    server.endless, server.with_headers = {"/bucket/slow.csv": b"HTTP/1.1 100 Continue\r\n\r\n"}, with_headers
    with pytest.raises(TableError, match=rf"slow\.csv cannot be downloaded: {part}.* Check the URL and the network"):
        texts(f"{server.url}/bucket/slow.csv")
    assert list(server.temporary.iterdir()) == []


def test_a_full_disk_is_reported_as_one(server):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "wb", buffering=0) as full:
        write = download._writer(full.write, "http://h/t.csv", "/tmp")
        with pytest.raises(
            TableError, match=r"cannot be stored in /tmp after 3 bytes: No space left on device\. Set TMPDIR"
        ):
            write(b"abc")


@pytest.fixture
def s3(server, monkeypatch):
    """The server, for pyarrow to take for S3: by the environment and with made-up keys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return server


@pytest.mark.parametrize("name", NAMES)
def test_a_table_in_a_bucket_is_read_in_place(s3, name):
    assert texts(f"s3://bucket/{name}") == EXPECTED
    assert {path for _, path, _ in s3.asked} == {f"/bucket/{name}"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing.csv", r"does not exist\. Check the bucket, the name and your credentials"),
        ("empty.csv", r"is empty \(0 bytes\)"),
    ],
)
def test_a_bucket_without_the_table_is_reported(s3, name, part):
    with pytest.raises(TableError, match=part) as caught:
        texts(f"s3://bucket/{name}")
    assert f"s3://bucket/{name}" in str(caught.value)


def test_a_bucket_without_permission_is_reported(s3):
    with pytest.raises(TableError, match=r"^s3://secret/t\.csv .*your credentials"):
        texts("s3://secret/t.csv")
