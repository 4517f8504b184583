"""The catalogue of Google Cloud, with its real clients at a double over a socket. Prices are computed by hand from ``gce_data``."""

import json
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from google.api_core.exceptions import Unauthorized
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials
from taskfleet.clouds.google import BILLING, COMPUTE
from taskfleet.clouds.google_errors import explain
from taskfleet.clouds.google_session import GoogleSession
from taskfleet.errors import CredentialsError, PermissionDeniedError, ProviderError, SettingsError
from taskfleet.machine_terms import Hardware, Range
from taskfleet.machines.catalogue import Architecture, Market, load, save
from taskfleet.machines.choosing import choose
from taskfleet.machines.cpus import YEARS
from taskfleet.machines.gcp import offers as gcp_offers
from taskfleet.machines.gcp.cpus import ARM, GCP
from taskfleet.machines.gcp.prices import Rates
from taskfleet.machines.needs import Need

from shared_lib.tests.services import gce_data
from shared_lib.tests.services.gce import PROJECT

REGIONS = ["us-central1", "europe-west4", "asia-northeast1"]
SPOT, ON_DEMAND = Market.SPOT, Market.ON_DEMAND
#: A 375 GiB disk's hour at 0.08, 0.032, 0.16 USD a GiB and month; a 3,000 GiB one's at 0.08.
PLAIN_DISK, SPOT_DISK, C4A_DISK, Z3_DISK = 0.0410958904, 0.0164383562, 0.0821917808, 0.3287671233


@pytest.fixture
def fetch(gce):
    """Fetches from the double; ``fetch(regions, **more)``."""

    def fetch(regions=REGIONS, project=PROJECT, **more):
        endpoints = {"compute_endpoint": gce.endpoint, "billing_endpoint": gce.endpoint}
        return gcp_offers.fetch(project, regions, now=1_790_000_000.0, **(endpoints | {"patience_seconds": 0.3} | more))

    return fetch


@pytest.fixture(scope="module")
def catalogue(gce_service):
    return gcp_offers.fetch(
        PROJECT,
        REGIONS,
        now=1_790_000_000.0,
        compute_endpoint=gce_service.endpoint,
        billing_endpoint=gce_service.endpoint,
    )


def price(catalogue, name, market, zone):
    return {one.zone: one.usd_per_hour for one in catalogue.prices.get((name, market), ())}.get(zone)


@pytest.mark.parametrize(
    ("name", "market", "zone", "usd"),
    [
        ("n2-standard-8", ON_DEMAND, "us-central1-a", 0.2528 + 0.1344),
        ("n2-standard-8", ON_DEMAND, "us-central1-f", 0.3872),
        ("n2-standard-8", ON_DEMAND, "europe-west4-b", 0.42592),
        ("n2-standard-8", ON_DEMAND, "asia-northeast1-a", 0.484),
        ("n2-standard-8", SPOT, "us-central1-a", 0.06 + 0.032),
        ("n1-standard-2", ON_DEMAND, "us-central1-a", 0.064 + 0.0315),
        ("n2d-standard-4", ON_DEMAND, "us-central1-a", 0.11 + 0.0592),
        ("c2-standard-4", ON_DEMAND, "us-central1-a", 0.136 + 0.0736),
        ("c2-standard-4", SPOT, "us-central1-a", 0.036 + 0.0192),
        ("m1-megamem-96", ON_DEMAND, "us-central1-a", 3.36 + 7.16799805),
        ("m3-ultramem-32", SPOT, "us-central1-a", 0.448 + 1.952),
    ],
)
def test_a_machine_costs_its_cores_and_its_memory(catalogue, name, market, zone, usd):
    assert price(catalogue, name, market, zone) == pytest.approx(usd, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "on_demand", "spot"),
    [
        ("e2-micro", 0.0055 + 0.003, 0.0015 + 0.0008),
        ("e2-small", 0.011 + 0.006, 0.003 + 0.0016),
        ("e2-medium", 0.022 + 0.012, 0.006 + 0.0032),
        ("f1-micro", 0.0076, 0.0035),
        ("g1-small", 0.0257, None),
    ],
)
def test_machines_with_a_share_of_a_core_have_rules_of_their_own(catalogue, name, on_demand, spot):
    assert price(catalogue, name, ON_DEMAND, "us-central1-b") == pytest.approx(on_demand)
    assert price(catalogue, name, SPOT, "us-central1-b") == (spot and pytest.approx(spot))
    assert catalogue.types[name].is_burstable


