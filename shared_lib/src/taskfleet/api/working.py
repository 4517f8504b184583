"""Run the tasks of a job on the CPUs of this machine."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet.api.queue import open_job, require_tasks
from taskfleet.errors import QueueError
from taskfleet.ledger.database import open_ledger
from taskfleet.messages.events import Worker
from taskfleet.processes.identity import available_slots, hostname, machine
from taskfleet.queues.addresses import is_remote, open_transport
from taskfleet.queues.embedded import EmbeddedQueue, retry_policy
from taskfleet.queues.job import check_queue, source_name
from taskfleet.settings import Configuration
from taskfleet.version import VERSION
from taskfleet.watch.own_progress import OwnProgress
from taskfleet.watch.progress import Progress
from taskfleet.watch.status import Status, gather
from taskfleet.watch.text import final_report
from taskfleet.worker.running import make_config, supervise

#: The maximum size of a message of events without its result.
EVENT_ROOM_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """How a worker ended."""

    was_stopped: bool
    """Whether a signal or a termination notice ended it."""
    status: Status | None
    """The job's status; None with a service queue, because the worker has no ledger."""
    text: str
    """The report as text."""


def work(configuration: Configuration, args: Sequence[str] = ()) -> WorkReport:
    """Run a worker in this process until no tasks are left or it is stopped. Progress goes to standard error.

    Args:
        configuration: The settings.
        args: The value of ``context.args`` in tasks.

    Raises:
        LedgerError: There is no ledger of the job, or it cannot be used.
        CommandError: No tasks are inserted, and KEEP_WAITING is not set.
        QueueError: The service queue does not exist, or another one holds the tasks.
        FunctionError: The task function cannot be loaded.
    """
    if is_remote(configuration.settings.queue_url):
        return _work_on_service_queue(configuration, args)
    return _work_on_ledger(configuration, args)


def _work_on_ledger(configuration: Configuration, args: Sequence[str]) -> WorkReport:
    settings = configuration.settings
    database = open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
    check_queue(database, configuration)
    if not settings.keep_waiting:
        require_tasks(database, settings.job_id)
    slots = settings.slots or available_slots()
    queue = EmbeddedQueue(database, settings, slots=slots, now=time.time())
    progress = Progress(database, every_seconds=settings.progress_seconds, verbose=settings.verbose)
    was_stopped = supervise(configuration, queue, progress, make_config(configuration, slots=slots, args=args))
    now = time.time()
    status = gather(database, now)
    database.close()
    return WorkReport(was_stopped=was_stopped, status=status, text=final_report(status, now))


def _work_on_service_queue(configuration: Configuration, args: Sequence[str]) -> WorkReport:
    """Work without the ledger, which may be on another machine."""
    from taskfleet.queues.job import JobQueues
    from taskfleet.queues.remote import RemoteQueue

    settings = configuration.settings
    with JobQueues(configuration) as queues:
        try:
            queues.require()
        except QueueError:
            if (
                configuration.ledger_path.exists()
            ):  # it is not needed, but if it is here it may know that they were moved
                open_job(configuration).close()
            raise
        most_bytes = queues.events.most_message_bytes - EVENT_ROOM_BYTES
    slots = settings.slots or available_slots()
    now = time.time()
    progress = OwnProgress(every_seconds=settings.progress_seconds, verbose=settings.verbose, now=now)
    queue = RemoteQueue(
        lambda: open_transport(settings.queue_url, settings.job_id),
        lambda: open_transport(settings.queue_url, settings.job_id, of_events=True),
        job_id=settings.job_id,
        worker=Worker(
            source=source_name(),
            hostname=hostname(),
            pid=os.getpid(),
            slots=slots,
            started_at=now,
            machine=machine(),
            version=VERSION,
        ),
        policy=retry_policy(settings),
        lease_seconds=settings.lease_seconds,
        idle_seconds=settings.idle_seconds,
        say=progress.say,
    )
    config = make_config(configuration, slots=slots, args=args, most_result_bytes=most_bytes)
    was_stopped = supervise(configuration, queue, progress, config)
    return WorkReport(
        was_stopped=was_stopped,
        status=None,
        text=progress.report(time.time()),
    )
