"""What Google Cloud offers, asked of Compute Engine and of the Cloud Billing Catalog."""

import math
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from taskfleet.errors import CommandError
from taskfleet.machine_terms import Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, make_catalogue
from taskfleet.machines.gcp.cpus import ARM, cpu_of, series_of
from taskfleet.machines.gcp.disks import boot_disk_types, disk_types
from taskfleet.machines.gcp.images import FAMILIES, PROVIDER, architecture_of, as_image, newest
from taskfleet.machines.gcp.prices import Rates
from taskfleet.machines.gcp.session import PATIENCE_SECONDS, REQUEST_SECONDS, Session, endpoint
from taskfleet.machines.images import Image

#: Compute Engine's own number in the Cloud Billing Catalog.
SERVICE = "services/6F81-5844-456A"
MOST_TYPES_PER_PAGE = 500
MOST_SKUS_PER_PAGE = 5000
#: What is read of the catalogue's entries; the rest, two thirds of it, is not sent.
_SKU_FIELDS = (
    "nextPageToken,skus(description,category(usageType),serviceRegions,"
    "pricingInfo(pricingExpression(usageUnit,tieredRates(unitPrice))))"
)
#: See ``gcp_session.COMPUTE``.
_BILLING = ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING", "https://cloudbilling.googleapis.com")
#: https://cloud.google.com/compute/docs/disks/local-ssd#choose_number_local_ssds; the service tells the number of disks only.
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
    """Ask for the machine types of some regions, and what they and their disks cost.

    Left out are custom types, those with GPUs or TPUs (billed by parts of their own), bare metal (no spot market), deprecated ones, and
    zones that are not up.

    Args:
        project: In whose name.
        regions: Such as "us-central1".
        now: Seconds since the epoch.
        compute_endpoint: Where Compute Engine is, if not where gcloud finds it.
        billing_endpoint: Where Cloud Billing is.
        patience_seconds: For how long to go on asking a service that is busy.

    Raises:
        CommandError: No credentials or permission, a service that is not enabled, no such project or region, no network.
    """
    regions = tuple(dict.fromkeys(regions))
    asker = _Asker(_named(project), compute_endpoint, billing_endpoint, patience_seconds)
    with asker, ThreadPoolExecutor(2) as threads:
        try:
            entries = threads.submit(asker.rates)
            machine_types = threads.submit(asker.machine_types, regions)
            zones = _zones(asker.zones())
            unknown = [region for region in regions if region not in zones]
            if unknown:
                raise CommandError(
                    f"Google Cloud has no region {', '.join(unknown)} with a zone that is up. There are: {', '.join(zones)}."
                )
            up = {zone: region for region in regions for zone in zones[region]}
            return _put_together(regions, up, machine_types.result(), entries.result(), now)
        finally:
            asker.stop()  # a fault of one has the others stop at their next page


def regions(
    project: str, *, compute_endpoint: str | None = None, patience_seconds: float = PATIENCE_SECONDS
) -> list[tuple[str, list[str]]]:
    """Ask which regions there are, and which of their zones are up.

    Args:
        project: In whose name.
        compute_endpoint: Where Compute Engine is, if not where gcloud finds it.
        patience_seconds: For how long to go on asking a service that is busy.

    Raises:
        CommandError: See ``fetch``.
    """
    with _Asker(_named(project), compute_endpoint, None, patience_seconds) as asker:
        return list(_zones(asker.zones()).items())


def images(*, compute_endpoint: str | None = None, patience_seconds: float = PATIENCE_SECONDS) -> list[Image]:
    """Ask for the current images of Ubuntu LTS and Debian, for both architectures.

    Args:
        compute_endpoint: Where Compute Engine is, if not where gcloud finds it.
        patience_seconds: For how long to go on asking a service that is busy.

    Raises:
        CommandError: See ``fetch``.
    """
    with _Asker("", compute_endpoint, None, patience_seconds) as asker, ThreadPoolExecutor(len(FAMILIES)) as threads:
        found = threads.map(lambda one: newest(asker, *one), FAMILIES)
        return [as_image(one) for one in found if one is not None]