@pytest.mark.parametrize(
    ("name", "market", "usd", "gib"),
    [
        ("c3-standard-4-lssd", ON_DEMAND, 0.208 + PLAIN_DISK, 375),
        ("c3-standard-4-lssd", SPOT, 0.0552 + SPOT_DISK, 375),
        ("c4a-standard-4-lssd", ON_DEMAND, 0.18 + C4A_DISK, 375),
        ("z3-highmem-14-standardlssd", ON_DEMAND, 1.4392 + Z3_DISK, 3000),
        ("c3-standard-4", ON_DEMAND, 0.208, 0),
    ],
)
def test_local_disks_are_in_the_price(catalogue, name, market, usd, gib):
    assert price(catalogue, name, market, "us-central1-a") == pytest.approx(usd)
    assert catalogue.types[name].local_ssd_gib == gib


def test_a_price_in_another_currency_is_none():
    [core] = [one for one in gce_data.skus() if one["description"] == "N2 Instance Core running in Tokyo"]
    rates = Rates()
    rates.add([core])
    assert rates.get("n2 core", "asia-northeast1") == pytest.approx(0.0395)
    core["pricingInfo"][-1]["pricingExpression"]["tieredRates"][0]["unitPrice"]["currencyCode"] = "JPY"
    rates = Rates()
    rates.add([core])
    assert rates.get("n2 core", "asia-northeast1") is None


def test_m2_costs_its_premium_too(catalogue):
    assert price(catalogue, "m2-ultramem-208", ON_DEMAND, "us-central1-a") == pytest.approx(208 * 0.055 + 5888 * 0.008)


def test_what_has_no_price_anywhere_is_reported(catalogue):
    """No memory of C4D, no spot market of H3 and M2, a price of zero (T2A, G1), GPUs (G2), a local disk of unknown size (Q9)."""
    assert catalogue.unpriced == {
        ("c4d-standard-4", SPOT),
        ("c4d-standard-4", ON_DEMAND),
        ("g1-small", SPOT),
        ("g2-standard-4", SPOT),
        ("g2-standard-4", ON_DEMAND),
        ("h3-standard-88", SPOT),
        ("m2-ultramem-208", SPOT),
        ("q9-standard-4-lssd", SPOT),
        ("q9-standard-4-lssd", ON_DEMAND),
        ("t2a-standard-4", SPOT),
    }
    assert not catalogue.unpriced & catalogue.prices.keys()
    assert all(one.usd_per_hour > 0 for each in catalogue.prices.values() for one in each)


@pytest.mark.parametrize(
    ("name", "market", "region"),
    [
        ("n4-standard-4", SPOT, "europe-west4"),  # no entry for cores
        ("c2d-highcpu-4", ON_DEMAND, "asia-northeast1"),  # zero for cores; memory alone would be cheap
        (
            "c4-standard-8-lssd",
            ON_DEMAND,
            "asia-northeast1",
        ),  # no entry for its disk; another series' would be too cheap
        ("f1-micro", ON_DEMAND, "europe-west4"),
    ],
)
def test_a_missing_or_zero_price_never_wins(catalogue, name, market, region):
    zones = {one.zone.rpartition("-")[0] for one in catalogue.prices[name, market]}
    assert zones
    assert region not in zones


def test_offers_are_of_zones_that_are_up_the_cheapest_first(catalogue):
    offers = catalogue.prices["n2-standard-8", ON_DEMAND]
    assert [one.zone for one in offers] == [
        *(f"us-central1-{letter}" for letter in "abf"),
        *(f"europe-west4-{letter}" for letter in "abc"),
        *(f"asia-northeast1-{letter}" for letter in "ab"),
    ]
    assert {one.zone for one in catalogue.prices["h3-standard-88", ON_DEMAND]} == {f"us-central1-{it}" for it in "abf"}


