"""What the commands about machines share."""

import argparse
import math
import sys
import time

from taskfleet.errors import CommandError
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Choice, Need, Offer, choose, need_of
from taskfleet.machines.offers import Place, find_catalogue
from taskfleet.pool.planning import Limits
from taskfleet.settings import Configuration
from taskfleet.text import duration

OFFER_HEADS = ("type", "zone", "market", "CPUs", "GiB", "tasks", "USD/h", "USD/h a task")


def place_of(configuration: Configuration) -> Place:
    """Say whose machines are meant, and where.

    Raises:
        CommandError: They are this computer's, of which there is no list.
    """
    pool = configuration.pool
    if pool.provider == "local":
        raise CommandError(
            "PROVIDER=local is this computer alone. Set PROVIDER=aws or gcp in config/pool.env, or add --provider aws."
        )
    return Place(provider=pool.provider, regions=pool.regions, project_id=pool.project_id)


def add_refresh(parser: argparse.ArgumentParser) -> None:
    """Add the flag that has prices fetched anew."""
    parser.add_argument("--refresh", action="store_true", help="fetch the prices again, however young those kept are")


def get_catalogue(configuration: Configuration, *, refresh: bool) -> Catalogue:
    """Give what is offered, and say how old it is."""
    now = time.time()
    catalogue = find_catalogue(
        place_of(configuration),
        now=now,
        longest_age_seconds=configuration.pool.catalogue_hours * 3600,
        refresh=refresh,
        say=lambda text: print(text, file=sys.stderr),
    )
    age = now - catalogue.fetched_at
    old = "just fetched" if age < 60 else f"{duration(age)} old; --refresh fetches them again"
    print(
        f"{catalogue.provider}, {', '.join(catalogue.regions)}: {catalogue.offer_count:,} prices, {old}.",
        file=sys.stderr,
    )
    return catalogue


def needed(configuration: Configuration, tasks: int | None) -> Need:
    """Say what the machines have to be, for so many tasks, None if their number is not known."""
    need = need_of(configuration.pool, tasks)
    if configuration.pool.provider != "local":
        return need
    from taskfleet.machines.local.offers import local_need

    return local_need(need)


def limits_of(configuration: Configuration, need: Need) -> Limits:
    """Say what the pool may be and cost."""
    pool = configuration.pool
    return Limits(
        most_machines=need.machines.high or math.inf,
        most_cpus=need.total_cpus.high or math.inf,
        most_slots=need.simultaneous_tasks.high or math.inf,
        most_usd_per_hour=need.price_usd_per_hour.high or math.inf,
        budget_usd=pool.budget_usd or math.inf,
        lifetime_seconds=pool.lifetime_hours * 3600,
        boot_seconds=pool.boot_minutes * 60,
        silent_seconds=pool.silent_minutes * 60,
    )


def choose_machines(configuration: Configuration, need: Need, *, refresh: bool) -> Choice:
    """Choose a pool's machines.

    Raises:
        CommandError: Nothing fits.
    """
    if configuration.pool.provider == "local":
        from taskfleet.machines.local.offers import local_catalogue

        choice, more = choose(need, local_catalogue(need, time.time())), ""
    else:
        choice = choose(need, get_catalogue(configuration, refresh=refresh))
        more = " poe list_instance_types --rejected shows each type with its reasons."
    if choice.best is None:
        raise CommandError(f"{choice.why_nothing()}{more}")
    return choice


def offer_row(one: Offer) -> tuple[str, ...]:
    """Give an offer as a row under OFFER_HEADS."""
    return (
        one.instance_type,
        one.zone,
        one.market,
        str(one.cpus),
        f"{one.memory_gib:g}",
        str(one.slots),
        f"{one.usd_per_hour:.4f}",
        f"{one.usd_per_slot_hour:.5f}",
    )
