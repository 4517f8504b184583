"""Makes ``messages.json``."""

import json
from dataclasses import asdict, replace
from functools import partial

from taskfleet.messages import events, tasks
from taskfleet.messages.chains import Chain, ChainTask
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.tasks import Outcome, WorkerEnd
from taskfleet.version import VERSION

from shared_lib.tests.golden.making import BASE, DETAILS, VALUES, Ledger, Reporter, end


def messages():
    """Messages as they travel, with what this version reads in them."""
    return {
        "version": VERSION,
        "tasks": [packed(name, one, tasks) for name, one in task_messages()],
        "events": [packed(name, one, events) for name, one in event_messages()],
    }


def packed(name, one, module):
    body = module.pack(one)
    return {"name": name, "body": body, "means": asdict(module.unpack(body))}


def task_messages():
    one = QueuedTask(7, "seven", '{"n":7}')
    tried = one.after(4, Outcome.EXCEPTION, 2).after(5, Outcome.LOST)
    message = partial(TaskMessage, job_id="golden", ledger=repr(BASE))
    yield "one task", message(tasks=[one])
    yield "several", message(tasks=[QueuedTask(n, f"t{n}", json.dumps({"n": n}), 1, ((5, 1),)) for n in range(1, 11)])
    yield "after attempts", message(tasks=[tried])
    counts = tuple((int(outcome), 3) for outcome in Outcome if outcome)
    yield "after every outcome", message(tasks=[QueuedTask(8, "eight", "{}", 9, counts)])
    yield "not before", message(tasks=[tried], not_before=BASE + 86_400.5)
    yield "claimed", message(tasks=[one, tried], claimed_by="worker|x|1", claimed_until=BASE + 3600)
    yield "other scripts", message(tasks=[QueuedTask(9, "Žluťoučký 🐎", '{"ž":"🐎","lines":"\u2028\u2029\x85"}')])
    yield "what XML cannot carry", message(tasks=[QueuedTask(10, "\ufffe", '{"x":"\ufffe\uffff\ud800"}')])
    of_graph = tried._replace(function="task:add")
    yield "tasks of a graph", message(tasks=[one, of_graph])
    below = ChainTask(12, "below", "task:add", '{"x":{"$task":"seven"},"text":"\\"Ž\\\\"}')
    yield "a task with a chain", message(tasks=[of_graph._replace(chain=Chain(3, (below, below._replace(seq=13))))])
    yield "great numbers", message(tasks=[QueuedTask(2**53 + 1, "great", '{"n":1208925819614629174706176}', 999)])


def event_messages():
    ledger = Ledger("golden")
    plain, on_machine = Reporter(ledger, "a"), Reporter(ledger, "b", machine="i-00000000000000001")
    yield "heartbeat", replace(plain.batch(), ledger="")
    yield "leased and returned", plain.batch(leased=[(1, 1), (2, 1), (2**40, 999)], returned=[(2, 1)])
    for outcome in DETAILS:
        for delay in (None,) if outcome is Outcome.SUCCEEDED else (None, 0.0, 12.5):
            details = {"retry_delay_seconds": delay} if outcome is Outcome.RETRY else {}
            yield (
                f"{outcome.word}, next after {delay}",
                plain.batch(ended=[end(ledger, 3, 2, outcome, delay, **details)]),
            )
    yield "of a machine", on_machine.batch(ended=[end(ledger, 4, 1, output="✓\n", peak_memory_mib=9.5)])
    yield "results of all types", plain.batch(ended=[end(ledger, n, 1, result=text) for n, text in enumerate(VALUES)])
    yield "a task of a chain was sent", replace(plain.batch(ended=[end(ledger, 3, 2)]), continued=[(12, 3)])
    for reason in WorkerEnd:
        yield f"the end: {reason}", plain.batch(end_reason=reason)
    ledger.database.close()
