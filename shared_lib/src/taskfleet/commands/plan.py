"""``poe plan``: which machines would be started, for how much."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.commands.offer_table import OFFER_HEADS, add_refresh, choose_machines, offer_row
from taskfleet.machines.choosing import Choice
from taskfleet.pool.estimate import Estimate, read_job
from taskfleet.pool.selection import needed
from taskfleet.settings.declaring import POOL_GROUPS
from taskfleet.text import columns, counted, duration

EXAMPLES = """\
  poe plan
  poe plan --machines 1-50 --budget-usd 20
  poe plan --hours-per-task 0.25 --tasks 10000      before anything is inserted"""


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if nothing fits."""
    parser = make_parser(
        "plan",
        "Show which machines would be started: the chosen type among the best, how many, what limits them, the price, and when all tasks "
        "would be done. Nothing is started. With prices that were kept no account is needed.",
        EXAMPLES,
        ("job", *POOL_GROUPS),
    )
    add_refresh(parser)
    parser.add_argument("--tasks", type=int, metavar="N", help="plan for so many tasks, instead of those that are left")
    parser.add_argument("--limit", type=int, default=8, metavar="N", help="show so many of the best offers (8)")
    parser.add_argument(
        "--show-start-up-script",
        action="store_true",
        help="print the script that machines would boot with, and nothing else",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.limit < 1:
        parser.error("--limit takes a whole number from 1 on")
    if arguments.tasks is not None and arguments.tasks < 0:
        parser.error("--tasks takes a whole number from 0 on")
    configuration = configure(arguments)
    if arguments.show_start_up_script:
        from taskfleet.pool.shipping import preview

        print(preview(configuration), end="")
        return 0
    tasks, hours_per_task = read_job(configuration)
    tasks = tasks if arguments.tasks is None else arguments.tasks
    if tasks == 0:
        print("No tasks are left: no machine is needed.")
        return 0
    choice = choose_machines(configuration, needed(configuration, tasks), refresh=arguments.refresh)
    estimate = Estimate(choice, tasks, hours_per_task)
    if arguments.json:
        print(json.dumps(_record(choice, estimate)))
        return 0
    show_plan(choice, estimate, arguments.limit, configuration.pool.budget_usd)
    print("\nNothing was started.")
    return 0


def show_plan(choice: Choice, estimate: Estimate, limit: int, budget_usd: float | None) -> None:
    """Print the best offers, what was chosen and why, and what it takes.

    Args:
        choice: What was chosen.
        estimate: How long it takes.
        limit: So many offers are shown.
        budget_usd: What it may cost, None for anything.
    """
    best = choice.best
    assert best is not None
    rows = [("*" if one is best else "", *offer_row(one)) for one in choice.ranked[:limit]]
    print(columns(rows, ("", *OFFER_HEADS)))
    if len(choice.ranked) > limit:
        print(f"… and {len(choice.ranked) - limit:,} more that fit.")
    print()
    print(
        f"Chosen: {counted(choice.count, 'machine')} of type {best.instance_type} in {best.zone}, {best.market}: "
        f"{best.slots} tasks at a time on each, {choice.count * best.slots:,} in all."
    )
    setting = f" ({choice.limited_by.setting})" if choice.limited_by.setting else ""
    print(f"What keeps it from being more: {choice.limited_by.words}{setting}.")
    if best.usd_per_hour:
        print(
            f"Price: {estimate.usd_per_hour:.4f} USD per hour; a machine {best.machine_usd_per_hour:.4f} and its boot disk "
            f"({best.boot_disk_gib:g} GiB {best.boot_disk_type}) {best.usd_per_hour - best.machine_usd_per_hour:.4f}."
        )
    if estimate.tasks is None:
        print("Time and total: not known, no tasks are inserted (--tasks N plans for so many).")
    elif estimate.hours is None or estimate.usd is None or estimate.hours_per_task is None:
        print(
            f"Time and total for {counted(estimate.tasks, 'task')}: not known before some ran (or say --hours-per-task)."
        )
    else:
        print(
            f"{counted(estimate.tasks, 'task')} of {duration(estimate.hours_per_task * 3600)} each, were they as fast there: done in about "
            f"{duration(estimate.hours * 3600)}, for {f'about {estimate.usd:.2f} USD' if estimate.usd else 'nothing'}."
        )
        if budget_usd is not None and estimate.usd > budget_usd:
            print(f"That is more than the budget of {budget_usd:.2f} USD.")


def _record(choice: Choice, estimate: Estimate) -> dict[str, Any]:
    best = choice.best
    assert best is not None
    return {
        "machines": choice.count,
        "fewest": choice.fewest,
        "limited_by": choice.limited_by,
        "offer": asdict(best),
        "usd_per_hour": estimate.usd_per_hour,
        "tasks": estimate.tasks,
        "hours": estimate.hours,
        "usd": estimate.usd,
    }
