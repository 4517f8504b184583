"""Check whether machines of Google Cloud can be launched: permissions, image, network."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from taskfleet.clouds.google import RESOURCE_MANAGER
from taskfleet.clouds.google_permissions import GOOGLE, PROJECT, SUBNETWORK
from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession, json_of
from taskfleet.clouds.permissions import Use, Who
from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machines.gcp.bodies import LaunchSettings

#: The checked uses; choosing machines is not needed to launch them.
_USES: Final = (Use.START, Use.LOOK, Use.END, Use.CLEAR)
_EXTERNAL_IP: Final = "compute.subnetworks.useExternalIp"


def preflight(session: GoogleSession, settings: LaunchSettings, find_image: Callable[[], Any]) -> list[str]:
    """See ``GcpMachines.preflight``. Whether machines may use their service account cannot be checked without a launch."""
    network, subnetwork = settings.network, settings.subnetwork
    places = [PROJECT]
    if not any(given is not None and given.startswith(("projects/", "http")) for given in (network, subnetwork)):
        places.append(SUBNETWORK)  # else the owner of another project grants them
    rows = [row for row in GOOGLE.of(who=Who.POOL, uses=_USES) if any(row.is_on(place) for place in places)]
    wanted = sorted(row.name for row in rows if settings.external_ip or row.name != _EXTERNAL_IP)
    found = [*_missing_permissions(session, wanted)]
    checks: list[Callable[[], str | None]] = [lambda: (find_image(), None)[1]]
    if subnetwork is not None and "/" not in subnetwork:
        checks += [partial(_missing_subnetwork, session, region, subnetwork) for region in settings.regions]
    elif subnetwork is None and (network is None or "/" not in network):
        checks.append(lambda: _missing_network(session, network or "default"))
    for check in checks:
        try:
            sentence = check()
        except UnreachableError:
            raise
        except ProviderError as error:
            sentence = str(error)
        if sentence is not None:
            found.append(sentence)
    return list(dict.fromkeys(found))


def _missing_permissions(session: GoogleSession, wanted: Sequence[str]) -> Iterator[str]:
    from taskfleet.clouds.google_errors import advice

    address = f"{session.endpoint(RESOURCE_MANAGER)}/v1/projects/{session.project}:testIamPermissions"
    with session.http(RESOURCE_MANAGER) as http:

        def call() -> Any:
            return json_of(http.post(address, json={"permissions": list(wanted)}, timeout=REQUEST_SECONDS))

        try:
            granted = set(session.call(call, api=RESOURCE_MANAGER).get("permissions", ()))
        except UnreachableError:
            raise
        except ProviderError as error:
            yield f"The permissions of this account could not be checked: {error}"
            return
    for permission in wanted:
        if permission not in granted:
            yield (f"This account lacks the permission {permission} in project {session.project}. {advice(permission)}")


def _missing_network(session: GoogleSession, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetNetworkRequest(project=session.project, network=name)
    if _exists(session, compute_v1.NetworksClient, request, "compute.networks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no network {name}. Set NETWORK in config/pool.env; gcloud compute networks list "
        f"--project {session.project} lists the networks."
    )


def _missing_subnetwork(session: GoogleSession, region: str, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetSubnetworkRequest(project=session.project, region=region, subnetwork=name)
    if _exists(session, compute_v1.SubnetworksClient, request, "compute.subnetworks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no subnetwork {name} in {region}. Correct SUBNETWORK or REGIONS in "
        f"config/pool.env; gcloud compute networks subnets list --project {session.project} lists the subnetworks."
    )


def _exists(session: GoogleSession, kind: Any, request: Any, permission: str) -> bool:
    from google.api_core.exceptions import Forbidden, NotFound

    with session.client(kind) as client:

        def call() -> bool:
            try:
                client.get(request, retry=None, timeout=REQUEST_SECONDS)
            except NotFound:
                return False
            except Forbidden:
                return True  # it may be usable without the permission to get it
            return True

        return bool(session.call(call, permission))
