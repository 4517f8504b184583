"""From the settings of a pool to its requirements, limits, catalogue and choice of machines."""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from taskfleet.errors import ProviderError, SettingsError
from taskfleet.machine_terms import Range
from taskfleet.machines.catalogue import Catalogue, load, save
from taskfleet.machines.choosing import Choice, choose
from taskfleet.machines.needs import START_SECONDS, Need, need_of
from taskfleet.machines.notice import HAND_BACK_SECONDS
from taskfleet.machines.provider import provider_of
from taskfleet.pool.planning import MIN_LIFETIME_SECONDS, Limits
from taskfleet.pool.task_size import slots_per_task
from taskfleet.settings import Configuration

logger = logging.getLogger(__name__)


class NothingFitsError(SettingsError):
    """No offer meets the settings."""


def pool_need(configuration: Configuration, tasks: int | None) -> Need:
    """Return the requirements on the machines for a number of tasks; None if the number is unknown.

    SLOTS in the file of a manager applies on machines too, so that they get no more tasks at once. A machine has the slots of at least one
    task, which are several if it is one of MPI.
    """
    need, slots = need_of(configuration.pool, tasks), configuration.settings.slots
    width = slots_per_task(configuration)
    if width > 1:
        least = Range(max(width, need.tasks_per_machine.low or 0), need.tasks_per_machine.high)
        need = replace(need, tasks=None if tasks is None else tasks * width, tasks_per_machine=least)
    if configuration.manager and slots is not None:
        at_once = need.tasks_per_machine
        need = replace(need, tasks_per_machine=Range(at_once.low, min(slots, at_once.high or slots)))
    return provider_of(configuration).fit(need)


def pool_limits(configuration: Configuration, need: Need) -> Limits:
    """Return the limits of the pool."""
    pool, provider = configuration.pool, provider_of(configuration)
    return Limits(
        max_machines=need.machines.high or math.inf,
        max_cpus=min(need.total_cpus.high or math.inf, need.shared_cpus.high or math.inf),
        max_slots=need.simultaneous_tasks.high or math.inf,
        max_usd_per_hour=need.price_usd_per_hour.high or math.inf,
        budget_usd=pool.budget_usd or math.inf,
        budget_node_hours=pool.budget_node_hours or math.inf,
        lifetime_seconds=pool.lifetime_hours * 3600,
        min_lifetime_seconds=max(MIN_LIFETIME_SECONDS, useful_lifetime_seconds(configuration)),
        boot_seconds=pool.boot_minutes * 60,
        silent_seconds=pool.silent_minutes * 60,
        needs_canary=provider.needs_canary,
        machines_per_request=provider.machines_per_request,
    )


def useful_lifetime_seconds(configuration: Configuration) -> float:
    """Return how long a machine has to live to run a task of MAX_RUNTIME_SECONDS from start to end, in whole minutes."""
    overhead_seconds = HAND_BACK_SECONDS
    if not provider_of(configuration).shares_file_system:
        overhead_seconds += START_SECONDS
    return 60.0 * math.ceil(((configuration.settings.max_runtime_seconds or 0.0) + overhead_seconds) / 60)


def limits_of(configuration: Configuration) -> Limits:
    """Return the limits of the pool, whatever the number of tasks."""
    return pool_limits(configuration, pool_need(configuration, None))


def find_catalogue(
    configuration: Configuration, *, now: float, refresh: bool, on_stale: Callable[[str], None]
) -> Catalogue:
    """Return the catalogue from the cache, unless it is older than CATALOGUE_HOURS; else, or if it cannot be fetched, the cached one.

    Args:
        configuration: The settings.
        now: Seconds since the epoch.
        refresh: Fetch the catalogue even if the cache is new.
        on_stale: Called with the reason if an old cached catalogue is used.

    Raises:
        ProviderError: The catalogue cannot be fetched, and there is no cached one.
        SettingsError: A setting is missing.
        CatalogueError: The cache file is corrupt.
    """
    provider = provider_of(configuration)
    provider.check(configuration)
    path = cache_path(configuration)
    if path is None:
        return provider.catalogue(configuration, now=now)
    cached = load(path)
    if cached is not None and not refresh and now - cached.fetched_at <= configuration.pool.catalogue_hours * 3600:
        logger.debug("Catalogue of %d offers from %s.", cached.offer_count, path)
        return cached
    try:
        found = provider.catalogue(configuration, now=now)
    except ProviderError as error:
        if cached is None or refresh:
            raise
        on_stale(f"{error} The cached prices are used.")
        return cached
    save(found, path)
    logger.info("Fetched a catalogue of %d offers, cached in %s.", found.offer_count, path)
    return found


def cache_path(configuration: Configuration) -> Path | None:
    """Return the cache file of the provider's catalogue, which all projects of the user share; None if it is not cached."""
    name = provider_of(configuration).catalogue_name(configuration)
    cache = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache) if cache else Path.home() / ".cache"
    return folder / "taskfleet" / "offers" / f"{name}.json" if name else None


def choose_machines(need: Need, catalogue: Catalogue) -> Choice:
    """Return the choice of a pool's machines.

    Raises:
        NothingFitsError: No offer meets the need.
    """
    choice = choose(need, catalogue)
    if choice.best is None:
        raise NothingFitsError(choice.no_fit_text())
    return choice
