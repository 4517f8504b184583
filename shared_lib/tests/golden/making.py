"""What the golden files are made with: a ledger with a clock, and workers that report to it."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from taskfleet.ledger import insertion, leasing, recording
from taskfleet.ledger.database import create, open_ledger
from taskfleet.messages import events
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.messages.tasks import QueuedTask
from taskfleet.tables.ids import content_ids
from taskfleet.tables.reading import read_batches
from taskfleet.tasks import Finished, Outcome, RetryPolicy
from taskfleet.version import VERSION

from shared_lib.tests.golden.report import report

PROJECT = Path("golden-project")
BASE = 1_790_000_000.0
FAR = 4_000_000_000.0
"""In 2096."""
LEASE_SECONDS = 30.0
BOOT = "00000000-0000-4000-8000-0000000000"
INSERTER = f"{BOOT}0a/4026531836|4242|424242"
POLICY = RetryPolicy(
    retries=dict.fromkeys((Outcome.EXCEPTION, Outcome.LOST, Outcome.RETRY), 2)
    | dict.fromkeys((Outcome.TIMEOUT, Outcome.EXIT, Outcome.MEMORY), 1),
    delay_seconds=10.0,
)
#: What tasks return, of all types, as JSON texts.
VALUES = [
    *("null", "true", "0", "-1", "9223372036854775808", "0.1", "1e+300", "5e-324", '""', '"plain"', "[]", "{}"),
    json.dumps('Žluťoučký kůň 🐎 "quoted" \\ \u2028 \x00 \n', ensure_ascii=False),
    '[1,[2.5,["three",[null]]]]',
    '{"mean":1.5,"n":3,"":"no name","úhel":[1,2]}',
]
DETAILS = {
    Outcome.SUCCEEDED: {"result": "1"},
    Outcome.EXCEPTION: {
        "error": "ValueError: it is wrong\nTraceback (most recent call last):\n  raise ValueError(n)\n"
    },
    Outcome.TIMEOUT: {"error": "Timeout: it ran longer than MAX_RUNTIME_SECONDS=60", "exit_code": -9},
    Outcome.EXIT: {"error": "Exit: SIGSEGV", "exit_code": -11, "output": "last wörds\n"},
    Outcome.MEMORY: {"error": "Memory: it held 2.01 GiB", "exit_code": -9, "peak_memory_mib": 2058.24},
    Outcome.LOST: {"error": "The worker or its machine died"},
    Outcome.RETRY: {"error": "Retry: the data are not there yet"},
    Outcome.INTERRUPTED: {"error": "The worker was stopped"},
}


def write(path, found):
    """Write an object as JSON, each item of its lists on a line of its own."""
    parts = []
    for key, value in found.items():
        items = ",\n".join(f"  {json.dumps(item)}" for item in value) if isinstance(value, list) else ""
        parts.append(f"{json.dumps(key)}: [\n{items}\n]" if items else f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


class Ledger:
    """A ledger in the making, with a clock."""

    def __init__(self, name):
        self.name = name
        self.path = Path(f"{name}.db")
        self.database = create(self.path, job_id=name, project=PROJECT, now=BASE, shared=False)
        self.now = BASE
        self.workers = 0

    def insert(self, data, ids=None):
        self.now += 1
        under_way = insertion.begin(self.database, source="tasks.csv", clock=lambda: self.now)
        under_way.add(ids or content_ids(data), data, ids_are_derived=ids is None, now=self.now)
        return under_way.accept(self.now)

    def worker(self, host="host-a", *, lease_seconds=LEASE_SECONDS, machine=None):
        self.workers += 1
        pid = 1000 + self.workers
        return leasing.register(
            self.database,
            hostname=host,
            process=f"{BOOT}{host[-1] * 2}/4026531836|{pid}|{pid * 100}",
            pid=pid,
            slots=4,
            lease_seconds=lease_seconds,
            now=self.now,
            machine=machine,
        )

    def lease(self, worker_id, most=1, *, skip=0, lease_seconds=LEASE_SECONDS):
        return leasing.lease(self.database, worker_id, most, skip=skip, lease_seconds=lease_seconds, now=self.now)

    def finish(self, worker_id, *finished):
        return leasing.finish(self.database, worker_id, finished, policy=POLICY, now=self.now)

    def reap(self):
        return leasing.reap(self.database, policy=POLICY, now=self.now)

    def try_once(self, outcome, **details):
        """Have a worker lease one task, end its attempt in this way, and end."""
        self.now += 400
        worker_id = self.worker()
        [lease] = self.lease(worker_id)
        result = self.finish(worker_id, ended(self, lease, outcome, **details))
        leasing.end_worker(self.database, worker_id, now=self.now)
        return lease.task_id, bool(result.retry_delay_seconds)

    def fail(self, outcome):
        """Have one task fail for good; return its id."""
        while True:
            task_id, is_tried_again = self.try_once(outcome)
            if not is_tried_again:
                return task_id

    def keep(self, folder, **more):
        """Keep the ledger in one file, with what is read in it."""
        write(
            folder / f"{self.name}.expected.json",
            {"version": VERSION, "job_id": self.name, "now": self.now, **report(self.database), **more},
        )
        assert self.database.value("PRAGMA integrity_check") == "ok"
        self.database.execute("VACUUM INTO ?", (str(folder / self.path.name),))
        self.database.close()
        with closing(open_ledger(folder / self.path.name, job_id=self.name)) as kept:
            kept.execute("PRAGMA journal_mode = WAL")


def canonical(rows):
    """Return rows as the texts that insert_tasks makes of them."""
    return [text for batch in read_batches(rows) for text in batch.encode(lambda _names: None).data]


def ended(ledger, lease, outcome=Outcome.SUCCEEDED, *, seconds=1.5, **details):
    values = {"started_at": ledger.now - seconds, "elapsed_seconds": seconds} | DETAILS[outcome] | details
    return Finished(lease.seq, lease.attempt, int(outcome), **values)


class Reporter:
    """A worker elsewhere that reports in batches of events."""

    def __init__(self, ledger, name, *, machine=None):
        self.ledger = ledger
        self.number = -1
        source = f"worker|{BOOT}{name * 2}/4026531836|{200 + ord(name)}|{ord(name)}00"
        self.worker = Worker(
            source=source,
            hostname=f"höst-{name}",
            pid=200 + ord(name),
            slots=2,
            started_at=ledger.now,
            machine=machine,
            version=VERSION,
        )

    def batch(self, *, ended=(), **fields):
        self.number += 1
        ledger = self.ledger
        return Batch(
            job_id=ledger.name,
            ledger=repr(BASE),
            worker=self.worker,
            number=self.number,
            reported_at=ledger.now,
            ended=[EndedAttempt(*one) for one in ended],
            **fields,
        )

    def report(self, **fields):
        """Report something; it travels as text, as it does through a service."""
        batch = events.unpack(events.pack(self.batch(**fields)))
        return recording.record(self.ledger.database, batch, now=self.ledger.now)


def end(ledger, seq, attempt, outcome=Outcome.SUCCEEDED, retry=None, **details):
    """Return how an attempt ended, and after how many seconds the task is tried again."""
    return ended(ledger, QueuedTask(seq, "", "", attempt), outcome, **details), retry


def in_child(action: Callable[[], None]) -> None:
    """Do something in a process that ends with kill -9; no connection to a ledger may be open here."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
