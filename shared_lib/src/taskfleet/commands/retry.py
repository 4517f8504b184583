"""``poe retry``: put failed or killed tasks back."""

from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.errors import UsageError
from taskfleet.ledger import repair
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.job import check_queue, send_if_remote
from taskfleet.tasks import FAILURE_KINDS
from taskfleet.text import counted
from taskfleet.watch.sending import SendingDisplay

EXAMPLES = """\
  poe retry --failed                    all that failed
  poe retry --failed --kind exit        those whose process crashed
  poe retry --killed                    what poe purge_queue took out
  poe retry addition-task-000001        one task"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "retry", "Put failed or killed tasks back into the queue, with all their tries.", EXAMPLES, operands="[ID ...]"
    )
    parser.add_argument("task_ids", nargs="*", metavar="ID", help="tasks to put back")
    parser.add_argument("--failed", action="store_true", help="all failed tasks")
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.word for kind in FAILURE_KINDS],
        help="with --failed: only of this kind; may be repeated",
    )
    parser.add_argument("--killed", action="store_true", help="all killed tasks")
    arguments = parser.parse_args(argv)
    if arguments.kind and not arguments.failed:
        parser.error("--kind goes with --failed")
    if not (arguments.failed or arguments.killed or arguments.task_ids):
        raise UsageError("Say which tasks: --failed, --failed --kind exit, --killed, or task ids.")
    kinds = [kind for kind in FAILURE_KINDS if arguments.failed and (not arguments.kind or kind.word in arguments.kind)]
    configuration = configure(arguments)
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    check_queue(database, configuration)
    n = repair.retry(database, kinds=kinds, killed=arguments.killed, ids=arguments.task_ids)
    with SendingDisplay() as display:
        send_if_remote(database, configuration, display)
    if arguments.task_ids and n < len(set(arguments.task_ids)) and not kinds and not arguments.killed:
        print(
            f"Left alone, because unknown, or neither failed nor killed: {counted(len(set(arguments.task_ids)) - n, 'task')}."
        )
    print(f"Put {counted(n, 'task')} back into the queue." + ("\n\nNext: poe launch_worker" if n else ""))
    return 0
