"""What would keep machines of Google Cloud from being started, asked before any is."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from taskfleet.clouds.google import RESOURCE_MANAGER
from taskfleet.clouds.google_permissions import GOOGLE, PROJECT, SUBNETWORK
from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession, json_of
from taskfleet.clouds.permissions import Use, Who
from taskfleet.errors import ProviderError, UnreachableError

#: What is asked about; to choose machines is not needed to start them.
_ASKED: Final = (Use.START, Use.LOOK, Use.END, Use.CLEAR)
_EXTERNAL_IP: Final = "compute.subnetworks.useExternalIp"


def find_troubles(
    session: GoogleSession,
    *,
    regions: Sequence[str],
    network: str | None,
    subnetwork: str | None,
    external_ip: bool,
    find_image: Callable[[], Any],
) -> list[str]:
    """See ``GcpMachines.preflight``. Whether machines may have their service account is not asked: only their start tells."""
    places = [PROJECT]
    if not any(given is not None and given.startswith(("projects/", "http")) for given in (network, subnetwork)):
        places.append(SUBNETWORK)  # else another project's owner grants them
    rows = [row for row in GOOGLE.of(who=Who.POOL, uses=_ASKED) if any(row.is_on(place) for place in places)]
    wanted = sorted(row.name for row in rows if external_ip or row.name != _EXTERNAL_IP)
    found = [*_of_permissions(session, wanted)]
    checks: list[Callable[[], str | None]] = [lambda: (find_image(), None)[1]]
    if subnetwork is not None and "/" not in subnetwork:
        checks += [lambda region=region: _of_subnetwork(session, region, subnetwork) for region in regions]  # type: ignore[misc]
    elif subnetwork is None and (network is None or "/" not in network):
        checks.append(lambda: _of_network(session, network or "default"))
    for check in checks:
        try:
            trouble = check()
        except UnreachableError:
            raise
        except ProviderError as error:
            trouble = str(error)
        if trouble is not None:
            found.append(trouble)
    return list(dict.fromkeys(found))


def _of_permissions(session: GoogleSession, wanted: Sequence[str]) -> Iterator[str]:
    from taskfleet.clouds.google_errors import advice

    address = f"{session.endpoint(RESOURCE_MANAGER)}/v1/projects/{session.project}:testIamPermissions"
    with session.http(RESOURCE_MANAGER) as http:

        def ask() -> Any:
            return json_of(http.post(address, json={"permissions": list(wanted)}, timeout=REQUEST_SECONDS))

        try:
            granted = set(session.call(ask, api=RESOURCE_MANAGER).get("permissions", ()))
        except UnreachableError:
            raise
        except ProviderError as error:
            yield f"The permissions of this account could not be checked: {error}"
            return
    for permission in wanted:
        if permission not in granted:
            yield (f"This account lacks the permission {permission} in project {session.project}. {advice(permission)}")


def _of_network(session: GoogleSession, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetNetworkRequest(project=session.project, network=name)
    if _is_there(session, compute_v1.NetworksClient, request, "compute.networks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no network {name}. Set NETWORK in config/pool.env; gcloud compute networks list "
        f"--project {session.project} shows those there are."
    )


def _of_subnetwork(session: GoogleSession, region: str, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetSubnetworkRequest(project=session.project, region=region, subnetwork=name)
    if _is_there(session, compute_v1.SubnetworksClient, request, "compute.subnetworks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no subnetwork {name} in {region}. Correct SUBNETWORK or REGIONS in "
        f"config/pool.env; gcloud compute networks subnets list --project {session.project} shows those there are."
    )


def _is_there(session: GoogleSession, kind: Any, request: Any, permission: str) -> bool:
    from google.api_core.exceptions import Forbidden, NotFound

    with session.client(kind) as client:

        def ask() -> bool:
            try:
                client.get(request, retry=None, timeout=REQUEST_SECONDS)
            except NotFound:
                return False
            except Forbidden:
                return True  # it may be used without being looked at
            return True

        return bool(session.call(ask, permission))
