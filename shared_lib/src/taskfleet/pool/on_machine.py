"""What a machine's start-up script does in Python: it travels in the script and runs with whatever Python the machine has (3.7 or later).

It runs before anything is installed, so it imports the standard library only, and nothing of ours::

    on_machine.py identity PROVIDER                          prints the machine's name and, of AWS, its region
    on_machine.py fetch ADDRESS HASH FILE REGION             gets a bundle, with the machine's own role
    on_machine.py relay LOG                                  copies what a worker prints to a file, and a little of it to the console
    on_machine.py delete                                     has Google delete the machine, disk and all: one that is off has its price
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
#: No proxy stands between a machine and its metadata.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
METADATA_SECONDS = 5
SILENCE_SECONDS = 30
PAUSES_SECONDS = (1, 2, 4, 8, 15, 15, 15)
#: As in ``manifest.py``.
MANIFEST = ".taskfleet/bundle.jsonl"
EMPTY_HASH = hashlib.sha256(b"").hexdigest()
#: Of what a worker prints: so much goes to the console at once, then a line a minute, and the last lines at its end.
CONSOLE_BYTES = 8 << 10
CONSOLE_PAUSE_SECONDS = 60.0
LAST_LINES = 12
LINE_BYTES = 240
LOG_BYTES = 16 << 20


class Fault(Exception):
    """Something that cannot be had, and how often it is worth another try."""

    def __init__(self, text: str, tries: int = 1) -> None:
        super().__init__(text)
        self.tries = tries


def persist(action: Callable[[], T]) -> T:
    """Do something until it works or is not worth another try."""
    for done, pause in enumerate((*PAUSES_SECONDS, 0), 1):
        try:
            return action()
        except Fault as fault:
            if done >= fault.tries or not pause:
                raise
            print(f"{fault}; trying again in {pause} s", file=sys.stderr, flush=True)
            time.sleep(pause)
    raise AssertionError


def metadata(path: str, headers: dict[str, str], method: str = "GET") -> str:
    """Ask the metadata service."""
    request = urllib.request.Request(METADATA.rstrip("/") + path, headers=headers, method=method)
    try:
        with DIRECT.open(request, timeout=METADATA_SECONDS) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        raise Fault(f"the metadata service answers {error.code} to {path}", 4) from error
    except OSError as error:
        raise Fault(f"the metadata service does not answer ({error})", 4) from error


def of_ec2(path: str) -> str:
    """Ask EC2's metadata service, version 2."""
    token = metadata("/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    return metadata(f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": token})


def of_gce(path: str) -> str:
    """Ask Compute Engine's metadata server."""
    return metadata(f"/computeMetadata/v1/{path}", {"Metadata-Flavor": "Google"})


def identity(provider: str) -> None:
    """Print what this machine is called, and where it is."""
    if provider == "aws":
        print(persist(lambda: of_ec2("instance-id")), persist(lambda: of_ec2("placement/region")))
    else:
        print(persist(lambda: of_gce("instance/name")))


def of_s3(address: str, region: str) -> urllib.request.Request:
    """Make the request for a file in S3, signed with the role of the machine."""
    try:
        role = of_ec2("iam/security-credentials/").split()[0]
        login = json.loads(of_ec2(f"iam/security-credentials/{role}"))
    except (Fault, IndexError, ValueError) as error:
        raise Fault(f"this machine has no role to read {address} with, see INSTANCE_PROFILE ({error})", 4) from error
    bucket, _, key = address[len("s3://") :].partition("/")
    path = "/" + urllib.parse.quote(key, safe="/-_.~")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if endpoint:
        base, path = endpoint.rstrip("/"), f"/{bucket}{path}"
    elif "." in bucket:  # no certificate covers such a name
        base, path = f"https://s3.{region}.{suffix}", f"/{bucket}{path}"
    else:
        base = f"https://{bucket}.s3.{region}.{suffix}"
    headers = sign(base, path, region, login, datetime.datetime.now(datetime.timezone.utc))  # noqa: UP017
    return urllib.request.Request(base + path, headers=headers)


