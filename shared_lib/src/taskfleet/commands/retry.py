"""``poe retry``: put failed or killed tasks back into the queue."""

from collections.abc import Sequence

from taskfleet.api.queue import retry
from taskfleet.errors import UsageError
from taskfleet.tasks import FAILURE_KINDS
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe retry --failed                    all that failed
  poe retry --failed --kind exit        those whose process crashed
  poe retry --killed                    those that poe purge_queue removed
  poe retry addition-task-000001        one task"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("retry", "Each has all its attempts again.", EXAMPLES, operands="[ID ...]")
    parser.add_argument("task_ids", nargs="*", metavar="ID", help="tasks to put back")
    parser.add_argument("--failed", action="store_true", help="all failed tasks")
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.word for kind in FAILURE_KINDS],
        help="with --failed: only tasks that failed this way; may be repeated",
    )
    parser.add_argument("--killed", action="store_true", help="all killed tasks")
    arguments = parser.parse_args(argv)
    if arguments.kind and not arguments.failed:
        parser.error("--kind goes with --failed")
    if not (arguments.failed or arguments.killed or arguments.task_ids):
        raise UsageError("Name the tasks: --failed, --failed --kind exit, --killed, or task ids.")
    kinds = [kind for kind in FAILURE_KINDS if arguments.failed and (not arguments.kind or kind.word in arguments.kind)]
    n = retry(configure(arguments), arguments.task_ids, kinds=kinds, killed=arguments.killed)
    left_alone = len(set(arguments.task_ids)) - n
    if left_alone > 0 and not kinds and not arguments.killed:
        print(f"Left alone, because unknown, or neither failed nor killed: {counted(left_alone, 'task')}.")
    print(f"Put {counted(n, 'task')} back into the queue." + (f"\n\n{next_steps('launch_worker')}" if n else ""))
    return 0
