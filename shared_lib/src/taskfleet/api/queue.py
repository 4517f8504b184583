"""Retry, release, remove, move and delete the tasks of a job, and count them from zero."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskfleet.api.other_jobs import other_jobs
from taskfleet.errors import CommandError, LedgerError, UsageError
from taskfleet.invocation import poe
from taskfleet.ledger import counters, leasing, moving, queries, repair, sending
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.ledger.dependencies import Cause, failed_ancestors, find_cause
from taskfleet.processes.identity import is_surely_dead, pid_of
from taskfleet.queues.addresses import is_remote, redact_url
from taskfleet.queues.job import JobQueues, check_queue, process_of, send_if_remote
from taskfleet.queues.set_aside import set_aside_path
from taskfleet.settings import Configuration
from taskfleet.tasks import Outcome, State
from taskfleet.watch.bar import say
from taskfleet.watch.monitor import SILENT_SECONDS, Monitor
from taskfleet.watch.sending import SendingDisplay
from taskfleet.watch.status import gather


def open_job(configuration: Configuration, *, read_only: bool = False) -> Database:
    """Open the job's ledger; unless read-only, check that QUEUE_URL is the queue of the tasks.

    Raises:
        LedgerError: There is none, or it cannot be used.
        QueueError: The tasks are in another queue than QUEUE_URL.
    """
    try:
        database = open_ledger(
            configuration.ledger_path,
            job_id=configuration.settings.job_id,
            project=configuration.project,
            read_only=read_only,
        )
    except LedgerError as error:
        others = "" if configuration.ledger_path.exists() else other_jobs(configuration)
        if not others:
            raise
        raise LedgerError(f"{error}. {others}") from None
    if not read_only:
        check_queue(database, configuration)
    return database


def require_tasks(database: Database, job_id: str) -> None:
    """Check that an insertion has finished.

    Raises:
        CommandError: None has.
    """
    if queries.was_inserted(database):
        return
    under_way = database.value("SELECT process FROM insertion WHERE accepted_at IS NULL")
    if under_way is not None and not is_surely_dead(under_way):
        raise CommandError(
            f"The tasks of job {job_id} are being inserted by process {pid_of(under_way)}. Try again when it has finished."
        )
    raise CommandError(
        f"Job {job_id} has no tasks: no insertion has finished, and an interrupted one leaves no tasks. "
        f"Insert the tasks: {poe('insert_tasks')}"
    )


def retry(
    configuration: Configuration,
    task_ids: Sequence[str] = (),
    *,
    kinds: Sequence[Outcome] = (),
    killed: bool = False,
    upstream: bool = False,
    with_descendants: bool = False,
) -> int:
    """Put failed or killed tasks back into the queue. Earlier attempts no longer count as retries.

    Args:
        configuration: The settings.
        task_ids: Tasks to put back; unknown IDs, and tasks that have neither failed nor been killed, are ignored.
        kinds: All tasks with one of these kinds of failure.
        killed: All killed tasks.
        upstream: Instead of the given tasks, those whose failures are the causes of theirs.
        with_descendants: Also those of the given tasks that succeeded; all tasks that depend on these are run again.

    Returns:
        The number of tasks put back; those that failed because of them follow.
    """
    with closing(open_job(configuration)) as database:
        ids = (
            list(dict.fromkeys(one for found in _causes(database, task_ids) for one in found)) if upstream else task_ids
        )
        n = repair.retry(database, kinds=kinds, killed=killed, ids=ids)
        if with_descendants:
            seqs = [database.value("SELECT seq FROM task_id WHERE id = ?", (task_id,)) for task_id in set(ids)]
            n += repair.rerun(database, [seq for seq in seqs if seq is not None], descendants=True)
        if is_remote(configuration.settings.queue_url):
            with JobQueues(configuration, say=say) as queues:
                queues.publish(database)  # first: a worker that takes the tasks for cancelled has them sent again
        _send(database, configuration)
        return n


def find_causes(configuration: Configuration, task_ids: Sequence[str]) -> dict[str, Cause]:
    """Return the first cause of the failure of each of these tasks that failed because of others."""
    with closing(open_job(configuration, read_only=True)) as database:
        return {
            task_id: find_cause(database, root_seq)
            for task_id in task_ids
            for (root_seq,) in database.rows(
                "SELECT root_seq FROM task_id JOIN state USING (seq) WHERE id = ? AND root_seq IS NOT NULL", (task_id,)
            )
        }


def _causes(database: Database, task_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the tasks whose failures are the causes of each task's own; the task itself if there are none."""
    for task_id in task_ids:
        seq = database.value("SELECT seq FROM task_id WHERE id = ?", (task_id,))
        if seq is not None:
            yield failed_ancestors(database, seq) or [task_id]


