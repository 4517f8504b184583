"""Operating system images of Google Cloud: the current public ones, and the one that IMAGE names."""

import datetime
import re
from collections.abc import Iterable
from typing import Any, Final

from taskfleet.clouds.google_session import REQUEST_SECONDS, GoogleSession
from taskfleet.errors import WrongSettingError
from taskfleet.invocation import poe
from taskfleet.machine_terms import Architecture
from taskfleet.machines.images import Image

PROVIDER = "gcp"
#: Image families, the newest release first; those that do not exist are skipped.
#: https://cloud.google.com/compute/docs/images/os-details
FAMILIES: Final = [
    ("ubuntu-os-cloud", ("ubuntu-2604-lts-amd64", "ubuntu-2404-lts-amd64")),
    ("ubuntu-os-cloud", ("ubuntu-2604-lts-arm64", "ubuntu-2404-lts-arm64")),
    ("debian-cloud", ("debian-13", "debian-12")),
    ("debian-cloud", ("debian-13-arm64", "debian-12-arm64")),
]
_NEWEST_UBUNTU: Final = {Architecture.X86_64: FAMILIES[0], Architecture.ARM64: FAMILIES[1]}
#: By prefix of an image's or family's name: the project that it belongs to.
_PUBLIC: Final = {"ubuntu-": "ubuntu-os-cloud", "debian-": "debian-cloud"}
#: https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert (sourceImage)
_REFERENCE: Final = re.compile(
    r"(?:https?://[^/]+/compute/[^/]+/)?(?:projects/(?P<project>[^/]+)/)?(?:global/images/)?(?P<family>family/)?(?P<name>[^/]+)"
)


def newest(session: GoogleSession, project: str, families: Iterable[str]) -> Any:
    """Return the image of the first family that exists, or None."""
    found = (_get(session, project, family, is_family=True) for family in families)
    return next((image for image in found if image is not None), None)


def find(session: GoogleSession, given: str | None, architecture: Architecture) -> Any:
    """Return the image that machines boot from.

    Args:
        session: Makes the calls.
        given: An image or an image family, by name or by path; None for the newest Ubuntu LTS.
        architecture: The architecture that the image must have.

    Raises:
        WrongSettingError: The image does not exist, or has another architecture.
    """
    if given is None:
        project, families = _NEWEST_UBUNTU[architecture]
        image = newest(session, project, families)
        missing = f"none of the image families {', '.join(families)} in project {project}"
    else:
        image = _find_given(session, given)
        missing = f"no image or image family {given}"
    if image is None:
        raise WrongSettingError(
            f"Compute Engine has {missing}, or this account lacks access to it. Correct IMAGE in config/pool.env; {poe('list_images')} "
            "lists the current images.",
            setting="IMAGE",
        )
    actual = architecture_of(image.architecture, is_arm=False) if image.architecture else architecture
    if actual is not architecture:
        raise WrongSettingError(
            f"Image {image.name} is for {actual}, but ARCHITECTURE is {architecture}. Change IMAGE or ARCHITECTURE in config/pool.env.",
            setting="ARCHITECTURE",
        )
    return image


def path_of(image: Any) -> str:
    """Return the full path of an image, such as ``projects/debian-cloud/global/images/debian-13-v1``."""
    return "projects/" + str(image.self_link).partition("/projects/")[2]


def as_image(image: Any) -> Image:
    """Return a Compute Engine image as an ``Image``."""
    return Image(
        id=path_of(image),
        name=image.name,
        architecture=architecture_of(image.architecture, is_arm=image.family.endswith("arm64")),
        created_at=datetime.datetime.fromisoformat(image.creation_timestamp).timestamp(),
        provider=PROVIDER,
    )


def architecture_of(name: str, *, is_arm: bool) -> Architecture:
    """Return the architecture that the service names; ``is_arm`` decides if it names none."""
    if name in ("ARM64", "X86_64"):
        return Architecture.ARM64 if name == "ARM64" else Architecture.X86_64
    return Architecture.ARM64 if is_arm else Architecture.X86_64


def _find_given(session: GoogleSession, given: str) -> Any:
    parts = _REFERENCE.fullmatch(given)
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
