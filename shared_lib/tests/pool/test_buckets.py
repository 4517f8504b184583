"""Bundles in buckets, through the real clients: S3 by moto, Cloud Storage by its emulator."""

import json
import os
import socket
import threading
import urllib.parse
import urllib.request
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from taskfleet.errors import CredentialsError, PermissionDeniedError, UnreachableError, WrongSettingError
from taskfleet.pool import bundle as bundles

pytestmark = pytest.mark.slow

PROVIDERS = {"aws": "s3", "gcp": "gs"}


class S3:
    """Access to S3 without the code under test."""

    def __init__(self, address):
        self.client = boto3.client("s3", endpoint_url=address, region_name="eu-west-3")
        if "code" not in [one["Name"] for one in self.client.list_buckets()["Buckets"]]:
            self.client.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})

    def keys(self):
        return {one["Key"] for one in self.client.list_objects_v2(Bucket="code").get("Contents", ())}

    def read(self, key):
        return self.client.get_object(Bucket="code", Key=key)["Body"].read()

    def write(self, key, content):
        self.client.put_object(Bucket="code", Key=key, Body=content)


class Gs:
    """Access to Cloud Storage without the code under test."""

    def __init__(self, address):
        self.address = address

    def _open(self, path, data=None):
        with urllib.request.urlopen(urllib.request.Request(f"{self.address}/{path}", data=data), timeout=10) as answer:
            return answer.read()

    def keys(self):
        return {one["name"] for one in json.loads(self._open("storage/v1/b/code/o")).get("items", ())}

    def read(self, key):
        return self._open(f"download/storage/v1/b/code/o/{urllib.parse.quote(key, safe='')}?alt=media")

    def write(self, key, content):
        self._open(f"upload/storage/v1/b/code/o?uploadType=media&name={urllib.parse.quote(key)}", data=content)


@pytest.fixture
def aws(s3_address, monkeypatch):
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": s3_address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return S3(s3_address)


@pytest.fixture
def gcp(gs_address, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_address)
    return Gs(gs_address)


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def store(provider, request):
    found = request.getfixturevalue(provider)
    yield found
    for key in sorted(found.keys()):
        if provider == "aws":
            found.client.delete_object(Bucket="code", Key=key)
        else:
            address = f"{found.address}/storage/v1/b/code/o/{urllib.parse.quote(key, safe='')}"
            urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=10).close()


@pytest.fixture
def bundle(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "uv.lock").touch()
    return bundles.pack(project, tmp_path / "bundles")


def test_a_bundle_is_put_once_and_found_by_its_name(provider, store, bundle):
    scheme = PROVIDERS[provider]
    stored = bundles.upload(bundle, f"{scheme}://code/a folder/", job_id="one", provider=provider)
    key = f"a folder/taskfleet-bundles/one/{bundle.hash}.tar.gz"
    assert stored.address == f"{scheme}://code/{key}"
    assert stored.hash == bundle.hash
    assert stored.region == ("eu-west-3" if provider == "aws" else None)
    assert store.keys() == {key}
    assert store.read(key) == bundle.path.read_bytes()
    store.write(key, b"a mark, to see whether it is sent again")
    assert bundles.upload(bundle, f"{scheme}://code/a folder", job_id="one", provider=provider) == stored
    assert store.read(key) == b"a mark, to see whether it is sent again"


def test_teardown_removes_the_jobs_bundles_and_nothing_else(provider, store, bundle):
    bucket = f"{PROVIDERS[provider]}://code/mine"
    for job in ("one", "one-more"):
        bundles.upload(bundle, bucket, job_id=job, provider=provider)
    others = {
        f"mine/taskfleet-bundles/one-more/{bundle.name}",
        "mine/taskfleet-bundles/one/notes.txt",
        f"mine/taskfleet-bundles/one/deeper/{bundle.name}",
        f"mine/{bundle.name}",
    }
    for key in others - store.keys():
        store.write(key, b"somebody else's")
    assert len(store.keys()) == 5
    assert bundles.remove(bucket, job_id="one", provider=provider) == 0
    assert store.keys() == others
    assert bundles.remove(bucket, job_id="one", provider=provider) == 0


