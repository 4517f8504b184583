"""Machines of Google Cloud: the real clients launch, list and terminate them at a double over a socket."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from urllib.parse import quote

import pytest
from google.api_core.exceptions import Unauthorized
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    SettingsError,
    StartUpError,
    UnreachableError,
    WrongSettingError,
)
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Architecture, Market
from taskfleet.machines import EndReason, FailureReason, LaunchRequest, Machines, MachineState
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp.bodies import LaunchSettings, label_text, label_value
from taskfleet.machines.gcp.errors import read_operation_errors, read_request_error
from taskfleet.machines.gcp.machines import GcpMachines
from taskfleet.pool.controller import Controller
from taskfleet.pool.planning import Limits

from shared_lib.tests.services.gce import PROJECT

ZONE, OTHER_ZONE = "us-central1-a", "us-central1-b"
JOB = "Müller's job of 2026"
SCRIPT = "#!/bin/sh\necho started\n"


def offer(name="n2-standard-8", zone=ZONE, market=Market.SPOT, disk="pd-balanced", gib=20.5, **more):
    return Offer(
        instance_type=name,
        zone=zone,
        market=market,
        usd_per_slot_hour=0.01,
        usd_per_hour=0.08,
        machine_usd_per_hour=0.07,
        slots=8,
        boot_disk_type=disk,
        boot_disk_gib=gib,
        cpus=8,
        memory_gib=32.0,
        cpu_rank=21,
        **more,
    )


def order(number=1, *offers, token="run-1-abc", lifetime_seconds=3600.0):
    return LaunchRequest(token=token, number=number, offers=offers or (offer(),), lifetime_seconds=lifetime_seconds)


@pytest.fixture
def make(gce):
    """Returns the machines of a job at the double; ``make(job_id=..., ...)``."""

    def make(**more):
        settings = {"project": PROJECT, "job_id": JOB, "run": "run", "regions": ("us-central1",)}
        options = {"script": lambda order: SCRIPT + order.token, "patience_seconds": 0.3, "operation_seconds": 20.0}
        options |= {"compute_endpoint": gce.endpoint, "resource_manager_endpoint": gce.endpoint}
        for name, value in more.items():
            (options if name in options else settings)[name] = value
        return GcpMachines(LaunchSettings(**settings), **options)

    return make


@pytest.fixture
def machines(make) -> Machines:
    return make()


@pytest.fixture
def instance(gce):
    """Returns an instance as the service has it."""

    def instance(name, zone=ZONE):
        options = {"api_endpoint": gce.endpoint}
        with compute_v1.InstancesClient(credentials=AnonymousCredentials(), client_options=options) as client:
            return client.get(project=PROJECT, zone=zone, instance=name)

    return instance


def ask(gce, method, path, body=None):
    """Send a request to the double without the library."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{gce.endpoint}/compute/v1/projects/{PROJECT}/{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def insert_stranger(gce, name, zone=ZONE, labels=None):
    image = "projects/debian-cloud/global/images/debian-13-trixie-v20261010"
    disk = {"sourceImage": image, "diskType": f"zones/{zone}/diskTypes/pd-standard", "diskSizeGb": "10"}
    body = {"name": name, "machineType": f"zones/{zone}/machineTypes/e2-micro", "labels": labels or {}}
    body |= {"disks": [{"initializeParams": disk}], "networkInterfaces": [{"network": "global/networks/default"}]}
    ask(gce, "POST", f"zones/{zone}/instances", body | {"scheduling": {}})


def states(machines):
    return {one.instance_id: one.state for one in machines.list()}


def one_refusal(answer):
    assert answer.launched == ()
    [refused] = answer.failures
    return refused.reason, refused.text


# --- launch ---


def test_the_machines_of_an_order_are_started(machines):
    answer = machines.launch(order(3))
    assert [one.instance_id for one in answer.launched] == ["run-1-abc-1", "run-1-abc-2", "run-1-abc-3"]
    assert {(one.instance_type, one.zone) for one in answer.launched} == {("n2-standard-8", ZONE)}
    assert answer.failures == ()
    found = machines.list()
    assert sorted(one.instance_id for one in found) == ["run-1-abc-1", "run-1-abc-2", "run-1-abc-3"]
    one = found[0]
    assert (one.request_token, one.state, one.zone) == ("run-1-abc", MachineState.RUNNING, ZONE)
    assert (one.instance_type, one.market) == ("n2-standard-8", Market.SPOT)
    assert one.created_at > time.time() - 60  # the double's clock may have been advanced


def test_a_spot_machine_is_told_everything(machines, instance):
    machines.launch(order(1, offer(name="c3-standard-4-lssd"), lifetime_seconds=5400.7))
    found = instance("run-1-abc-1")
    scheduling = found.scheduling
    assert (scheduling.provisioning_model, scheduling.instance_termination_action) == ("SPOT", "DELETE")
    assert scheduling.max_run_duration.seconds == 5400
    assert (scheduling.automatic_restart, scheduling.on_host_maintenance) == (False, "TERMINATE")
    [disk] = found.disks
    made = disk.initialize_params
    assert (disk.boot, disk.auto_delete, made.disk_size_gb) == (True, True, 21)
    assert made.disk_type == f"zones/{ZONE}/diskTypes/pd-balanced"
    assert made.source_image == "projects/ubuntu-os-cloud/global/images/ubuntu-2604-resolute-amd64-v20261105"
    labels = {"taskfleet-job": label_value(JOB), "taskfleet-run": "run", "taskfleet-order": "run-1-abc"}
    assert dict(found.labels) == dict(made.labels) == labels
    assert [(one.key, one.value) for one in found.metadata.items] == [("startup-script", SCRIPT + "run-1-abc")]
    [account] = found.service_accounts
    assert (account.email, list(account.scopes)) == ("default", ["https://www.googleapis.com/auth/cloud-platform"])
    [interface] = found.network_interfaces
    assert (interface.network, interface.subnetwork) == ("global/networks/default", "")
    assert [one.type_ for one in interface.access_configs] == ["ONE_TO_ONE_NAT"]
    assert list(found.tags.items) == ["taskfleet"]


