"""The double of Compute Engine answers a client that knows nothing of this library: Google's client of discovery documents.

It sends what ``gcloud compute`` sends: lists with ``returnPartialSuccess``, machines whose boot disk has no type, full addresses.
"""

import json

import pytest
from google.auth.credentials import AnonymousCredentials
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from shared_lib.tests.services.gce import PROJECT

ZONE = "us-central1-a"
HOST = "https://compute.googleapis.com/compute/v1"


@pytest.fixture
def compute(gce):
    options = {"api_endpoint": f"{gce.endpoint}/compute/v1/"}
    credentials = AnonymousCredentials()
    with discovery.build(
        "compute", "v1", credentials=credentials, client_options=options, static_discovery=True
    ) as found:
        yield found


def body(name="mine", **more):
    """Return what ``gcloud compute instances create`` sends."""
    image = f"{HOST}/projects/debian-cloud/global/images/family/debian-12"
    return {
        "name": name,
        "machineType": f"{HOST}/projects/{PROJECT}/zones/{ZONE}/machineTypes/n2-standard-8",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": image}}],
        "networkInterfaces": [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
        **more,
    }


def disk(**parameters):
    [found] = body()["disks"]
    return [found | {"initializeParams": found["initializeParams"] | parameters}]


def insert(compute, content, **more):
    operation = compute.instances().insert(project=PROJECT, zone=ZONE, body=content, **more).execute()
    return compute.zoneOperations().wait(project=PROJECT, zone=ZONE, operation=operation["name"]).execute()


def error(call):
    with pytest.raises(HttpError) as caught:
        call()
    content = json.loads(caught.value.content)["error"]
    return caught.value.status_code, content["message"]


def test_a_machine_is_made_found_and_deleted(compute):
    done = insert(compute, body(labels={"team": "red"}))
    assert (done["status"], "error" in done) == ("DONE", False)
    found = compute.instances().get(project=PROJECT, zone=ZONE, instance="mine").execute()
    assert found["status"] == "RUNNING"
    made = compute.disks().get(project=PROJECT, zone=ZONE, disk="mine").execute()
    assert made["type"].endswith("/diskTypes/pd-standard")
    compute.instances().delete(project=PROJECT, zone=ZONE, instance="mine").execute()
    assert error(compute.instances().get(project=PROJECT, zone=ZONE, instance="mine").execute)[0] == 404


def test_a_request_with_a_known_id_makes_no_second_machine(compute):
    options = {"requestId": "6b1f5a3e-6f0c-5c1c-9d51-6d8d2f5a7c11"}
    first, second = (insert(compute, body(), **options) for _ in range(2))
    assert first["name"] == second["name"]
    assert error(lambda: insert(compute, body()))[0] == 409


@pytest.mark.parametrize(
    ("collection", "arguments"),
    [
        ("instances", {}),
        ("instances", {"zone": ZONE}),
        ("machineTypes", {}),
        ("machineTypes", {"zone": ZONE}),
        ("diskTypes", {}),
        ("diskTypes", {"zone": ZONE}),
        ("disks", {}),
        ("disks", {"zone": ZONE}),
        ("zoneOperations", {"zone": ZONE}),
        ("zones", None),
        ("regions", None),
        ("networks", None),
        ("images", None),
    ],
)
def test_lists_take_the_parameters_of_gcloud(compute, collection, arguments):
    one = getattr(compute, collection)()
    method = one.aggregatedList if arguments == {} else one.list
    request = method(project=PROJECT, maxResults=500, **(arguments or {}))
    request.uri += "&returnPartialSuccess=true"  # gcloud sends it; the discovery document of the client is older
    answer = request.execute()
    assert "items" in answer
    code, text = error(method(project=PROJECT, filter="nonsense = 1", **(arguments or {})).execute)
    assert code == 400
    assert "Invalid value for field 'filter'" in text


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('name = "red-1"', ["red-1"]),
        ("name = red-1", ["red-1"]),
        ("(name = red-1) OR (name = blue-1)", ["blue-1", "red-1"]),
        ('name eq "red-.*"', ["red-1", "red-2"]),
        ('name ne "red-.*"', ["blue-1"]),
        ("labels.team = red", ["red-1", "red-2"]),
        ("labels.team:*", ["blue-1", "red-1", "red-2"]),
        ("labels.team = red AND status = RUNNING", ["red-1", "red-2"]),
        ("(labels.team = red) (name != red-2)", ["red-1"]),
        ("NOT (labels.team = red OR status = TERMINATED)", ["blue-1"]),
        ("-labels.team = red", ["blue-1"]),
        ('scheduling.preemptible = "true"', []),
    ],
)
def test_filters_are_those_of_the_reference(compute, expression, names):
    for name in ("red-1", "red-2", "blue-1"):
        insert(compute, body(name, labels={"team": name.partition("-")[0]}))
    answer = compute.instances().list(project=PROJECT, zone=ZONE, filter=expression).execute()
    assert sorted(one["name"] for one in answer["items"]) == names


