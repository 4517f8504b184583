"""What machines need that boot on this one."""

import subprocess

import pytest

from tests.machines.host import Host, left_over, missing


@pytest.fixture(scope="module")
def extras():
    """For both clouds."""
    return "aws", "gcp"


@pytest.fixture(scope="module")
def baked(request, lacking):
    """A project whose packages are in uv's cache, because they were installed here."""
    if reason := missing():
        lacking(reason)
    return request.getfixturevalue("synced")


@pytest.fixture
def host(baked, tmp_path):
    cache = subprocess.run(
        ["uv", "cache", "dir"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    with Host(tmp_path, cache) as one:
        yield one
    assert left_over() == []
