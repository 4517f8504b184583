"""The queues that a chaos run may go over, with bad weather in them: each is started once and serves all runs side by side."""

import random
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from shared_lib.tests.queues.services.postgresql import PostgresqlService
from shared_lib.tests.queues.services.pubsub import PubSubService
from shared_lib.tests.queues.services.sqs import SqsService

SERVICES = {"sqs": SqsService, "pubsub": PubSubService, "postgresql": PostgresqlService}
LEDGER = "ledger"
#: All of them, and the ledger, between which the tasks move.
MOVES = "moves"
PLACES = (LEDGER, *SERVICES)
NAMES = (*PLACES, MOVES)

#: What goes wrong all the time: (action, kind, share of the requests, more about it).
_WEATHER = {
    "sqs": (
        ("(each message)", "duplicate", 0.05, {}),
        ("(each message)", "late", 0.1, {}),
        ("*", "lost", 0.02, {}),
        ("SendMessageBatch", "partial", 0.05, {}),
        ("DeleteMessageBatch", "lost", 0.05, {}),
        ("ReceiveMessage", "lost", 0.03, {}),
        ("*", "error", 0.02, {"code": "RequestThrottled", "status": 403, "message": "Request is throttled."}),
    ),
    "pubsub": (
        ("(each message)", "duplicate", 0.05, {}),
        ("(each message)", "late", 0.1, {}),
        ("*", "lost", 0.02, {}),
        ("Acknowledge", "lost", 0.05, {}),
        ("Pull", "lost", 0.03, {}),
        ("*", "error", 0.02, {"code": "UNAVAILABLE"}),
    ),
    "postgresql": (),
}


@contextmanager
def running(name):
    """Start a queue for the runs, None for the ledger alone; FileNotFoundError if it is not installed."""
    if name == LEDGER:
        yield None
        return
    if name == MOVES:
        with ExitStack() as stack:
            yield {one: stack.enter_context(running(one)) for one in SERVICES}
        return
    service = SERVICES[name]()
    service.start()
    try:
        for action, kind, share, details in _WEATHER[name]:
            service.fault(action, kind, times=None, share=share, **details)
        yield service
    finally:
        service.stop()


class Place:
    """Where the tasks of a job are: one of the services, or the ledger.

    Args:
        services: By name.
        name: Where they are at first.
    """

    def __init__(self, services, name):
        self._services = services
        self.name = name

    @property
    def service(self):
        """The service; None for the ledger."""
        return self._services.get(self.name)

    def environment(self):
        """Of all services, as a job that moves needs."""
        return {key: value for one in self._services.values() for key, value in one.environment().items()}

    def queue_url(self, job_id, name=None):
        """Give the QUEUE_URL, there or elsewhere."""
        service = self._services.get(name or self.name)
        return LEDGER if service is None else service.queue_url(job_id)

    def follow(self, queue_url):
        """Go where the ledger says that the tasks are."""
        schemes = {"sqs": "sqs:", "pubsub": "pubsub:", "postgresql": "postgresql:"}
        self.name = next((name for name, scheme in schemes.items() if (queue_url or "").startswith(scheme)), LEDGER)


def is_postgresql(service):
    """Whether its connections can be broken."""
    return isinstance(service, PostgresqlService)


def break_connections(service, seed):
    """Have PostgreSQL end about half of all connections, whatever they are doing."""
    chance = random.Random(seed)
    with suppress(psycopg.Error), service.connect() as connection:
        pids = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchall()
        for (pid,) in pids:
            if chance.random() < 0.5:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
