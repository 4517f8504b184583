"""``poe show_queue``: what is in the queue, by the ledger and by the service."""

import json
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.ledger import counters, inquiry, sending
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.messages import tasks as task_messages
from taskfleet.queues.addresses import is_remote, public
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.queues.transport import Outgoing, Size, Transport
from taskfleet.tasks import JSON, State

EXAMPLES = """\
  poe show_queue
  poe show_queue --json | jq .tasks.ready"""

#: Tasks of a sample message that are shown.
SHOWN = 3
SAMPLE_LEASE_SECONDS = 30.0


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "show_queue",
        "Show how many tasks wait, exactly, by the ledger; and with a queue at a service what that says, and a message from it, which is "
        "put back.",
        EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    settings = configuration.settings
    found: dict[str, JSON] = {"job_id": settings.job_id, "queue_url": public(settings.queue_url)}
    if configuration.ledger_path.exists() or not is_remote(settings.queue_url):
        database = open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
        check_queue(database, configuration)
        found |= _depth(database, is_remote(settings.queue_url))
    if is_remote(settings.queue_url):
        with JobQueues(configuration) as queues:
            queues.require()
            found |= {"tasks": _size(queues.tasks.size()), "events": _size(queues.events.size())}
            found["sample"] = _sample(queues.tasks)
    print(json.dumps(found) if arguments.json else _text(found))
    return 0


def _depth(database: Database, remote: bool) -> dict[str, JSON]:
    counts = counters.by_state(database)
    depth: dict[str, JSON] = {state.word: counts[state] for state in (State.WAITING, State.PENDING, State.RUNNING)}
    if remote:
        depth["unsent"] = sending.count_unsent(database)
    if not remote:
        row = inquiry.one_pending(database)
        depth["sample"] = None if row is None else {"tasks": [{"task_id": row[0], "data": json.loads(row[1])}]}
    return {"ledger": depth} if remote else {"ledger": depth, "sample": depth.pop("sample")}


def _size(size: Size) -> dict[str, JSON]:
    return {"ready": size.ready, "leased": size.leased, "delayed": size.delayed, "is_exact": size.is_exact}


def _sample(transport: Transport) -> JSON:
    """Look at a message and put it back: as a new one if it is new, so that it does not count as one whose worker died."""
    messages = transport.receive(1, wait_seconds=1.0, lease_seconds=SAMPLE_LEASE_SECONDS)
    if not messages:
        return None
    message = messages[0]
    try:
        one = task_messages.unpack(message.body)
    finally:
        if message.deliveries > 1:
            transport.extend([message.receipt], 0)
        else:
            transport.send([Outgoing(message.body)])
            transport.acknowledge([message.receipt])
    tasks: list[JSON] = [
        {"task_id": task.task_id, "attempt": task.attempt, "data": json.loads(task.data)} for task in one.tasks[:SHOWN]
    ]
    return {
        "job_id": one.job_id,
        "tasks_in_message": len(one.tasks),
        "deliveries": message.deliveries,
        "tasks": tasks,
    }


def _text(found: dict[str, JSON]) -> str:
    lines = [f"Job {found['job_id']}, queue {found['queue_url']}"]
    for name, title in (
        ("ledger", "tasks, by the ledger (exact)"),
        ("tasks", "messages of tasks, by the service"),
        ("events", "messages of events, by the service"),
    ):
        sizes = found.get(name)
        if not isinstance(sizes, dict):
            continue
        is_exact = sizes.pop("is_exact", True)
        figures = [f"{'unknown' if n is None else f'{n:,}'} {word}" for word, n in sizes.items()]
        lines += ["", f"{title}{'' if is_exact else ' (about)'}:", f"  {', '.join(figures)}"]
    sample = found.get("sample")
    lines += ["", "a sample, put back:" if sample else "No message is ready."]
    if isinstance(sample, dict):
        if "deliveries" in sample:
            lines.append(
                f"  {sample['tasks_in_message']} tasks in the message, handed out {sample['deliveries'] or '?'} times"
            )
        tasks = sample["tasks"]
        assert isinstance(tasks, list)
        lines += [f"  {json.dumps(task)[:200]}" for task in tasks]
    return "\n".join(lines)
