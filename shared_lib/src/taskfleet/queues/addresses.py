"""What QUEUE_URL means: which service, and which queues there."""

from taskfleet.errors import QueueError
from taskfleet.extras import require
from taskfleet.queues.postgresql_faults import shown
from taskfleet.queues.transport import Transport
from taskfleet.settings.parsers import EMBEDDED

#: What the queue of a job's events is called, beside that of its tasks.
EVENTS = "-events"
_SDKS = {("sqs:", "http"): "botocore", ("pubsub:",): "google.pubsub_v1", ("postgres",): "psycopg"}


def is_remote(queue_url: str) -> bool:
    """Whether the tasks travel by a service, instead of waiting in the ledger."""
    return EMBEDDED.fullmatch(queue_url) is None


def open_transport(queue_url: str, job_id: str, *, of_events: bool = False) -> Transport:
    """Open a job's queue of tasks, or of events. Nothing is asked of the service yet.

    Args:
        queue_url: QUEUE_URL.
        job_id: The job, whose name the queues have in a PostgreSQL database.
        of_events: Which of them.

    Raises:
        QueueError: The address is wrong.
        MissingPackageError: The package for the service is not installed.
    """
    require(sdk_of(queue_url), f"QUEUE_URL={public(queue_url)}")
    suffix = EVENTS if of_events else ""
    if queue_url.startswith("postgres"):
        from taskfleet.queues.postgresql import PostgresqlTransport

        return PostgresqlTransport(queue_url, f"{job_id}{suffix}")
    address = _with_suffix(queue_url, suffix)
    if queue_url.startswith("pubsub:"):
        from taskfleet.queues.pubsub import PubSubTransport

        return PubSubTransport(address)
    from taskfleet.queues.sqs import SqsTransport

    return SqsTransport(address)


def sdk_of(queue_url: str) -> str:
    """Return the module that a queue service needs, one of ``extras.OPTIONAL_PACKAGES``.

    Raises:
        QueueError: The address is wrong.
    """
    for schemes, module in _SDKS.items():
        if queue_url.startswith(schemes):
            return module
    raise QueueError(f"{queue_url} is not a valid queue URL.")


def public(queue_url: str) -> str:
    """Give an address without a password, as it may be shown and kept."""
    return shown(queue_url) if queue_url.startswith("postgres") else queue_url


def _with_suffix(address: str, suffix: str) -> str:
    name, mark, query = address.partition("?")
    return f"{name.rstrip('/')}{suffix}{mark}{query}"
