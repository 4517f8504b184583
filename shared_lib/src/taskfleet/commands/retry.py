"""``poe retry``: put failed or killed tasks back into the queue."""

from collections.abc import Sequence

from taskfleet.api.queue import find_causes, retry
from taskfleet.errors import CommandError, UsageError
from taskfleet.invocation import poe
from taskfleet.tasks import FAILURE_KINDS
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe retry --failed                    all failed tasks
  poe retry --failed --kind exit        tasks whose process crashed
  poe retry --killed                    tasks that poe cancel or poe purge_queue killed
  poe retry addition-task-000001        one task
  poe retry --with-descendants load-07  one task, successful or not, and all that depend on it
  poe retry --upstream average-1f8a     the tasks whose failures are the cause of another one's"""

#: What is left alone, without and with the tasks that succeeded.
_UNCHANGED = ("neither failed nor been killed", "not ended")


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
    parser.add_argument(
        "--upstream",
        action="store_true",
        help="instead of the given tasks, those whose failures are the cause of theirs",
    )
    parser.add_argument(
        "--with-descendants",
        action="store_true",
        help="also the given tasks that succeeded; all tasks that depend on these are run again",
    )
    arguments = parser.parse_args(argv)
    if arguments.with_descendants and not arguments.task_ids:
        parser.error("--with-descendants requires task IDs")
    if arguments.upstream and not arguments.task_ids:
        parser.error("--upstream requires task IDs")
    if arguments.kind and not arguments.failed:
        parser.error("--kind requires --failed")
    if not (arguments.failed or arguments.killed or arguments.task_ids):
        raise UsageError(
            "Specify the tasks: --failed (with --kind KIND for one kind of failure), --killed, or task IDs."
        )
    kinds = [kind for kind in FAILURE_KINDS if arguments.failed and (not arguments.kind or kind.word in arguments.kind)]
    configuration = configure(arguments)
    causes = {} if arguments.upstream else find_causes(configuration, arguments.task_ids)
    n = retry(
        configuration,
        arguments.task_ids,
        kinds=kinds,
        killed=arguments.killed,
        upstream=arguments.upstream,
        with_descendants=arguments.with_descendants,
    )
    followers = [f"{task_id} was not run, because {cause.sentence}" for task_id, cause in causes.items()]
    if followers and not kinds and not arguments.killed:
        ids = " ".join(dict.fromkeys(cause.task_id for cause in causes.values()))
        text = "\n".join([*followers, f"It follows when its cause is retried: {poe(f'retry {ids}')}"])
        if not n:
            raise CommandError(f"{text}\nNothing was changed.")
        print(text)
    skipped = 0 if arguments.upstream and n else len(set(arguments.task_ids)) - len(causes) - n
    if skipped > 0 and not kinds and not arguments.killed:
        text = (
            f"{counted(skipped, 'task ID')} skipped: unknown, or the task has {_UNCHANGED[arguments.with_descendants]}."
        )
        if not n:
            raise CommandError(f"{text} Nothing was changed.")
        print(text)
    if not n:
        print("No tasks to put back. Nothing was changed.")
        return 0
    print(f"Put {counted(n, 'task')} back into the queue.\n\n{next_steps('launch_worker')}")
    return 0
