"""The Python part of the start-up script. It is embedded in the script and runs with the machine's own Python (3.7 or later).

It runs before anything is installed, so it imports only the standard library, and no other module of this library::

    on_machine.py identity PROVIDER                          print the machine's name and, on EC2, its region
    on_machine.py fetch ADDRESS HASH FILE REGION             download a bundle, with the machine's role
    on_machine.py relay LOG                                  copy a worker's output to a file, and a part of it to the console
    on_machine.py delete                                     delete this Compute Engine instance with its disk
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import hmac
import json
import os
import re
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

METADATA = os.environ.get("TASKFLEET_METADATA_URL") or "http://169.254.169.254"
#: The metadata service is never reached through a proxy.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
METADATA_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
PAUSES_SECONDS = (1, 2, 4, 8, 15, 15, 15)
#: As in ``manifest.py``.
MANIFEST = ".taskfleet/bundle.jsonl"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
#: Limits of the worker's output on the console: this much at first, then a line per minute, and the last lines at the end.
CONSOLE_BYTES = 8 << 10
CONSOLE_PAUSE_SECONDS = 60.0
LAST_LINES = 12
LINE_BYTES = 240
LOG_BYTES = 16 << 20


class RequestError(Exception):
    """A failed request, and how many attempts it is worth in all."""

    def __init__(self, text: str, attempts: int = 1) -> None:
        super().__init__(text)
        self.attempts = attempts


def retry_call(action: Callable[[], T]) -> T:
    """Call a function until it succeeds or its error is not worth another attempt."""
    for done, pause in enumerate((*PAUSES_SECONDS, 0), 1):
        try:
            return action()
        except RequestError as error:
            if done >= error.attempts or not pause:
                raise
            print(f"{error}; retry in {pause} s", file=sys.stderr, flush=True)
            time.sleep(pause)
    raise AssertionError


def metadata(path: str, headers: dict[str, str], method: str = "GET") -> str:
    """Return a value of the metadata service."""
    request = urllib.request.Request(METADATA.rstrip("/") + path, headers=headers, method=method)
    try:
        with DIRECT.open(request, timeout=METADATA_SECONDS) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        raise RequestError(f"the metadata service answers {error.code} to {path}", 4) from error
    except OSError as error:
        raise RequestError(f"the metadata service does not answer ({error})", 4) from error


def ec2_metadata(path: str) -> str:
    """Return a value of EC2's metadata service, version 2."""
    token = metadata("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    return metadata(f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": token})


def gce_metadata(path: str) -> str:
    """Return a value of Compute Engine's metadata server."""
    return metadata(f"/computeMetadata/v1/{path}", {"Metadata-Flavor": "Google"})


def identity(provider: str) -> None:
    """Print the machine's name and, on EC2, its region."""
    if provider == "aws":
        print(retry_call(lambda: ec2_metadata("instance-id")), retry_call(lambda: ec2_metadata("placement/region")))
    else:
        print(retry_call(lambda: gce_metadata("instance/name")))


def s3_request(address: str, region: str) -> urllib.request.Request:
    """Return the request for an object in S3, signed with the role of the machine."""
    try:
        role = ec2_metadata("iam/security-credentials/").split()[0]
        login = json.loads(ec2_metadata(f"iam/security-credentials/{role}"))
    except (RequestError, IndexError, ValueError) as error:
        raise RequestError(
            f"this machine has no role to read {address} with, see INSTANCE_PROFILE ({error})", 4
        ) from error
    bucket, _, key = address[len("s3://") :].partition("/")
    path = "/" + urllib.parse.quote(key, safe="/-_.~")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if endpoint:
        base, path = endpoint.rstrip("/"), f"/{bucket}{path}"
    elif "." in bucket:  # the certificate does not cover such a host name
        base, path = f"https://s3.{region}.{suffix}", f"/{bucket}{path}"
    else:
        base = f"https://{bucket}.s3.{region}.{suffix}"
    headers = sign(base, path, region, login, datetime.datetime.now(datetime.timezone.utc))  # noqa: UP017
    return urllib.request.Request(base + path, headers=headers)


def sign(base: str, path: str, region: str, login: dict[str, str], now: datetime.datetime) -> dict[str, str]:
    """Return the headers of a GET, see https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html."""
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "host": urllib.parse.urlsplit(base).netloc,
        "x-amz-content-sha256": EMPTY_HASH,
        "x-amz-date": stamp,
        "x-amz-security-token": login["Token"],
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join(["GET", path, "", lines, names, EMPTY_HASH])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + login["SecretAccessKey"]).encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    name = login["AccessKeyId"]
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={name}/{scope},SignedHeaders={names},Signature={key.hex()}"
    return headers


