"""What the commands that choose machines share: the offers as a table, and how old their prices are."""

import argparse
import sys
import time

from taskfleet.errors import SettingsError, UsageError
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Choice, Offer
from taskfleet.machines.needs import Need
from taskfleet.machines.provider import Provider, provider_of
from taskfleet.pool import selection
from taskfleet.settings import Configuration
from taskfleet.text import duration

OFFER_HEADS = ("type", "zone", "market", "CPUs", "GiB", "tasks", "USD/h", "USD/h a task")


def listing_provider(configuration: Configuration) -> Provider:
    """Return the provider that the settings name.

    Raises:
        UsageError: It has no offers to list.
    """
    provider = provider_of(configuration)
    if not provider.lists_offers:
        raise UsageError(
            f"PROVIDER={provider.name} has no list of machines. Set PROVIDER=aws or gcp in config/pool.env, or add --provider aws."
        )
    return provider


def add_refresh(parser: argparse.ArgumentParser) -> None:
    """Add the flag that has prices fetched anew."""
    parser.add_argument("--refresh", action="store_true", help="fetch the prices again, however young those kept are")


def get_catalogue(configuration: Configuration, *, refresh: bool) -> Catalogue:
    """Return what is offered, and say how old its prices are."""
    now = time.time()
    catalogue = selection.find_catalogue(
        configuration, now=now, refresh=refresh, on_stale=lambda text: print(text, file=sys.stderr)
    )
    if not provider_of(configuration).lists_offers:
        return catalogue
    age = now - catalogue.fetched_at
    old = "just fetched" if age < 60 else f"{duration(age)} old; --refresh fetches them again"
    print(
        f"{catalogue.provider}, {', '.join(catalogue.regions)}: {catalogue.offer_count:,} prices, {old}.",
        file=sys.stderr,
    )
    return catalogue


def choose_machines(configuration: Configuration, need: Need, *, refresh: bool) -> Choice:
    """Choose a pool's machines.

    Raises:
        SettingsError: Nothing fits.
    """
    try:
        return selection.choose_machines(need, get_catalogue(configuration, refresh=refresh))
    except selection.NothingFitsError as error:
        if not provider_of(configuration).lists_offers:
            raise
        raise SettingsError(f"{error} poe list_instance_types --rejected shows each type with its reasons.") from None


def offer_row(one: Offer) -> tuple[str, ...]:
    """Return an offer as a row under OFFER_HEADS."""
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