def release(configuration: Configuration) -> int:
    """Revoke all leases, including those of live workers; return the number of tasks that can be leased again.

    With a service queue, where leases cannot be revoked, the tasks are sent again; a queue that was deleted is created again.
    """
    with closing(open_job(configuration)) as database:
        if not is_remote(configuration.settings.queue_url):
            return leasing.release(database, now=time.time())
        with JobQueues(configuration, say=say) as queues:
            was_deleted = not all(transport.exists() for transport in queues.of_tasks(database))
            if was_deleted:  # first, so that what this process does not send, if it dies, is not taken for sent
                moving.move(database, database.value("SELECT queue_url FROM job"))
            queues.create(database)
        if was_deleted:
            return _send(database, configuration)
        n = moving.send_again(database)
        _send(database, configuration)
        return n


def count_unstarted(configuration: Configuration) -> int:
    """Return the number of tasks that ``purge`` would remove from the queue."""
    with closing(open_job(configuration)) as database:
        counts = counters.by_state(database)
        return counts[State.PENDING] + counts[State.WAITING]


def purge(configuration: Configuration) -> int:
    """Remove all pending and waiting tasks from the queue: they become killed; return their number."""
    with closing(open_job(configuration)) as database:
        killed = repair.purge(database)
        if is_remote(configuration.settings.queue_url):
            with JobQueues(configuration, say=say) as queues:
                queues.purge(database)
        return killed


def purge_events(configuration: Configuration) -> None:
    """Delete the events of the service queue that are not recorded yet: their tasks will count as unfinished."""
    with JobQueues(configuration, say=say) as queues:
        queues.events.purge()


def check_move(configuration: Configuration, target: str) -> None:
    """Check that the tasks can be moved to another queue.

    Raises:
        CommandError: The tasks are already in that queue, or workers are running.
    """
    source = configuration.settings.queue_url
    if redact_url(source) == redact_url(target) or not (is_remote(source) or is_remote(target)):
        raise CommandError(f"The tasks are already in QUEUE_URL={redact_url(source)}. Nothing was changed.")
    with closing(open_job(configuration)) as database:
        _refuse_workers(database)


def move(configuration: Configuration, target: str) -> int:
    """Move all unfinished tasks to another queue, and delete the old one after recording its events.

    The ledger has the tasks, so they need not be received from the old queue. If this is interrupted, all tasks are in one of the queues
    or noted as unsent.

    Args:
        configuration: The settings.
        target: The URL of the queue, in the form of QUEUE_URL.

    Returns:
        The number of pending tasks in the new queue.

    Raises:
        CommandError: The tasks are already in that queue, or workers are running.
    """
    check_move(configuration, target)
    with closing(open_job(configuration)) as database:
        if is_remote(target):
            with JobQueues(configuration, target, say=say) as queues:
                queues.create(database)
                queues.publish(database)
        is_from_service = is_remote(configuration.settings.queue_url)
        if is_from_service:
            _record(database, configuration)
        moving.move(database, redact_url(target) if is_remote(target) else None)
        if is_remote(target):
            with JobQueues(configuration, target, say=say) as queues, SendingDisplay() as display:
                queues.send_unsent(database, display)
        if is_from_service:
            _record(database, configuration)  # of a worker that was started meanwhile
            if is_remote(target):  # what that released
                with JobQueues(configuration, target, say=say) as queues:
                    queues.send_unsent(database)
            with JobQueues(configuration, say=say) as queues:
                queues.delete(database)
            if is_remote(target):  # in a bucket, the control document of both queues is one, which was deleted
                with JobQueues(configuration, target, say=say) as queues:
                    queues.publish(database)
        return counters.by_state(database)[State.PENDING]


