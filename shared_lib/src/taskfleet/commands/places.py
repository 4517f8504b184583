"""What the commands about machines share."""

import argparse
import sys
import time

from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Offer
from taskfleet.machines.offers import Place, find_catalogue
from taskfleet.settings import Configuration
from taskfleet.watch.text import duration

OFFER_HEADS = ("type", "zone", "market", "CPUs", "GiB", "tasks", "USD/h", "USD/h a task")


def place_of(configuration: Configuration) -> Place:
    """Say whose machines are meant, and where."""
    pool = configuration.pool
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