def test_only_the_regions_requested_are_there(fetch, gce):
    gce.fault("machineTypes.aggregatedList", "pages", size=50, times=None)
    before = gce.requests()["machineTypes.aggregatedList"]
    found = fetch(["europe-west4", "europe-west4"])
    assert gce.requests()["machineTypes.aggregatedList"] - before == 2  # 93 machine types; of all zones there are 282
    assert found.regions == ("europe-west4",)
    assert {one.zone[:-2] for each in found.prices.values() for one in each} == {"europe-west4"}
    assert [one.name for one in found.disks] == [
        "pd-standard",
        "pd-balanced",
        "pd-ssd",
        "pd-extreme",
        "hyperdisk-balanced",
    ]
    assert "h3-standard-88" not in found.types


def test_what_is_left_out(catalogue):
    assert not catalogue.types.keys() & {"n2-custom-4-8192", "n1-megamem-96"}


def test_special_hardware_is_known_and_chosen_on_request_only(catalogue):
    special = {name: one.hardware for name, one in catalogue.types.items() if one.hardware}
    assert special == {"g2-standard-4": (Hardware.GPU,), "c3-standard-192-metal": (Hardware.METAL,)}
    wanted = Need(
        architecture=Architecture.X86_64, instance_types=("c3-*", "g2-*"), price_usd_per_hour=Range(None, 100)
    )
    assert not special.keys() & {one.instance_type for one in choose(wanted, catalogue).ranked}
    found = choose(replace(wanted, special_hardware=(Hardware.METAL, Hardware.GPU)), catalogue)
    metal = [one for one in found.ranked if one.instance_type == "c3-standard-192-metal"]
    assert {(one.market, one.boot_disk_type) for one in metal} == {(Market.ON_DEMAND, "hyperdisk-balanced")}
    # the price of its GPU is unknown, so it is not free of charge
    assert next(str(one) for one in found.rejected["g2-standard-4"]).startswith("price: no valid price")


def test_types_say_what_they_are(catalogue):
    n2 = catalogue.types["n2-standard-8"]
    assert (n2.cpus, n2.memory_gib, n2.architecture, n2.is_burstable) == (8, 32.0, Architecture.X86_64, False)
    assert (n2.cpu_family, n2.cpu_rank) == ("Intel Cascade Lake", 19)
    assert catalogue.types["q9-standard-4-lssd"].cpu_rank == 0
    assert catalogue.types["e2-micro"].cpus == 2  # billed as a quarter, but shown as two


@pytest.mark.parametrize("name", ["c4a-standard-4", "t2a-standard-4"])  # the service does not report the latter's
def test_arm_is_known(catalogue, name):
    assert catalogue.types[name].architecture is Architecture.ARM64
    assert {one.name for one in catalogue.types.values() if one.architecture is Architecture.ARM64} == {
        "c4a-standard-4",
        "c4a-standard-4-lssd",
        "t2a-standard-4",
    }


@pytest.mark.parametrize(
    ("name", "disks"),
    [
        ("c4a-standard-4", ("hyperdisk-balanced",)),
        ("n4-standard-4", ("hyperdisk-balanced",)),
        ("c3-standard-4", ("pd-balanced", "pd-ssd", "hyperdisk-balanced")),
        ("e2-standard-4", ("pd-standard", "pd-balanced", "pd-ssd")),
        ("n2-standard-8", ("pd-standard", "pd-balanced", "pd-ssd")),
        ("n2-highmem-64", ("pd-standard", "pd-balanced", "pd-ssd", "pd-extreme")),
    ],
)
def test_types_say_which_disks_they_boot_from(catalogue, name, disks):
    assert catalogue.types[name].boot_disk_types == disks


def test_disks_cost_what_their_region_asks(catalogue):
    disks = {(one.name, one.region): one for one in catalogue.disks}
    standard = disks["pd-standard", "us-central1"]
    assert standard.usd_per_gib_month == 0.04  # the first 30 GiB are free, once per account
    assert usd(standard, 730) == pytest.approx(0.04)
    assert usd(disks["pd-balanced", "us-central1"], 73, iops=3000, mibps=140) == pytest.approx(0.01)
    assert disks["pd-ssd", "europe-west4"].usd_per_gib_month == pytest.approx(0.187)
    extreme = disks["pd-extreme", "us-central1"]
    assert usd(extreme, 500) == usd(extreme, 500, iops=10_000) == pytest.approx((62.5 + 650) / 730)
    hyperdisk = disks["hyperdisk-balanced", "us-central1"]
    assert usd(hyperdisk, 100, iops=3000, mibps=140) == pytest.approx(8 / 730)
    assert usd(hyperdisk, 100, iops=5000, mibps=240) == pytest.approx((8 + 10 + 4) / 730)
    assert ("hyperdisk-balanced", "asia-northeast1") not in disks  # no entry for its capacity
    priceless = disks["hyperdisk-balanced", "europe-west4"].order(100, iops=5000)
    assert priceless == "hyperdisk-balanced: there is no valid price for its speed in europe-west4"


