"""Read the status, tasks and results of a job, and explain why it is stuck."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from taskfleet.api.other_jobs import other_jobs
from taskfleet.api.queue import open_job, require_tasks
from taskfleet.errors import CommandError
from taskfleet.invocation import poe
from taskfleet.ledger import counters, function_graph, queries
from taskfleet.ledger.database import Database
from taskfleet.ledger.function_graph import FunctionCounts, FunctionEdge
from taskfleet.ledger.queries import TaskLine, TaskRecord
from taskfleet.pool.diagnosis import diagnose_pools
from taskfleet.pool.job_machines import own_configurations
from taskfleet.pool.selection import limits_of
from taskfleet.settings import Configuration
from taskfleet.tasks import JSON, Outcome, State
from taskfleet.watch.explaining import explain_job, explain_task
from taskfleet.watch.status import Status, gather

Rows = Iterator[dict[str, JSON]]


def status(configuration: Configuration) -> Status:
    """Return the job's status at this instant; the time it takes does not depend on the number of tasks, except for those of a graph.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
    """
    with closing(open_job(configuration, read_only=True)) as database:
        return gather(database, time.time(), by_function=True, configuration=configuration)


def tasks(
    configuration: Configuration,
    *,
    state: State | None = None,
    kind: Outcome | None = None,
    limit: int | None = None,
) -> tuple[Sequence[TaskLine], int]:
    """Return tasks in table order, and the total number of matching tasks.

    Args:
        configuration: The settings.
        state: Only tasks in this state.
        kind: Only tasks with this kind of failure.
        limit: The maximum number of tasks; None for all.
    """
    if kind is not None:
        state = State.FAILED
    with closing(open_job(configuration, read_only=True)) as database:
        lines = list(queries.list_tasks(database, state=state, kind=kind, limit=1 << 62 if limit is None else limit))
        counts = counters.by_state(database)
        total = sum(counts.values()) if state is None else counts[state]
        return lines, total if kind is None else counters.by_failure_kind(database)[kind]


def functions(configuration: Configuration) -> tuple[list[FunctionCounts], list[FunctionEdge]]:
    """Return the functions of the job's graph with the states of their tasks, and which take results of which.

    Raises:
        CommandError: The job has no graph.
    """
    with closing(open_job(configuration, read_only=True)) as database, database.snapshot():
        if not function_graph.has_functions(database):
            others = "" if queries.was_inserted(database) else other_jobs(configuration)
            remedy = others or f"{poe('flow')} runs a script that makes one."
            raise CommandError(f"Job {configuration.settings.job_id} has no graph. {remedy}")
        return function_graph.count_by_function(database), function_graph.function_edges(database)


def task(configuration: Configuration, task_id: str) -> TaskRecord:
    """Return the details of one task, with all its attempts.

    Raises:
        CommandError: The job has no such task.
    """
    with closing(open_job(configuration, read_only=True)) as database:
        return _find_task(database, configuration.settings.job_id, task_id)


def _find_task(database: Database, job_id: str, task_id: str) -> TaskRecord:
    found = queries.find_task(database, task_id)
    if found is None:
        raise CommandError(f"Job {job_id} has no task {task_id!r}. {poe('tasks')} lists the tasks.")
    return found


def write_results(
    configuration: Configuration,
    path: Path,
    *,
    escape_formulas: bool = False,
    show: Callable[[Rows, int], Rows] = lambda rows, _: rows,
) -> tuple[int, Status]:
    """Write the table joined with results and failures to a file.

    Args:
        configuration: The settings.
        path: The file; its suffix determines the format: .feather .parquet .csv .json .jsonl
        escape_formulas: Whether texts in CSV that a spreadsheet would take for formulas get an apostrophe before them.
        show: Passes the rows on and shows the progress; called with the rows and their number, twice.

    Returns:
        The number of rows, and the job's status.

    Raises:
        TableError: The file cannot be written.
        CommandError: No tasks are inserted.
    """
    from taskfleet.tables.results import write_results as write

    with closing(open_job(configuration, read_only=True)) as database:
        require_tasks(database, configuration.settings.job_id)
        now = gather(database, time.time())
        with database.snapshot():
            n = write(
                path,
                lambda: show(queries.results(database, _file_address(configuration)), now.total),
                columns=queries.RESULT_COLUMNS,
                escape_formulas=escape_formulas,
            )
        return n, now


def _file_address(configuration: Configuration) -> Callable[[str], str]:
    """Return a function that returns the address of a large value of a graph by the name of its file."""
    return lambda name: f"{configuration.results_path.rstrip('/')}/{name}"


def explain(configuration: Configuration, what: str | None = None) -> list[str]:
    """Return the reasons why a task, the job or its pool is stuck, and what to change; one text each.

    Args:
        configuration: The settings.
        what: A task's id, or ``pool``; None for the job.

    Raises:
        CommandError: The job has no such task.
    """
    now = time.time()
    with closing(open_job(configuration, read_only=True)) as database:
        current = gather(database, now, configuration=configuration)
        if what not in (None, "pool"):
            found = _find_task(database, configuration.settings.job_id, what)
            return [explain_task(database, found, current, configuration.settings, now)]
        own = {one.manager: limits_of(one) for one in own_configurations(configuration)}
        pool = diagnose_pools(database, limits_of(configuration), own, current.total - current.ended, now)
        if what == "pool":
            return pool
        has_pool = current.costs is not None and current.ended < current.total
        return [explain_job(database, current, now), *(pool if has_pool else ())]
