"""Offers of machines and plans, as commands print them."""

import argparse
import sys
import time
from collections.abc import Collection, Mapping, Sequence

from taskfleet.api.planning import Plan, preview
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.choosing import Offer
from taskfleet.machines.provider import provider_of
from taskfleet.pool.estimate import Estimate
from taskfleet.settings import Configuration
from taskfleet.settings.manager_files import DEFAULT_MANAGER, unused_pool_files
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.text import amount, columns, counted, duration, some

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
        f"{one.memory_gib:g}" if one.memory_gib else "?",  # of a computer that does not answer
        str(one.slots),
        f"{one.usd_per_hour:.4f}",
        f"{one.usd_per_slot_hour:.5f}",
    )


def _offers_table(offers: Sequence[Offer], chosen: Collection[Offer]) -> str:
    """Return offers as a table, without columns that mean nothing for any of them; the chosen ones are marked."""
    are_single = all(one.is_single for one in offers)
    unused = ["zone"] if are_single else []
    unused += [] if any(one.has_market for one in offers) else ["market"]
    unused += [] if any(one.nodes for one in offers) else ["nodes"]
    unused += [] if any(one.usd_per_hour for one in offers) else ["USD/h", "USD/h per slot"]
    rows = [("*" if one in chosen else "", *offer_row(one), f"{one.nodes:.3g}") for one in offers]
    return columns(rows, ("", "host" if are_single else "type", *OFFER_HEADS[1:], "nodes"), without=unused)


def show_plans(configuration: Configuration, plans: Mapping[str, Plan], limit: int) -> None:
    """Print the plans of all pools, by the names of their managers, and what they come to in all; see ``show_plan``.

    Args:
        configuration: The settings of the default manager.
        plans: The plans, at least one.
        limit: The number of offers to print of each.
    """
    for name, plan in plans.items():
        own = configuration.of_manager(name) if name else configuration
        if len(plans) > 1 or name:
            print(f"{'' if plan is next(iter(plans.values())) else chr(10)}Pool of manager {name or DEFAULT_MANAGER}:")
        print_age(own, plan.catalogue)
        show_plan(plan, limit, own.pool if len(plans) == 1 else None)
        known = preview(own, plan)
        for note in () if known is None else known.notes:
            print(note)
    if plans.keys() - {""}:
        for name in unused_pool_files(configuration.project):
            print(f"Note: config/pool.{name}.env is not used, because there is no config/task.{name}.env.")
    if len(plans) > 1:
        print(f"\n{_total_text(configuration, plans.values())}")


def _total_text(configuration: Configuration, plans: Collection[Plan]) -> str:
    """Return what several plans come to, and the limits for all pools."""
    machines = sum(one.choice.count for one in plans)
    usd_per_hour = sum(one.estimate.usd_per_hour for one in plans)
    nodes = sum(one.estimate.nodes for one in plans)
    lines = [f"In all: {counted(machines, 'machine')} in {counted(len(plans), 'pool')}, at most."]
    if nodes:
        hours = [one.estimate.node_hours for one in plans if one.estimate.nodes]
        total = "unknown" if None in hours else f"about {sum(filter(None, hours)):.2f} node-hours"
        lines.append(f"Nodes in all: {nodes:.3g}. Total: {total}.")
    if usd_per_hour:
        costs = [one.estimate.usd for one in plans]
        total = "unknown" if None in costs else f"about {sum(filter(None, costs)):.2f} USD"
        lines.append(f"Price in all: {usd_per_hour:.4f} USD per hour. Total cost: {total}.")
    most, budget = configuration.pool.price_usd_per_hour.high, configuration.pool.budget_usd
    budget_hours = configuration.pool.budget_node_hours
    if most is not None and usd_per_hour > most:
        lines.append(f"PRICE_USD_PER_HOUR limits the machines of all pools together to {most:g} USD per hour.")
    if budget is not None and usd_per_hour:
        lines.append(f"BUDGET_USD limits the cost of all pools together to {budget:.2f} USD.")
    if budget_hours is not None and nodes:
        lines.append(f"BUDGET_NODE_HOURS limits all pools together to {budget_hours:.2f} node-hours.")
    return "\n".join(lines)


def show_plan(plan: Plan, limit: int, budgets: PoolSettings | None) -> None:
    """Print the best offers, the chosen one, and the estimated time and cost of the tasks.

    Args:
        plan: The plan.
        limit: The number of offers to print.
        budgets: The settings with the limits of the total cost; None for no limits.
    """
    choice, best = plan.choice, plan.best
    print(_offers_table(choice.ranked[:limit], choice.chosen))
    if len(choice.ranked) > limit:
        print(f"… and {len(choice.ranked) - limit:,} more offers fit.")
    print()
    if best.is_single:
        print(
            f"Chosen: {', '.join(one.instance_type for one in choice.chosen)}: {counted(choice.slots, 'slot')} in all."
        )
    else:
        market = f", {best.market}" if best.has_market else ""
        print(
            f"Chosen: {counted(choice.count, 'machine')} of type {best.instance_type} in {best.zone}{market}: "
            f"{counted(best.slots, 'slot')} each, {choice.slots:,} in all."
        )
    setting = f" ({choice.limited_by.setting})" if choice.limited_by.setting else ""
    print(f"The number of machines is limited by: {choice.limited_by.words}{setting}.")
    if choice.useful_slots < best.slots or any(one.slots > choice.useful_slots for one in choice.ranked):
        print(_useful_text(plan))
    for note in choice.notes:
        print(f"Note: {note}")
    if best.nodes:
        price = f", {plan.estimate.usd_per_hour:.4f} USD per hour" if best.usd_per_hour else ""
        print(f"Cost while they run: {some(plan.estimate.nodes, 'node')}, {best.nodes:.3g} for each machine{price}.")
    elif best.usd_per_hour:
        print(
            f"Price: {plan.estimate.usd_per_hour:.4f} USD per hour; a machine {best.machine_usd_per_hour:.4f} and its boot disk "
            f"({best.boot_disk_gib:g} GiB {best.boot_disk_type}) {best.usd_per_hour - best.machine_usd_per_hour:.4f}."
        )
    print(_time_and_total(plan.estimate))
    if budgets is not None:
        for cost, budget, unit in (
            (plan.estimate.usd, budgets.budget_usd, "USD"),
            (plan.estimate.node_hours, budgets.budget_node_hours, "node-hours"),
        ):
            if cost is not None and budget is not None and cost > budget:
                print(f"The estimate exceeds the budget of {amount(budget, unit)}.")


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
    amounts = [f"about {amount(estimate.node_hours, 'node-hours')}"] if estimate.node_hours else []
    amounts += [f"about {estimate.usd:.2f} USD"] if estimate.usd else []
    cost = ", ".join(amounts) or "no cost"
    return (
        f"Estimate for {tasks} of {duration(estimate.hours_per_task * 3600)} each on these machines: "
        f"about {duration(estimate.hours * 3600)}, {cost}."
    )
