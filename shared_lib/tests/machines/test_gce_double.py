"""The double of Compute Engine and Cloud Billing responds as they do, as seen by their real clients and types."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from google.api_core.exceptions import Forbidden, NotFound, ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud import billing_v1, compute_v1

from shared_lib.tests.services import gce_data
from shared_lib.tests.services.gce import PROJECT, Gce

COMPUTE = f"/compute/v1/projects/{PROJECT}"
SKUS = "/v1/services/6F81-5844-456A/skus"


@pytest.fixture
def client(gce):
    """Creates Google's clients for the double."""
    clients = []

    def client(kind, **options):
        clients.append(
            kind(credentials=AnonymousCredentials(), client_options={"api_endpoint": gce.endpoint}, **options)
        )
        return clients[-1]

    yield client
    for one in clients:
        one.transport.close()


def get(gce, path):
    with urllib.request.urlopen(gce.endpoint + path, timeout=30) as answer:
        return answer.read()


def refused(gce, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(gce, path)
    with caught.value as answer:
        return answer.code, json.loads(answer.read())["error"]["message"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{COMPUTE}/zones", compute_v1.ZoneList),
        (f"{COMPUTE}/regions", compute_v1.RegionList),
        (f"{COMPUTE}/zones/us-central1-a/machineTypes", compute_v1.MachineTypeList),
        (f"{COMPUTE}/aggregated/machineTypes", compute_v1.MachineTypeAggregatedList),
        ("/compute/v1/projects/debian-cloud/global/images/family/debian-13", compute_v1.Image),
        (SKUS, billing_v1.ListSkusResponse),
    ],
)
def test_answers_have_no_fields_but_the_services(gce, path, kind):
    text = get(gce, path)
    parsed = kind.from_json(text, ignore_unknown_fields=False)
    again = json.loads(kind.to_json(parsed, always_print_fields_with_no_presence=False))
    assert again.keys() <= json.loads(text).keys()
    assert len(kind.to_json(parsed)) > 100


def test_the_price_list_is_read_by_its_own_client(gce, client):
    gce.fault("skus.list", "pages", size=90, times=None)
    catalog = client(billing_v1.CloudCatalogClient, transport="rest")
    found = list(catalog.list_skus(parent="services/6F81-5844-456A"))
    assert [one.description for one in found] == [one["description"] for one in gce_data.skus()]
    [core] = [one for one in found if one.description == "N2 Instance Core running in Netherlands"]
    [rate] = core.pricing_info[-1].pricing_expression.tiered_rates
    assert (rate.unit_price.currency_code, rate.unit_price.units, rate.unit_price.nanos) == ("USD", 0, 34_760_000)
    assert (core.category.usage_type, list(core.service_regions)) == ("OnDemand", ["europe-west4"])