def sign(base: str, path: str, region: str, login: dict[str, str], now: datetime.datetime) -> dict[str, str]:
    """Sign a GET as https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html says."""
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


def of_gs(address: str) -> urllib.request.Request:
    """Make the request for a file in Google's storage, with the token of the machine's service account."""
    bucket, _, key = address[len("gs://") :].partition("/")
    base, headers = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/"), {}
    if not base:
        base = "https://storage.googleapis.com"
        token = json.loads(of_gce("instance/service-accounts/default/token"))["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
    elif "://" not in base:
        base = f"http://{base}"
    bucket, key = urllib.parse.quote(bucket, safe=""), urllib.parse.quote(key, safe="")
    return urllib.request.Request(f"{base}/download/storage/v1/b/{bucket}/o/{key}?alt=media", headers=headers)


def fetch(address: str, digest: str, path: str, region: str) -> None:
    """Get a bundle and see that it is what its name says."""

    def attempt() -> None:
        request = of_s3(address, region) if address.startswith("s3://") else of_gs(address)
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as answer, open(path, "wb") as file:
                while True:
                    part = answer.read(1 << 20)
                    if not part:
                        break
                    file.write(part)
        except urllib.error.HTTPError as error:
            text = " ".join(error.read(2000).decode(errors="replace").split())
            said = re.search("<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text)
            text = f"{said[1]}: {said[2]}" if said else text[:300]
            tries = {403: 4, 400: 1, 404: 1}.get(error.code, 99)  # a role may be known a moment later
            raise Fault(f"{address}: {error.code} {text}", tries) from error
        except OSError as error:
            raise Fault(f"{address}: {error}", 99) from error
        try:
            found = bundle_hash(path)
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise Fault(f"{address} is damaged ({error})", 3) from error
        if found != digest:
            raise Fault(f"{address} is not what its name says: its hash is {found}", 3)

    persist(attempt)


def bundle_hash(path: str) -> str:
    """Return the hash of a list of the files that are in an archive, which is the list that ``manifest.py`` makes."""
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
        while file.read(1 << 20):  # gzip's own check is at the end
            pass
    return found.hexdigest()


def delete() -> None:
    """Have Compute Engine delete this machine; its service account may not be permitted to."""
    base = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE") or "https://compute.googleapis.com/compute/v1/"
    project, zone, name = (of_gce(path) for path in ("project/project-id", "instance/zone", "instance/name"))
    token = json.loads(of_gce("instance/service-accounts/default/token"))["access_token"]
    url = f"{base.rstrip('/')}/projects/{project}/zones/{zone.rpartition('/')[2]}/instances/{name}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method="DELETE")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except OSError as error:
        raise Fault(
            f"this machine cannot be deleted by itself, which costs its disk until somebody does ({error})"
        ) from error


def relay(log_path: str) -> None:
    """Copy standard input to a file that is bounded, and a little of it to standard output."""
    left, told_at, rest = CONSOLE_BYTES, 0.0, b""
    last: list[bytes] = []

    def tell(line: bytes) -> None:
        nonlocal left, told_at
        data = b"taskfleet-said: " + line[:LINE_BYTES] + b"\n"
        left, told_at = left - len(data), time.monotonic()
        with suppress(OSError):
            os.write(1, data)

    log = open(log_path, "ab", 0)  # noqa: SIM115
    while True:
        data = os.read(0, 1 << 16)
        with suppress(OSError):  # a full disk is the worker's to tell
            log.write(data)
            if log.tell() > LOG_BYTES:
                log.close()
                os.replace(log_path, log_path + ".before")
                log = open(log_path, "ab", 0)  # noqa: SIM115
        *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n") if data else (rest, b"")
        rest = rest[-LINE_BYTES:]
        for line in filter(None, lines):
            if left > 0 or time.monotonic() > told_at + CONSOLE_PAUSE_SECONDS:
                tell(line)
                last.clear()
            else:
                last.append(line)
                del last[:-LAST_LINES]
        if not data:
            break
    for line in last:
        tell(line)


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
    except Fault as fault:
        sys.exit(str(fault))
