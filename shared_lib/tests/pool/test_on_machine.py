"""What a machine does in Python before anything is installed: run as it travels in the script, against real servers."""

import datetime
import gzip
import io
import os
import subprocess
import sys
import tarfile
import urllib.request

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from taskfleet.pool import on_machine
from taskfleet.pool.bundle import pack
from taskfleet.pool.manifest import MANIFEST

from shared_lib.tests.pool.test_start_up import make, written
from shared_lib.tests.services.metadata import Metadata

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
def packed(tmp_path_factory):
    """A bundle with all that may be in one: empty and large files, programs, links, names of other scripts, in bytes and long."""
    project = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "uv.lock", "empty", "a\nb 'c' \"d\" \\", f"{'long/' * 30}däta.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("" if name == "empty" else f"# {name}\n")
    (project / os.fsdecode(b"no \xff utf-8")).write_bytes(bytes(range(256)) * 10_000)
    (project / "run.sh").touch(0o755)
    (project / "here").symlink_to("long")
    (project / "nowhere").symlink_to("is/nöt there")
    return pack(project, tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def s3(s3_address, packed):
    client = boto3.client(
        "s3", endpoint_url=s3_address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="code")
    content = packed.path.read_bytes()
    client.put_object(Bucket="code", Key=KEY, Body=content)
    client.put_object(Bucket="code", Key="damaged", Body=content[:-2])
    client.put_object(Bucket="code", Key="other", Body=rewritten(content, without("empty")))
    return s3_address


def rewritten(content, change):
    """A bundle with each file but the list of files changed."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as before,
        tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as after,
    ):
        for entry in before:
            file = before.extractfile(entry).read() if entry.isfile() else b""
            found = (entry, file) if entry.name == MANIFEST else change(entry, file)
            if found is not None:
                found[0].size = len(found[1])
                after.addfile(found[0], io.BytesIO(found[1]))
    return made.getvalue()


def without(name):
    return lambda entry, file: None if entry.name == name else (entry, file)


def with_other_content(entry, file):
    return (entry, file) if entry.issym() else (entry, file + b" ")


def with_a_program(entry, file):
    entry.mode |= 0o100
    return entry, file


def with_another_link(entry, file):
    entry.linkname = entry.linkname and f"{entry.linkname}2"
    return entry, file


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


def test_a_bundle_comes_from_s3_by_the_machines_role(run, metadata, s3, packed, tmp_path):
    words = ("fetch", f"s3://code/{KEY}", packed.hash, str(tmp_path / "bundle"), "us-east-1")
    run(*words, AWS_ENDPOINT_URL=s3, **metadata.environment())
    assert (tmp_path / "bundle").read_bytes() == packed.path.read_bytes()
    (tmp_path / "bundle").unlink()
    run(*words, AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_ENDPOINT_URL_S3=s3, **metadata.environment())
    assert (tmp_path / "bundle").read_bytes() == packed.path.read_bytes()


def test_a_bundle_comes_from_google_by_its_emulator(run, gs_address, packed, tmp_path):
    url = f"{gs_address}/upload/storage/v1/b/code/o?uploadType=media&name={urllib.request.quote(KEY)}"
    urllib.request.urlopen(urllib.request.Request(url, data=packed.path.read_bytes()), timeout=10).close()
    run("fetch", f"gs://code/{KEY}", packed.hash, str(tmp_path / "bundle"), "", STORAGE_EMULATOR_HOST=gs_address)
    assert (tmp_path / "bundle").read_bytes() == packed.path.read_bytes()


def test_what_is_wrong_with_a_bundle_is_one_line(run, metadata, s3, packed, tmp_path):
    def said(key):
        words = ("fetch", f"s3://code/{key}", packed.hash, str(tmp_path / "bundle"), "us-east-1")
        done = run(*words, code=1, AWS_ENDPOINT_URL=s3, **metadata.environment())
        return done.stderr.decode().splitlines()[-1]

    assert said("nothing") == "s3://code/nothing: 404 NoSuchKey: The specified key does not exist."
    assert said("damaged").startswith("s3://code/damaged is damaged (")
    assert said("other").startswith("s3://code/other has the wrong content: its hash is ")


@pytest.mark.parametrize("change", [with_other_content, with_a_program, with_another_link, without("empty")])
def test_an_archive_with_anything_changed_has_another_hash(packed, tmp_path, change):
    (tmp_path / "bundle").write_bytes(rewritten(packed.path.read_bytes(), lambda entry, file: (entry, file)))
    assert on_machine.bundle_hash(tmp_path / "bundle") == packed.hash
    (tmp_path / "bundle").write_bytes(rewritten(packed.path.read_bytes(), change))
    assert on_machine.bundle_hash(tmp_path / "bundle") != packed.hash


@pytest.mark.parametrize("wrong", ["cut", "no archive", "not packed"])
def test_what_is_no_archive_has_no_hash(packed, tmp_path, wrong):
    content = packed.path.read_bytes()
    contents = {
        "cut": content[: len(content) // 2],
        "no archive": gzip.compress(b"something else"),
        "not packed": gzip.decompress(content),
    }
    (tmp_path / "bundle").write_bytes(contents[wrong])
    with pytest.raises((OSError, EOFError, tarfile.TarError)):
        on_machine.bundle_hash(tmp_path / "bundle")


def test_a_server_that_is_busy_for_a_moment_is_asked_again(run, metadata, s3, packed, tmp_path):
    metadata.fault("/latest/api/token", status=503, times=2)
    run(
        "fetch",
        f"s3://code/{KEY}",
        packed.hash,
        str(tmp_path / "bundle"),
        "us-east-1",
        AWS_ENDPOINT_URL=s3,
        **metadata.environment(),
    )
    assert (tmp_path / "bundle").read_bytes() == packed.path.read_bytes()


def test_a_machine_without_a_role_says_so(run, s3, packed, tmp_path):
    with Metadata(role="") as service:
        words = ("fetch", f"s3://code/{KEY}", packed.hash, str(tmp_path / "bundle"), "us-east-1")
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