def test_a_boot_disk_is_ordered_with_the_speed_that_it_is_priced_for(machines, instance):
    fast = offer("n4-standard-4", disk="hyperdisk-balanced", boot_disk_iops=5000, boot_disk_mibps=240)
    assert machines.launch(order(1, fast)).launched
    [disk] = instance("run-1-abc-1").disks
    ordered = disk.initialize_params
    assert (ordered.disk_size_gb, ordered.provisioned_iops, ordered.provisioned_throughput) == (21, 5000, 240)


def test_a_disk_that_a_machine_type_does_not_have_is_refused(machines):
    answer = machines.launch(order(1, offer("n4-standard-4", disk="pd-balanced")))
    assert answer.launched == ()
    assert "pd-balanced disk type cannot be used by n4-standard-4 machine type" in answer.failures[0].text


def test_a_machine_on_demand_ends_itself_too(machines, instance):
    machines.launch(order(1, offer(market=Market.ON_DEMAND)))
    scheduling = instance("run-1-abc-1").scheduling
    assert (scheduling.provisioning_model, scheduling.instance_termination_action) == ("STANDARD", "DELETE")
    assert scheduling.max_run_duration.seconds == 3600
    assert scheduling.automatic_restart is False
    assert scheduling.on_host_maintenance == ""
    [one] = machines.list()
    assert one.market is Market.ON_DEMAND


def test_a_series_that_cannot_be_moved_is_ended_for_maintenance(machines, instance):
    machines.launch(order(1, offer(name="h3-standard-88", market=Market.ON_DEMAND)))
    assert instance("run-1-abc-1").scheduling.on_host_maintenance == "TERMINATE"


@pytest.mark.parametrize(("lifetime", "seconds"), [(1.0, 30), (1e9, 120 * 86400)])
def test_a_lifetime_is_within_what_the_service_takes(machines, instance, lifetime, seconds):
    machines.launch(order(1, lifetime_seconds=lifetime))
    assert instance("run-1-abc-1").scheduling.max_run_duration.seconds == seconds


@pytest.mark.parametrize(
    ("given", "network", "subnetwork"),
    [
        ({"network": "mine"}, "global/networks/mine", ""),
        ({"subnetwork": "inner"}, "", "regions/us-central1/subnetworks/inner"),
        (
            {"network": "projects/host/global/networks/mine", "subnetwork": "regions/us-central1/subnetworks/inner"},
            "projects/host/global/networks/mine",
            "regions/us-central1/subnetworks/inner",
        ),
    ],
)
def test_networks_are_named_or_given_as_paths(make, instance, given, network, subnetwork):
    assert make(**given).launch(order()).launched
    [interface] = instance("run-1-abc-1").network_interfaces
    assert (interface.network, interface.subnetwork) == (network, subnetwork)


def test_a_machine_may_have_no_address_and_an_account_of_its_own(make, instance):
    account = "worker@test-project.iam.gserviceaccount.com"
    assert make(external_ip=False, service_account=account).launch(order()).launched
    found = instance("run-1-abc-1")
    assert list(found.network_interfaces[0].access_configs) == []
    assert found.service_accounts[0].email == account


@pytest.mark.parametrize(
    ("given", "architecture", "expected"),
    [
        (None, Architecture.ARM64, "ubuntu-os-cloud/global/images/ubuntu-2404-noble-arm64-v20261101"),
        ("my-image-2", Architecture.X86_64, "test-project/global/images/my-image-2"),
        ("my-family", Architecture.X86_64, "test-project/global/images/my-image-2"),
        ("family/my-family", Architecture.X86_64, "test-project/global/images/my-image-2"),
        ("my-twin", Architecture.X86_64, "test-project/global/images/my-twin"),
        ("family/my-twin", Architecture.X86_64, "test-project/global/images/my-image-3"),
        ("my-arm-image", Architecture.ARM64, "test-project/global/images/my-arm-image"),
        ("debian-12", Architecture.X86_64, "debian-cloud/global/images/debian-12-bookworm-v20261010"),
        (
            "projects/debian-cloud/global/images/family/debian-13",
            Architecture.X86_64,
            "debian-cloud/global/images/debian-13-trixie-v20261010",
        ),
        (
            "https://www.googleapis.com/compute/v1/projects/debian-cloud/global/images/debian-13-trixie-v20261010",
            Architecture.X86_64,
            "debian-cloud/global/images/debian-13-trixie-v20261010",
        ),
    ],
)
def test_an_image_is_found_however_it_is_called(make, instance, given, architecture, expected):
    kind = "t2a-standard-4" if architecture is Architecture.ARM64 else "n2-standard-8"
    assert make(image=given, architecture=architecture).launch(order(1, offer(kind))).launched
    assert instance("run-1-abc-1").disks[0].initialize_params.source_image == f"projects/{expected}"


def test_the_image_is_looked_for_once(machines, gce):
    before = gce.requests()["images.getFromFamily"]
    machines.launch(order(token="run-1-a"))
    machines.launch(order(token="run-2-a"))
    assert gce.requests()["images.getFromFamily"] == before + 1


@pytest.mark.parametrize(
    "name", ["Run-1", "1run", "run_1", "run-", "r" * 62]
)  # "-1" is appended, so the last one has 64 characters
def test_names_that_cannot_be_are_reported_before_anything_is_started(machines, gce, name):
    token = f"{name}" if name != "run-" else "-run"
    with pytest.raises(
        WrongSettingError,
        match=r"-1' is not a valid name for an instance of Compute Engine: a name has at most 63 lower",
    ):
        machines.launch(order(token=token))
    assert machines.list() == []


def test_the_longest_name_is_taken(machines):
    token = "r" * 61
    assert [one.instance_id for one in machines.launch(order(token=token)).launched] == [f"{token}-1"]
    [one] = machines.list()
    assert one.request_token == token


def test_a_script_that_is_too_long_is_reported_before_anything_is_started(make, gce):
    longest = make(script=lambda order: "ä" * 131072)
    assert longest.launch(order()).launched
    machines = make(script=lambda order: "ä" * 131072 + "x")
    with pytest.raises(
        StartUpError, match=r"The start-up script has 262,145 bytes; the limit of Google Cloud is 262,144"
    ):
        machines.launch(order(token="run-2-abc"))
    assert len(machines.list()) == 1