def test_a_bucket_that_does_not_exist_is_one_error_and_has_nothing_to_remove(provider, store, bundle):
    bucket = f"{PROVIDERS[provider]}://nobody-has-this"
    with pytest.raises(
        WrongSettingError, match=rf"^{bucket} does not exist\. Create it with: .*{bucket}, or correct BUCKET\.$"
    ):
        bundles.upload(bundle, bucket, job_id="one", provider=provider)
    assert bundles.remove(bucket, job_id="one", provider=provider) == 0


def test_a_bucket_of_the_wrong_kind_is_refused_before_anything_is_asked(provider, bundle):
    other = {"aws": "gs", "gcp": "s3"}[provider]
    with pytest.raises(
        WrongSettingError,
        match=f"does not match PROVIDER={provider}.* Set BUCKET={PROVIDERS[provider]}://bucket/folder",
    ):
        bundles.upload(bundle, f"{other}://code", job_id="one", provider=provider)
    for wrong in ("code", "https://code", f"{PROVIDERS[provider]}:///folder"):
        with pytest.raises(WrongSettingError, match="is not the URL of a bucket"):
            bundles.upload(bundle, wrong, job_id="one", provider=provider)


@pytest.mark.parametrize("denied", ["s3:PutObject", "s3:DeleteObject"])
def test_what_s3_does_not_permit_is_named(aws, bundle, denied):
    aws.client.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    if denied == "s3:DeleteObject":
        bundles.upload(bundle, "s3://theirs", job_id="one", provider="aws")
    statement = {"Effect": "Deny", "Principal": "*", "Action": denied, "Resource": "arn:aws:s3:::theirs/*"}
    aws.client.put_bucket_policy(
        Bucket="theirs", Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )
    try:
        how = {"job_id": "one", "provider": "aws"}
        act = partial(bundles.upload, bundle) if denied == "s3:PutObject" else bundles.remove
        sentence = (
            rf"^s3://theirs: these AWS credentials lack the permission {denied}\..* set BUCKET to a bucket of yours\. "
        )
        with pytest.raises(PermissionDeniedError, match=sentence) as caught:
            act("s3://theirs", **how)
        assert (caught.value.permission, caught.value.resource) == (denied, "s3://theirs")
    finally:
        aws.client.delete_bucket_policy(Bucket="theirs")
        for one in aws.client.list_objects_v2(Bucket="theirs").get("Contents", ()):
            aws.client.delete_object(Bucket="theirs", Key=one["Key"])
        aws.client.delete_bucket(Bucket="theirs")


def test_without_credentials_the_error_says_how_to_get_some(aws, bundle, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialsError, match="no AWS credentials were found"):
        bundles.upload(bundle, "s3://code", job_id="one", provider="aws")


def test_a_service_that_does_not_answer_is_one_error(bundle, monkeypatch, aws):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        with pytest.raises(UnreachableError, match=r"s3://code does not answer .*AWS_ENDPOINT_URL"):
            bundles.upload(bundle, "s3://code", job_id="one", provider="aws")
        with pytest.raises(UnreachableError, match=r"gs://code cannot be reached .*STORAGE_EMULATOR_HOST"):
            bundles.upload(bundle, "gs://code", job_id="one", provider="gcp")


def test_what_google_does_not_permit_is_named(bundle, monkeypatch):
    """The emulator permits everything; this one denies writing as Google does."""

    class Forbidding(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(404, {"error": {"code": 404, "message": "No such object"}})

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(403, {"error": {"code": 403, "message": "me does not have storage.objects.create access"}})

        def _answer(self, status, body):
            self.send_response(status)
            content = json.dumps(body).encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{server.server_port}")
        with pytest.raises(
            PermissionDeniedError,
            match=r"^gs://code: this account lacks the permission storage\.objects\.create on gs://code\. ",
        ) as caught:
            bundles.upload(bundle, "gs://code", job_id="one", provider="gcp")
        found = caught.value
        assert (found.permission, found.resource, found.principal) == ("storage.objects.create", "gs://code", "me")
        server.shutdown()
