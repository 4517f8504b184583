"""What tests may need from the system."""

import ctypes
import os
import struct
import sys
import tempfile
from pathlib import Path

import pyarrow.fs
import pytest
from hypothesis import HealthCheck, settings
from taskfleet.invocation import remember_flags

from shared_lib.tests.services import buckets, slurm, slurm_accounts, ssh

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")  # how long an example takes says nothing where other things run as well

# Of the poe that runs the tests: commands under test would take paths relative to the checkout, and write files into it.
os.environ.pop("POE_PWD", None)

#: The bucket that Google's storage has from the start.
GS_BUCKET = "code"
#: From <linux/capability.h>: what lets root past the permissions of files.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522


@pytest.fixture(autouse=True)
def no_remembered_flags():
    """Forget the flags of a command that a test ran in this process, which suggested commands would have too."""
    yield
    remember_flags(lambda _: ())


@pytest.fixture(scope="session")
def lacking():
    """Ends a test that needs what is not there: ``lacking(reason)`` skips it, but fails it where CI is set, lest it is never run."""

    def end(reason):
        if os.environ.get("CI"):
            pytest.fail(f"CI must have what this test needs: {reason}")
        pytest.skip(reason)

    return end


@pytest.fixture(scope="module")
def s3_address():
    """Serves S3, with no buckets."""
    with buckets.s3() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def gs_address():
    """Serves Google's storage, with the bucket GS_BUCKET."""
    with buckets.google_storage(GS_BUCKET) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def s3_bucket(s3_address, monkeypatch):
    """The address of a bucket of S3, which this process may use."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    host = s3_address.partition("://")[2]
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=host, scheme="http", region="eu-central-1", allow_bucket_creation=True
    )
    files.create_dir("bucket")
    return "s3://bucket"


@pytest.fixture
def gs_bucket(gs_address, monkeypatch):
    """The address of a bucket of Google's storage, which this process may use."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_address)
    return f"gs://{GS_BUCKET}"


@pytest.fixture
def permissions(lacking):
    """Has permissions of files apply to this process even if it is root's, as long as the test runs."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        lacking("root's privileges can be laid down on Linux only; run the tests as another user")
    effective, permitted, inheritable = _capabilities()
    _set_effective(effective & ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH), permitted, inheritable)
    yield
    _set_effective(effective, permitted, inheritable)


def _call(name, header, data):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(header, data) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed")


def _header():
    return ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))


def _capabilities():
    """Give the effective, permitted and inheritable sets of this thread."""
    data = ctypes.create_string_buffer(24)
    _call("capget", _header(), data)
    low, high = struct.unpack("3I", data.raw[:12]), struct.unpack("3I", data.raw[12:24])
    return [one | other << 32 for one, other in zip(low, high, strict=True)]


def _set_effective(*sets):
    low, high = (one & 0xFFFFFFFF for one in sets), (one >> 32 for one in sets)
    _call("capset", _header(), ctypes.create_string_buffer(struct.pack("6I", *low, *high)))


@pytest.fixture(scope="session")
def slurm_cluster(lacking):
    """A real Slurm cluster of two nodes with eight CPUs each, and its commands for this process."""
    if missing := slurm.missing():
        lacking(missing)
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, slurm.cluster(Path(folder)) as made:
        yield made


@pytest.fixture(scope="session")
def slurm_with_accounts(lacking):
    """Another cluster, which has accounts, lets urgent jobs cancel others, and forgets jobs two seconds after their end."""
    if missing := slurm_accounts.missing():
        lacking(missing)
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm.cluster(Path(folder), min_job_age=2, has_accounts=True) as made,
    ):
        yield made


@pytest.fixture
def on_slurm(slurm_cluster, monkeypatch):
    """Lets this process and its children use the cluster; ends all their jobs."""
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.configuration)
    yield slurm_cluster
    slurm_cluster.end_jobs()


@pytest.fixture
def ssh_hosts(lacking, tmp_path):
    """The user's configuration of ssh, and computers to reach with it, see ``services.ssh``: ``ssh_hosts.add(name)``."""
    if missing := ssh.missing():
        lacking(missing)
    folder = tmp_path / "ssh"
    folder.mkdir()
    with ssh.hosts(folder) as made:
        yield made
