"""``poe calibrate``: run a sample here and estimate time, memory and cost of all tasks."""

import json
from collections.abc import Sequence
from decimal import Decimal

from taskfleet.api.calibrating import Measured, calibrate
from taskfleet.api.planning import warn
from taskfleet.terminal.arguments import configure, make_parser, whole_number
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.offers import add_refresh, print_age, show_plan
from taskfleet.text import counted, duration

EXAMPLES = """\
  poe calibrate                                     20 tasks, spread over the table
  poe calibrate --sample 100 --slots 1              100 tasks, one at a time
  poe calibrate --provider aws --regions us-east-1  with a plan for AWS"""

DETAILS = (
    "The sample does not change the job, and its results are discarded, but files that its tasks write remain. Then the plan for the "
    "remaining tasks is shown."
)


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if no task of the sample succeeded."""
    parser = make_parser("calibrate", DETAILS, EXAMPLES)
    add_refresh(parser)
    parser.add_argument("--sample", type=whole_number(1), default=20, metavar="N", help="run N tasks (default 20)")
    parser.add_argument(
        "--limit", type=whole_number(1), default=5, metavar="N", help="show the best N offers (default 5)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    found = calibrate(configuration, sample=arguments.sample, refresh=arguments.refresh, say=warn)
    print_age(configuration, found.plan.catalogue)
    if arguments.json:
        print(json.dumps(found.to_json()))
        return 0
    _show(found.measured)
    print()
    show_plan(found.plan, arguments.limit, configuration.pool)
    if found.node_hours_per_task:
        print(f"Node-hours per task: {found.node_hours_per_task:.2g}, while all slots are busy.")
    if found.usd_per_task:
        print(f"Price per task: {found.usd_per_task:.2g} USD, while all slots are busy.")
    memory = found.measured.memory_gib_per_task
    hint = f" --memory-gib-per-task {memory:g}-" if memory is not None else ""
    if found.plan.estimate.tasks:
        hours = format(Decimal(f"{found.measured.mean_seconds / 3600:.2g}"), "f")  # without an exponent
        print(f"\n{next_steps(f'deploy_pool --hours-per-task {hours}{hint}')}")
    return 0


def _show(measured: Measured) -> None:
    failed = f", {measured.failed:,} failed" if measured.failed else ""
    print(
        f"{counted(measured.tasks, 'task')} succeeded{failed}: {duration(measured.mean_seconds)} each "
        f"(± {duration(measured.standard_error_seconds)}), median {duration(measured.median_seconds)}, longest "
        f"{duration(measured.longest_seconds)}."
    )
    if measured.most_memory_mib is not None:
        print(
            f"Memory: {measured.most_memory_mib:,.0f} MiB at most; {measured.memory_gib_per_task:g} GiB per task (MEMORY_GIB_PER_TASK) "
            "leave some headroom."
        )