def test_ids_of_the_price_list_are_unique():
    ids = [one["skuId"] for one in gce_data.skus()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_aggregated_pages_hold_all_scopes_and_together_everything(client, size):
    types = client(compute_v1.MachineTypesClient)
    request = compute_v1.AggregatedListMachineTypesRequest(
        project=PROJECT, max_results=size, filter='name eq "e2-.*|t2a-.*"'
    )
    counted, names = 0, set()
    for page in types.aggregated_list(request).pages:
        assert page.items.keys() == {f"zones/{zone}" for zone in gce_data.ZONES}
        those = [one for scope in page.items.values() for one in scope.machine_types]
        assert len(those) <= size
        assert all(scope.machine_types or scope.warning.code == "NO_RESULTS_ON_PAGE" for scope in page.items.values())
        counted += len(those)
        names |= {(one.zone, one.name) for one in those}
    assert counted == len(names) == 6 * len(gce_data.ZONES)


def test_zones_and_machine_types_of_a_zone_are_listed(client):
    zones = list(client(compute_v1.ZonesClient).list(request={"project": PROJECT, "max_results": 4}))
    assert {one.name: one.status for one in zones} == {zone: status for zone, (_, status) in gce_data.ZONES.items()}
    assert zones[0].region.endswith(f"/projects/{PROJECT}/regions/us-central1")
    regions = client(compute_v1.RegionsClient).list(project=PROJECT)
    assert [one.name for one in regions] == list(gce_data.REGIONS)
    types = list(client(compute_v1.MachineTypesClient).list(project=PROJECT, zone="europe-west4-a"))
    assert "e2-micro" in [one.name for one in types]
    assert "h3-standard-88" not in [one.name for one in types]


def test_only_what_fields_names_is_sent(gce):
    answer = json.loads(get(gce, f"{SKUS}?pageSize=2&fields=nextPageToken,skus(description,category(usageType))"))
    assert answer.keys() == {"nextPageToken", "skus"}
    assert [one.keys() for one in answer["skus"]] == 2 * [{"description", "category"}]
    assert answer["skus"][0]["category"].keys() == {"usageType"}


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        (f"{COMPUTE}/zones?maxresults=1", 400, "maxresults"),
        (f"{SKUS}?maxResults=1", 400, "maxResults"),
        (f"{COMPUTE}/zones?filter=nothing%3Da", 400, "filter"),
        (f"{COMPUTE}/zones?pageToken=x", 400, "pageToken"),
        (f"{COMPUTE}/nothing", 404, "nothing"),
        ("/compute/v1/projects/nope/zones", 404, "projects/nope"),
        ("/v1/services/1234/skus", 404, "services/1234"),
    ],
)
def test_what_the_services_do_not_know_is_rejected(gce, path, code, said):
    answered, message = refused(gce, path)
    assert answered == code
    assert said in message


def test_a_family_that_is_not_there_is_not_found(client):
    with pytest.raises(NotFound):
        client(compute_v1.ImagesClient).get_from_family(project="ubuntu-os-cloud", family="ubuntu-2604-lts-arm64")


def test_faults_come_as_the_services_say_them(gce, client):
    zones = client(compute_v1.ZonesClient)
    gce.fault("zones.list", code=403, status="PERMISSION_DENIED", reason="SERVICE_DISABLED", message="It is off.")
    with pytest.raises(Forbidden) as caught:
        zones.list(project=PROJECT)
    assert caught.value.reason == "SERVICE_DISABLED"
    gce.fault("zones.list", code=403, reason="rateLimitExceeded", message="Too many.")
    with pytest.raises(Forbidden) as caught:
        zones.list(project=PROJECT)
    assert caught.value.errors[0]["reason"] == "rateLimitExceeded"
    gce.fault("zones.list", code=503, message="Later.")
    with pytest.raises(ServiceUnavailable):
        zones.list(request={"project": PROJECT}, retry=None)
    gce.fault("zones.list", "lost")
    with pytest.raises(OSError, match="without response"):
        zones.list(request={"project": PROJECT}, retry=None)
    before = gce.requests()["zones.list"]
    assert list(zones.list(project=PROJECT))
    assert gce.requests()["zones.list"] == before + 1


# --- machines ---

INSTANCES = f"{COMPUTE}/zones/us-central1-a/instances"
IMAGE = "projects/debian-cloud/global/images/debian-13-trixie-v20261010"


def body(**more):
    """Return a valid request body of an instance."""
    disk = {"sourceImage": IMAGE, "diskType": "zones/us-central1-a/diskTypes/pd-standard", "diskSizeGb": "10"}
    found = {"name": "one", "machineType": "zones/us-central1-a/machineTypes/e2-micro", "scheduling": {}}
    found |= {"disks": [{"boot": True, "autoDelete": True, "initializeParams": disk}]}
    return found | {"networkInterfaces": [{"network": "global/networks/default"}]} | more