class _Asker(Session):
    """Asks for what there is."""

    def __init__(
        self, project: str, compute_endpoint: str | None, billing_endpoint: str | None, patience_seconds: float
    ) -> None:
        super().__init__(project, compute_endpoint, patience_seconds)
        self._billing = endpoint(billing_endpoint, *_BILLING)

    def __enter__(self) -> "_Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def zones(self) -> list[Any]:
        """Give all zones."""
        from google.cloud import compute_v1

        request = compute_v1.ListZonesRequest(project=self._project)
        with self.client(compute_v1.ZonesClient) as client:
            return [zone for page in self.pages(client.list, request, "compute.zones.list") for zone in page.items]

    def machine_types(self, regions: Iterable[str]) -> list[Any]:
        """Give the machine types of all zones of regions."""
        from google.cloud import compute_v1

        # Unfiltered it would be some hundred pages, one after another.
        names = "|".join(re.escape(region).replace("\\-", "-") for region in regions)
        request = compute_v1.AggregatedListMachineTypesRequest(
            project=self._project, max_results=MOST_TYPES_PER_PAGE, filter=f'zone eq "(.*/)?({names})-[a-z0-9]+"'
        )
        with self.client(compute_v1.MachineTypesClient) as client:
            pages = self.pages(client.aggregated_list, request, "compute.machineTypes.list")
            return [one for page in pages for scope in page.items.values() for one in scope.machine_types]

    def rates(self) -> Rates:
        """Read the Cloud Billing Catalog's entries for Compute Engine."""
        from google.api_core.exceptions import from_http_response
        from google.auth.transport.requests import AuthorizedSession

        found = Rates()
        parameters: dict[str, Any] = {
            "pageSize": MOST_SKUS_PER_PAGE,
            "currencyCode": "USD",
            "fields": _SKU_FIELDS,
        }
        with AuthorizedSession(self.charged_credentials()) as session:  # type: ignore[no-untyped-call]

            def get() -> Any:
                answer = session.get(f"{self._billing}/v1/{SERVICE}/skus", params=parameters, timeout=REQUEST_SECONDS)
                if answer.status_code != 200:
                    raise from_http_response(answer)  # type: ignore[no-untyped-call]
                return answer.json()

            while not self._stopped.is_set():
                page = self.call(get, "Cloud Billing")
                found.add(page.get("skus", ()))
                if not page.get("nextPageToken"):
                    break
                parameters["pageToken"] = page["nextPageToken"]
        return found


def _named(project: str) -> str:
    if not project:
        raise CommandError("No Google Cloud project is named. Name one: gcloud projects list shows yours.")
    return project


def _zones(zones: Iterable[Any]) -> dict[str, list[str]]:
    """Give the zones that are up by region, both by name."""
    found: dict[str, list[str]] = {}
    for zone in sorted(zones, key=lambda one: one.name):
        if zone.status == "UP":
            found.setdefault(zone.region.rpartition("/")[2], []).append(zone.name)
    return dict(sorted(found.items()))


def _put_together(
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
        )
        for market in Market:
            usd = rates.machine_usd_per_hour(
                one.name, up[zone], market, cpus=one.guest_cpus, memory_gib=memory_gib, local_ssd_gib=local_ssd_gib
            )
            prices.append((one.name, market, zone, usd))
    if not types:
        raise CommandError(f"Google Cloud lists no machine types in {', '.join(regions) or 'no region'}.")
    return make_catalogue(
        provider=PROVIDER,
        regions=regions,
        fetched_at=now,
        types=types.values(),
        disks=[disk for region in regions for disk in disk_types(rates, region)],
        prices=prices,
    )


def _is_usable(one: Any) -> bool:
    return (
        not one.accelerators
        and not one.name.endswith("-metal")
        and "custom" not in one.name
        and one.deprecated.state in ("", "ACTIVE")
    )


def _local_ssd_gib(one: Any) -> float:
    """Give the size of a type's own disks; NaN if it has some of a size that is not known, which leaves it without a price."""
    count = one.bundled_local_ssds.partition_count
    return count * _LOCAL_DISK_GIB.get(series_of(one.name), math.nan) if count else 0.0
