"""``poe plan``: show which machines would be launched, and their cost."""

import json
from collections.abc import Sequence

from taskfleet.api.planning import plan, plans, preview, start_up_script
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.terminal.arguments import configure, make_parser, whole_number
from taskfleet.terminal.offers import add_refresh, print_age, show_plans

EXAMPLES = """\
  poe plan
  poe plan --machines 1-50 --budget-usd 20
  poe plan --hours-per-task 0.25 --tasks 10000      before tasks are inserted"""

DETAILS = (
    "The plan has the best offers, the chosen type, the number of machines and what limits it, the price, and the estimated time and "
    "total cost, for the pool of each manager that has tasks. No machine is launched. With cached prices, no account is needed."
)


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if nothing fits."""
    parser = make_parser("plan", DETAILS, EXAMPLES)
    add_refresh(parser)
    parser.add_argument(
        "--tasks",
        type=whole_number(0),
        metavar="N",
        help="plan for N tasks of one manager instead of the remaining ones",
    )
    parser.add_argument(
        "--manager", metavar="NAME", help="plan only the pool of this manager; with --tasks, it is the default one"
    )
    parser.add_argument(
        "--limit", type=whole_number(1), default=8, metavar="N", help="show the best N offers (default 8)"
    )
    parser.add_argument(
        "--show-start-up-script",
        action="store_true",
        help="print only the start-up script of the machines; with Slurm, the batch script",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per pool")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    if arguments.manager not in (None, DEFAULT_MANAGER):
        configuration = configuration.of_manager(arguments.manager)
    if arguments.show_start_up_script:
        print(start_up_script(configuration), end="")
        return 0
    if arguments.manager is None and arguments.tasks is None:
        found = plans(configuration, refresh=arguments.refresh)
    else:
        one = plan(configuration, tasks=arguments.tasks, refresh=arguments.refresh)
        found = {} if one is None else {configuration.manager: one}
    if not found:
        print("No tasks are left, so no machine is needed.")
        return 0
    if arguments.json:
        for name, one in found.items():
            own = configuration.of_manager(name) if name else configuration
            print_age(own, one.catalogue)
            known = preview(own, one)
            notes = [] if known is None else known.notes
            print(json.dumps({**one.to_json(), "notes": notes, "manager": name or DEFAULT_MANAGER}))
        return 0
    show_plans(configuration, found, arguments.limit)
    print("\nNo machine was launched.")
    return 0