# --- an order given twice ---


def test_an_order_that_is_given_twice_starts_its_machines_once(machines, gce):
    first = machines.launch(order(3))
    assert machines.launch(order(3)) == first
    assert len(machines.list()) == 3


def test_an_order_that_is_given_again_after_its_machines_are_gone_starts_nothing(machines):
    machines.launch(order(2))
    machines.terminate(["run-1-abc-1", "run-1-abc-2"])
    machines.launch(order(2))
    assert set(states(machines).values()) == {MachineState.ENDED}


def test_requests_have_numbers_of_their_own_that_are_always_the_same(make, gce):
    """After a lost response the request is repeated: the double would reject the name if the request ID were another one."""
    machines = make(patience_seconds=10.0)
    gce.fault("instances.insert", "lost", times=2)
    before = gce.requests()
    assert len(machines.launch(order(2)).launched) == 2
    asked = gce.requests() - before
    assert asked["instances.insert"] == 4
    assert asked["instances.get"] == 0
    assert len(machines.list()) == 2


def test_a_name_that_is_the_orders_own_already_counts_as_started(machines, gce):
    labels = {"taskfleet-job": label_value(JOB), "taskfleet-order": "run-1-abc"}
    insert_stranger(gce, "run-1-abc-1", labels=labels)
    assert [one.instance_id for one in machines.launch(order(2)).launched] == ["run-1-abc-1", "run-1-abc-2"]


@pytest.mark.parametrize(
    "labels", [{}, {"taskfleet-job": "another", "taskfleet-order": "run-1-abc"}, {"taskfleet-job": label_value(JOB)}]
)
def test_a_name_that_is_somebody_elses_is_rejected(machines, gce, labels):
    insert_stranger(gce, "run-1-abc-1", labels=labels)
    answer = machines.launch(order(2))
    assert [one.instance_id for one in answer.launched] == ["run-1-abc-2"]
    [refused] = answer.failures
    assert refused.reason is FailureReason.INVALID
    assert refused.text == "there is an instance named run-1-abc-1 that does not belong to this job"


# --- operations ---


def test_operations_are_waited_for_together(machines, gce):
    gce.set(operation_seconds=3.0)
    began_at = time.monotonic()
    assert len(machines.launch(order(10)).launched) == 10
    assert 2.0 < time.monotonic() - began_at < 20.0
    assert set(states(machines).values()) == {MachineState.RUNNING}


def test_an_operation_that_takes_too_long_counts_as_started(make, gce):
    gce.set(operation_seconds=600.0)
    machines = make(operation_seconds=0.5)
    assert len(machines.launch(order(2)).launched) == 2
    assert set(states(machines).values()) == {MachineState.STARTING}


def test_an_operation_that_fails_later_than_that_is_told_by_the_list(make, gce):
    gce.set(operation_seconds=600.0)
    gce.capacity(ZONE, "n2-standard-8", 0)
    machines = make(operation_seconds=0.5)
    assert len(machines.launch(order()).launched) == 1
    gce.advance(601)
    assert machines.list() == []


@pytest.mark.parametrize("kind", ["overloaded", "closed", "lost"])
def test_waiting_survives_a_service_that_is_busy(machines, gce, kind):
    gce.set(operation_seconds=0.5)
    gce.capacity(ZONE, "n2-standard-8", 1)
    gce.fault("zoneOperations.wait", kind, times=3)
    answer = machines.launch(order(2))
    assert (len(answer.launched), [one.reason for one in answer.failures]) == (1, [FailureReason.STOCK_OUT])


# --- refusals ---


def test_a_stock_out_leaves_what_was_to_be_had(machines, gce):
    gce.capacity(ZONE, "n2-standard-8", 2)
    answer = machines.launch(order(5, offer(), offer(zone=OTHER_ZONE)))
    assert len(answer.launched) == 2
    [refused] = answer.failures
    assert (refused.instance_type, refused.zone, refused.reason) == ("n2-standard-8", ZONE, FailureReason.STOCK_OUT)
    assert "does not have enough resources available" in refused.text
    assert len(machines.list()) == 2


def test_a_quota_leaves_what_it_allows(machines, gce):
    gce.quota("us-central1", 20)
    answer = machines.launch(order(4, offer(), offer(zone=OTHER_ZONE)))
    assert len(answer.launched) == 2
    [refused] = answer.failures
    assert (refused.zone, refused.reason) == (ZONE, FailureReason.QUOTA)
    assert refused.text == "Quota 'CPUS' exceeded. Limit: 20.0 in region us-central1"


@pytest.mark.parametrize(
    ("codes", "refusal"),
    [
        (["ZONE_RESOURCE_POOL_EXHAUSTED"], FailureReason.STOCK_OUT),
        (["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"], FailureReason.STOCK_OUT),
        (["STOCKOUT"], FailureReason.STOCK_OUT),
        (["SOMETHING", "QUOTA_EXCEEDED"], FailureReason.QUOTA),
        (["QUOTA_EXCEEDED"], FailureReason.QUOTA),
        (["RESOURCE_OPERATION_RATE_EXCEEDED"], FailureReason.THROTTLED),
        (["RATE_LIMIT_EXCEEDED"], FailureReason.THROTTLED),
        (["INTERNAL_ERROR"], FailureReason.STOCK_OUT),
        (["UNSUPPORTED_OPERATION"], FailureReason.INVALID),
        (["IP_SPACE_EXHAUSTED"], FailureReason.STOCK_OUT),
    ],
)
def test_what_an_operation_says_is_told_apart(machines, gce, codes, refusal):
    gce.fault("instances.insert", "operation", errors=[{"code": one, "message": f"So: {one}."} for one in codes])
    found, text = one_refusal(machines.launch(order()))
    assert found is refusal
    assert f"So: {codes[-1]}" in text


