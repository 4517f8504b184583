"""Wait for the end of a job."""

import time
from contextlib import closing

from taskfleet.api.monitoring import monitor
from taskfleet.api.queue import open_job
from taskfleet.ledger import counters
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration
from taskfleet.tasks import State

_LEFT = (State.WAITING, State.PENDING, State.RUNNING)


def block_until_empty(configuration: Configuration, interval_seconds: float = 2.0) -> None:
    """Wait until all tasks have ended. With a service queue, record the events of the workers meanwhile, as ``poe monitor`` does.

    Args:
        configuration: The settings.
        interval_seconds: How often the ledger is read.

    Raises:
        LedgerError: There is no ledger, or it cannot be read.
    """
    if is_remote(configuration.settings.queue_url):
        monitor(configuration)
        return
    with closing(open_job(configuration, read_only=True)) as database:
        while any(counters.by_state(database)[state] for state in _LEFT):
            time.sleep(interval_seconds)
