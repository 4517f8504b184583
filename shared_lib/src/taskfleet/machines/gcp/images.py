"""The images of Google Cloud that machines boot from."""

import datetime
import re
from collections.abc import Iterable
from typing import Any, Final

from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession
from taskfleet.errors import WrongSettingError
from taskfleet.machine_terms import Architecture
from taskfleet.machines.images import Image

PROVIDER = "gcp"
#: Image families, the newest release first; what is not there is passed over.
#: https://cloud.google.com/compute/docs/images/os-details
FAMILIES: Final = [
    ("ubuntu-os-cloud", ("ubuntu-2604-lts-amd64", "ubuntu-2404-lts-amd64")),
    ("ubuntu-os-cloud", ("ubuntu-2604-lts-arm64", "ubuntu-2404-lts-arm64")),
    ("debian-cloud", ("debian-13", "debian-12")),
    ("debian-cloud", ("debian-13-arm64", "debian-12-arm64")),
]
_NEWEST_UBUNTU: Final = {Architecture.X86_64: FAMILIES[0], Architecture.ARM64: FAMILIES[1]}
#: Where images and families are whose names begin so.
_PUBLIC: Final = {"ubuntu-": "ubuntu-os-cloud", "debian-": "debian-cloud"}
#: https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert (sourceImage)
_GIVEN: Final = re.compile(
    r"(?:https?://[^/]+/compute/[^/]+/)?(?:projects/(?P<project>[^/]+)/)?(?:global/images/)?(?P<family>family/)?(?P<name>[^/]+)"
)


def newest(session: GoogleSession, project: str, families: Iterable[str]) -> Any:
    """Give the image of the first family that exists, or None."""
    found = (_get(session, project, family, is_family=True) for family in families)
    return next((image for image in found if image is not None), None)


def find(session: GoogleSession, given: str | None, architecture: Architecture) -> Any:
    """Find what a machine is to boot from.

    Args:
        session: Asks.
        given: An image or a family, by name or by path; None for the newest Ubuntu LTS.
        architecture: What it has to be made for.

    Raises:
        WrongSettingError: There is none, or it is for other machines.
    """
    if given is None:
        project, families = _NEWEST_UBUNTU[architecture]
        image = newest(session, project, families)
        said = f"none of {', '.join(families)} in project {project}"
    else:
        image = _find_given(session, given)
        said = f"no image or image family {given}"
    if image is None:
        raise WrongSettingError(
            f"Compute Engine has {said}, or this account may not see it. Correct IMAGE in config/pool.env; poe list_images shows some.",
            setting="IMAGE",
        )
    made_for = architecture_of(image.architecture, is_arm=False) if image.architecture else architecture
    if made_for is not architecture:
        raise WrongSettingError(
            f"Image {image.name} is for {made_for} machines, and ARCHITECTURE is {architecture}. Correct one of them in config/pool.env.",
            setting="ARCHITECTURE",
        )
    return image


def path_of(image: Any) -> str:
    """Give what an image is called by everywhere, such as ``projects/debian-cloud/global/images/debian-13-v1``."""
    return "projects/" + str(image.self_link).partition("/projects/")[2]


def as_image(image: Any) -> Image:
    """Say about an image what is said about any provider's."""
    return Image(
        id=path_of(image),
        name=image.name,
        architecture=architecture_of(image.architecture, is_arm=image.family.endswith("arm64")),
        created_at=datetime.datetime.fromisoformat(image.creation_timestamp).timestamp(),
        provider=PROVIDER,
    )


def architecture_of(said: str, *, is_arm: bool) -> Architecture:
    """Give the architecture the service names; what its name says, if it names none."""
    if said in ("ARM64", "X86_64"):
        return Architecture.ARM64 if said == "ARM64" else Architecture.X86_64
    return Architecture.ARM64 if is_arm else Architecture.X86_64


def _find_given(session: GoogleSession, given: str) -> Any:
    parts = _GIVEN.fullmatch(given)
    if parts is None:
        return None
    name = parts["name"]
    public = next((project for start, project in _PUBLIC.items() if name.startswith(start)), None)
    projects = [parts["project"]] if parts["project"] else [session.project, *([public] if public else [])]
    for project in projects:
        for is_family in [True] if parts["family"] else [False, True]:
            image = _get(session, project, name, is_family=is_family)
            if image is not None:
                return image
    return None


def _get(session: GoogleSession, project: str, name: str, *, is_family: bool) -> Any:
    from google.api_core.exceptions import NotFound
    from google.cloud import compute_v1

    with session.client(compute_v1.ImagesClient) as client:

        def get() -> Any:
            more = {"project": project, "retry": None, "timeout": REQUEST_SECONDS}
            try:
                return client.get_from_family(family=name, **more) if is_family else client.get(image=name, **more)
            except NotFound:
                return None

        permission = f"compute.images.{'getFromFamily' if is_family else 'get'}"
        return session.call(get, permission, project=project)
