"""``poe insert_tasks``: load the table into the queue."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskfleet.commands.arguments import configure, make_parser, script_folder
from taskfleet.commands.guard import NO_HINT_VARIABLE, guarded
from taskfleet.errors import InsertError
from taskfleet.functions import TaskFunction, load_function, load_object
from taskfleet.ledger import insertion
from taskfleet.ledger.database import Database, create
from taskfleet.ledger.insertion import InsertReport
from taskfleet.processes.identity import pid_of
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration
from taskfleet.settings.reader import is_reference
from taskfleet.text import counted
from taskfleet.watch.bar import Bar

if TYPE_CHECKING:
    from taskfleet.queues.job import JobQueues
    from taskfleet.tables import Batch
    from taskfleet.tables.batch import Rows

#: Data shorter than this fit into a message of any service.
LARGE = 10_000

FilterTasks = Callable[[Any, str | None], Any]
Source = Iterable[Mapping[str, Any]]

EXAMPLES = """\
  poe insert_tasks                                  the table that config/task.env names
  poe insert_tasks --task-table more.feather        another one
  poe insert_tasks --start-task 100 --limit 10      ten rows, from the hundred-and-first on
  poe insert_tasks --dry-run                        check everything, insert nothing"""


def insert_tasks(
    source: Source | None = None, *, filter_tasks: FilterTasks | None = None, argv: Sequence[str] | None = None
) -> None:
    """Insert a table's tasks; what a project's ``insert_tasks.py`` calls. Exits with the command's code.

    Args:
        source: Rows to insert instead of the table that the settings name: mappings with the columns, or ``{"task_id": …, "data": {…}}``.
        filter_tasks: ``filter_tasks(table, output_path)`` gets a pandas DataFrame (of up to 50,000 rows at a time) and returns the rows
            still to do.
        argv: The command line, that of the script if None.
    """
    sys.exit(guarded(lambda: run(sys.argv[1:] if argv is None else argv, source=source, filter_tasks=filter_tasks)))


def run(argv: Sequence[str], *, source: Source | None = None, filter_tasks: FilterTasks | None = None) -> int:
    """Run the command."""
    arguments = _parser().parse_args(argv)
    configuration = configure(arguments, start=script_folder())
    os.environ.update({name: value for name, value in configuration.exports.items() if name not in os.environ})
    function = load_function(configuration.settings.task_function, configuration.project)
    batches = _batches(configuration, source, filter_tasks)
    if arguments.dry_run:
        rows = sum(len(batch.encode(function.column_mismatch).data) for batch in batches.kept)
        print(f"Checked {rows:,} rows: all fit {function.name}. Nothing was inserted (--dry-run).")
        return 0
    settings = configuration.settings
    if is_remote(settings.queue_url):
        from taskfleet.queues.job import JobQueues

        with JobQueues(configuration) as queues:
            return _insert_and_send(configuration, batches, function, queues)
    database = _open(configuration)
    report, left_out = _insert(database, configuration, batches, function)
    database.close()
    print(_summary(settings.job_id, report, left_out))
    return 0


def _insert_and_send(
    configuration: Configuration, batches: "_Counted", function: TaskFunction, queues: "JobQueues"
) -> int:
    """Insert into the ledger, then send to the queue what it does not have yet."""
    from taskfleet.watch.sending import SendingDisplay

    database = _open(configuration)
    queues.create()
    report, left_out = _insert(database, configuration, batches, function, queues.fault_of_size)
    gc.freeze()  # all that is loaded now stays until the end; looking through it, at the end above all, takes a tenth of a second
    try:
        with SendingDisplay() as display:
            sent = queues.send_unsent(database, display)
    except BaseException:
        print(
            f"{_summary(configuration.settings.job_id, report, left_out)}\n\nNot all tasks were sent to {queues.tasks.address} yet. "
            "They are safe in the ledger; the same command goes on where this one stopped.",
            file=sys.stderr,
        )
        raise
    database.close()
    print(f"{_summary(configuration.settings.job_id, report, left_out, sent)}")
    return 0


def _open(configuration: Configuration) -> Database:
    from taskfleet.queues.job import settle_queue

    settings = configuration.settings
    database = create(
        configuration.ledger_path,
        job_id=settings.job_id,
        project=configuration.project,
        now=time.time(),
        shared=settings.shared_ledger,
    )
    settle_queue(database, configuration)
    return database


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "insert_tasks",
        "Load the table into the queue: all of it or, if anything is wrong, none.",
        EXAMPLES,
        ("job", "insert"),
    )
    parser.add_argument("--dry-run", action="store_true", help="check every row, insert nothing")
    return parser


def _batches(configuration: Configuration, source: Source | None, filter_tasks: FilterTasks | None) -> "_Counted":
    from taskfleet.tables import count_rows, filter_batches, read_batches, slice_batches

    settings = configuration.settings
    total = None
    if source is None and is_reference(settings.task_table):
        factory = load_object(settings.task_table, configuration.project)
        source = factory() if callable(factory) else factory
    if source is None:
        table = settings.task_table
        is_address = "://" in table
        address = table if is_address else configuration.project / Path(table).expanduser()
        batches = read_batches(address)
        if sys.stderr.isatty():
            total = count_rows(address)
    else:
        batches = read_batches(source)
    if total is not None:
        total = min(max(total - settings.start_task, 0), settings.insert_limit or total)
    counted = _Counted(slice_batches(batches, settings.start_task, settings.insert_limit), total)
    if filter_tasks is not None:
        counted.kept = filter_batches(counted.counting(), filter_tasks, settings.output_path)
    return counted


class _Counted:
    """Batches after filtering, and how many rows were read for them."""

    def __init__(self, batches: "Iterable[Batch]", total: int | None) -> None:
        self._batches = batches
        self.total = total
        """How many rows there will be, if that is known."""
        self.rows = 0
        self.kept: Iterator[Batch] = self.counting()

    def counting(self) -> "Iterator[Batch]":
        for batch in self._batches:
            self.rows += len(batch)
            yield batch


def _insert(
    database: Database,
    configuration: Configuration,
    batches: _Counted,
    function: TaskFunction,
    fault_of_size: Callable[[str, str], str | None] | None = None,
) -> tuple[InsertReport, int]:
    from taskfleet.tables import content_ids

    settings = configuration.settings
    progress = _Progress(batches)
    under_way = insertion.begin(database, source=settings.task_table, on_wait=progress.wait)
    try:
        for batch in batches.kept:
            rows = batch.encode(function.column_mismatch)
            ids = content_ids(rows.data) if rows.ids is None else rows.ids
            if fault_of_size is not None:
                _check_sizes(ids, rows, fault_of_size)
            under_way.add(ids, rows.data, ids_are_derived=rows.ids is None, now=time.time(), row_number=rows.row_number)
            progress.show()
        if not batches.rows:
            raise InsertError(
                f"{settings.task_table} has no rows to insert (START_TASK={settings.start_task}). Nothing was inserted."
            )
        report = under_way.accept(time.time())
    except BaseException:
        progress.close()
        under_way.discard()
        raise
    progress.close()
    return report, batches.rows - under_way.rows


def _check_sizes(ids: Sequence[str], rows: "Rows", fault_of_size: Callable[[str, str], str | None]) -> None:
    for index, (task_id, data) in enumerate(zip(ids, rows.data, strict=True)):
        if len(data) > LARGE and (fault := fault_of_size(task_id, data)):
            raise InsertError(f"Row {rows.row_number(index):,}: {fault}. Nothing was inserted.")


def _summary(job_id: str, report: InsertReport, left_out: int, sent: int = 0) -> str:
    lines = [f"Inserted {counted(report.added, 'task')} into job {job_id}."]
    if not report.added:
        lines = [f"Nothing new for job {job_id}."]
    if report.already_there:
        lines.append(f"{counted(report.already_there, 'row')} already there, not added again.")
    if left_out:
        lines.append(f"{counted(left_out, 'row')} left out by filter_tasks.")
    if report.identical:
        lines.append(
            f"Note: {counted(report.identical, 'row')} equal to an earlier one; each is a task of its own. "
            "If that is not meant, remove them from the table."
        )
    if sent:
        lines.append(f"Sent {counted(sent, 'task')} to the queue.")
    if os.environ.get(NO_HINT_VARIABLE):
        pass
    elif sent:
        lines.append("\nNext: poe launch_worker (anywhere), and poe monitor here")
    else:
        lines.append("\nNext: poe launch_worker" if report.added else "\nNext: poe status")
    return "\n".join(lines)


class _Progress:
    """Rows read so far and the time left, on a terminal; nothing elsewhere."""

    def __init__(self, batches: _Counted) -> None:
        self._batches = batches
        self._bar = Bar("Inserting", "row")

    def show(self) -> None:
        self._bar.show(self._batches.rows, self._batches.total)

    def wait(self, process: str) -> None:
        print(f"Waiting for another insertion into this job to end (process {pid_of(process)}).", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
