"""The catalogue of Google Cloud: machine types from Compute Engine, prices from the Cloud Billing Catalog."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from taskfleet.clouds.google import BILLING, COMPUTE
from taskfleet.clouds.google_session import PATIENCE_SECONDS, REQUEST_SECONDS, GoogleSession, json_of
from taskfleet.clouds.parallel import run_parallel
from taskfleet.errors import SettingsError, WrongSettingError
from taskfleet.machine_terms import Hardware, Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, make_catalogue
from taskfleet.machines.gcp.cpus import ARM, HIGH_MEMORY, cpu_of, is_metal, series_of
from taskfleet.machines.gcp.disks import boot_disk_types, disk_types
from taskfleet.machines.gcp.images import FAMILIES, PROVIDER, architecture_of, as_image, newest
from taskfleet.machines.gcp.prices import Rates
from taskfleet.machines.images import Image

#: Compute Engine's ID in the Cloud Billing Catalog.
SERVICE = "services/6F81-5844-456A"
MAX_TYPES_PER_PAGE = 500
MAX_SKUS_PER_PAGE = 5000
#: The requested fields of SKUs; the others, two thirds of the data, are not sent.
_SKU_FIELDS = (
    "nextPageToken,skus(description,category(usageType),serviceRegions,"
    "pricingInfo(pricingExpression(usageUnit,tieredRates(unitPrice))))"
)
#: https://cloud.google.com/compute/docs/disks/local-ssd#choose_number_local_ssds; the service reports only the number of disks.
_LOCAL_DISK_GIB: Final = {"z3": 3000.0, **dict.fromkeys(("c3", "c3d", "c4", "c4a", "c4d", "h4d"), 375.0)}


def fetch(
    project: str,
    regions: Sequence[str],
    *,
    now: float,
    compute_endpoint: str | None = None,
    billing_endpoint: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Catalogue:
    """Fetch the machine types of some regions, with the prices of machines and disks.

    Omitted are custom types, deprecated types, and zones that are not up. Types with GPUs or TPUs have no price, since these have separate
    SKUs; bare metal has no spot market.

    Args:
        project: The project whose quota is used.
        regions: Such as "us-central1".
        now: Seconds since the epoch.
        compute_endpoint: Of Compute Engine; None for the one that gcloud uses.
        billing_endpoint: Of Cloud Billing; None for the one that gcloud uses.
        patience_seconds: How long a call is retried if the service is busy.

    Raises:
        SettingsError: No project is set.
        ProviderError: No credentials or permission, a service that is not enabled, no such project or region, no network.
    """
    regions = tuple(dict.fromkeys(regions))
    endpoints = {COMPUTE: compute_endpoint, BILLING: billing_endpoint}
    session = GoogleSession(_named(project), endpoints=endpoints, patience_seconds=patience_seconds)
    session.credentials(COMPUTE)  # once, so that an error names the service that users know
    jobs: dict[str, Callable[[], Any]] = {
        "zones": lambda: _zones_of(session, regions),
        "types": lambda: _machine_types(session, regions),
        "rates": lambda: _rates(session),
    }
    found = run_parallel(jobs, max_threads=len(jobs), stop=session.stop)
    return _join(regions, found["zones"], found["types"], found["rates"], now)


def regions(
    project: str, *, compute_endpoint: str | None = None, patience_seconds: float = PATIENCE_SECONDS
) -> list[tuple[str, list[str]]]:
    """Return all regions, each with its zones that are up.

    Args:
        project: The project whose quota is used.
        compute_endpoint: Of Compute Engine; None for the one that gcloud uses.
        patience_seconds: How long a call is retried if the service is busy.

    Raises:
        ProviderError: See ``fetch``.
    """
    session = GoogleSession(_named(project), endpoints={COMPUTE: compute_endpoint}, patience_seconds=patience_seconds)
    return list(_zones(session).items())


def images(*, compute_endpoint: str | None = None, patience_seconds: float = PATIENCE_SECONDS) -> list[Image]:
    """Return the current images of Ubuntu LTS and Debian for both architectures.

    Args:
        compute_endpoint: Of Compute Engine; None for the one that gcloud uses.
        patience_seconds: How long a call is retried if the service is busy.

    Raises:
        ProviderError: See ``fetch``.
    """
    session = GoogleSession("", endpoints={COMPUTE: compute_endpoint}, patience_seconds=patience_seconds)
    jobs = {families: partial(newest, session, project, families) for project, families in FAMILIES}
    found = run_parallel(jobs, max_threads=len(jobs))
    return [as_image(one) for one in found.values() if one is not None]


def _machine_types(session: GoogleSession, regions: Iterable[str]) -> list[Any]:
    """Return the machine types of all zones of regions."""
    from google.cloud import compute_v1

    # unfiltered there are several hundred pages
    names = "|".join(re.escape(region).replace("\\-", "-") for region in regions)
    request = compute_v1.AggregatedListMachineTypesRequest(
        project=session.project, max_results=MAX_TYPES_PER_PAGE, filter=f'zone eq "(.*/)?({names})-[a-z0-9]+"'
    )
    with session.client(compute_v1.MachineTypesClient) as client:
        pages = session.pages(client.aggregated_list, request, "compute.machineTypes.list")
        return [one for page in pages for scope in page.items.values() for one in scope.machine_types]


def _rates(session: GoogleSession) -> Rates:
    """Read the Cloud Billing Catalog's entries for Compute Engine."""
    found = Rates()
    parameters = {"pageSize": MAX_SKUS_PER_PAGE, "currencyCode": "USD", "fields": _SKU_FIELDS}
    address = f"{session.endpoint(BILLING)}/v1/{SERVICE}/skus"
    with session.http(BILLING) as http:

        def get(token: str) -> Any:
            more = {"pageToken": token} if token else {}
            return json_of(http.get(address, params=parameters | more, timeout=REQUEST_SECONDS))

        for page in session.json_pages(get, api=BILLING):
            found.add(page.get("skus", ()))
    return found


