"""Insert tasks from a table, or from rows made in Python, into the ledger and a service queue."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskfleet.errors import InsertError, TaskfleetError
from taskfleet.functions import TaskFunction, find_beside, load_function, load_object
from taskfleet.invocation import poe
from taskfleet.ledger import insertion
from taskfleet.ledger.database import Database, create
from taskfleet.ledger.insertion import InsertReport
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration
from taskfleet.settings.reader import is_reference
from taskfleet.tracebacks import describe_users_error
from taskfleet.watch.inserting import InsertingDisplay

if TYPE_CHECKING:
    from taskfleet.queues.job import JobQueues
    from taskfleet.tables.batch import Batch, Rows

#: Data shorter than this fit into a message of any service.
LARGE = 10_000

FilterTasks = Callable[[Any, str | None], Any]
Source = Iterable[Mapping[str, Any]]


def insert(
    configuration: Configuration,
    source: Source | None = None,
    *,
    filter_tasks: FilterTasks | None = None,
    function: TaskFunction | None = None,
) -> InsertReport:
    """Insert all tasks, or none if a row is invalid. With a service queue, also send them.

    Args:
        configuration: The settings.
        source: Rows to insert instead of TASK_TABLE: mappings with the columns, or ``{"task_id": …, "data": {…}}``.
        filter_tasks: ``filter_tasks(table, output_path)`` gets a pandas DataFrame (of up to 50,000 rows at a time) and returns the rows
            to insert. None for the function of this name in the module of TASK_FUNCTION, if there is one.
        function: The task function; None for TASK_FUNCTION.

    Raises:
        TableError: The table cannot be read.
        InsertError: A row cannot become a task.
        FunctionError: The task function cannot be loaded.
        QueueError: The tasks cannot be sent; they are in the ledger, and the next call sends them.
    """
    function, batches = _prepare(configuration, source, filter_tasks, function)
    with _queues(configuration) as queues:
        database = _open(configuration)
        try:
            if queues is not None:
                queues.create()
            size_error = None if queues is None else queues.size_error
            report = _insert(database, configuration, batches, function, size_error)
            return report if queues is None else replace(report, sent=_send(database, queues, report))
        finally:
            database.close()


def check(
    configuration: Configuration, source: Source | None = None, *, filter_tasks: FilterTasks | None = None
) -> int:
    """Check every row as ``insert`` does, and insert nothing.

    Returns:
        The number of rows that would be inserted.

    Raises:
        TableError, InsertError, FunctionError: As ``insert``.
    """
    function, batches = _prepare(configuration, source, filter_tasks)
    return sum(len(batch.encode(function.column_mismatch).data) for batch in batches.kept)


def _prepare(
    configuration: Configuration,
    source: Source | None,
    filter_tasks: FilterTasks | None,
    function: TaskFunction | None = None,
) -> tuple[TaskFunction, "_Counted"]:
    os.environ.update({name: value for name, value in configuration.exports.items() if name not in os.environ})
    name = configuration.settings.task_function
    if function is None:
        function = load_function(name, configuration.project)
        filter_tasks = find_beside(name, "filter_tasks") if filter_tasks is None else filter_tasks
    if filter_tasks is not None and not callable(filter_tasks):
        raise InsertError(f"filter_tasks is {filter_tasks!r:.100}, not a function. Nothing was inserted.")
    return function, _batches(configuration, source, filter_tasks)


def _queues(configuration: Configuration) -> "AbstractContextManager[JobQueues | None]":
    if not is_remote(configuration.settings.queue_url):
        return nullcontext()
    from taskfleet.queues.job import JobQueues
    from taskfleet.watch.bar import say

    return JobQueues(configuration, say=say)


def _send(database: Database, queues: "JobQueues", report: InsertReport) -> int:
    """Send what the queue does not have yet; return the number of tasks."""
    from taskfleet.watch.sending import SendingDisplay

    gc.freeze()  # all that is loaded now stays until the end; collecting it, at the end above all, takes a tenth of a second
    try:
        with SendingDisplay() as display:
            return queues.send_unsent(database, display)
    except BaseException as error:
        error.add_note(
            f"Inserted {report.added:,} new tasks into the ledger, but not all tasks were sent to {queues.tasks.address} yet. "
            f"{poe('insert_tasks')} continues where this stopped."
        )
        raise


def _open(configuration: Configuration) -> Database:
    from taskfleet.queues.job import record_queue

    settings = configuration.settings
    database = create(
        configuration.ledger_path,
        job_id=settings.job_id,
        project=configuration.project,
        now=time.time(),
        shared=settings.shared_ledger,
    )
    record_queue(database, configuration)
    return database


def _batches(configuration: Configuration, source: Source | None, filter_tasks: FilterTasks | None) -> "_Counted":
    from taskfleet.tables.filtering import filter_batches
    from taskfleet.tables.reading import count_rows, read_batches, slice_batches

    settings = configuration.settings
    total = None
    if source is None and is_reference(settings.task_table):
        source = _made(
            settings.task_table, load_object(settings.task_table, configuration.project, setting="TASK_TABLE")
        )
    if source is None:
        table = settings.task_table
        address = table if "://" in table else configuration.project / Path(table).expanduser()
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


def _made(name: str, factory: Any) -> Any:
    if not callable(factory):
        return factory
    try:
        return factory()
    except TaskfleetError:
        raise
    except Exception as error:
        raise InsertError(f"{name} raised an exception: {describe_users_error(error)}") from error


class _Counted:
    """Batches after filtering, and the number of rows that were read for them."""

    def __init__(self, batches: "Iterable[Batch]", total: int | None) -> None:
        self._batches = batches
        self.total = total
        """The number of rows of the table; None if it is unknown."""
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
    size_error: Callable[[str, str], str | None] | None = None,
) -> InsertReport:
    from taskfleet.tables.ids import content_ids

    settings = configuration.settings
    with InsertingDisplay() as display:
        under_way = insertion.begin(database, source=settings.task_table, on_wait=display.waits_for)
        try:
            for batch in batches.kept:
                rows = batch.encode(function.column_mismatch)
                ids = content_ids(rows.data) if rows.ids is None else rows.ids
                if size_error is not None:
                    _check_sizes(ids, rows, size_error)
                under_way.add(
                    ids, rows.data, ids_are_derived=rows.ids is None, now=time.time(), row_number=rows.row_number
                )
                display.show(batches.rows, batches.total)
            if not batches.rows:
                raise InsertError(
                    f"{settings.task_table} has no rows to insert (START_TASK={settings.start_task}). Nothing was inserted."
                )
            report = under_way.accept(time.time())
        except BaseException:
            under_way.discard()
            raise
    return replace(report, left_out=batches.rows - under_way.rows)


def _check_sizes(ids: Sequence[str], rows: "Rows", size_error: Callable[[str, str], str | None]) -> None:
    for index, (task_id, data) in enumerate(zip(ids, rows.data, strict=True)):
        if len(data) > LARGE and (fault := size_error(task_id, data)):
            raise InsertError(f"Row {rows.row_number(index):,}: {fault}. Nothing was inserted.")
