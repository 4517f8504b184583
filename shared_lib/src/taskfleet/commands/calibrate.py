"""``poe calibrate``: run a sample here and estimate time, memory and cost of all tasks."""

import json
from collections.abc import Sequence

from taskfleet.api.calibrating import Measured, calibrate
from taskfleet.api.planning import warn
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.offers import add_refresh, print_age, show_plan
from taskfleet.text import counted, duration

EXAMPLES = """\
  poe calibrate                                     twenty tasks, spread over the table
  poe calibrate --sample 100 --slots 1              one after the other, undisturbed
  poe calibrate --provider aws --regions us-east-1  and what all would cost there"""

DETAILS = (
    "The sample runs apart from the job; its results are discarded, but the tasks run for real: files they write are written. Then the "
    "plan for all tasks that are left is shown."
)


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if no task of the sample succeeded."""
    parser = make_parser("calibrate", DETAILS, EXAMPLES)
    add_refresh(parser)
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="run N tasks (20)")
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="show the best N offers (5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.sample < 1 or arguments.limit < 1:
        parser.error("--sample and --limit take a whole number from 1 on")
    configuration = configure(arguments)
    found = calibrate(configuration, sample=arguments.sample, refresh=arguments.refresh, say=warn)
    print_age(configuration, found.plan.catalogue)
    if arguments.json:
        print(json.dumps(found.to_json()))
        return 0
    _show(found.measured)
    print()
    show_plan(found.plan, arguments.limit, configuration.pool.budget_usd)
    if found.usd_per_task:
        print(f"Price per task: {found.usd_per_task:.2g} USD, while all slots are busy.")
    memory = found.measured.memory_gib_per_task
    hint = f" --memory-gib-per-task {memory:g}-" if memory is not None else ""
    print(f"\n{next_steps(f'deploy_pool --hours-per-task {found.measured.mean_seconds / 3600:.2g}{hint}')}")
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
            f"Memory: {measured.most_memory_mib:,.0f} MiB at most; {measured.memory_gib_per_task:g} GiB per task leave some headroom "
            "(MEMORY_GIB_PER_TASK)."
        )
