"""Parse QUEUE_URL: the service and the names of the queues."""

from pathlib import Path
from typing import Any

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import QueueError
from taskfleet.extras import require
from taskfleet.queues.postgresql_errors import redact_address
from taskfleet.queues.transport import Transport
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import EMBEDDED, SERVER

#: Before the name of a manager in the name of its queue. The name in QUEUE_URL never has it, see ``settings.parsers.queue_url``.
OF_MANAGER = "--"
#: The suffix of the queue of a job's events, which is in no name in QUEUE_URL either.
EVENTS = "-events"
_SDKS = {("sqs:", "http"): "botocore", ("pubsub:",): "google.pubsub_v1", ("postgres", SERVER): "psycopg"}
_OWN_SERVER = f"{SERVER}:"


def is_remote(queue_url: str) -> bool:
    """Return whether the tasks are in a service queue, not in the ledger."""
    return EMBEDDED.fullmatch(queue_url) is None


def with_folder(queue_url: str, configuration: Configuration) -> str:
    """Return a queue URL with the folder of the project's server, if it is this server's."""
    return f"{_OWN_SERVER}{configuration.server_folder}" if queue_url == SERVER else queue_url


def is_postgresql(queue_url: str) -> bool:
    """Return whether a queue is in a PostgreSQL database."""
    return queue_url.startswith(("postgres", SERVER))


def open_transport(
    queue_url: str,
    job_id: str,
    *,
    of_events: bool = False,
    manager: str = "",
    outages: Outages | None = None,
    patience_seconds: float = 60.0,
) -> Transport:
    """Open a job's queue of tasks, or of events, without a call to the service.

    Args:
        queue_url: QUEUE_URL, see ``with_folder``.
        job_id: The job, which names the queues in a PostgreSQL database.
        of_events: Whether to open the queue of events.
        manager: Open the queue of the tasks of this manager; empty for the default one.
        outages: Observes the calls.
        patience_seconds: How long a call is repeated while the service is unavailable, unless ``outages`` says otherwise.

    Raises:
        QueueError: The address is not valid.
        MissingPackageError: The package for the service is not installed.
    """
    require(sdk_of(queue_url), f"QUEUE_URL={redact_url(queue_url)}")
    options: dict[str, Any] = {"outages": outages, "patience_seconds": patience_seconds}
    if is_postgresql(queue_url):
        part = "events" if of_events else manager
        name = f"{job_id}/{part}" if part else job_id  # no JOB_ID has "/"
        if queue_url.startswith(_OWN_SERVER):
            from taskfleet.queues.own_server import OwnServerTransport

            return OwnServerTransport(Path(queue_url.removeprefix(_OWN_SERVER)), name, **options)
        from taskfleet.queues.postgresql import PostgresqlTransport

        return PostgresqlTransport(queue_url, name, **options)
    address = with_suffix(queue_url, EVENTS if of_events else f"{OF_MANAGER}{manager}" if manager else "")
    if queue_url.startswith("pubsub:"):
        from taskfleet.queues.pubsub import PubSubTransport

        return PubSubTransport(address, **options)
    from taskfleet.queues.sqs import SqsTransport

    return SqsTransport(address, **options)


def sdk_of(queue_url: str) -> str:
    """Return the module that a queue service needs, one of ``extras.OPTIONAL_PACKAGES``.

    Raises:
        QueueError: The address is wrong.
    """
    for schemes, module in _SDKS.items():
        if queue_url.startswith(schemes):
            return module
    raise QueueError(f"{queue_url} is not a valid queue URL.")


def redact_url(queue_url: str) -> str:
    """Return a queue URL without its password, or the folder of the project's server."""
    if queue_url.startswith(_OWN_SERVER):
        return SERVER
    return redact_address(queue_url) if queue_url.startswith("postgres") else queue_url


def with_suffix(address: str, suffix: str) -> str:
    """Return the address of the queue whose name has a suffix, at SQS or Pub/Sub."""
    name, mark, query = address.partition("?")
    return f"{name.rstrip('/')}{suffix}{mark}{query}"
