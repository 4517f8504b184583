"""``poe retry``: put failed or killed tasks back into the queue."""

from collections.abc import Sequence

from taskfleet.api.queue import retry
from taskfleet.errors import CommandError, UsageError
from taskfleet.tasks import FAILURE_KINDS
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe retry --failed                    all failed tasks
  poe retry --failed --kind exit        tasks whose process crashed
  poe retry --killed                    tasks that poe purge_queue removed
  poe retry addition-task-000001        one task"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("retry", "Earlier attempts no longer count as retries.", EXAMPLES, operands="[ID ...]")
    parser.add_argument("task_ids", nargs="*", metavar="ID", help="IDs of tasks to put back")
    parser.add_argument("--failed", action="store_true", help="all failed tasks")
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.word for kind in FAILURE_KINDS],
        help="with --failed: only this kind of failure; can be repeated",
    )
    parser.add_argument("--killed", action="store_true", help="all killed tasks")
    arguments = parser.parse_args(argv)
    if arguments.kind and not arguments.failed:
        parser.error("--kind requires --failed")
    if not (arguments.failed or arguments.killed or arguments.task_ids):
        raise UsageError(
            "Specify the tasks: --failed (with --kind KIND for one kind of failure), --killed, or task IDs."
        )
    kinds = [kind for kind in FAILURE_KINDS if arguments.failed and (not arguments.kind or kind.word in arguments.kind)]
    n = retry(configure(arguments), arguments.task_ids, kinds=kinds, killed=arguments.killed)
    skipped = len(set(arguments.task_ids)) - n
    if skipped > 0 and not kinds and not arguments.killed:
        text = f"{counted(skipped, 'task ID')} skipped: unknown, or the task has neither failed nor been killed."
        if not n:
            raise CommandError(f"{text} Nothing was changed.")
        print(text)
    if not n:
        print("No tasks to put back. Nothing was changed.")
        return 0
    print(f"Put {counted(n, 'task')} back into the queue.\n\n{next_steps('launch_worker')}")
    return 0
