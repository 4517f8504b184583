"""What QUEUE_URL means: which service, and which queues there."""

from taskfleet.errors import QueueError
from taskfleet.queues.postgresql_faults import redact_address
from taskfleet.queues.transport import Transport
from taskfleet.settings.parsers import EMBEDDED

#: What the queue of a job's events is called, beside that of its tasks.
EVENTS = "-events"


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
    """
    suffix = EVENTS if of_events else ""
    if queue_url.startswith("postgres"):
        from taskfleet.queues.postgresql import PostgresqlTransport

        return PostgresqlTransport(queue_url, f"{job_id}{suffix}")
    address = _with_suffix(queue_url, suffix)
    if queue_url.startswith("pubsub:"):
        from taskfleet.queues.pubsub import PubSubTransport

        return PubSubTransport(address)
    if queue_url.startswith(("sqs:", "http")):
        from taskfleet.queues.sqs import SqsTransport

        return SqsTransport(address)
    raise QueueError(f"{queue_url} is no address of a queue at a service.")


def redact_url(queue_url: str) -> str:
    """Give an address without a password, as it may be redact_address and kept."""
    return redact_address(queue_url) if queue_url.startswith("postgres") else queue_url


def _with_suffix(address: str, suffix: str) -> str:
    name, mark, query = address.partition("?")
    return f"{name.rstrip('/')}{suffix}{mark}{query}"