def test_a_machine_that_is_preempted_during_its_creation_counts_as_no_capacity():
    failure = read_operation_errors([("UNSUPPORTED_OPERATION", "Instance was preempted during creation.")], PROJECT)
    assert failure.reason is FailureReason.STOCK_OUT
    assert read_operation_errors([], PROJECT).reason is FailureReason.INVALID


@pytest.mark.parametrize(
    ("code", "reason", "refusal"),
    [
        (403, "quotaExceeded", FailureReason.QUOTA),
        (403, "QUOTA_EXCEEDED", FailureReason.QUOTA),
        (403, "rateLimitExceeded", FailureReason.THROTTLED),
        (403, "userRateLimitExceeded", FailureReason.THROTTLED),
        (403, "RATE_LIMIT_EXCEEDED", FailureReason.THROTTLED),
        (429, "resourceExhausted", FailureReason.THROTTLED),
        (503, "resourcePoolExhausted", FailureReason.STOCK_OUT),
        (400, "invalid", FailureReason.INVALID),
    ],
)
def test_what_a_request_is_turned_away_with_is_told_apart(machines, gce, code, reason, refusal):
    gce.fault("instances.insert", code=code, reason=reason, message="It is like that.")
    found, text = one_refusal(machines.launch(order()))
    assert found is refusal
    assert "It is like that" in text


def test_who_is_throttled_does_not_ask_for_the_rest(machines, gce):
    gce.fault("instances.insert", times=None, code=429, reason="rateLimitExceeded", message="Slowly.")
    before = gce.requests()["instances.insert"]
    answer = machines.launch(order(100))
    assert gce.requests()["instances.insert"] - before <= 20
    assert one_refusal(answer) == (FailureReason.THROTTLED, "Slowly")


def test_what_is_wrong_with_one_kind_is_no_failure(machines):
    answer = machines.launch(
        order(1, offer(name="h3-standard-88", zone="europe-west4-a"), offer(zone="europe-west4-a"))
    )
    [refused] = answer.failures
    assert (refused.instance_type, refused.reason) == ("h3-standard-88", FailureReason.INVALID)
    assert "Machine type with name 'h3-standard-88' does not exist in zone 'europe-west4-a'" in refused.text


def general_error(launch):
    """Return the text of the error that a launch raises: it is about the account, the project or a setting."""
    with pytest.raises(ProviderError) as caught:
        launch()
    assert not isinstance(caught.value, UnreachableError)
    return str(caught.value)


TWO = (offer(), offer(zone=OTHER_ZONE))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"network": "nope"},
            "Compute Engine: project test-project has no network nope. Correct NETWORK in config/pool.env; gcloud compute networks list "
            "--project test-project lists the existing ones. (",
        ),
        (
            {"subnetwork": "nope"},
            "Compute Engine: project test-project has no subnetwork nope. Correct SUBNETWORK in config/pool.env; gcloud compute networks "
            "subnets list --project test-project lists the existing ones. (",
        ),
        (
            {"service_account": "nobody@test-project.iam.gserviceaccount.com"},
            "Compute Engine: there is no service account nobody@test-project.iam.gserviceaccount.com. Correct SERVICE_ACCOUNT in "
            "config/pool.env, or leave it empty for the project's default one. (",
        ),
        (
            {"image": "nope"},
            "Compute Engine has no image or image family nope, or this account lacks access to it. Correct IMAGE in config/pool.env; ",
        ),
        (
            {"image": "projects/a/b"},
            "Compute Engine has no image or image family projects/a/b, or this account lacks access to it. Correct IMAGE in "
            "config/pool.env; ",
        ),
        (
            {"image": "my-arm-image"},
            "Image my-arm-image is for arm64, but ARCHITECTURE is x86_64. Change IMAGE or ARCHITECTURE in config/pool.env.",
        ),
        (
            {"image": "my-big-image"},
            "Image my-big-image needs a boot disk of 50 GiB, but the boot disk has 21 GiB. Set BOOT_DISK_GIB to 50 or more",
        ),
    ],
)
def test_what_is_not_there_is_reported_in_one_sentence(make, given, said):
    text = general_error(lambda: make(**given).launch(order(2, *TWO)))
    assert text.startswith(said)
    assert "\n" not in text


def test_an_image_that_was_deleted_meanwhile_is_reported(machines, gce):
    text = "The resource 'projects/debian-cloud/global/images/debian-9' was not found"
    gce.fault("instances.insert", code=404, reason="notFound", message=text)
    assert general_error(lambda: machines.launch(order(1, *TWO))).startswith(
        "Compute Engine: project debian-cloud has no image debian-9. Correct IMAGE in config/pool.env; "
    )


def test_a_type_of_disks_that_a_zone_has_not_is_no_fault_of_the_project(machines, gce):
    text = f"The resource 'projects/{PROJECT}/zones/{ZONE}/diskTypes/hyperdisk-balanced' was not found"
    gce.fault("instances.insert", code=404, reason="notFound", message=text)
    [refused] = machines.launch(order(1, *TWO)).failures
    assert (refused.zone, refused.reason, refused.text) == (ZONE, FailureReason.INVALID, text)


@pytest.mark.parametrize(
    ("permission", "role"),
    [("compute.instances.create", "Compute Instance Admin (v1)"), ("compute.images.get", "Compute Viewer")],
)
def test_a_permission_that_is_missing_is_named(make, gce, permission, role):
    gce.forbid(permission)
    before = gce.requests()["instances.insert"]
    text = general_error(lambda: make(image="my-image-2").launch(order(100, *TWO)))
    assert text.startswith(
        f"Compute Engine: this account lacks the permission {permission} in project test-project, or "
    )
    assert f"for example {role}. (Required '{permission}' permission for 'projects/" in text
    assert gce.requests()["instances.insert"] - before <= 20


def test_a_permission_that_only_the_message_names_is_reported(machines, gce):
    text = "Required 'compute.subnetworks.use' permission for 'projects/p/regions/r/subnetworks/default'"
    gce.fault("instances.insert", code=403, reason="forbidden", message=text)
    assert general_error(lambda: machines.launch(order(1, *TWO))).startswith(
        "Compute Engine: this account lacks the permission compute.subnetworks.use in project test-project, or the project does not exist. "
        "Ask for a role that has it, for example Compute Network User. ("
    )


