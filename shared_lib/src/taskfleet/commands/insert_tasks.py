"""``poe insert_tasks``: insert the tasks of the table into the queue."""

import os
from collections.abc import Sequence

from taskfleet.api.inserting import FilterTasks, Source, check, insert
from taskfleet.ledger.insertion import InsertReport
from taskfleet.queues.addresses import is_remote
from taskfleet.terminal.arguments import configure, make_parser, script_folder
from taskfleet.terminal.guard import NO_HINT_VARIABLE
from taskfleet.terminal.hints import next_steps
from taskfleet.text import counted

EXAMPLES = """\
  poe insert_tasks                                  the table in config/task.env
  poe insert_tasks --task-table more.feather        another table
  poe insert_tasks --start-task 100 --limit 10      ten rows, after the first hundred
  poe insert_tasks --dry-run                        check everything, insert nothing"""


def run(argv: Sequence[str], *, source: Source | None = None, filter_tasks: FilterTasks | None = None) -> int:
    """Run the command."""
    parser = make_parser("insert_tasks", "If a row is invalid, nothing is inserted.", EXAMPLES)
    parser.add_argument("--dry-run", action="store_true", help="check every row, insert nothing")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments, start=script_folder())
    if arguments.dry_run:
        rows = check(configuration, source, filter_tasks=filter_tasks)
        print(
            f"Checked {rows:,} rows: all fit {configuration.settings.task_function}. Nothing was inserted (--dry-run)."
        )
        return 0
    report = insert(configuration, source, filter_tasks=filter_tasks)
    print(_summary(configuration.settings.job_id, report, is_sent=is_remote(configuration.settings.queue_url)))
    return 0


def _summary(job_id: str, report: InsertReport, *, is_sent: bool) -> str:
    lines = [f"Inserted {counted(report.added, 'task')} into job {job_id}."]
    if not report.added:
        lines = [f"No new tasks for job {job_id}."]
    if report.already_there:
        lines.append(f"{counted(report.already_there, 'row')} skipped: already inserted.")
    if report.left_out:
        lines.append(f"{counted(report.left_out, 'row')} removed by filter_tasks.")
    if report.identical:
        lines.append(
            f"Note: {counted(report.identical, 'row')} equal to an earlier one; each is a separate task. "
            "If that is not intended, remove the duplicates from the table."
        )
    if report.sent:
        lines.append(f"Sent {counted(report.sent, 'task')} to the queue.")
    if not os.environ.get(NO_HINT_VARIABLE):
        lines.append(f"\n{_next(report, is_sent=is_sent)}")
    return "\n".join(lines)


def _next(report: InsertReport, *, is_sent: bool) -> str:
    if is_sent and report.sent:
        return next_steps(("launch_worker", "on any machine"), ("monitor", "here"))
    return next_steps("launch_worker" if report.added else "status")