def send(gce, path, content, method="POST"):
    request = urllib.request.Request(gce.endpoint + path, json.dumps(content).encode(), method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def turned_away(gce, path, content):
    with pytest.raises(urllib.error.HTTPError) as caught:
        send(gce, path, content)
    with caught.value as answer:
        return answer.code, json.loads(answer.read())["error"]["message"]


def test_answers_about_machines_have_no_fields_but_the_services(gce):
    operation = send(gce, INSTANCES, body(labels={"a": "b"}))
    gce.preempt("one")
    gce.fault("instances.insert", "operation", errors=[{"code": "STOCKOUT", "message": "None."}])
    failed = send(gce, INSTANCES, body(name="two"))
    assert failed["error"]["errors"] == [{"code": "STOCKOUT", "message": "None."}]
    operations = f"{COMPUTE}/zones/us-central1-a/operations"
    for path, kind in [
        (f"{INSTANCES}/one", compute_v1.Instance),
        (f"{INSTANCES}/one/serialPort", compute_v1.SerialPortOutput),
        (f"{COMPUTE}/aggregated/instances", compute_v1.InstanceAggregatedList),
        (f"{COMPUTE}/aggregated/operations", compute_v1.OperationAggregatedList),
        (f"{COMPUTE}/aggregated/disks", compute_v1.DiskAggregatedList),
        (f"{operations}/{operation['name']}", compute_v1.Operation),
        (f"{operations}/{failed['name']}", compute_v1.Operation),
        (f"{COMPUTE}/global/networks/default", compute_v1.Network),
        (f"{COMPUTE}/regions/us-central1/subnetworks/inner", compute_v1.Subnetwork),
        ("/compute/v1/projects/debian-cloud/global/images/debian-13-trixie-v20261010", compute_v1.Image),
    ]:
        text = get(gce, path)
        parsed = kind.from_json(text, ignore_unknown_fields=False)
        again = json.loads(kind.to_json(parsed, always_print_fields_with_no_presence=False))
        assert again.keys() <= json.loads(text).keys()


@pytest.mark.parametrize(
    ("query", "change", "code", "said"),
    [
        ("", {"nonsense": 1}, 400, "nonsense"),
        ("", {"scheduling": {"maxRunDuration": {"second": "60"}}}, 400, "second"),
        ("", {"name": "One"}, 400, "resource.name"),
        ("", {"name": "o" * 64}, 400, "resource.name"),
        ("", {"labels": {"job": "Mine"}}, 400, "resource.labels"),
        ("", {"labels": {"job": "m" * 64}}, 400, "resource.labels"),
        ("", {"machineType": "zones/us-central1-b/machineTypes/e2-micro"}, 400, "does not exist in zone"),
        ("", {"machineType": "zones/us-central1-a/machineTypes/e9-micro"}, 400, "'e9-micro' does not exist in zone"),
        ("", {"metadata": {"items": [{"key": "startup-script", "value": "x" * 262145}]}}, 400, "resource.metadata"),
        ("", {"scheduling": {"provisioningModel": "SPOT"}}, 400, "resource.scheduling"),
        ("", {"scheduling": {"instanceTerminationAction": "DELETE"}}, 400, "instanceTerminationAction"),
        ("", {"scheduling": {"maxRunDuration": {"seconds": "29"}}}, 400, "maxRunDuration"),
        ("", {"scheduling": {"maxRunDuration": {"seconds": "10368001"}}}, 400, "maxRunDuration"),
        ("", {"networkInterfaces": [{"network": "global/networks/x"}]}, 404, "global/networks/x' was not found"),
        ("", {"networkInterfaces": [{"subnetwork": "regions/us-central1/subnetworks/x"}]}, 400, "cannot be found"),
        ("", {"networkInterfaces": [{"subnetwork": "regions/europe-west4/subnetworks/inner"}]}, 400, "be found"),
        ("?requestId=1", {}, 400, "must be a valid UUID"),
        ("?requestid=1", {}, 400, "requestid"),
    ],
)
def test_machines_that_the_service_does_not_take_are_rejected(gce, query, change, code, said):
    answered, message = turned_away(gce, INSTANCES + query, body(**change))
    assert (answered, said in message) == (code, True), message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"diskSizeGb": "9"}, "smaller than the image size"),
        ({"sourceImage": "projects/debian-cloud/global/images/debian-9"}, "images/debian-9' was not found"),
        ({"diskType": "zones/us-central1-a/diskTypes/pd-slow"}, "pd-slow"),
        ({"labels": {"Job": "mine"}}, "labels"),
    ],
)
def test_disks_that_the_service_does_not_take_are_rejected(gce, change, said):
    content = body()
    content["disks"][0]["initializeParams"] |= change
    assert said in turned_away(gce, INSTANCES, content)[1]


