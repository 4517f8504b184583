"""Makes the golden files of the current version of the library: ``uv run python -m shared_lib.tests.golden.make EMPTY_FOLDER``.

Run it when a version is released, move what it made to the folder of that version, and never make that again. All hosts, accounts and times
are made up. Everything is written by the library's own functions.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from taskfleet.ledger import inquiry, insertion, leasing, moving, recording, repair, sending
from taskfleet.ledger.database import create, open_ledger
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.machines import EndReason, LaunchRequest, Machine, MachineState
from taskfleet.messages import events, tasks
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.pool import control, records, updates
from taskfleet.pool.records import End
from taskfleet.tables import content_ids, read_batches
from taskfleet.tasks import NO_RETRY, Finished, Outcome, RetryPolicy, State, WorkerEnd
from taskfleet.version import VERSION

from shared_lib.tests.golden.report import report, report_pool
from shared_lib.tests.machines.contract import offer

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


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: golden files are never made again.")
    insertion.identity = sending.identity = lambda: INSERTER
    folder = folder.resolve()
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        os.chdir(work)
        for make in (make_embedded, make_interrupted, make_remote, make_pool):
            make(folder)
        write(folder / "messages.json", messages())
        os.chdir(folder)


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


# --- embedded.db ---


def make_embedded(folder):
    ledger = Ledger("embedded")
    database = ledger.database
    alike = [{"n": -1, "text": "three alike"}, {"n": -2, "text": "two alike"}]
    rows = [{"n": n, "text": text, "share": n / 7, "nothing": None} for n, text in enumerate(["ž🐎", 'a "', *"abcdef"])]
    rows += [{"n": 2**70, "state": "as a column", "result_x": [1, {"deep": True}]}, *alike, *alike, alike[0]]
    first = canonical([*rows, *({"more": n} for n in range(26))])
    assert ledger.insert(first).identical == 3
    worker = ledger.worker()
    leases = ledger.lease(worker, len(VALUES))
    ledger.now += 5
    for index, (lease, value) in enumerate(zip(leases, VALUES, strict=True)):
        ledger.finish(
            worker, ended(ledger, lease, result=value, seconds=0.001 * 3**index, output="✓\n" if index else None)
        )
    assert ledger.finish(worker, ended(ledger, leases[0])).duplicates
    kinds = (Outcome.EXCEPTION, Outcome.TIMEOUT, Outcome.EXIT, Outcome.MEMORY, Outcome.RETRY)
    failed = {kind: ledger.fail(kind) for kind in kinds}
    ledger.try_once(Outcome.EXCEPTION, error="Fail: never again", retry_delay_seconds=NO_RETRY)
    for _ in range(4):  # the first loss is free
        ledger.lease(ledger.worker("host-b"))
        ledger.now += 60
        assert ledger.reap() == 1
    for outcome in (Outcome.EXCEPTION, Outcome.INTERRUPTED, Outcome.RETRY, Outcome.EXIT, Outcome.SUCCEEDED):
        ledger.try_once(outcome)  # one task
    running = ledger.lease(worker := ledger.worker(), 1)
    assert repair.purge(database) > 3
    ledger.finish(worker, ended(ledger, running[0]))
    killed = [line.task_id for line in inquiry.list_tasks(database, state=State.KILLED)]
    assert repair.retry(database, ids=[*killed[:2], "no such task", failed[Outcome.TIMEOUT]]) == 3
    ids = ["alpha", "beta ž", "a task with spaces", *(f"given-{n}" for n in range(8))]
    ledger.insert(canonical([{"name": one} for one in ids]), ids)
    second = [first[0], *canonical([alike[0]] * 4), *canonical([{"n": 100}, {"n": 100}, {"n": 101}]), first[1]]
    assert ledger.insert(second).identical == 4
    insert_few(
        database, ["few-1", "few-2", "alpha"], [*canonical([{"few": 1}, {"few": 2}]), canonical([{"name": "alpha"}])[0]]
    )
    # Tasks in every state that is not an end.
    ledger.lease(ledger.worker(), 3)
    far = ledger.worker("host-c", lease_seconds=FAR - ledger.now)
    ledger.lease(far, 2, lease_seconds=FAR - ledger.now)
    worker = ledger.worker()
    for delay in (None, 86_400.0):
        [lease] = ledger.lease(worker)
        ledger.finish(worker, ended(ledger, lease, Outcome.EXCEPTION, retry_delay_seconds=delay))
    leases = ledger.lease(worker, 2, skip=database.value("SELECT max(last_seq) FROM segment") - 3)
    ledger.finish(worker, ended(ledger, leases[0]))
    leasing.give_back(database, worker, leases[1:])
    leasing.end_worker(database, worker, now=ledger.now, reason="preempted")
    ledger.now += 60
    ledger.keep(folder, derived_tables=[first, second])


# --- interrupted.db ---


def make_interrupted(folder):
    ledger = Ledger("interrupted")
    known = canonical([{"n": n} for n in range(12)])
    ledger.insert(known)
    leases = ledger.lease(worker := ledger.worker(), 3)
    ends = (Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.TIMEOUT)
    ledger.finish(worker, *(ended(ledger, lease, end) for lease, end in zip(leases, ends, strict=True)))
    leasing.end_worker(ledger.database, worker, now=ledger.now)
    ledger.database.close()
    derived = [*canonical([{"n": n} for n in range(10, 20)]), known[0], known[0]]
    ids = [f"given-{n}" for n in range(6)]
    given = canonical([{"name": one} for one in ids])
    in_child(partial(insert_and_die, ledger.path, ledger.now + 1, derived, ids, given))
    ledger.database = open_ledger(ledger.path, job_id=ledger.name)
    ledger.now += 1
    left = ledger.database.rows("SELECT seq, id FROM task WHERE seq > ? ORDER BY seq", (len(known),))
    ledger.keep(
        folder,
        derived_rows=derived,
        given_rows=[list(one) for one in zip(ids, given, strict=True)],
        unaccepted=[list(row) for row in left],
    )


def insert_and_die(path, now, derived, ids, given):
    """Be killed after the second batch: the first one's ids are entered then, since those of the second are of another kind."""
    under_way = insertion.begin(open_ledger(path, job_id="interrupted"), source="tasks.csv", clock=lambda: now)
    under_way.add(content_ids(derived), derived, ids_are_derived=True, now=now)
    under_way.add(ids, given, ids_are_derived=False, now=now)
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(action: Callable[[], None]) -> None:
    """Do something in a process that ends with kill -9; no connection to a ledger may be open here."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


# --- remote.db ---


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


def make_remote(folder):
    ledger = Ledger("remote")
    database = ledger.database
    moving.move(database, "sqs://golden-tasks?region=eu-central-1")
    ledger.insert(canonical([{"n": n, "text": "ž"} for n in range(1, 21)]), [f"r-{n:02}" for n in range(1, 21)])
    send_all(ledger)
    a, b, c = (Reporter(ledger, name) for name in "abc")
    a.report(leased=[(seq, 1) for seq in range(1, 5)])
    ledger.now += 1
    first = [end(ledger, 1, 1), end(ledger, 2, 1, Outcome.EXCEPTION, 30.0), end(ledger, 3, 1, Outcome.EXCEPTION)]
    a.report(ended=first, returned=[(4, 1)])
    b.report(leased=[(5, 1), (6, 1)], ended=[end(ledger, 5, 1, result="null")])
    assert b.report(ended=[end(ledger, 1, 1)]).duplicates == 1
    a.report(ended=[end(ledger, 6, 1, Outcome.TIMEOUT, 0.0)])
    b.report(ended=[end(ledger, 6, 1)])  # two workers had the message
    b.report(ended=[end(ledger, 7, 1, Outcome.LOST, 0.0), end(ledger, 7, 2, Outcome.LOST)])
    b.report(ended=[end(ledger, 8, 1, Outcome.MEMORY), end(ledger, 9, 1, Outcome.EXIT)], end_reason=WorkerEnd.PREEMPTED)
    c.report(leased=[(10, 1), (11, 1)])
    ledger.now += 1000
    assert recording.end_silent(database, silent_seconds=210.0, now=ledger.now) == 2
    c.report(ended=[end(ledger, 11, 1)])
    runner = Reporter(ledger, "e")
    runner.report(leased=[(12, 1), (13, 1)])
    assert repair.purge(database) > 5
    runner.report(ended=[end(ledger, 13, 1, Outcome.EXCEPTION, 10.0)])
    assert repair.retry(database, ids=["r-14", "r-15", "r-16"]) == 3
    send_all(ledger)
    Reporter(ledger, "f", machine="i-0f").report(leased=[(14, 1), (15, 1)])
    ledger.insert(canonical([{"more": n} for n in range(10)]), [f"m-{n}" for n in range(10)])
    database.close()
    in_child(partial(send_and_die, ledger.path, ledger.now))
    ledger.database = database = open_ledger(ledger.path, job_id=ledger.name)
    assert repair.retry(database, kinds=[Outcome.EXCEPTION]) == 1
    database.execute("VACUUM INTO 'copy.sqlite'")
    with closing(open_ledger(Path("copy.sqlite"), job_id=ledger.name)) as copy:
        sent = []
        sending.send_all(copy, sent.extend, clock=lambda: ledger.now + 1000)
    running = database.rows("SELECT seq, process FROM state JOIN worker USING (worker_id) WHERE state = 2")
    ledger.keep(
        folder,
        queue_url=database.value("SELECT queue_url FROM job"),
        token=recording.token(database),
        unsent=sending.count_unsent(database),
        purged=[seq for (seq,) in database.rows("SELECT seq FROM state WHERE available_at = -1 ORDER BY seq")],
        sources={str(seq): source for seq, source in running},
        batches=[list(row) for row in database.rows("SELECT source, number FROM event_batch ORDER BY 1, 2")],
        sent_next=[[one.seq, one.task_id, one.attempt] for one in sent],
    )


def send_all(ledger):
    ledger.now += 1
    sending.send_all(ledger.database, lambda _tasks: None, clock=lambda: ledger.now)


def send_and_die(path, now):
    """Send some tasks, and be killed while others are sent: nobody knows whether they were."""
    sending.STEP = 4
    steps = []

    def send(tasks):
        steps.append(tasks)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    sending.send_all(open_ledger(path, job_id="remote"), send, clock=lambda: now)


# --- pool.db ---

OFFERS = {
    "local": offer("process", "host-a", slots=2),
    "aws": offer("c7g.large", "us-east-1a", usd=0.03, slots=2),
    "gcp": offer("n2d-standard-2", "us-central1-a", usd=0.04, slots=2),
}
NOT_LAUNCHED = (
    *(EndReason.NEVER_STARTED, EndReason.STOCK_OUT, EndReason.QUOTA, EndReason.THROTTLED),
    *(EndReason.PRICE, EndReason.INVALID, EndReason.LAUNCH_ERROR),
)


def make_pool(folder):
    ledger = Ledger("pool")
    database = ledger.database
    ledger.insert(canonical([{"n": n} for n in range(60)]))
    for index, reason in enumerate(EndReason):
        provider = list(OFFERS)[index % 3]
        detail = "in the provider's wörds" if index % 2 else ""
        token = request(ledger, provider, can_queue=reason in (EndReason.CANCELLED, EndReason.NOTHING_WORKED))
        if reason in NOT_LAUNCHED:
            updates.mark_never_started(database, {token: End(reason, detail)})
            continue
        is_queued = reason in (EndReason.CANCELLED, EndReason.NOTHING_WORKED)
        start(ledger, provider, token, running_at=None if is_queued else ledger.now)
        if index % 4 == 0:
            work(ledger, token)
        ledger.now += 600
        updates.mark_ending(database, [token], End(reason, detail), ledger.now)
        updates.mark_ended(database, {token: End(reason, detail)}, ledger.now + 20)
    for provider in OFFERS:  # machines in every phase
        request(ledger, provider)
        start(ledger, provider, request(ledger, provider))
        start(ledger, provider, request(ledger, provider, can_queue=True), running_at=None)
        start(ledger, provider, working := request(ledger, provider))
        work(ledger, working, is_ended=False)
        start(ledger, provider, ending := request(ledger, provider))
        updates.mark_ending(database, [ending], End(EndReason.LATE), ledger.now)
        found = request(ledger, provider)
        updates.mark_never_started(database, {found: End(EndReason.NEVER_STARTED)})
        again = Machine(instance_id=f"id-{found}", order=found.rpartition("-")[0], state=MachineState.RUNNING)
        assert updates.reopen(database, again, ledger.now)
    assert control.take_control(database, f"{BOOT}0c/4026531836|77|7700", ledger.now) is None
    assert control.ask_to_stop(database, ledger.now + 4)
    costs_at = ledger.now + 3600
    ledger.keep(folder, costs_at=costs_at, **report_pool(database, costs_at))


def request(ledger, provider, *, can_queue=False):
    """Write down a machine that is about to be launched; return its token."""
    ledger.now += 30
    number = records.count_requests(ledger.database) + 1
    one = LaunchRequest(token=f"pool-{number}", number=1, offers=(OFFERS[provider],), lifetime_seconds=86_400.0)
    updates.add_request(ledger.database, one, provider=provider, now=ledger.now, can_queue=can_queue)
    return one.tokens[0]


def start(ledger, provider, token, **running):
    ledger.now += 5
    running_at = running.get("running_at", ledger.now)
    updates.mark_started(ledger.database, token, f"id-{token}", OFFERS[provider], ledger.now, running_at)


def work(ledger, token, *, is_ended=True):
    """Have a worker on a machine do a task, and go on with another one unless it ends."""
    worker_id = ledger.worker("host-m", machine=f"id-{token}", lease_seconds=1e7)
    updates.mark_ready(ledger.database, [token], ledger.now)
    [lease] = ledger.lease(worker_id, lease_seconds=1e7)
    ledger.now += 20
    ledger.finish(worker_id, ended(ledger, lease, seconds=20.0))
    if is_ended:
        leasing.end_worker(ledger.database, worker_id, now=ledger.now)
    else:
        ledger.lease(worker_id, lease_seconds=1e7)


# --- messages.json ---


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
    for reason in WorkerEnd:
        yield f"the end: {reason}", plain.batch(end_reason=reason)
    ledger.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
