"""What a worker on a machine of a pool knows of it: by the metadata services' doubles, and the offers in its script."""

import pytest
from taskfleet.machine_terms import Market
from taskfleet.machines.choosing import Offer
from taskfleet.machines.facts import MAX_CHARACTERS, OFFERS_VARIABLE, facts_here, machine_here, pack_offers

from shared_lib.tests.services.metadata import Metadata

#: The machines that the doubles are.
MACHINES = {"aws": ("c7i.large", "us-east-1a"), "gcp": ("n2-standard-2", "us-east-1-a")}


def offer(instance_type, zone, usd, market=Market.SPOT, **more):
    usual = {
        "slots": 2,
        "cpus": 2,
        "memory_gib": 4.0,
        "boot_disk_type": "gp3",
        "boot_disk_gib": 22.5,
        "local_ssd_gib": 75.0,
    }
    return Offer(
        instance_type=instance_type,
        zone=zone,
        market=market,
        usd_per_hour=usd,
        usd_per_slot_hour=usd / 2,
        machine_usd_per_hour=usd,
        **usual | more,
    )


@pytest.fixture(scope="module")
def service():
    with Metadata() as service:
        yield service


@pytest.mark.parametrize("provider", MACHINES)
@pytest.mark.parametrize("market", Market)
def test_a_machine_finds_its_own_offer(service, provider, market):
    instance_type, zone = MACHINES[provider]
    offers = [
        offer("other.large", zone, 0.01, market, memory_gib=8.0),
        offer(instance_type, "elsewhere-1a", 0.02, market),
        offer(instance_type, zone, 0.0312, market),
    ]
    environ = service.environment() | {"TASKFLEET_PROVIDER": provider, OFFERS_VARIABLE: pack_offers(offers)}
    assert facts_here(environ) == {
        "provider": provider.upper(),
        "instance_type": instance_type,
        "is_spot": market is Market.SPOT,
        "memory_gb": 4.0,
        "local_ssd_gb": 75.0,
        "boot_disk_gb": 22.5,
        "price_per_hour": 0.0312,
    }
    assert facts_here(environ | {OFFERS_VARIABLE: pack_offers(offers[:2])})["price_per_hour"] is None
    assert facts_here(environ | {OFFERS_VARIABLE: pack_offers(offers[:1])}) == {
        "provider": provider.upper(),
        "instance_type": instance_type,
    }


@pytest.mark.parametrize("provider", MACHINES)
def test_a_machine_finds_its_name_also_with_a_start_up_script_of_the_user(service, provider):
    environ = service.environment() | {"TASKFLEET_PROVIDER": provider}
    assert machine_here(environ) == "i-0123456789abcdef0"
    assert machine_here(environ | {"TASKFLEET_MACHINE": "known"}) == "known"
    assert machine_here({}) is None


def test_without_an_answer_only_the_provider_is_known():
    closed = {"TASKFLEET_METADATA_URL": "http://127.0.0.1:1", "TASKFLEET_PROVIDER": "aws"}
    assert facts_here(closed) == {"provider": "AWS"}
    assert machine_here(closed) is None
    assert facts_here({}) == {}
    assert facts_here({"TASKFLEET_PROVIDER": "local"}) == {}


def test_the_offers_in_a_script_are_few_however_many_there_are():
    offers = [offer(f"m{n}.8xlarge", f"us-east-1{zone}", 0.1234567) for n in range(99) for zone in "abc"]
    packed = pack_offers(offers)
    assert 200 < len(packed) <= MAX_CHARACTERS
    assert packed.startswith(
        "m0.8xlarge,spot,4,75,22.5,us-east-1a=0.1235,us-east-1b=0.1235,us-east-1c=0.1235 m1.8xlarge,"
    )
    assert pack_offers([]) == ""
