"""AWS EC2 and Compute Engine on this machine, each started once by the first test that needs it."""

import os

import pytest

from shared_lib.tests.services.ec2 import Ec2
from shared_lib.tests.services.gce import Gce


def point_at(monkeypatch, service, home):
    """Configure the SDK for the double, without the user's configuration."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def ec2_service():
    with Ec2() as service:
        yield service
        assert service.unlisted() == set()


@pytest.fixture
def ec2(ec2_service, monkeypatch, tmp_path):
    point_at(monkeypatch, ec2_service, tmp_path)
    yield ec2_service
    ec2_service.clear_faults()


@pytest.fixture(scope="session")
def gce_service():
    with Gce() as service:
        yield service
        assert service.unlisted() == set()


@pytest.fixture
def gce(gce_service):
    yield gce_service
    gce_service.clear_faults()
    gce_service.reset()