def test_a_request_of_a_number_is_carried_out_once(gce):
    number = "?requestId=11111111-2222-3333-4444-555555555555"
    first = send(gce, INSTANCES + number, body())
    assert send(gce, INSTANCES + number, body())["name"] == first["name"]
    assert turned_away(gce, INSTANCES, body())[0] == 409
    send(gce, f"{INSTANCES}/one", {}, "DELETE")
    assert send(gce, INSTANCES + number, body())["name"] == first["name"]
    assert refused(gce, f"{INSTANCES}/one")[0] == 404


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('(labels.color = "red")', {"a", "b"}),
        ('(labels.color = "red") (name = "a")', {"a"}),
        ('(labels.color = "red") AND (name = "c")', set()),
        ('(name = "a") OR (name = "c") AND (labels.size = "xl")', {"c"}),
        ('(labels.size != "xl")', {"a", "b"}),
        ('(name > "a")', {"b", "c"}),
        ('name eq "a|b"', {"a", "b"}),
    ],
)
def test_filters_are_those_of_the_service(gce, expression, names):
    for name, labels in [("a", {"color": "red"}), ("b", {"color": "red", "size": "m"}), ("c", {"size": "xl"})]:
        send(gce, INSTANCES, body(name=name, labels=labels))
    query = urllib.parse.urlencode({"filter": expression})
    answer = json.loads(get(gce, f"{COMPUTE}/aggregated/instances?{query}"))
    found = answer["items"]["zones/us-central1-a"].get("instances", [])
    assert {one["name"] for one in found} == names


def test_a_filter_that_is_not_understood_is_rejected(gce):
    for expression in ('(nothing = "a")', '(name = "a"', '(name ~ "a")', '(name = "a") XOR (name = "b")'):
        query = urllib.parse.urlencode({"filter": expression})
        assert refused(gce, f"{COMPUTE}/aggregated/instances?{query}")[0] == 400


def test_an_operation_ends_when_its_time_has_come(gce):
    gce.set(operation_seconds=100.0, boot_seconds=50.0)
    operation = send(gce, INSTANCES, body())["name"]
    path = f"{COMPUTE}/zones/us-central1-a/operations/{operation}"
    seen = []
    for _ in range(3):
        seen += [(json.loads(get(gce, path))["status"], json.loads(get(gce, f"{INSTANCES}/one"))["status"])]
        gce.advance(75)
    assert seen == [("RUNNING", "PROVISIONING"), ("RUNNING", "PROVISIONING"), ("DONE", "RUNNING")]


def test_a_disk_in_use_is_not_deleted(gce):
    send(gce, INSTANCES, body())
    disks = f"{COMPUTE}/zones/us-central1-a/disks/one"
    request = urllib.request.Request(gce.endpoint + disks, method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value as answer:
        assert json.loads(answer.read())["error"]["errors"][0]["reason"] == "resourceInUseByAnotherResource"


def test_it_ends_with_whoever_started_it():
    service = Gce()
    service.start()
    process = service._process
    process.stdin.close()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.returncode == 0
    service._process = None