@pytest.mark.parametrize(
    ("code", "reason", "message", "kind", "said"),
    [
        (
            400,
            "invalid",
            "Invalid value for field 'resource.networkInterfaces[0].network': 'x'. No.",
            WrongSettingError,
            "Correct NETWORK",
        ),
        (
            400,
            "invalid",
            "Invalid value for field 'resource.metadata': 'x'. Too long.",
            WrongSettingError,
            "Correct START_UP_SCRIPT",
        ),
        (400, "badRequest", 'Invalid JSON payload received. Unknown name "x".', ProviderError, "rejects the request"),
        (400, "required", "Required field 'resource.name' not specified", ProviderError, "rejects the request"),
        (403, "forbidden", "No.", PermissionDeniedError, "denies the request in project test-project"),
        (
            412,
            "conditionNotMet",
            "Constraint constraints/compute.vmExternalIpAccess violated for project 1.",
            WrongSettingError,
            "Set EXTERNAL_IP=false",
        ),
        (412, "conditionNotMet", "Constraint constraints/x violated.", ProviderError, "policy of the organization"),
    ],
)
def test_a_request_that_would_be_refused_for_any_offer_raises(machines, gce, code, reason, message, kind, said):
    gce.fault("instances.insert", times=None, code=code, reason=reason, message=message)
    with pytest.raises(kind, match=re.escape(said)):
        machines.launch(order(2, *TWO))


@pytest.mark.parametrize(
    ("code", "message", "kind", "said"),
    [
        ("CONDITION_NOT_MET", "Constraint constraints/x violated.", ProviderError, "policy of the organization"),
        ("PERMISSIONS_ERROR", "Required 'x' permission for 'y'", PermissionDeniedError, "lacks a permission"),
        (
            "INVALID_FIELD_VALUE",
            "Invalid value for field 'resource.serviceAccounts[0].email': 'x'. Not an address.",
            WrongSettingError,
            "Correct SERVICE_ACCOUNT",
        ),
    ],
)
def test_an_operation_that_would_fail_for_any_offer_raises(machines, gce, code, message, kind, said):
    gce.fault("instances.insert", "operation", times=None, errors=[{"code": code, "message": message}])
    with pytest.raises(kind, match=re.escape(said)):
        machines.launch(order(2, *TWO))


def test_a_general_error_beside_a_launched_machine_is_a_failure_of_the_offers(machines, gce):
    gce.fault("instances.insert", "operation", errors=[{"code": "CONDITION_NOT_MET", "message": "No."}])
    answer = machines.launch(order(2, *TWO))
    assert len(answer.launched) == 1
    assert {one.reason for one in answer.failures} == {FailureReason.INVALID}


def test_a_machine_without_a_service_account_is_launched_on_purpose(make, instance):
    assert make(service_account="none").launch(order()).launched
    assert not instance("run-1-abc-1").service_accounts


def test_a_service_account_one_may_not_act_as_is_reported(machines, gce):
    gce.forbid("iam.serviceAccounts.actAs")
    assert general_error(lambda: machines.launch(order(1, *TWO))).startswith(
        "Compute Engine: this account lacks the permission iam.serviceAccounts.actAs on service account "
    )


def test_a_service_that_is_not_enabled_and_a_wrong_project_are_reported(machines, make, gce):
    disabled = {"code": 403, "status": "PERMISSION_DENIED", "reason": "SERVICE_DISABLED", "message": "It is off."}
    gce.fault("instances.insert", **disabled)
    enable = (
        "Compute Engine is not enabled in project test-project: gcloud services enable compute.googleapis.com --project"
    )
    assert general_error(lambda: machines.launch(order(1, *TWO))).startswith(enable)
    gce.fault("instances.aggregatedList", **disabled)
    with pytest.raises(NotEnabledError, match=re.escape(enable)):
        machines.list()
    with pytest.raises(WrongSettingError, match=r"project nope does not exist\. Correct PROJECT_ID: gcloud projects"):
        make(project="nope").list()
    assert general_error(lambda: make(project="nope").launch(order(1, *TWO))).startswith(
        "Compute Engine: project nope does not exist."
    )
    with pytest.raises(SettingsError, match="PROJECT_ID is not set"):
        make(project="").list()


def test_a_login_that_is_not_accepted_is_raised(machines):
    with pytest.raises(
        CredentialsError, match="does not accept these credentials"
    ):  # credentials at the double have no secret
        read_request_error(Unauthorized("POST https://compute.googleapis.com/x: Invalid Credentials"), PROJECT)


# --- trouble on the way ---


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "closed"},
        {"code": 500, "message": "Oops."},
        {"code": 503, "reason": "backendError", "message": "Later."},
    ],
)
def test_a_trouble_that_passes_is_not_noticed(make, gce, fault):
    machines = make(patience_seconds=10.0)
    for action in (
        "instances.insert",
        "instances.aggregatedList",
        "instances.delete",
        "globalOperations.aggregatedList",
    ):
        gce.fault(action, **fault)
    assert len(machines.launch(order(2)).launched) == 2
    machines.terminate(["run-1-abc-1"])
    assert states(machines) == {"run-1-abc-1": MachineState.ENDED, "run-1-abc-2": MachineState.RUNNING}


@pytest.mark.parametrize("fault", [{"kind": "closed"}, {"code": 503, "reason": "backendError", "message": "Later."}])
@pytest.mark.parametrize(
    ("action", "verb"),
    [
        ("instances.insert", lambda machines: machines.launch(order(30))),
        ("images.getFromFamily", lambda machines: machines.launch(order())),
        ("instances.aggregatedList", lambda machines: machines.list()),
        ("globalOperations.aggregatedList", lambda machines: machines.list()),
        ("instances.aggregatedList", lambda machines: machines.terminate(["x"])),
        ("instances.delete", lambda machines: machines.terminate(["there-1"])),
        ("instances.aggregatedList", lambda machines: machines.console("there-1")),
        ("instances.getSerialPortOutput", lambda machines: machines.console("there-1")),
        ("disks.aggregatedList", lambda machines: machines.clear()),
        ("projects.testIamPermissions", lambda machines: machines.preflight()),
    ],
)
def test_a_trouble_that_lasts_is_reported(make, gce, action, verb, fault):
    make().launch(order(token="there"))
    gce.fault(action, times=None, **fault)
    began_at = time.monotonic()
    with pytest.raises(UnreachableError, match=r"cannot be reached|is busy or throttles"):
        verb(make())
    assert time.monotonic() - began_at < 15