def copy(configuration: Configuration, target: str) -> int:
    """Send all pending tasks to another service queue as well; return their number.

    Raises:
        UsageError: The target is not a service queue, or is the job's own queue.
    """
    if not is_remote(target) or redact_url(target) == redact_url(configuration.settings.queue_url):
        raise UsageError("--to must be a service queue other than QUEUE_URL. Nothing was changed.")
    with closing(open_job(configuration)) as database, JobQueues(configuration, target, say=say) as queues:
        queues.create(database)
        return queues.send(database, sending.pending(database))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a job that is to be deleted."""

    tasks: int
    ended: int
    """Tasks that succeeded, failed or were killed."""


def check_delete(configuration: Configuration) -> Contents:
    """Return what would be deleted with the job.

    Raises:
        CommandError: Workers are running.
        LedgerError: There is no ledger, or it cannot be read.
    """
    with closing(open_job(configuration)) as database:
        status = gather(database, time.time())
        workers = database.rows("SELECT process, lease_until FROM worker WHERE ended_at IS NULL")
    if any(until > time.time() and not is_surely_dead(process) for process, until in workers):
        raise CommandError(
            f"Workers are running job {configuration.settings.job_id}. Stop them first (Ctrl-C; "
            f"machines: {poe('stop')}), or add --force. Nothing was deleted."
        )
    return Contents(tasks=status.total, ended=status.ended)


def results_folder(configuration: Configuration) -> Path | None:
    """Return the folder of the job's large results that is deleted with it: the one beside the ledger; None if there is none.

    A folder or bucket that RESULTS_PATH names may have files of other jobs too, so it stays.
    """
    folder = configuration.results_beside_ledger
    is_own = configuration.results_path == str(folder) and configuration.settings.results_path is None
    return folder if is_own and folder.is_dir() and not folder.is_symlink() else None


def delete(configuration: Configuration) -> bool:
    """Delete the service queue, the ledger and the results folder of the job without any check; return whether there was a ledger.

    Raises:
        CommandError: The results folder cannot be deleted.
    """
    if is_remote(configuration.settings.queue_url):
        with JobQueues(configuration, say=say) as queues, _ledger_if_usable(configuration) as database:
            queues.delete(database)
    path = configuration.ledger_path
    existed = path.exists()
    beside = (Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal", "-writer", "-lock", "-holder"))
    for name in (path, set_aside_path(path), *beside):
        name.unlink(missing_ok=True)
    if (folder := results_folder(configuration)) is not None:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise CommandError(
                f"{folder} cannot be deleted: {error.strerror}. The job is deleted; delete the folder."
            ) from error
    return existed


@contextmanager
def _ledger_if_usable(configuration: Configuration) -> Iterator[Database | None]:
    """Provide the ledger, read-only; None if there is none, or it cannot be used."""
    try:
        database = open_job(configuration, read_only=True)
    except LedgerError:
        yield None
    else:
        with closing(database):
            yield database


def rezero(configuration: Configuration) -> None:
    """Have ``poe status`` count inserted and completed tasks from now on, in addition to all of them.

    Raises:
        LedgerError: There is no ledger, or it cannot be written.
    """
    with closing(open_job(configuration)) as database:
        counters.rezero(database, time.time())


def _send(database: Database, configuration: Configuration) -> int:
    with SendingDisplay() as display:
        return send_if_remote(database, configuration, display)


def _refuse_workers(database: Database) -> None:
    workers = database.rows(
        "SELECT process, max(lease_until, seen_at + ?) FROM worker WHERE ended_at IS NULL", (SILENT_SECONDS,)
    )
    if any(until > time.time() and not is_surely_dead(process_of(source)) for source, until in workers):
        raise CommandError(
            f"Workers are running this job. Stop them first; a dead worker counts as running until its lease expires. "
            f"{poe('status')} lists them. Nothing was changed."
        )


def _record(database: Database, configuration: Configuration) -> None:
    """Record all events of the service queue."""
    with JobQueues(configuration, say=say) as queues:
        if not queues.events.exists():
            return
        monitor = Monitor(database, configuration, queues, sends=False)
        while monitor.step():
            pass
        monitor.close()