def usd(disk, gib, **speed):
    return disk.order(gib, **speed).usd_per_hour


@pytest.mark.parametrize(
    ("name", "gib", "speed", "ordered"),
    [
        ("pd-standard", 5, {}, (10, 0, 0)),
        ("pd-ssd", 300, {"iops": 9000}, (300, 0, 0)),
        ("pd-extreme", 20, {}, (500, 10_000, 0)),
        ("pd-extreme", 20, {"iops": 120_000}, (500, 120_000, 0)),
        ("hyperdisk-balanced", 20, {}, (20, 3000, 140)),
        ("hyperdisk-balanced", 20, {"mibps": 1000}, (20, 4000, 1000)),
        ("hyperdisk-balanced", 320, {"iops": 160_000}, (320, 160_000, 625)),
    ],
)
def test_a_disk_is_ordered_as_fast_as_required_within_the_limits_of_google(catalogue, name, gib, speed, ordered):
    disk = next(one for one in catalogue.disks if (one.name, one.region) == (name, "us-central1"))
    found = disk.order(gib, **{"iops": 0, **speed})
    assert (found.gib, found.iops, found.mibps) == ordered


@pytest.mark.parametrize(
    ("name", "gib", "speed", "reason"),
    [
        ("pd-standard", 1000, {"iops": 751}, "pd-standard: 751 IOPS are required, 1,000 GiB have 750"),
        ("pd-balanced", 73, {"iops": 3001}, "pd-balanced: 3,001 IOPS are required, 73 GiB have 3,000"),
        ("pd-extreme", 500, {"iops": 120_001}, "pd-extreme: 120,001 IOPS are required, the maximum is 120,000"),
        ("pd-extreme", 500, {"mibps": 1}, "pd-extreme: 1 MiB/s are required, 500 GiB have 0"),
        ("hyperdisk-balanced", 20, {"iops": 16_000}, "hyperdisk-balanced: 16,000 IOPS need a disk of 32 GiB or more"),
        (
            "hyperdisk-balanced",
            20,
            {"mibps": 2401},
            "hyperdisk-balanced: 2,401 MiB/s are required, the maximum is 2,400",
        ),
    ],
)
def test_a_disk_beyond_the_limits_of_google_is_not_ordered(catalogue, name, gib, speed, reason):
    disk = next(one for one in catalogue.disks if (one.name, one.region) == (name, "us-central1"))
    assert disk.order(gib, **speed).startswith(reason)


def test_a_catalogue_is_kept_as_it_was(catalogue, tmp_path):
    save(catalogue, tmp_path / "gcp.json")
    assert load(tmp_path / "gcp.json") == catalogue
    assert (catalogue.provider, catalogue.fetched_at) == ("gcp", 1_790_000_000.0)


def test_all_pages_are_read(fetch, gce, catalogue):
    before = gce.requests()
    gce.fault("machineTypes.aggregatedList", "pages", size=40, times=None)
    gce.fault("zones.list", "pages", size=4, times=None)
    gce.fault("skus.list", "pages", size=100, times=None)
    assert fetch() == catalogue
    asked = gce.requests() - before
    assert asked["zones.list"] == 3
    assert asked["machineTypes.aggregatedList"] >= 5
    assert asked["skus.list"] >= 3


@pytest.mark.parametrize("action", ["machineTypes.aggregatedList", "zones.list", "skus.list"])
def test_throttling_is_sat_out(fetch, gce, catalogue, action):
    gce.fault(action, code=403, status="PERMISSION_DENIED", reason="rateLimitExceeded", message="Rate Limit Exceeded")
    gce.fault(action, code=429, status="RESOURCE_EXHAUSTED", reason="RATE_LIMIT_EXCEEDED", message="Quota exceeded")
    gce.fault(action, code=503, status="UNAVAILABLE", reason="backendError", message="Backend Error")
    gce.fault(action, "lost")
    before = gce.requests()[action]
    assert fetch(patience_seconds=20.0) == catalogue
    assert gce.requests()[action] - before == 5


