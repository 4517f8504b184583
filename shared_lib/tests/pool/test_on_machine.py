"""What a machine does in Python before anything is installed: run as it travels in the script, against real servers."""

import datetime
import gzip
import hashlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from taskfleet.pool import on_machine

from shared_lib.tests.pool.test_start_up import make, written
from shared_lib.tests.services.metadata import Metadata

CONTENT = gzip.compress(b"the project" * 1000, mtime=0)
HASH = hashlib.sha256(gzip.decompress(CONTENT)).hexdigest()
KEY = "a folder/taskfleet-bundles/one/bundle.tar.gz"


@pytest.fixture
def run(tmp_path):
    """Runs the program with the system's own paths only, and gives what became of it."""
    program = tmp_path / "on_machine.py"
    program.write_text(written(make(), "on_machine.py"))

    def run(*words, code=0, given=b"", **environment):
        done = subprocess.run(
            [sys.executable, "-I", program, *words],
            env={"PATH": os.environ["PATH"], **environment},
            input=given,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="module")
def metadata():
    with Metadata("i-1", region="eu-west-3") as service:
        yield service


@pytest.fixture(scope="module")
def serve():
    servers = []

    def _serve(*command):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        servers.append(
            subprocess.Popen([sys.executable, "-W", "ignore", *command, f"--port={port}"], stdout=-3, stderr=-3)
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, f"{command} did not start"
                time.sleep(0.05)
            else:
                return f"http://127.0.0.1:{port}"

    yield _serve
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def s3(serve):
    address = serve("-m", "moto.server", "--host=127.0.0.1")
    client = boto3.client(
        "s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="code")
    client.put_object(Bucket="code", Key=KEY, Body=CONTENT)
    client.put_object(Bucket="code", Key="damaged", Body=CONTENT[:-20])
    client.put_object(Bucket="code", Key="other", Body=gzip.compress(b"something else"))
    return address


@pytest.mark.parametrize("key", ["one.tar.gz", "a folder/ü+&=%~.tar.gz"])
@pytest.mark.parametrize("base", ["http://bucket.s3.eu-west-3.amazonaws.com", "http://127.0.0.1:9000"])
def test_requests_are_signed_as_botocore_signs_them(base, key):
    path = "/" + urllib.request.quote(key, safe="/-_.~")
    login = {"AccessKeyId": "ASIAX", "SecretAccessKey": "se/cr+et", "Token": "to=ken"}
    request = AWSRequest("GET", base + path)
    S3SigV4Auth(
        Credentials(login["AccessKeyId"], login["SecretAccessKey"], login["Token"]), "s3", "eu-west-3"
    ).add_auth(request)
    now = datetime.datetime.strptime(request.context["timestamp"], "%Y%m%dT%H%M%SZ")
    ours = on_machine.sign(base, path, "eu-west-3", login, now)
    assert ours["Authorization"].replace(",", ", ") == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


def test_a_bundle_comes_from_s3_by_the_machines_role(run, metadata, s3, tmp_path):
    words = ("fetch", f"s3://code/{KEY}", HASH, str(tmp_path / "bundle"), "us-east-1")
    run(*words, AWS_ENDPOINT_URL=s3, **metadata.environment())
    assert (tmp_path / "bundle").read_bytes() == CONTENT
    (tmp_path / "bundle").unlink()
    run(*words, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ENDPOINT_URL_S3=s3, **metadata.environment())
    assert (tmp_path / "bundle").read_bytes() == CONTENT


def test_a_bundle_comes_from_google_by_its_emulator(run, serve, tmp_path):
    command = "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main())"
    address = serve("-c", command, "start", "--host=127.0.0.1", "--in-memory", "--default-bucket=code")
    url = f"{address}/upload/storage/v1/b/code/o?uploadType=media&name={urllib.request.quote(KEY)}"
    urllib.request.urlopen(urllib.request.Request(url, data=CONTENT), timeout=10).close()
    run("fetch", f"gs://code/{KEY}", HASH, str(tmp_path / "bundle"), "", STORAGE_EMULATOR_HOST=address)
    assert (tmp_path / "bundle").read_bytes() == CONTENT


def test_what_is_wrong_with_a_bundle_is_one_line(run, metadata, s3, tmp_path):
    def said(key):
        words = ("fetch", f"s3://code/{key}", HASH, str(tmp_path / "bundle"), "us-east-1")
        done = run(*words, code=1, AWS_ENDPOINT_URL=s3, **metadata.environment())
        return done.stderr.decode().splitlines()[-1]

    assert said("nothing") == "s3://code/nothing: 404 NoSuchKey: The specified key does not exist."
    assert said("damaged").startswith("s3://code/damaged is damaged (")
    assert said("other").startswith("s3://code/other is not what its name says: its hash is ")


def test_a_server_that_is_busy_for_a_moment_is_asked_again(run, metadata, s3, tmp_path):
    metadata.fault("/latest/api/token", status=503, times=2)
    run(
        "fetch",
        f"s3://code/{KEY}",
        HASH,
        str(tmp_path / "bundle"),
        "us-east-1",
        AWS_ENDPOINT_URL=s3,
        **metadata.environment(),
    )
    assert (tmp_path / "bundle").read_bytes() == CONTENT


def test_a_machine_without_a_role_says_so(run, s3, tmp_path):
    with Metadata(role="") as service:
        words = ("fetch", f"s3://code/{KEY}", HASH, str(tmp_path / "bundle"), "us-east-1")
        done = run(*words, code=1, AWS_ENDPOINT_URL=s3, **service.environment())
    assert "this machine has no role to read s3://code/" in done.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize(("provider", "expected"), [("aws", "i-1 eu-west-3"), ("gcp", "i-1")])
def test_a_machine_finds_its_name(run, metadata, provider, expected):
    assert run("identity", provider, **metadata.environment()).stdout.decode().strip() == expected


def test_what_a_worker_prints_is_kept_whole_and_shown_in_part(run, tmp_path):
    lines = [f"line {n} " + "x" * 60 for n in range(20_000)]
    given = "\n".join([*lines, "the end, without a newline"]).encode()
    shown = run("relay", str(tmp_path / "log"), given=given).stdout.decode().splitlines()
    assert (tmp_path / "log").read_bytes() == given
    assert shown[0] == f"taskfleet-said: {lines[0]}"
    assert shown[-2:] == [f"taskfleet-said: {lines[-1]}", "taskfleet-said: the end, without a newline"]
    assert sum(map(len, shown)) < 12_000
    again = run("relay", str(tmp_path / "log"), given=b"y" * (40 << 20)).stdout
    assert len(again) < 12_000
    assert sum(path.stat().st_size for path in tmp_path.glob("log*")) < 36 << 20