def gs_request(address: str) -> urllib.request.Request:
    """Return the request for an object in Cloud Storage, with a token of the machine's service account."""
    bucket, _, key = address[len("gs://") :].partition("/")
    base, headers = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/"), {}
    if not base:
        base = "https://storage.googleapis.com"
        token = json.loads(gce_metadata("instance/service-accounts/default/token"))["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
    elif "://" not in base:
        base = f"http://{base}"
    bucket, key = urllib.parse.quote(bucket, safe=""), urllib.parse.quote(key, safe="")
    return urllib.request.Request(f"{base}/download/storage/v1/b/{bucket}/o/{key}?alt=media", headers=headers)


def fetch(address: str, digest: str, path: str, region: str) -> None:
    """Download a bundle and verify its hash."""

    def attempt() -> None:
        request = s3_request(address, region) if address.startswith("s3://") else gs_request(address)
        try:
            with urllib.request.urlopen(request, timeout=READ_TIMEOUT_SECONDS) as answer, open(path, "wb") as file:
                while True:
                    part = answer.read(1 << 20)
                    if not part:
                        break
                    file.write(part)
        except urllib.error.HTTPError as error:
            text = " ".join(error.read(2000).decode(errors="replace").split())
            match = re.search("<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text)
            text = f"{match[1]}: {match[2]}" if match else text[:300]
            attempts = {403: 4, 400: 1, 404: 1}.get(error.code, 99)  # a new role can take a moment to be effective
            raise RequestError(f"{address}: {error.code} {text}", attempts) from error
        except OSError as error:
            raise RequestError(f"{address}: {error}", 99) from error
        try:
            found = bundle_hash(path)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise RequestError(f"{address} is damaged ({error})", 3) from error
        if found != digest:
            raise RequestError(f"{address} has the wrong content: its hash is {found}", 3)

    retry_call(attempt)


def bundle_hash(path: str) -> str:
    """Return the hash of the manifest of an archive, computed from its files as in ``manifest.py``."""
    found = hashlib.sha256()
    with gzip.open(path) as file:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for entry in tar:
                if entry.name == MANIFEST:
                    continue
                digest = hashlib.sha256(b"" if entry.isfile() else os.fsencode(entry.linkname))
                opened = tar.extractfile(entry) if entry.isfile() else None
                while opened is not None:
                    part = opened.read(1 << 20)
                    if not part:
                        break
                    digest.update(part)
                kind = "program" if entry.mode & 0o100 else "file"
                if not entry.isfile():
                    kind = "link" if entry.issym() else "neither"
                found.update((json.dumps([entry.name, kind, digest.hexdigest()]) + "\n").encode())
        while file.read(1 << 20):  # the checksum of gzip is at the end
            pass
    return found.hexdigest()


def delete() -> None:
    """Delete this Compute Engine instance, if its service account has the permission."""
    base = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE") or "https://compute.googleapis.com/compute/v1/"
    project, zone, name = (gce_metadata(path) for path in ("project/project-id", "instance/zone", "instance/name"))
    token = json.loads(gce_metadata("instance/service-accounts/default/token"))["access_token"]
    url = f"{base.rstrip('/')}/projects/{project}/zones/{zone.rpartition('/')[2]}/instances/{name}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method="DELETE")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except OSError as error:
        raise RequestError(
            f"this machine cannot delete itself; its disk is paid for until it is deleted ({error})"
        ) from error


def relay(log_path: str) -> None:
    """Copy standard input to a log file of limited size, and a part of it to standard output."""
    left, printed_at, rest = CONSOLE_BYTES, 0.0, b""
    last: list[bytes] = []

    def show(line: bytes) -> None:
        nonlocal left, printed_at
        data = b"taskfleet-said: " + line[:LINE_BYTES] + b"\n"
        left, printed_at = left - len(data), time.monotonic()
        with suppress(OSError):
            os.write(1, data)

    log = open(log_path, "ab", 0)  # noqa: SIM115
    while True:
        data = os.read(0, 1 << 16)
        with suppress(OSError):  # the worker reports a full disk
            log.write(data)
            if log.tell() > LOG_BYTES:
                log.close()
                os.replace(log_path, log_path + ".before")
                log = open(log_path, "ab", 0)  # noqa: SIM115
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n") if data else (rest, b"")
        rest = rest[-LINE_BYTES:]
        for line in filter(None, lines):
            if left > 0 or time.monotonic() > printed_at + CONSOLE_PAUSE_SECONDS:
                show(line)
                last.clear()
            else:
                last.append(line)
                del last[:-LAST_LINES]
        if not data:
            break
    for line in last:
        show(line)


if __name__ == "__main__":
    try:
        command, *arguments = sys.argv[1:]
        if command == "identity":
            identity(*arguments)
        elif command == "fetch":
            fetch(*arguments)
        elif command == "delete":
            delete()
        else:
            relay(*arguments)
    except RequestError as error:
        sys.exit(str(error))