def refusal(fetch, **more):
    with pytest.raises((ProviderError, SettingsError)) as caught:
        fetch(**more)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_throttling_without_end_is_reported(fetch, gce):
    gce.fault("skus.list", times=None, code=429, status="RESOURCE_EXHAUSTED", message="Quota exceeded.")
    assert refusal(fetch) == (
        "Cloud Billing is busy or throttles requests (429: Quota exceeded). Try again in a minute."
    )


@pytest.mark.parametrize(
    ("action", "permission"),
    [("machineTypes.aggregatedList", "compute.machineTypes.list"), ("zones.list", "compute.zones.list")],
)
def test_a_missing_permission_is_named(fetch, gce, action, permission):
    message = f"Required '{permission}' permission for 'projects/{PROJECT}'"
    gce.fault(action, code=403, status="PERMISSION_DENIED", reason="forbidden", message=message)
    assert refusal(fetch) == (
        f"Compute Engine: this account lacks the permission {permission} in project {PROJECT}, or the project does not exist. Ask for a "
        f"role that has it, for example Compute Viewer. ({message})"
    )


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (
            "zones.list",
            "Compute Engine is not enabled in project test-project: gcloud services enable compute.googleapis.com --project test-project",
        ),
        (
            "skus.list",
            "Cloud Billing is not enabled in project test-project: gcloud services enable cloudbilling.googleapis.com "
            "--project test-project",
        ),
    ],
)
@pytest.mark.parametrize("reason", ["SERVICE_DISABLED", "accessNotConfigured"])
def test_a_service_that_is_off_is_named_with_the_command(fetch, gce, action, reason, said):
    gce.fault(action, code=403, status="PERMISSION_DENIED", reason=reason, message="has not been used in it")
    assert refusal(fetch) == said


def test_a_project_without_a_billing_account_is_reported(fetch, gce):
    gce.fault("zones.list", code=403, status="PERMISSION_DENIED", reason="BILLING_DISABLED", message="needs billing")
    assert "gcloud billing projects link test-project --billing-account" in refusal(fetch)


def test_a_project_that_may_not_be_charged_is_reported(fetch, gce):
    gce.fault(
        "skus.list", code=403, status="PERMISSION_DENIED", reason="USER_PROJECT_DENIED", message="Caller lacks it"
    )
    said = refusal(fetch)
    assert "lacks the permission serviceusage.services.use in project test-project" in said
    assert "Service Usage Consumer" in said


def test_a_wrong_project_is_reported(fetch):
    assert refusal(fetch, project="nope") == (
        "Compute Engine: project nope does not exist. Correct PROJECT_ID: gcloud projects list shows your projects. "
        "(The resource 'projects/nope' was not found)"
    )


def test_a_deleted_project_is_reported(fetch, gce):
    gce.fault(
        "skus.list", code=403, status="PERMISSION_DENIED", reason="CONSUMER_INVALID", message="Project was deleted."
    )
    assert refusal(fetch) == (
        "Cloud Billing: project test-project does not exist. Correct PROJECT_ID: gcloud projects list shows your "
        "projects. (Project was deleted)"
    )


def test_no_project_is_reported(fetch):
    assert "PROJECT_ID is not set" in refusal(fetch, project="")


def test_unknown_regions_are_reported_with_those_that_exist(fetch):
    assert refusal(fetch, regions=["us-central1", "us-centrall"]) == (
        "Google Cloud has no region us-centrall with an available zone. The regions are: asia-northeast1, europe-west4, us-central1."
    )


def test_credentials_that_are_not_accepted_are_reported():
    said = explain(
        Unauthorized("GET https://compute.googleapis.com/x: Invalid Credentials"), api=COMPUTE, project=PROJECT
    )
    assert isinstance(said, CredentialsError)
    assert str(said).startswith("Compute Engine: Google Cloud does not accept these credentials, or they have expired.")
    assert str(said).endswith("(Invalid Credentials)")


def test_anything_else_is_reported_as_the_service_says_it(fetch, gce):
    gce.fault(
        "zones.list", code=412, status="FAILED_PRECONDITION", reason="conditionNotMet", message="Some: odd\nthing"
    )
    assert refusal(fetch) == "Compute Engine rejects the request of project test-project: Some: odd thing (412)"


