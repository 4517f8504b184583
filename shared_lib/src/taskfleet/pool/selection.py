"""From settings to the machines of a pool: what they have to be, what is offered, what is chosen, and within which limits."""

import math
import os
from collections.abc import Callable
from pathlib import Path

from taskfleet.errors import ProviderError, SettingsError
from taskfleet.machines.catalogue import Catalogue, load, save
from taskfleet.machines.choosing import Choice, choose
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.provider import provider_of
from taskfleet.pool.planning import Limits
from taskfleet.settings import Configuration


class NothingFitsError(SettingsError):
    """No machine that is offered meets the settings."""


def needed(configuration: Configuration, tasks: int | None) -> Need:
    """Return what the machines have to be, for so many tasks, None if their number is not known."""
    return provider_of(configuration).fit(need_of(configuration.pool, tasks))


def limits_of(configuration: Configuration, need: Need) -> Limits:
    """Return what the pool may be and cost."""
    pool, provider = configuration.pool, provider_of(configuration)
    return Limits(
        most_machines=need.machines.high or math.inf,
        most_cpus=need.total_cpus.high or math.inf,
        most_slots=need.simultaneous_tasks.high or math.inf,
        most_usd_per_hour=need.price_usd_per_hour.high or math.inf,
        budget_usd=pool.budget_usd or math.inf,
        lifetime_seconds=pool.lifetime_hours * 3600,
        boot_seconds=pool.boot_minutes * 60,
        silent_seconds=pool.silent_minutes * 60,
        needs_canary=provider.needs_canary,
        machines_per_request=provider.machines_per_request,
    )


def find_catalogue(
    configuration: Configuration, *, now: float, refresh: bool, on_stale: Callable[[str], None]
) -> Catalogue:
    """Return what is offered: as it was kept, if that is young enough, else fetched; the kept one too if nothing can be fetched.

    Args:
        configuration: The settings.
        now: Seconds since the epoch.
        refresh: Fetch it in any case.
        on_stale: Called with why, if the kept one is used although it is older than CATALOGUE_HOURS.

    Raises:
        ProviderError: It cannot be fetched, and none was kept.
        SettingsError: A setting is missing.
        CatalogueError: The kept one is damaged.
    """
    provider = provider_of(configuration)
    provider.check(configuration)
    path = kept_at(configuration)
    if path is None:
        return provider.catalogue(configuration, now=now)
    kept = load(path)
    if kept is not None and not refresh and now - kept.fetched_at <= configuration.pool.catalogue_hours * 3600:
        return kept
    try:
        found = provider.catalogue(configuration, now=now)
    except ProviderError as error:
        if kept is None or refresh:
            raise
        on_stale(f"{error} The prices that were kept are used.")
        return kept
    save(found, path)
    return found


def kept_at(configuration: Configuration) -> Path | None:
    """Return where the provider's catalogue is kept: in the user's cache, for all projects; None if it is not kept."""
    name = provider_of(configuration).catalogue_name(configuration)
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache) if cache else Path.home() / ".cache"
    return folder / "taskfleet" / "offers" / f"{name}.json" if name else None


def choose_machines(need: Need, catalogue: Catalogue) -> Choice:
    """Choose a pool's machines.

    Raises:
        NothingFitsError: Nothing that is offered meets the need.
    """
    choice = choose(need, catalogue)
    if choice.best is None:
        raise NothingFitsError(choice.why_nothing())
    return choice
