"""Recording the events that remote workers report."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing

from taskfleet.errors import UsageError
from taskfleet.invocation import poe
from taskfleet.ledger import sending
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues
from taskfleet.settings import Configuration
from taskfleet.tasks import JSON
from taskfleet.watch.bar import say
from taskfleet.watch.monitor import Monitor
from taskfleet.watch.sending import SendingDisplay
from taskfleet.watch.status import Status, gather


def monitor(
    configuration: Configuration,
    *,
    auto_complete: bool = True,
    on_event: Callable[[Mapping[str, JSON]], None] | None = None,
) -> Status:
    """Record events from the service queue in the ledger, until all tasks are done; progress goes to standard error.

    It can be interrupted and started again at any time, also on another machine with the ledger: events are recorded once. Tasks that an
    interrupted command did not send are sent first.

    Args:
        configuration: The settings.
        auto_complete: Whether to return when all tasks are done.
        on_event: Called with each event after it is recorded.

    Raises:
        UsageError: The tasks are in the ledger itself, where workers record what they do.
        QueueError: The queue does not exist.
    """
    settings = configuration.settings
    if not is_remote(settings.queue_url):
        raise UsageError(
            "This job has no event queue (QUEUE_URL=ledger): workers write to the ledger directly. "
            f"Use {poe('status --watch')}."
        )
    with closing(
        open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
    ) as database:
        with JobQueues(configuration, say=say) as queues:
            queues.require()
            if sending.is_abandoned(database):
                with SendingDisplay() as display:
                    queues.send_unsent(database, display)
            recorder = Monitor(database, configuration, queues, on_event=on_event)
            try:
                recorder.run(auto_complete=auto_complete)
            finally:
                recorder.close()
        return gather(database, time.time())
