"""``poe plan``: show which machines would be started, and the cost."""

import json
from collections.abc import Sequence

from taskfleet.api.planning import plan
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.offers import add_refresh, print_age, show_plan

EXAMPLES = """\
  poe plan
  poe plan --machines 1-50 --budget-usd 20
  poe plan --hours-per-task 0.25 --tasks 10000      before anything is inserted"""

DETAILS = (
    "The best offers are listed, with the chosen type, the number of machines, what limits it, the price, and when all tasks would be "
    "done. Nothing is started. With cached prices no account is needed."
)


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if nothing fits."""
    parser = make_parser("plan", DETAILS, EXAMPLES)
    add_refresh(parser)
    parser.add_argument("--tasks", type=int, metavar="N", help="plan for N tasks instead of those that are left")
    parser.add_argument("--limit", type=int, default=8, metavar="N", help="show the best N offers (8)")
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
        from taskfleet.pool.code_delivery import preview_script

        print(preview_script(configuration), end="")
        return 0
    found = plan(configuration, tasks=arguments.tasks, refresh=arguments.refresh)
    if found is None:
        print("No tasks are left: no machine is needed.")
        return 0
    print_age(configuration, found.catalogue)
    if arguments.json:
        print(json.dumps(found.to_json()))
        return 0
    show_plan(found, arguments.limit, configuration.pool.budget_usd)
    print("\nNothing was started.")
    return 0
