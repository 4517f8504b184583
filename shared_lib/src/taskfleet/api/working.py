"""Run the tasks of a job on the CPUs of this machine."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskfleet.api.queue import open_job, require_tasks
from taskfleet.clouds.retrying import Outages
from taskfleet.errors import QueueError, SettingsError
from taskfleet.ledger import calls, managers
from taskfleet.ledger.database import Database
from taskfleet.machines.facts import machine_here
from taskfleet.messages.events import Worker
from taskfleet.processes.identity import available_slots, hostname
from taskfleet.queues.addresses import is_remote, open_transport, with_folder
from taskfleet.queues.embedded import EmbeddedQueue, retry_policy
from taskfleet.queues.job import source_name
from taskfleet.queues.transport import Transport
from taskfleet.settings import Configuration
from taskfleet.tasks import RetryPolicy
from taskfleet.version import VERSION
from taskfleet.watch.bar import say
from taskfleet.watch.own_progress import OwnProgress
from taskfleet.watch.progress import Progress
from taskfleet.watch.status import Status, gather
from taskfleet.watch.text import final_report
from taskfleet.worker.hooks import Hooks
from taskfleet.worker.running import make_config, supervise

#: The maximum size of a message of events without its result.
EVENT_ROOM_BYTES = 64 << 10
#: How long a worker repeats one call, during which it does not renew leases.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """How a worker ended."""

    was_stopped: bool
    """Whether a signal or a termination notice ended it."""
    status: Status | None
    """The job's status; None with a service queue, because the worker has no ledger."""
    text: str
    """The report as text."""


def work(
    configuration: Configuration,
    args: Sequence[str] = (),
    *,
    hooks: Hooks | None = None,
    changes: Mapping[str, Any] | None = None,
    shows_progress: bool = True,
) -> WorkReport:
    """Run a worker in this process until no tasks are left or it is stopped. Progress goes to standard error.

    Args:
        configuration: The settings of the manager whose tasks are run.
        args: The value of ``context.args`` in tasks.
        hooks: Functions to call around tasks.
        changes: Fields of ``WorkerConfig`` with other values than the settings give them.
        shows_progress: Whether to show the progress of the job, with the embedded queue, and not only messages.

    Raises:
        LedgerError: There is no ledger of the job, or it cannot be used.
        CommandError: No tasks are inserted, and KEEP_WAITING is not set.
        QueueError: The service queue does not exist, or another one holds the tasks.
        FunctionError: The task function cannot be loaded.
    """
    if is_remote(configuration.settings.queue_url):
        return _work_on_service_queue(configuration, args, hooks, changes)
    return _work_on_ledger(configuration, args, hooks, changes, shows_progress)


def _work_on_ledger(
    configuration: Configuration,
    args: Sequence[str],
    hooks: Hooks | None,
    changes: Mapping[str, Any] | None,
    shows_progress: bool,
) -> WorkReport:
    settings = configuration.settings
    database = open_job(configuration)
    if not settings.keep_waiting:
        require_tasks(database, settings.job_id)
    slots = settings.slots or available_slots()
    queue = EmbeddedQueue(
        database,
        settings,
        slots=slots,
        now=time.time(),
        manager=configuration.manager,
        policies=_policies(configuration, database),
    )
    progress = Progress(
        database,
        every_seconds=settings.progress_seconds,
        verbose=settings.verbose,
        shows_progress=shows_progress,
    )
    changes = {
        "graph_functions": calls.known_functions(database, managers.number_of(database, configuration.manager)),
        "may_have_graph": bool(managers.names(database)),
        **(changes or {}),
    }
    config = make_config(configuration, slots=slots, args=args, changes=changes)
    was_stopped = supervise(configuration, queue, progress, config, hooks)
    now = time.time()
    status = gather(database, now)
    database.close()
    return WorkReport(was_stopped=was_stopped, status=status, text=final_report(status, now))


def _policies(configuration: Configuration, database: Database) -> dict[int, RetryPolicy]:
    """Return the retry policies of the managers of the job, by their numbers, without those whose files are missing."""
    found = {}
    for number, name in {0: "", **managers.names(database)}.items():
        with suppress(SettingsError):
            found[number] = retry_policy(configuration.of_manager(name).settings)
    return found


def _open_queue(configuration: Configuration, outages: Outages, *, of_events: bool) -> Transport:
    """Open a queue for a worker."""
    settings = configuration.settings
    return open_transport(
        with_folder(settings.queue_url, configuration),
        settings.job_id,
        of_events=of_events,
        manager=configuration.manager,
        outages=outages,
        patience_seconds=min(PATIENCE_SECONDS, max(settings.lease_seconds / 3, 2.0)),
    )


def _work_on_service_queue(
    configuration: Configuration, args: Sequence[str], hooks: Hooks | None, changes: Mapping[str, Any] | None
) -> WorkReport:
    """Work without the ledger, which may be on another machine."""
    from taskfleet.queues.control_channels import open_channel
    from taskfleet.queues.job import JobQueues
    from taskfleet.queues.remote import RemoteQueue
    from taskfleet.queues.set_aside import set_aside_path

    settings = configuration.settings
    with JobQueues(configuration, say=say) as queues:
        try:
            queues.require()
        except QueueError:
            if (
                configuration.ledger_path.exists()
            ):  # it is not needed, but if it is here it may know that they were moved
                open_job(configuration).close()
            raise
        most_bytes = queues.events.most_message_bytes - EVENT_ROOM_BYTES
        most_message_bytes = queues.tasks.most_message_bytes
    slots = settings.slots or available_slots()
    now = time.time()
    progress = OwnProgress(every_seconds=settings.progress_seconds, verbose=settings.verbose, now=now)
    queue = RemoteQueue(
        partial(_open_queue, configuration, of_events=False),
        partial(_open_queue, configuration, of_events=True),
        job_id=settings.job_id,
        worker=Worker(
            source=source_name(),
            hostname=hostname(),
            pid=os.getpid(),
            slots=slots,
            started_at=now,
            machine=machine_here(os.environ),
            version=VERSION,
            manager=configuration.manager,
        ),
        policy=retry_policy(settings),
        lease_seconds=settings.lease_seconds,
        idle_seconds=settings.idle_seconds,
        most_message_bytes=most_message_bytes,
        set_aside=set_aside_path(configuration.ledger_path),
        say=progress.say,
        open_control=partial(open_channel, configuration, patience_seconds=PATIENCE_SECONDS),
    )
    # the worker learns the functions of a graph from its tasks only; if TASK_FUNCTION is set, it is required
    changes = {"may_have_graph": "TASK_FUNCTION" not in configuration.places, **(changes or {})}
    config = make_config(configuration, slots=slots, args=args, most_result_bytes=most_bytes, changes=changes)
    was_stopped = supervise(configuration, queue, progress, config, hooks)
    return WorkReport(
        was_stopped=was_stopped,
        status=None,
        text=progress.report(time.time()),
    )
