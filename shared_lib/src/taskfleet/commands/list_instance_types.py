"""``poe list_instance_types``: list machine types with their prices."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from taskfleet.api.planning import get_catalogue, instance_types, listing_provider
from taskfleet.machine_terms import Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, Price
from taskfleet.machines.choosing import Choice, Offer
from taskfleet.terminal.arguments import configure, make_parser, whole_number
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.offers import OFFER_HEADS, add_refresh, offer_row, print_age
from taskfleet.text import columns

EXAMPLES = """\
  poe list_instance_types                                  types that fit, cheapest per slot first
  poe list_instance_types --cpus 8-16 --memory-gib-per-cpu 4- --limit 5
  poe list_instance_types --instance-types 'c7*' --sort cpus --detail
  poe list_instance_types --rejected                       types that do not fit, with the reasons"""

_SORTS: dict[str, Callable[[Offer], Any]] = {
    "task": lambda one: one.rank_key,
    "price": lambda one: (one.usd_per_hour, one.rank_key),
    "cpus": lambda one: (one.cpus, one.rank_key),
    "memory": lambda one: (one.memory_gib, one.rank_key),
    "name": lambda one: (one.instance_type, one),
}


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "list_instance_types",
        "The list has types that meet the requirements, each in its cheapest zone, including the price of its boot disk.",
        EXAMPLES,
    )
    add_refresh(parser)
    parser.add_argument(
        "--sort",
        choices=_SORTS,
        default="task",
        help="sort by price per slot (task, the default), price per hour (price), CPUs, memory or name",
    )
    parser.add_argument(
        "--limit", type=whole_number(0), default=20, metavar="N", help="list at most N types; 0: all (default 20)"
    )
    parser.add_argument("--detail", action="store_true", help="show processors, disks and both prices")
    parser.add_argument(
        "--rejected", action="store_true", help="list the types that do not fit instead, with the reasons"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    listing_provider(configuration)
    catalogue = get_catalogue(configuration, refresh=arguments.refresh)
    print_age(configuration, catalogue)
    choice = instance_types(configuration, catalogue)
    if arguments.rejected:
        return _show_rejected(choice, arguments.limit, as_json=arguments.json)
    offers = sorted(_best_of_each(choice), key=_SORTS[arguments.sort])
    shown = offers[: arguments.limit or None]
    if arguments.json:
        for one in shown:
            print(json.dumps(_record(one, catalogue)))
        return 0
    if not shown:
        print(choice.no_fit_text())
        return 0
    print(columns([_row(one, catalogue, arguments.detail) for one in shown], _heads(arguments.detail)))
    if len(offers) > len(shown):
        print(f"… and {len(offers) - len(shown):,} more; --limit 0 lists all.")
    print(f"\n{next_steps('plan')}")
    return 0


def _best_of_each(choice: Choice) -> list[Offer]:
    found: dict[str, Offer] = {}
    for one in choice.ranked:
        found.setdefault(one.instance_type, one)
    return list(found.values())


def _show_rejected(choice: Choice, limit: int, *, as_json: bool) -> int:
    rejected = sorted(choice.rejected.items())[: limit or None]
    if as_json:
        for name, reasons in rejected:
            texts = [str(one) for one in reasons]
            constraints = [one.constraint for one in reasons]
            print(json.dumps({"instance_type": name, "reasons": texts, "constraints": constraints}))
        return 0
    print(columns([(name, "; ".join(map(str, reasons))) for name, reasons in rejected], ("type", "reasons")))
    if len(choice.rejected) > len(rejected):
        print(f"… and {len(choice.rejected) - len(rejected):,} more; --limit 0 lists all.")
    return 0


def _heads(detail: bool) -> tuple[str, ...]:
    return (*OFFER_HEADS, "processor", "rank", "boot disk", "spot", "on-demand") if detail else OFFER_HEADS


def _row(one: Offer, catalogue: Catalogue, detail: bool) -> tuple[str, ...]:
    row = offer_row(one)
    if not detail:
        return row
    kind: InstanceType = catalogue.types[one.instance_type]
    prices = (_cheapest(catalogue, one.instance_type, market) for market in Market)
    return (
        *row,
        kind.cpu_family or "unknown",
        str(kind.cpu_rank or ""),
        f"{one.boot_disk_gib:g} GiB {one.boot_disk_type}",
        *(f"{price.usd_per_hour:.4f}" if price else "none" for price in prices),
    )


def _cheapest(catalogue: Catalogue, name: str, market: Market) -> Price | None:
    return next(iter(catalogue.prices.get((name, market), ())), None)


def _record(one: Offer, catalogue: Catalogue) -> dict[str, Any]:
    kind = catalogue.types[one.instance_type]
    return asdict(one) | {
        "cpu_rank": kind.cpu_rank,
        "cpu_family": kind.cpu_family,
        "architecture": kind.architecture,
        "local_ssd_gib": kind.local_ssd_gib,
        "is_burstable": kind.is_burstable,
    }
