"""``poe list_instance_types``: list machine types with their prices."""

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from taskfleet.api.planning import get_catalogue, instance_types, listing_provider
from taskfleet.machine_terms import Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, Price
from taskfleet.machines.choosing import Choice, Offer, RankKey
from taskfleet.machines.constraints import Rejection
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.listing import add_listing, arrange, limited, print_left_out
from taskfleet.terminal.offers import OFFER_HEADS, add_refresh, offer_row, print_age
from taskfleet.text import columns

EXAMPLES = """\
  poe list_instance_types                                  types that fit, cheapest per slot first
  poe list_instance_types --cpus 8-16 --memory-gib-per-cpu 4- --limit 5
  poe list_instance_types --instance-types 'c7*' --sort-by -cpus,price --detail
  poe list_instance_types --rejected                       types that do not fit, with the reasons"""

FIELDS: dict[str, Callable[[tuple[Offer, InstanceType]], Any]] = {
    "task": lambda one: one[0].usd_per_slot_hour,
    "price": lambda one: one[0].usd_per_hour,
    "price_per_cpu": lambda one: one[0].usd_per_hour / one[0].cpus,
    "name": lambda one: one[0].instance_type,
    "cpus": lambda one: one[0].cpus,
    "memory": lambda one: one[0].memory_gib,
    "local_ssd": lambda one: one[1].local_ssd_gib,
    "boot_disk": lambda one: one[0].boot_disk_gib,
    "boot_disk_type": lambda one: one[0].boot_disk_type,
    "architecture": lambda one: one[1].architecture,
    "processor": lambda one: one[1].cpu_family,
    "rank": lambda one: one[1].cpu_rank,
    "zone": lambda one: one[0].zone,
    "market": lambda one: one[0].market,
}
_REJECTED_FIELDS: dict[str, Callable[[tuple[str, Sequence[Rejection]]], str]] = {
    "name": lambda one: one[0],
    "reasons": lambda one: "; ".join(map(str, one[1])),
}
#: The names that rms-cloud-tasks has for them.
_ALIASES = {
    **dict.fromkeys(("type", "t"), "name"),
    **dict.fromkeys(("cpu_family", "family", "processor_type", "p_type", "ptype", "pt"), "processor"),
    **dict.fromkeys(("cpu_rank", "performance_rank", "cr", "pr"), "rank"),
    **dict.fromkeys(("vcpu", "v", "cpu", "c"), "cpus"),
    **dict.fromkeys(("mem_gb", "ram"), "memory"),
    **dict.fromkeys(("local_ssd_gb", "lssd", "ssd"), "local_ssd"),
    **dict.fromkeys(("boot_disk_gb", "disk", "storage"), "boot_disk"),
    **dict.fromkeys(("total_price", "cost", "p", "tp"), "price"),
    **dict.fromkeys(("total_price_per_cpu", "tp_per_cpu"), "price_per_cpu"),
}


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "list_instance_types",
        "The list has the types that meet the requirements, each in its cheapest zone. Prices include the boot disk.",
        EXAMPLES,
    )
    add_refresh(parser)
    add_listing(parser, FIELDS, order="task: price per concurrent task", limit=20)
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
        return _show_rejected(choice, arguments)
    fitting = sorted(_best_of_each(choice), key=_rank_key)
    rows = [(one, catalogue.types[one.instance_type]) for one in fitting]
    offers = [offer for offer, _ in arrange(rows, arguments, FIELDS, _ALIASES)]
    shown = limited(offers, arguments)
    if arguments.json:
        for one in shown:
            print(json.dumps(_record(one, catalogue)))
        return 0
    if not shown:
        print(f"No type that fits matches --filter {arguments.filter}." if rows else choice.no_fit_text())
        return 0
    print(columns([_row(one, catalogue, arguments.detail) for one in shown], _heads(arguments.detail)))
    for note in choice.notes:
        print(f"Note: {note}")
    print_left_out(offers, shown)
    print(f"\n{next_steps('plan')}")
    return 0


def _rank_key(one: Offer) -> RankKey:
    return one.rank_key


def _best_of_each(choice: Choice) -> list[Offer]:
    found: dict[str, Offer] = {}
    for one in choice.ranked:
        found.setdefault(one.instance_type, one)
    return list(found.values())


def _show_rejected(choice: Choice, arguments: Namespace) -> int:
    rejected = arrange(sorted(choice.rejected.items()), arguments, _REJECTED_FIELDS, _ALIASES)
    shown = limited(rejected, arguments)
    if arguments.json:
        for name, reasons in shown:
            texts = [str(one) for one in reasons]
            constraints = [one.constraint for one in reasons]
            print(json.dumps({"instance_type": name, "reasons": texts, "constraints": constraints}))
        return 0
    print(columns([(name, "; ".join(map(str, reasons))) for name, reasons in shown], ("type", "reasons")))
    print_left_out(rejected, shown)
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