@pytest.mark.parametrize(
    ("endpoint", "service_name", "api"),
    [("compute_endpoint", "Compute Engine", COMPUTE), ("billing_endpoint", "Cloud Billing", BILLING)],
)
def test_no_network_is_reported(fetch, endpoint, service_name, api):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        said = refusal(fetch, **{endpoint: address})
    assert (
        said
        == f"{service_name} cannot be reached (ConnectionError). Check the network, the proxy if there is one, and {api.variable} if it is "
        "set."
    )


@pytest.fixture
def no_login(monkeypatch, tmp_path):
    """Removes all sources of credentials."""
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        *(api.variable for api in (COMPUTE, BILLING)),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("PATH", str(tmp_path))  # gcloud, which may know a project
    return tmp_path


def test_no_credentials_are_reported(no_login, fetch):
    said = refusal(fetch, compute_endpoint=None, billing_endpoint=None)
    assert said.startswith("Compute Engine: no Google Cloud credentials were found. Log in (gcloud auth application-")


def test_expired_credentials_are_reported(gce):
    login = Credentials(None, refresh_token="x", token_uri=f"{gce.endpoint}/token", client_id="x", client_secret="x")
    with pytest.raises(RefreshError) as caught:
        login.refresh(Request())
    said = explain(caught.value, api=COMPUTE, project=PROJECT)
    assert isinstance(said, CredentialsError)
    assert str(said).startswith("Compute Engine: the Google Cloud credentials have expired or were revoked. Log in (")


@pytest.mark.parametrize(("own", "charged"), [(None, "mine"), ("theirs", "theirs")])
def test_prices_asked_by_a_person_are_charged_to_a_project(no_login, monkeypatch, own, charged):
    login = {"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}
    path = no_login / "login.json"
    path.write_text(json.dumps(login | ({"quota_project_id": own} if own else {})))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert GoogleSession("mine").credentials(BILLING, is_charged=True).quota_project_id == charged


def test_gclouds_variables_say_where_the_services_are(gce, monkeypatch, catalogue):
    for name, value in gce.environment().items():
        monkeypatch.setenv(name, value)
    assert gcp_offers.fetch(PROJECT, REGIONS, now=1_790_000_000.0) == catalogue


def test_regions_come_with_their_zones_that_are_up(gce):
    gce.fault("zones.list", "pages", size=2, times=None)
    assert gcp_offers.regions(PROJECT, compute_endpoint=gce.endpoint) == [
        ("asia-northeast1", ["asia-northeast1-a", "asia-northeast1-b"]),
        ("europe-west4", ["europe-west4-a", "europe-west4-b", "europe-west4-c"]),
        ("us-central1", ["us-central1-a", "us-central1-b", "us-central1-f"]),
    ]


def test_images_are_the_newest_that_exist(gce):
    gce.fault("images.getFromFamily", code=503, status="UNAVAILABLE", message="Backend Error")
    found = gcp_offers.images(compute_endpoint=gce.endpoint)
    assert [(one.name, one.architecture) for one in found] == [
        ("ubuntu-2604-resolute-amd64-v20261105", Architecture.X86_64),
        ("ubuntu-2404-noble-arm64-v20261101", Architecture.ARM64),  # 26.04 does not exist for Arm
        ("debian-13-trixie-v20261010", Architecture.X86_64),
        ("debian-13-trixie-arm64-v20261010", Architecture.ARM64),
    ]
    assert found[0].id == "projects/ubuntu-os-cloud/global/images/ubuntu-2604-resolute-amd64-v20261105"
    assert (found[0].created_at, found[0].provider) == (1793877164.321, "gcp")


def test_images_that_may_not_be_seen_are_reported(gce):
    gce.fault(
        "images.getFromFamily", times=None, code=403, status="PERMISSION_DENIED", reason="forbidden", message="No."
    )
    with pytest.raises(
        PermissionDeniedError, match=r"lacks the permission compute.images.getFromFamily in project ubuntu-os-cloud"
    ):
        gcp_offers.images(compute_endpoint=gce.endpoint)


def test_the_sdk_is_loaded_when_it_is_used():
    code = (
        "import sys, taskfleet.machines.gcp.offers; print([name for name in sys.modules if name.startswith('google')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.strip() == "[]"


def test_every_arm_series_has_a_cpu():
    assert GCP.keys() >= ARM
    assert set(GCP.values()) <= YEARS.keys()