def test_if_one_request_finds_no_answer_the_others_are_not_made(machines, gce):
    gce.fault("instances.insert", "closed", times=None)
    before = gce.requests()["instances.insert"]
    with pytest.raises(UnreachableError):
        machines.launch(order(100))
    assert gce.requests()["instances.insert"] - before < 150  # each of the first is sent several times


def test_no_network_is_unreachable(make):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match="Compute Engine cannot be reached"):
            make(compute_endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}").list()


# --- list ---


def test_only_the_jobs_machines_are_listed_and_ended(machines, make, gce):
    other = make(job_id="another")
    machines.launch(order())
    other.launch(order(token="run-2-xyz"))
    insert_stranger(gce, "run-1-abc-7")
    assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}
    machines.terminate(["run-2-xyz-1", "run-1-abc-7", "never-was"])
    assert states(other)["run-2-xyz-1"] is MachineState.RUNNING
    assert ask(gce, "GET", f"zones/{ZONE}/instances/run-1-abc-7")["status"] == "RUNNING"


def test_machines_of_all_zones_are_listed_page_after_page(machines, gce):
    for index, zone in enumerate([ZONE, OTHER_ZONE, "europe-west4-b", "asia-northeast1-a"]):
        machines.launch(order(3, offer(zone=zone), token=f"run-{index}-a"))
    gce.fault("instances.aggregatedList", "pages", size=2, times=None)
    found = machines.list()
    assert len(found) == len({one.instance_id for one in found}) == 12
    assert {one.zone for one in found} == {ZONE, OTHER_ZONE, "europe-west4-b", "asia-northeast1-a"}


@pytest.mark.parametrize(
    ("action", "verb"),
    [
        ("instances.aggregatedList", lambda machines: machines.list()),
        ("instances.aggregatedList", lambda machines: machines.terminate(["run-1-abc-1"])),
        ("globalOperations.aggregatedList", lambda machines: machines.list()),
        ("disks.aggregatedList", lambda machines: machines.clear()),
    ],
)
def test_a_zone_that_does_not_answer_is_not_taken_for_an_empty_one(machines, gce, action, verb):
    machines.launch(order())
    gce.fault(action, "unreachable", zones=[ZONE])
    with pytest.raises(UnreachableError, match=rf"incomplete list, without {ZONE}\."):
        verb(machines)
    verb(machines)


@pytest.mark.parametrize("said", ["unreachables", "scope", "page"])
def test_however_the_service_says_that_a_zone_is_missing_it_is_heard(machines, gce, said):
    gce.fault("instances.aggregatedList", "unreachable", zones=[ZONE], said=said)
    with pytest.raises(UnreachableError, match=r"incomplete list"):
        machines.list()


def test_an_outage_elsewhere_does_not_matter(make, gce):
    machines = make(regions=["us-central1"])
    machines.launch(order())
    for said in ("unreachables", "scope"):
        gce.fault("instances.aggregatedList", "unreachable", zones=["europe-west4-a"], said=said)
        assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}
    gce.fault("instances.aggregatedList", "unreachable", zones=["europe-west4-a"])
    with pytest.raises(UnreachableError):
        make(regions=["us-central1", "europe-west4"]).list()
    gce.fault("instances.aggregatedList", "unreachable", zones=["europe-west4-a"])
    with pytest.raises(UnreachableError):
        make(regions=[]).list()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("STAGING", MachineState.STARTING),
        ("REPAIRING", MachineState.RUNNING),
        ("PENDING_STOP", MachineState.ENDING),
        ("STOPPING", MachineState.ENDING),
        ("DEPROVISIONING", MachineState.ENDING),
        ("SUSPENDED", MachineState.RUNNING),
        ("TERMINATED", MachineState.RUNNING),
        ("SOMETHING_NEW", MachineState.RUNNING),
    ],
)
def test_states_are_what_they_cost(machines, gce, status, state):
    """A stopped machine still costs its disk, and would never be deleted if it counted as ended."""
    gce.set(boot_seconds=1000.0 if status == "STAGING" else 0.0)
    machines.launch(order())
    gce.stop_machine("run-1-abc-1", status)
    [one] = machines.list()
    assert one.state is state
    assert bool(one.detail) == (status in ("SUSPENDED", "TERMINATED"))


def test_a_machine_that_is_stopped_is_deleted_with_its_disk(machines, gce):
    machines.launch(order())
    gce.stop_machine("run-1-abc-1")
    machines.terminate(["run-1-abc-1"])
    assert states(machines) == {"run-1-abc-1": MachineState.ENDED}
    assert machines.clear() == {"disks": 0}


def test_what_was_just_started_may_be_missing(machines, gce):
    gce.set(list_delay_seconds=30.0)
    machines.launch(order())
    assert machines.list() == []
    machines.terminate(["run-1-abc-1"])
    gce.advance(31)
    assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}


def test_a_machine_that_was_taken_back_is_listed_with_the_reason(machines, gce):
    machines.launch(order(2))
    gce.preempt("run-1-abc-2")
    found = {one.instance_id: one for one in machines.list()}
    assert found["run-1-abc-1"].state is MachineState.RUNNING
    gone = found["run-1-abc-2"]
    assert (gone.state, gone.request_token, gone.zone, gone.market) == (
        MachineState.ENDED,
        "run-1-abc",
        ZONE,
        Market.SPOT,
    )
    assert gone.end_reason is EndReason.PREEMPTED


