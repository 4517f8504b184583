"""The stand-in for Compute Engine and Cloud Billing answers as they do, as far as their real clients and types can tell."""

import json
import time
import urllib.error
import urllib.request

import pytest
from google.api_core.exceptions import Forbidden, NotFound, ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud import billing_v1, compute_v1
from taskfleet.testing import gce_data
from taskfleet.testing.gce import PROJECT, Gce

COMPUTE = f"/compute/v1/projects/{PROJECT}"
SKUS = "/v1/services/6F81-5844-456A/skus"


@pytest.fixture
def client(gce):
    """Makes one of Google's clients for the double."""
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
        (f"{COMPUTE}/zones?filter=name%3Da", 400, "filter"),
        (f"{COMPUTE}/zones?pageToken=x", 400, "pageToken"),
        (f"{COMPUTE}/nothing", 404, "nothing"),
        ("/compute/v1/projects/nope/zones", 404, "projects/nope"),
        ("/v1/services/1234/skus", 404, "services/1234"),
    ],
)
def test_what_the_services_do_not_know_is_refused(gce, path, code, said):
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
