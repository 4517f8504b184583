"""The part of ``poe launch_worker`` that works on a queue at a service; it needs no ledger."""

import os
import time
from collections.abc import Sequence

from taskfleet.commands.guard import INTERRUPTED
from taskfleet.ledger.database import open_ledger
from taskfleet.messages.events import Worker
from taskfleet.processes.identity import available_slots, hostname, machine
from taskfleet.queues.addresses import open_transport
from taskfleet.queues.embedded import retry_policy
from taskfleet.queues.job import JobQueues, check_queue, source_name
from taskfleet.queues.remote import RemoteQueue
from taskfleet.settings import Configuration
from taskfleet.watch.own_progress import OwnProgress
from taskfleet.worker.running import make_config, supervise

#: What a message of events needs beside a result.
EVENT_ROOM_BYTES = 64 << 10


def work_remotely(configuration: Configuration, own: Sequence[str]) -> int:
    """Work until the queue is empty; 0 when the worker came to its end, 130 when it was stopped."""
    settings = configuration.settings
    if configuration.ledger_path.exists():  # none is needed, but if it is here it knows
        database = open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
        check_queue(database, configuration)
        database.close()
    with JobQueues(configuration) as queues:
        queues.require()
        most_bytes = queues.events.most_message_bytes - EVENT_ROOM_BYTES
    slots = settings.slots or available_slots()
    now = time.time()
    progress = OwnProgress(every_seconds=settings.progress_seconds, verbose=settings.verbose, now=now)
    queue = RemoteQueue(
        lambda: open_transport(settings.queue_url, settings.job_id),
        lambda: open_transport(settings.queue_url, settings.job_id, of_events=True),
        job_id=settings.job_id,
        worker=Worker(
            source=source_name(), hostname=hostname(), pid=os.getpid(), slots=slots, started_at=now, machine=machine()
        ),
        policy=retry_policy(settings),
        lease_seconds=settings.lease_seconds,
        idle_seconds=settings.idle_seconds,
        say=progress.say,
    )
    config = make_config(configuration, slots=slots, args=own, most_result_bytes=most_bytes)
    was_stopped = supervise(configuration, queue, progress, config)
    print(f"{progress.report(time.time())}\n\nNext: poe monitor   (where the ledger is)")
    return INTERRUPTED if was_stopped else 0
