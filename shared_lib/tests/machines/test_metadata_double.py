"""The double of the metadata services, used by real programs: botocore, google-auth and plain requests."""

import http.client
import json
import os
import subprocess
import sys

import pytest

from shared_lib.tests.services.metadata import Metadata

TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


@pytest.fixture
def metadata(tmp_path):
    with Metadata("i-1", region="eu-west-3", notice_file=str(tmp_path / "notice")) as service:
        yield service


def ask(service, path, headers=None, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_ec2_gives_nothing_without_a_token_that_counts(metadata):
    path = "/latest/meta-data/instance-id"
    assert ask(metadata, path)[0] == 401
    assert ask(metadata, path, {"X-aws-ec2-metadata-token": "guessed"})[0] == 401
    assert ask(metadata, "/latest/api/token", method="PUT")[0] == 400
    assert ask(metadata, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21601"}, "PUT")[0] == 400
    assert ask(metadata, "/latest/api/token", {**TTL, "X-Forwarded-For": "1.2.3.4"}, "PUT")[0] == 403
    status, token, _ = ask(metadata, "/latest/api/token", TTL, "PUT")
    assert status == 200
    headers = {"X-aws-ec2-metadata-token": token}
    assert ask(metadata, path, headers)[:2] == (200, "i-1")
    assert ask(metadata, "/latest/meta-data/spot/instance-action", headers)[0] == 404
    metadata.advance(61)
    assert ask(metadata, path, headers)[0] == 401


def told(service, home, program):
    """Run a program that finds the service as it would on a machine; return its output."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **service.environment()}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_boto3_finds_the_role_and_the_region(metadata, tmp_path):
    program = """
import boto3
from botocore.utils import InstanceMetadataRegionFetcher
found = boto3.Session().get_credentials()
print(found.access_key, found.secret_key, found.token)
print(InstanceMetadataRegionFetcher(config={"ec2_metadata_service_endpoint": "%s"}).retrieve_region())
"""
    address = metadata.environment()["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    assert told(metadata, tmp_path, program % address) == ["ASIATESTTESTTESTTEST", "test", "test-session", "eu-west-3"]


def test_google_auth_finds_the_account_and_the_project(metadata, tmp_path):
    program = """
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default()
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token, credentials.service_account_email, project)
"""
    metadata_ip = {"GCE_METADATA_IP": metadata.environment()["GCE_METADATA_HOST"]}
    program = f"import os; os.environ.update({metadata_ip}){program}"
    assert told(metadata, tmp_path, program) == [
        "test-session",
        "worker@test-project.iam.gserviceaccount.com",
        "test-project",
    ]


def test_google_wants_its_header_and_waits_for_a_change(metadata, tmp_path):
    path = "/computeMetadata/v1/instance/preempted"
    google = {"Metadata-Flavor": "Google"}
    assert ask(metadata, path)[0] == 403
    assert ask(metadata, path, {**google, "X-Forwarded-For": "1.2.3.4"})[0] == 403
    assert ask(metadata, "/computeMetadata/v1/instance/nothing", google)[0] == 404
    status, text, headers = ask(metadata, path, google)
    assert (status, text, headers["Metadata-Flavor"]) == (200, "FALSE", "Google")
    waiting = f"{path}?wait_for_change=true&timeout_sec=1&last_etag={headers['ETag']}"
    assert ask(metadata, waiting, google)[1] == "FALSE"
    (tmp_path / "notice").touch()
    assert ask(metadata, waiting.replace("=1&", "=60&"), google)[1] == "TRUE"


def test_a_notice_says_when(metadata):
    metadata.notice(seconds=100, action="stop")
    token = ask(metadata, "/latest/api/token", TTL, "PUT")[1]
    _, text, _ = ask(metadata, "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
    assert json.loads(text)["action"] == "stop"
    assert json.loads(text)["time"].endswith("Z")