@pytest.mark.parametrize(
    "expression", ["name", "name =", "(name = x", "name = x)", "= x", "name ! x", "AND", "name = x OR"]
)
def test_what_is_no_filter_is_refused(compute, expression):
    code, text = error(compute.instances().list(project=PROJECT, zone=ZONE, filter=expression).execute)
    assert (code, "Invalid list filter" in text) == (400, True)


@pytest.mark.parametrize("missing", ["name", "machineType", "disks", "networkInterfaces"])
def test_a_machine_without_something_that_it_needs_is_refused(compute, missing):
    content = body()
    del content[missing]
    assert error(lambda: insert(compute, content)) == (400, f"Required field 'resource.{missing}' not specified")


@pytest.mark.parametrize(
    ("machine_type", "parameters", "said"),
    [
        ("n4-standard-4", {}, "pd-standard disk type cannot be used by n4-standard-4 machine type."),
        (
            "n2-standard-8",
            {"diskType": "hyperdisk-balanced"},
            "hyperdisk-balanced disk type cannot be used by n2-standard-8",
        ),
        ("n2-standard-8", {"diskType": "pd-ssd", "provisionedIops": "9000"}, "provisionedIops': '9000'"),
        (
            "n4-standard-4",
            {"diskType": "hyperdisk-balanced", "diskSizeGb": "20", "provisionedIops": "10001"},
            "provisionedIops': '10001'. Must be from 3000 to 10000",
        ),
        (
            "n4-standard-4",
            {"diskType": "hyperdisk-balanced", "diskSizeGb": "20", "provisionedThroughput": "1000"},
            "provisionedThroughput': '1000'. Must be from 140 to 750",
        ),
        ("n2-standard-8", {"diskSizeGb": "70000"}, "diskSizeGb': '70000'"),
        ("n2-standard-8", {"diskType": "tape"}, "No such disk type"),
    ],
)
def test_a_disk_beyond_the_limits_is_refused(compute, machine_type, parameters, said):
    if "diskType" in parameters:
        parameters = parameters | {"diskType": f"projects/{PROJECT}/zones/{ZONE}/diskTypes/{parameters['diskType']}"}
    content = body(machineType=f"zones/{ZONE}/machineTypes/{machine_type}", disks=disk(**parameters))
    code, text = error(lambda: insert(compute, content))
    assert code == 400
    assert said in text


def test_an_unknown_parameter_and_an_unknown_field_are_refused(compute):
    request = compute.zones().list(project=PROJECT)
    request.uri += "&nonsense=1"
    assert error(request.execute)[0] == 400
    assert error(lambda: insert(compute, body(nonsense=True)))[0] == 400


def test_single_resources_can_be_read(compute):
    assert compute.zones().get(project=PROJECT, zone=ZONE).execute()["name"] == ZONE
    assert compute.regions().get(project=PROJECT, region="us-central1").execute()["name"] == "us-central1"
    assert compute.projects().get(project=PROJECT).execute()["name"] == PROJECT
    found = compute.machineTypes().get(project=PROJECT, zone=ZONE, machineType="n2-standard-8").execute()
    assert found["guestCpus"] == 8
    assert compute.diskTypes().get(project=PROJECT, zone=ZONE, diskType="pd-ssd").execute()["name"] == "pd-ssd"
    assert error(compute.diskTypes().get(project=PROJECT, zone=ZONE, diskType="tape").execute)[0] == 404