@pytest.mark.parametrize("is_deleted_first", [True, False])
def test_a_machine_that_was_taken_back_and_deleted_was_taken_back(machines, gce, is_deleted_first):
    machines.launch(order())
    gce.set(operation_seconds=60.0)
    if is_deleted_first:
        machines.terminate(["run-1-abc-1"])
    gce.preempt("run-1-abc-1")
    machines.terminate(["run-1-abc-1"])
    assert states(machines) == {"run-1-abc-1": MachineState.ENDING}
    gce.advance(61)
    [gone] = machines.list()
    assert gone.end_reason is EndReason.PREEMPTED


def test_a_machine_that_is_still_there_is_listed_once(machines, gce):
    machines.launch(order())
    gce.set(operation_seconds=60.0)
    gce.preempt("run-1-abc-1")
    [one] = machines.list()
    assert one.state is MachineState.ENDING


def test_a_machine_whose_deletion_is_under_way_has_not_ended(machines, gce):
    gce.set(list_delay_seconds=1000.0)
    machines.launch(order())
    gce.set(list_delay_seconds=1000.0, operation_seconds=60.0)
    ask(gce, "DELETE", f"zones/{ZONE}/instances/run-1-abc-1")
    assert machines.list() == []
    gce.advance(61)
    assert states(machines) == {"run-1-abc-1": MachineState.ENDED}


def test_filters_of_the_service_are_not_relied_upon(machines, make, gce):
    """No machine of another job is terminated, whatever the service lists."""
    make(job_id="another").launch(order(token="run-2-xyz"))
    machines.launch(order(2))
    gce.preempt("run-1-abc-2", seconds_ago=2.5 * 3600)
    ask(gce, "POST", f"zones/{ZONE}/disks", {"name": "theirs", "sizeGb": "10"})
    for action in ("instances.aggregatedList", "globalOperations.aggregatedList", "disks.aggregatedList"):
        gce.fault(action, "unfiltered", times=None)
    assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}
    machines.terminate(["run-2-xyz-1"])
    assert machines.clear() == {"disks": 1}
    gce.clear_faults()
    assert ask(gce, "GET", f"zones/{ZONE}/instances/run-2-xyz-1")["status"] == "RUNNING"
    assert "disks" in ask(gce, "GET", "aggregated/disks?filter=" + quote('(name = "theirs")'))["items"][f"zones/{ZONE}"]


def test_what_was_taken_back_long_ago_or_of_others_is_not_listed(machines, make, gce):
    machines.launch(order(2))
    make(job_id="another", run="other").launch(order(token="other-1-abc"))
    gce.preempt("run-1-abc-1", seconds_ago=2.5 * 3600)
    gce.preempt("run-1-abc-2", seconds_ago=1.5 * 3600)
    gce.preempt("other-1-abc-1")
    assert [one.instance_id for one in machines.list()] == ["run-1-abc-2"]


def test_a_machine_that_somebody_deleted_is_listed_with_the_name(machines, gce):
    machines.launch(order())
    ask(gce, "DELETE", f"zones/{ZONE}/instances/run-1-abc-1")
    [gone] = machines.list()
    assert (gone.state, gone.detail) == (MachineState.ENDED, "deleted by tester@example.com")


def test_a_machine_that_is_being_deleted_is_ending(machines, gce):
    machines.launch(order())
    gce.set(operation_seconds=60.0)
    machines.terminate(["run-1-abc-1"])
    assert states(machines) == {"run-1-abc-1": MachineState.ENDING}
    machines.terminate(["run-1-abc-1"])  # the service says that it is not ready
    gce.advance(61)
    assert states(machines) == {"run-1-abc-1": MachineState.ENDED}


@pytest.mark.parametrize("market", list(Market))
def test_a_machine_ends_itself_when_its_lifetime_is_over(machines, gce, market):
    machines.launch(order(1, offer(market=market), lifetime_seconds=3600))
    gce.advance(3590)
    assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}
    gce.advance(20)
    assert machines.list() == []
    assert machines.clear() == {"disks": 0}


# --- terminate, console, clear ---


def test_machines_of_several_zones_are_ended_at_once(machines):
    machines.launch(order(15, offer()))
    machines.launch(order(2, offer(zone=OTHER_ZONE), token="run-2-abc"))
    machines.terminate([one.instance_id for one in machines.list() if one.instance_id != "run-2-abc-2"])
    assert [name for name, state in states(machines).items() if state is MachineState.RUNNING] == ["run-2-abc-2"]


def test_one_that_cannot_be_ended_does_not_keep_the_others(machines, gce):
    machines.launch(order(4))
    gce.fault("instances.delete", code=412, reason="conditionNotMet", message="Not this one.")
    with pytest.raises(ProviderError, match="Not this one"):
        machines.terminate([f"run-1-abc-{n}" for n in range(1, 5)])
    assert sorted(states(machines).values()) == [*3 * [MachineState.ENDED], MachineState.RUNNING]


def test_ending_without_the_permission_names_it(machines, gce):
    machines.launch(order())
    gce.forbid("compute.instances.delete")
    with pytest.raises(
        PermissionDeniedError, match=r"lacks the permission compute\.instances\.delete in project test-project"
    ):
        machines.terminate(["run-1-abc-1"])


def test_nothing_to_end_asks_nothing(machines, gce):
    before = gce.requests()
    machines.terminate([])
    assert gce.requests() == before


def test_the_console_is_read_from_its_start_page_after_page(machines, gce):
    machines.launch(order(2))
    gce.set(page_bytes=7)
    assert machines.console("run-1-abc-1") == ""
    gce.print("run-1-abc-1", "stage 1\n")
    gce.print("run-1-abc-1", "stage 2\nready\n")
    assert machines.console("run-1-abc-1") == "stage 1\nstage 2\nready\n"
    assert machines.console("run-1-abc-2") == ""


def test_of_a_long_console_what_is_kept_is_read(machines, gce):
    machines.launch(order())
    gce.set(page_bytes=400_000)
    gce.print("run-1-abc-1", "first\n" + "x" * (1 << 20) + "last\n")
    text = machines.console("run-1-abc-1")
    assert len(text) == 1 << 20
    assert text.endswith("xlast\n")
    assert "first" not in text