def _named(project: str) -> str:
    if not project:
        raise SettingsError(
            "PROJECT_ID is not set. Set your Google Cloud project in config/pool.env; gcloud projects list lists your projects."
        )
    return project


def _zones_of(session: GoogleSession, regions: Sequence[str]) -> dict[str, str]:
    """Return the zones of some regions that are up, each with its region.

    Raises:
        WrongSettingError: There is no such region.
    """
    zones = _zones(session)
    unknown = [region for region in regions if region not in zones]
    if unknown:
        raise WrongSettingError(
            f"Google Cloud has no region {', '.join(unknown)} with an available zone. The regions are: {', '.join(zones)}.",
            setting="REGIONS",
        )
    return {zone: region for region in regions for zone in zones[region]}


def _zones(session: GoogleSession) -> dict[str, list[str]]:
    """Return the zones that are up by region, both by name."""
    from google.cloud import compute_v1

    request = compute_v1.ListZonesRequest(project=session.project)
    with session.client(compute_v1.ZonesClient) as client:
        pages = session.pages(client.list, request, "compute.zones.list")
        listed = [zone for page in pages for zone in page.items]
    found: dict[str, list[str]] = {}
    for zone in sorted(listed, key=lambda one: one.name):
        if zone.status == "UP":
            found.setdefault(zone.region.rpartition("/")[2], []).append(zone.name)
    return dict(sorted(found.items()))


def _join(
    regions: Sequence[str], up: dict[str, str], machine_types: Iterable[Any], rates: Rates, now: float
) -> Catalogue:
    types: dict[str, InstanceType] = {}
    prices: list[tuple[str, Market, str, float | None]] = []
    for one in machine_types:
        zone = one.zone.rpartition("/")[2]
        if zone not in up or not _is_usable(one):
            continue
        memory_gib, local_ssd_gib = one.memory_mb / 1024, _local_ssd_gib(one)
        cpu_family, cpu_rank = cpu_of(one.name)
        hardware = _hardware(one)
        types[one.name] = InstanceType(
            name=one.name,
            cpus=one.guest_cpus,
            memory_gib=memory_gib,
            architecture=architecture_of(one.architecture, is_arm=series_of(one.name) in ARM),
            local_ssd_gib=0.0 if math.isnan(local_ssd_gib) else local_ssd_gib,
            cpu_family=cpu_family,
            cpu_rank=cpu_rank,
            is_burstable=one.is_shared_cpu,
            boot_disk_types=boot_disk_types(one.name, one.guest_cpus),
            hardware=hardware,
        )
        for market in Market:
            if market is Market.SPOT and Hardware.METAL in hardware:
                continue
            usd = rates.machine_usd_per_hour(
                one.name, up[zone], market, cpus=one.guest_cpus, memory_gib=memory_gib, local_ssd_gib=local_ssd_gib
            )
            prices.append((one.name, market, zone, None if one.accelerators else usd))
    if not types:
        raise WrongSettingError(
            f"Google Cloud lists no machine types in {', '.join(regions) or 'no region'}.", setting="REGIONS"
        )
    return make_catalogue(
        provider=PROVIDER,
        regions=regions,
        fetched_at=now,
        types=types.values(),
        disks=[disk for region in regions for disk in disk_types(rates, region)],
        prices=prices,
    )


def _is_usable(one: Any) -> bool:
    return "custom" not in one.name and one.deprecated.state in ("", "ACTIVE")


def _hardware(one: Any) -> tuple[Hardware, ...]:
    """Return the special hardware of a type."""
    found = {
        Hardware.ACCELERATOR if each.guest_accelerator_type.startswith("ct") else Hardware.GPU
        for each in one.accelerators
    }
    if is_metal(one.name):
        found.add(Hardware.METAL)
    if series_of(one.name) in HIGH_MEMORY:
        found.add(Hardware.HIGH_MEMORY)
    return tuple(sorted(found))


def _local_ssd_gib(one: Any) -> float:
    """Return the size of a type's bundled local disks; NaN if it is unknown, so that the type has no price."""
    count = one.bundled_local_ssds.partition_count
    return count * _LOCAL_DISK_GIB.get(series_of(one.name), math.nan) if count else 0.0
