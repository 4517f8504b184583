"""Offers of machines and plans, as commands print them."""

import argparse
import sys
import time

from taskfleet.api.planning import Plan
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Offer
from taskfleet.machines.provider import provider_of
from taskfleet.pool.estimate import Estimate
from taskfleet.settings import Configuration
from taskfleet.text import columns, counted, duration

OFFER_HEADS = ("type", "zone", "market", "CPUs", "GiB", "slots", "USD/h", "USD/h per slot")


def add_refresh(parser: argparse.ArgumentParser) -> None:
    """Add the flag that fetches prices again."""
    parser.add_argument("--refresh", action="store_true", help="fetch prices again instead of using cached ones")


def print_age(configuration: Configuration, catalogue: Catalogue) -> None:
    """Print the number and age of the prices to standard error, if the provider has a price list."""
    if not provider_of(configuration).lists_offers:
        return
    age = time.time() - catalogue.fetched_at
    text = "just fetched" if age < 60 else f"{duration(age)} old; --refresh fetches them again"
    print(
        f"{catalogue.provider}, {', '.join(catalogue.regions)}: {catalogue.offer_count:,} prices, {text}.",
        file=sys.stderr,
    )


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


def show_plan(plan: Plan, limit: int, budget_usd: float | None) -> None:
    """Print the best offers, the chosen one, and the estimated time and cost of the tasks.

    Args:
        plan: The plan.
        limit: The number of offers to print.
        budget_usd: The limit of the total cost; None for no limit.
    """
    choice, best = plan.choice, plan.best
    rows = [("*" if one is best else "", *offer_row(one)) for one in choice.ranked[:limit]]
    print(columns(rows, ("", *OFFER_HEADS)))
    if len(choice.ranked) > limit:
        print(f"… and {len(choice.ranked) - limit:,} more offers fit.")
    print()
    print(
        f"Chosen: {counted(choice.count, 'machine')} of type {best.instance_type} in {best.zone}, {best.market}: "
        f"{counted(best.slots, 'slot')} each, {choice.count * best.slots:,} in all."
    )
    setting = f" ({choice.limited_by.setting})" if choice.limited_by.setting else ""
    print(f"The number of machines is limited by: {choice.limited_by.words}{setting}.")
    if choice.useful_slots < best.slots or any(one.slots > choice.useful_slots for one in choice.ranked):
        print(_useful_text(plan))
    for note in choice.notes:
        print(f"Note: {note}")
    if best.usd_per_hour:
        print(
            f"Price: {plan.estimate.usd_per_hour:.4f} USD per hour; a machine {best.machine_usd_per_hour:.4f} and its boot disk "
            f"({best.boot_disk_gib:g} GiB {best.boot_disk_type}) {best.usd_per_hour - best.machine_usd_per_hour:.4f}."
        )
    print(_time_and_total(plan.estimate))
    if budget_usd is not None and plan.estimate.usd is not None and plan.estimate.usd > budget_usd:
        print(f"The estimate exceeds the budget of {budget_usd:.2f} USD.")


def _useful_text(plan: Plan) -> str:
    """Return the reason why larger machines are not better."""
    estimate, slots = plan.estimate, counted(int(plan.choice.useful_slots), "slot")
    tasks = counted(estimate.tasks or 0, "task")
    if estimate.tasks is not None and plan.choice.useful_slots < estimate.tasks and estimate.hours_per_task is not None:
        why = f"{tasks} of {duration(estimate.hours_per_task * 3600)} each keep {slots} busy for the time that a machine takes to start"
    else:
        why = f"{tasks} can use {slots}"
    return f"The size of machines is limited by the work: {why}; more slots in one machine do not count."


def _time_and_total(estimate: Estimate) -> str:
    if estimate.tasks is None:
        return "Time and total cost: unknown, because no tasks are inserted (--tasks N sets their number)."
    if not estimate.tasks:
        return "No tasks are left."
    tasks = counted(estimate.tasks, "task")
    if estimate.hours is None or estimate.usd is None or estimate.hours_per_task is None:
        return f"Time and total cost of {tasks}: unknown until some of them have run (or set --hours-per-task)."
    cost = f"about {estimate.usd:.2f} USD" if estimate.usd else "no cost"
    return (
        f"Estimate for {tasks} of {duration(estimate.hours_per_task * 3600)} each on these machines: "
        f"about {duration(estimate.hours * 3600)}, {cost}."
    )