def test_what_is_not_there_has_no_console(machines, make, gce):
    assert machines.console("never-was") is None
    assert machines.console('x") OR (name = "run-1-abc-1') is None
    make(job_id="another").launch(order())
    gce.print("run-1-abc-1", "not yours")
    assert machines.console("run-1-abc-1") is None
    machines.launch(order(token="run-2-abc"))
    gce.fault("instances.getSerialPortOutput", code=404, reason="notFound", message="It has just gone.")
    assert machines.console("run-2-abc-1") is None


def test_disks_that_are_left_over_are_removed(machines, gce):
    mine = {"taskfleet-job": label_value(JOB), "taskfleet-run": "run"}
    machines.launch(order())
    for name, labels in [("left-1", mine), ("left-2", mine), ("theirs", {"taskfleet-job": "x"}), ("other", {})]:
        ask(gce, "POST", f"zones/{OTHER_ZONE}/disks", {"name": name, "sizeGb": "10", "labels": labels})
    assert machines.clear() == {"disks": 3}
    assert machines.clear() == {"disks": 1}  # that of the machine
    assert states(machines) == {"run-1-abc-1": MachineState.RUNNING}
    machines.terminate(["run-1-abc-1"])
    assert machines.clear() == {"disks": 0}
    every = quote('(sizeGb = "10")')
    left = ask(gce, "GET", f"aggregated/disks?filter={every}")["items"][f"zones/{OTHER_ZONE}"]
    assert {one["name"] for one in left["disks"]} == {"theirs", "other"}


# --- preflight ---


def test_if_all_is_well_the_preflight_says_nothing(machines, make):
    assert machines.preflight() == []
    assert make(subnetwork="inner", external_ip=False, image="my-family").preflight() == []


def test_each_permission_that_is_missing_is_named(machines, make, gce):
    gce.forbid("compute.instances.create", "compute.disks.delete", "compute.subnetworks.useExternalIp")
    where = "in project test-project. Ask for a role that has it, for example"
    assert machines.preflight() == [
        f"This account lacks the permission compute.disks.delete {where} Compute Instance Admin (v1).",
        f"This account lacks the permission compute.instances.create {where} Compute Instance Admin (v1).",
        f"This account lacks the permission compute.subnetworks.useExternalIp {where} Compute Network User.",
    ]
    assert len(make(external_ip=False).preflight()) == 2
    assert len(make(network="projects/host/global/networks/mine").preflight()) == 2


def test_what_is_not_there_is_reported_by_the_preflight(make):
    assert [one.partition(". ")[0] for one in make(network="nope", image="nope").preflight()] == [
        "Compute Engine has no image or image family nope, or this account lacks access to it",
        "Compute Engine: project test-project has no network nope",
    ]
    found = make(subnetwork="inner", regions=["us-central1", "europe-west4"]).preflight()
    assert [one.partition(". ")[0] for one in found] == [
        "Compute Engine: project test-project has no subnetwork inner in europe-west4"
    ]


def test_what_the_preflight_may_not_see_is_no_trouble(machines, gce):
    gce.forbid("compute.networks.get")
    assert machines.preflight() == []


def test_permissions_that_cannot_be_checked_are_reported(machines, gce):
    gce.fault(
        "projects.testIamPermissions",
        code=403,
        status="PERMISSION_DENIED",
        reason="SERVICE_DISABLED",
        message="It is off.",
    )
    assert machines.preflight() == [
        "The permissions of this account could not be checked: Cloud Resource Manager is not enabled in project test-project: gcloud "
        "services enable cloudresourcemanager.googleapis.com --project test-project"
    ]


# --- labels ---


@pytest.mark.parametrize(
    "text",
    ["", "job-1", "a_b", "a__b", "a___b", "Job", "a.b/c d", "Müller", "a_B", "a__B", "x__41", "_", "__", "a_" * 15],
)
def test_labels_carry_what_they_may_not_contain(text):
    value = label_value(text)
    assert set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert label_text(value) == text


def test_labels_that_fit_are_left_as_they_are_and_long_ones_stay_apart():
    assert label_value("my_job-1") == "my_job-1"
    long = ["x" * 64, "x" * 65, "ä" * 20, "ä" * 21]
    values = [label_value(one) for one in long]
    assert {len(one) for one in values} == {63}
    assert len(set(values)) == 4


# --- with the controller ---


class _Job:
    def __init__(self):
        self.left, self.heard = 16, {}

    def tasks_left(self):
        return self.left

    def tasks_runnable(self):
        return self.left

    def last_heartbeats(self):
        return self.heard

    def productive_machines(self):
        return self.heard


def test_the_controller_keeps_a_pool_of_them(machines, gce, tmp_path):
    said, job = [], _Job()
    offers = [offer(), offer(zone=OTHER_ZONE)]
    gce.capacity(ZONE, "n2-standard-8", 1)
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    controller = Controller(
        database, machines, job, name="run", offers=offers, limits=Limits(max_machines=2), say=said.append
    )
    now = time.time()
    controller.step(now)  # the canary
    [first] = [one for one in machines.list() if one.state is MachineState.RUNNING]
    job.heard = {first.instance_id: now + 1}
    controller.step(now + 2)  # there is no more capacity in this zone
    controller.step(now + 4)
    running = {one.zone: one.instance_id for one in machines.list() if one.state is MachineState.RUNNING}
    assert running.keys() == {ZONE, OTHER_ZONE}
    gce.preempt(running[OTHER_ZONE])
    controller.step(now + 6)
    assert any(f"{running[OTHER_ZONE]} (n2-standard-8 in {OTHER_ZONE}) ended: preempted" in one for one in said)
    job.left = 0
    controller.step(now + 8)
    controller.step(now + 10)
    assert controller.step(now + 12).is_complete
    assert all(one.state is MachineState.ENDED for one in machines.list())
    database.close()


def test_the_sdk_is_loaded_when_it_is_used():
    code = "import sys, taskfleet.machines.gcp.machines; print([name for name in sys.modules if name.startswith('google')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.strip() == "[]"


def test_numbers_of_requests_are_what_the_service_takes():
    from taskfleet.machines.gcp.bodies import request_id

    assert uuid.UUID(request_id("p", "z", "n")).version == 5
    assert len({request_id("p", zone, name) for zone in "ab" for name in "cd"}) == 4
