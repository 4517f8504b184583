"""Cancel tasks, and pause and resume a job, while workers run."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from taskfleet.api.queue import open_job
from taskfleet.errors import CommandError
from taskfleet.ledger import cancelling, control
from taskfleet.ledger.cancelling import OPEN, CancelReport, Selection
from taskfleet.ledger.database import Database
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues
from taskfleet.settings import Configuration
from taskfleet.tasks import State
from taskfleet.watch.bar import say


def cancel(
    configuration: Configuration,
    task_ids: Sequence[str] = (),
    *,
    states: Sequence[State] = (),
    function: str | None = None,
    dry_run: bool = False,
) -> CancelReport:
    """Cancel tasks: pending and waiting ones are killed at once, running ones by their workers within a second.

    A task that succeeds before its worker kills it has succeeded. Tasks that wait for a cancelled one are killed too.

    Args:
        configuration: The settings.
        task_ids: Tasks to cancel.
        states: All tasks in these states; those that have ended are left.
        function: All tasks of a graph that call this function: ``module:function``, or ``function`` if there is one of that name.
        dry_run: Whether to count only.

    Raises:
        CommandError: The job's graph has no such function, or several.
        ProviderError: Workers could not be told; the tasks are cancelled in the ledger, and a monitor tells the workers.
    """
    with closing(open_job(configuration)) as database:
        selection = Selection(ids=task_ids, states=[state for state in OPEN if state in states])
        if function is not None:
            selection = replace(selection, states=OPEN, function_id=_find_function(database, function))
        if dry_run:
            return cancelling.count(database, selection)
        report = cancelling.cancel(database, selection)
        _publish(database, configuration)
        return report


def set_paused(configuration: Configuration, paused: bool) -> bool:
    """Pause or resume the job; return whether that changed anything.

    While it is paused, no task starts. Workers finish what runs, and then end, or wait with KEEP_WAITING; a pool launches no machine.

    Raises:
        ProviderError: Workers could not be told; the job is paused in the ledger, and a monitor tells the workers.
    """
    with closing(open_job(configuration)) as database:
        has_changed = control.set_paused(database, paused)
        _publish(database, configuration)
        return has_changed


def _publish(database: Database, configuration: Configuration) -> None:
    if is_remote(configuration.settings.queue_url):
        with JobQueues(configuration, say=say) as queues:
            queues.publish(database)


def _find_function(database: Database, name: str) -> int:
    found = cancelling.find_functions(database, name)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise CommandError(f"Several functions are named {name!r}: {', '.join(found)}. Nothing was changed.")
    known = [full for (full,) in database.rows("SELECT name FROM function ORDER BY function_id")]
    has = f"its functions are {', '.join(known)}" if known else "it has no graph"
    raise CommandError(f"No task of the job calls a function {name!r}: {has}. Nothing was changed.")
