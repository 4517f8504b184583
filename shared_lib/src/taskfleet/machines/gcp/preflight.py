"""What would keep machines of Google Cloud from being started, asked before any is."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from taskfleet.errors import MachinesError, MachinesUnreachableError
from taskfleet.machines.gcp.faults import role_with
from taskfleet.machines.gcp.session import REQUEST_SECONDS, Session, endpoint

#: https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert and the other methods that are used
PERMISSIONS: Final = (
    "compute.disks.create",
    "compute.disks.delete",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.globalOperations.list",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.zoneOperations.get",
)
_SUBNETWORK: Final = "compute.subnetworks.use"
_EXTERNAL_IP: Final = "compute.subnetworks.useExternalIp"
_RESOURCE_MANAGER: Final = (
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER",
    "https://cloudresourcemanager.googleapis.com",
)


def find_troubles(
    session: Session,
    *,
    regions: Sequence[str],
    network: str | None,
    subnetwork: str | None,
    external_ip: bool,
    find_image: Callable[[], Any],
    resource_manager_endpoint: str | None,
) -> list[str]:
    """See ``GcpMachines.preflight``. Whether machines may have their service account is not asked: only their start tells."""
    wanted = list(PERMISSIONS)
    if not any(given is not None and given.startswith(("projects/", "http")) for given in (network, subnetwork)):
        wanted += [_SUBNETWORK, *([_EXTERNAL_IP] if external_ip else [])]  # else another project's owner grants them
    found = [*_of_permissions(session, wanted, resource_manager_endpoint)]
    checks: list[Callable[[], str | None]] = [lambda: (find_image(), None)[1]]
    if subnetwork is not None and "/" not in subnetwork:
        checks += [lambda region=region: _of_subnetwork(session, region, subnetwork) for region in regions]  # type: ignore[misc]
    elif subnetwork is None and (network is None or "/" not in network):
        checks.append(lambda: _of_network(session, network or "default"))
    for check in checks:
        try:
            trouble = check()
        except MachinesUnreachableError:
            raise
        except MachinesError as error:
            trouble = str(error)
        if trouble is not None:
            found.append(trouble)
    return list(dict.fromkeys(found))


def _of_permissions(session: Session, wanted: Sequence[str], given_endpoint: str | None) -> Iterator[str]:
    from google.api_core.exceptions import from_http_response
    from google.auth.transport.requests import AuthorizedSession

    address = f"{endpoint(given_endpoint, *_RESOURCE_MANAGER)}/v1/projects/{session.project}:testIamPermissions"
    with AuthorizedSession(session.charged_credentials()) as http:  # type: ignore[no-untyped-call]

        def ask() -> Any:
            answer = http.post(address, json={"permissions": list(wanted)}, timeout=REQUEST_SECONDS)
            if answer.status_code != 200:
                raise from_http_response(answer)  # type: ignore[no-untyped-call]
            return answer.json()

        try:
            granted = set(session.call(ask, "Cloud Resource Manager").get("permissions", ()))
        except MachinesUnreachableError:
            raise
        except MachinesError as error:
            yield f"The permissions of this account could not be checked: {error}"
            return
    for permission in wanted:
        if permission not in granted:
            yield (
                f"This account may not do {permission} in project {session.project}. Have a role with it granted, for example "
                f"{role_with(permission)}."
            )


def _of_network(session: Session, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetNetworkRequest(project=session.project, network=name)
    if _is_there(session, compute_v1.NetworksClient, request, "compute.networks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no network {name}. Set NETWORK in config/pool.env; gcloud compute networks list "
        f"--project {session.project} shows those there are."
    )


def _of_subnetwork(session: Session, region: str, name: str) -> str | None:
    from google.cloud import compute_v1

    request = compute_v1.GetSubnetworkRequest(project=session.project, region=region, subnetwork=name)
    if _is_there(session, compute_v1.SubnetworksClient, request, "compute.subnetworks.get"):
        return None
    return (
        f"Compute Engine: project {session.project} has no subnetwork {name} in {region}. Correct SUBNETWORK or REGIONS in "
        f"config/pool.env; gcloud compute networks subnets list --project {session.project} shows those there are."
    )


def _is_there(session: Session, kind: Any, request: Any, permission: str) -> bool:
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

        return bool(session.call(ask, "Compute Engine", permission))
