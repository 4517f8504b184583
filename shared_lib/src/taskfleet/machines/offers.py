"""What a provider offers, fetched or as it was kept."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskfleet.errors import ProviderError, SettingsError
from taskfleet.machines.catalogue import Catalogue, load, save
from taskfleet.machines.images import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose machines, and where."""

    provider: str
    """``aws`` or ``gcp``."""
    regions: tuple[str, ...]
    project_id: str | None = None
    """For Google Cloud."""


def find_catalogue(
    place: Place, *, now: float, longest_age_seconds: float, refresh: bool, say: Callable[[str], None]
) -> Catalogue:
    """Give what is offered: as it was kept, if that is young enough, else fetched; the kept one too if nothing can be fetched.

    Args:
        place: Where.
        now: Seconds since the epoch.
        longest_age_seconds: What is older is fetched again.
        refresh: Fetch it in any case.
        say: Tells the user something.

    Raises:
        ProviderError: It cannot be fetched, and none was kept.
        SettingsError: Nothing says where.
        CatalogueError: The kept one is damaged.
    """
    if not place.regions:
        raise SettingsError(
            "REGIONS is not set: name one or more in config/pool.env, such as REGIONS="
            + ("us-central1" if place.provider == "gcp" else "us-east-1")
            + ". poe list_regions shows all."
        )
    path = kept_at(place)
    kept = load(path)
    if kept is not None and not refresh and now - kept.fetched_at <= longest_age_seconds:
        return kept
    try:
        found = _fetch(place, now)
    except ProviderError as error:
        if kept is None or refresh:
            raise
        say(f"{error} The prices that were kept are used.")
        return kept
    save(found, path)
    return found


def kept_at(place: Place) -> Path:
    """Say where a place's catalogue is kept: in the user's cache, for all projects."""
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache) if cache else Path.home() / ".cache"
    name = "_".join([place.provider, *([place.project_id] if place.project_id else []), *sorted(place.regions)])
    return folder / "taskfleet" / "offers" / f"{name}.json"


def find_regions(place: Place) -> list[tuple[str, list[str]]]:
    """Give all regions, each with its zones."""
    if place.provider == "gcp":
        from taskfleet.machines.gcp import offers as gcp_offers

        return gcp_offers.regions(google_project(place.project_id))
    from taskfleet.machines.aws import offers as aws_offers

    return aws_offers.regions()


def find_images(place: Place, *, now: float) -> list[Image]:
    """Give the current images of well-known systems."""
    if place.provider == "gcp":
        from taskfleet.machines.gcp import offers as gcp_offers

        return gcp_offers.images()
    from taskfleet.machines.aws import offers as aws_offers

    if not place.regions:
        raise SettingsError(
            "REGIONS is not set: images differ by region. Name one in config/pool.env, or --regions us-east-1."
        )
    return [image for region in place.regions for image in aws_offers.images(region, now=now)]


def _fetch(place: Place, now: float) -> Catalogue:
    if place.provider == "gcp":
        from taskfleet.machines.gcp import offers as gcp_offers

        return gcp_offers.fetch(google_project(place.project_id), place.regions, now=now)
    from taskfleet.machines.aws import offers as aws_offers

    return aws_offers.fetch(place.regions, now=now)


def google_project(project_id: str | None) -> str:
    """Give the Google Cloud project that is meant.

    Raises:
        SettingsError: None is named.
    """
    project = project_id or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise SettingsError("PROJECT_ID is not set: name your Google Cloud project in config/pool.env.")
    return project
