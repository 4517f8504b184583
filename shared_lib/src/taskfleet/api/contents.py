"""Read the contents of a job's queue from the ledger and the service."""

import json
from collections.abc import Mapping

from taskfleet.api.queue import open_job
from taskfleet.ledger import counters, managers, queries, sending
from taskfleet.ledger.database import Database
from taskfleet.ledger.stored_json import read_data
from taskfleet.messages import tasks as task_messages
from taskfleet.messages.formats import ForeignMessageError, MisdirectedMessageError
from taskfleet.queues.addresses import is_remote, redact_url
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.queues.transport import Outgoing, Size, Transport
from taskfleet.settings import Configuration
from taskfleet.tasks import JSON, State

#: Tasks of a sample message that are returned.
SAMPLE_TASKS = 3
SAMPLE_LEASE_SECONDS = 30.0
#: The command shows the state at this moment, so it does not wait for a service that is not available.
PATIENCE_SECONDS = 5.0


def contents(configuration: Configuration) -> Mapping[str, JSON]:
    """Return the object that ``poe show_queue --json`` prints: numbers of tasks and messages, and a sample that is put back.

    Raises:
        LedgerError: There is no ledger and no service queue, or the ledger cannot be used.
        QueueError: The service queue does not exist, or another one holds the tasks.
    """
    settings = configuration.settings
    is_service = is_remote(settings.queue_url)
    found: dict[str, JSON] = {"job_id": settings.job_id, "queue_url": redact_url(settings.queue_url)}
    names: list[str] = []
    if configuration.ledger_path.exists() or not is_service:
        database = open_job(configuration, read_only=True)
        check_queue(database, configuration)
        found |= _by_ledger(database, is_service)
        names = list(managers.names(database).values())
        database.close()
    if is_service:
        with JobQueues(configuration, waits=False, patience_seconds=PATIENCE_SECONDS) as queues:
            queues.require()
            found |= {"tasks": _size(queues.tasks.size()), "events": _size(queues.events.size())}
            found["managers"] = {name: _size(queues.of_manager(name).size()) for name in names}
            found["sample"] = _sample(queues.tasks)
    return found


def _by_ledger(database: Database, is_service: bool) -> dict[str, JSON]:
    counts = counters.by_state(database)
    depth: dict[str, JSON] = {state.word: counts[state] for state in (State.WAITING, State.PENDING, State.RUNNING)}
    if is_service:
        return {"ledger": depth | {"unsent": sending.count_unsent(database)}}
    row = queries.one_pending(database)
    sample: JSON = None if row is None else {"tasks": [{"task_id": row[0], "data": read_data(row[1], row[0])}]}
    return {"ledger": depth, "sample": sample}


def _size(size: Size) -> dict[str, JSON]:
    return {"ready": size.ready, "leased": size.leased, "delayed": size.delayed, "is_exact": size.is_exact}


def _sample(transport: Transport) -> JSON:
    """Return the tasks of a message, and put it back.

    After its first delivery it is sent as a new message: a second delivery means that a worker died.
    """
    messages = transport.receive(1, wait_seconds=1.0, lease_seconds=SAMPLE_LEASE_SECONDS)
    if not messages:
        return None
    message = messages[0]
    try:
        one = task_messages.unpack(message.body)
    except (ForeignMessageError, MisdirectedMessageError) as error:
        transport.extend([message.receipt], 0)
        return {"error": str(error), "deliveries": message.deliveries}
    if message.deliveries > 1:
        transport.extend([message.receipt], 0)
    else:
        transport.send([Outgoing(message.body)])
        transport.acknowledge([message.receipt])
    tasks: list[JSON] = [
        {"task_id": task.task_id, "attempt": task.attempt, "data": json.loads(task.data)}
        for task in one.tasks[:SAMPLE_TASKS]
    ]
    return {
        "job_id": one.job_id,
        "tasks_in_message": len(one.tasks),
        "deliveries": message.deliveries,
        "tasks": tasks,
    }
