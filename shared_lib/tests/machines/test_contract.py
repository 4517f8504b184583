"""The contract of machines at the doubles of AWS and Google Cloud; ``test_local`` has that of local machines."""

from types import SimpleNamespace

import pytest
from taskfleet.machine_terms import Architecture, Market
from taskfleet.machines.aws import machines as aws_machines
from taskfleet.machines.aws.machines import AwsMachines
from taskfleet.machines.aws.regions import LaunchSettings as AwsSettings
from taskfleet.machines.gcp.bodies import LaunchSettings as GcpSettings
from taskfleet.machines.gcp.machines import GcpMachines

from shared_lib.tests.machines.contract import Contract, offer
from shared_lib.tests.services.ec2 import Ec2
from shared_lib.tests.services.gce import PROJECT, Gce


class Printing:
    """Print something on a machine's console."""

    def __init__(self, show):
        self._show = show

    def __call__(self, instance_id):
        self._show(instance_id, f"{instance_id} is up\n")
        return f"{instance_id} is up"


@pytest.fixture(scope="module")
def ec2():
    with Ec2() as one:
        yield one
        assert one.unlisted() == set()


@pytest.fixture(scope="module")
def gce():
    with Gce() as one:
        yield one
        assert one.unlisted() == set()


class TestAws(Contract):
    @pytest.fixture
    def cloud(self, ec2, monkeypatch, tmp_path):
        for name, value in ec2.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setattr(aws_machines, "LAUNCH_PAUSE_SECONDS", 0.01)
        zones = ("us-east-1a", "us-east-1b", "us-east-1c")
        for zone in zones:
            ec2.price("c5.xlarge", zone, 0.1)
        ec2.stock("c5.xlarge", "us-east-1c", 0)

        def machines(job_id):
            return AwsMachines(
                AwsSettings(
                    job_id=job_id, run=f"{job_id}-run", regions=("us-east-1",), architecture=Architecture.X86_64
                ),
                script=lambda request: f"#!/bin/sh\necho {request.token}\n",
            )

        def made(zone):
            return offer("c5.xlarge", zone, Market.SPOT, 0.2, 4, boot_disk_type="gp3")

        yield SimpleNamespace(
            machines=machines("job"),
            others=machines("other"),
            offers=tuple(made(zone) for zone in zones[:2]),
            dry=made("us-east-1c"),
            can_queue=False,
            no_such_name="i-0123456789abcdef0",
            says=Printing(ec2.console),
        )
        ec2.clear_faults()
        ec2.empty()


class TestGcp(Contract):
    @pytest.fixture
    def cloud(self, gce):
        gce.capacity("us-central1-c", "n2-standard-8", 0)

        def machines(job_id):
            return GcpMachines(
                GcpSettings(project=PROJECT, job_id=job_id, run=job_id, regions=("us-central1",)),
                script=lambda request: f"#!/bin/sh\necho {request.token}\n",
                patience_seconds=0.3,
                operation_seconds=20.0,
                compute_endpoint=gce.endpoint,
                resource_manager_endpoint=gce.endpoint,
            )

        def made(zone):
            return offer("n2-standard-8", zone, Market.SPOT, 0.2, 8, boot_disk_type="pd-balanced")

        yield SimpleNamespace(
            machines=machines("job"),
            others=machines("other"),
            offers=(made("us-central1-a"),),
            dry=made("us-central1-c"),
            can_queue=False,
            no_such_name="job-9-none-1",
            says=Printing(gce.print),
        )
        gce.clear_faults()
        gce.reset()
