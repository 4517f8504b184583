"""Made the golden files in ``d7e5b3d/``: ledgers and messages as the code at commit d7e5b3d writes them. Kept to show how they came about.

It runs with that commit's library only, on Linux and as root (a part of it runs in namespaces, where the host has a made-up name), from a
checkout of that commit with its environment::

    cd CHECKOUT_OF_d7e5b3d && uv run --no-sync python .../golden/make_d7e5b3d.py EMPTY_FOLDER

What is in ``d7e5b3d/`` is never made again: the script writes into an empty folder only. All times are made up, but for those in
``killed.db``, which a real worker wrote. All that was ever written comes from the library's own functions; where a provider or a service
would have to answer, its answer is made up here and read by the library's own code.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import taskfleet
from botocore import exceptions
from providers_of_d7e5b3d import (
    AWS,
    AWS_ON_DEMAND,
    BASE,
    EC2_ENDINGS,
    FLEET_ERRORS,
    GCP,
    LOCAL,
    REGION,
    aws_provider,
    aws_troubles,
    ec2_instance,
    ec2_reason,
    fleet_says,
    gcp_faults,
    gcp_reason,
    gcp_troubles,
    local_faults,
    local_reasons,
    until,
)
from taskfleet.errors import LedgerError, MachinesError, MachinesUnreachableError
from taskfleet.events import batch as batches
from taskfleet.events.batch import Batch, Worker
from taskfleet.ledger import counters, inquiry, insertion, leasing, moving, recording, repair, sending
from taskfleet.ledger.database import create, open_ledger
from taskfleet.machines import Answer, Machine, MachineState, Refusal, Refused, Started
from taskfleet.machines.aws_answers import read_instance
from taskfleet.machines.aws_faults import trouble_of
from taskfleet.machines.gcp_launch import refused_of
from taskfleet.machines.local import INSTANCE_TYPE
from taskfleet.pool import controller as controlling
from taskfleet.pool import planning, records
from taskfleet.pool.controller import Controller, LedgerWork, failures
from taskfleet.pool.costs import reckon
from taskfleet.queues import envelope as envelopes
from taskfleet.queues.envelope import Envelope, Parcel, group
from taskfleet.queues.job import settle_queue
from taskfleet.settings import read_configuration
from taskfleet.tables import content_ids, read_batches
from taskfleet.tasks import NO_RETRY, Finished, Outcome, RetryPolicy, State
from taskfleet.worker.runner import make_encode

COMMIT = "d7e5b3d"
PROJECT = Path("golden-project")
FAR = 4_000_000_000.0
"""In 2096."""
LEASE_SECONDS = 30.0
BOOT = "00000000-0000-4000-8000-0000000000"
INSERTER = f"{BOOT}0a/4026531836|4242|424242"
"""Processes of made-up hosts, which nobody can see any more."""
POLICY = RetryPolicy(
    retries={
        Outcome.EXCEPTION: 2,
        Outcome.TIMEOUT: 1,
        Outcome.EXIT: 1,
        Outcome.MEMORY: 1,
        Outcome.LOST: 2,
        Outcome.RETRY: 2,
    },
    delay_seconds=10.0,
    max_delay_seconds=300.0,
)

#: What tasks return, of all types; as the worker of d7e5b3d writes it.
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    -(10**40),
    0.1,
    1e300,
    5e-324,
    "",
    "plain",
    'Žluťoučký kůň 🐎 "quoted" \\ \u2028 \x00 \n',
    [],
    [1, [2.5, ["three", [None]]]],
    {},
    {"mean": 1.5, "n": 3, "": "no name", "úhel": [1, 2]},
    "long " * 200,
]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: golden files are never made again.")
    at = Path(taskfleet.__file__).parent
    found = subprocess.run(["git", "-C", at, "rev-parse", "HEAD"], stdout=subprocess.PIPE, text=True, check=True).stdout
    if not found.startswith(COMMIT):
        sys.exit(f"The library in {at} is of {found.strip()}, not of {COMMIT}.")
    insertion.identity = sending.identity = lambda: INSERTER
    with tempfile.TemporaryDirectory(prefix="golden-") as work:
        os.chdir(work)
        for make in (make_embedded, make_interrupted, make_remote, make_pool, make_killed):
            make(folder)
        write(folder / "messages.json", messages())


# --- ledgers ---


class Ledger:
    """A ledger in the making, with a clock."""

    def __init__(self, name):
        self.name = name
        self.path = Path(f"{name}.db")
        self.database = create(self.path, job_id=name, project=PROJECT, now=BASE, shared=False)
        self.now = BASE
        self.workers = 0

    def begin(self, source):
        return insertion.begin(self.database, source=source, clock=lambda: self.now)

    def insert(self, data, ids=None, source="tasks.csv"):
        self.now += 1
        under_way = self.begin(source)
        under_way.add(ids or content_ids(data), data, ids_are_derived=ids is None, now=self.now)
        return under_way.accept(self.now)

    def worker(self, host="host-a", *, slots=4, lease_seconds=LEASE_SECONDS, machine=None):
        self.workers += 1
        pid = 1000 + self.workers
        return leasing.register(
            self.database,
            hostname=host,
            process=f"{BOOT}{host[-1] * 2}/4026531836|{pid}|{pid * 100}",
            pid=pid,
            slots=slots,
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

    def close(self, folder, expected):
        """Write what the library says of it, then have all of it in one file and keep that."""
        write(folder / f"{self.name}.expected.json", expected)
        assert self.database.value("PRAGMA integrity_check") == "ok"
        assert self.database.row("PRAGMA wal_checkpoint(TRUNCATE)")[0] == 0
        self.database.close()
        assert [each.name for each in Path().glob(f"{self.name}.db*")] == [self.path.name]
        shutil.copyfile(self.path, folder / self.path.name)


def told(database, job_id, now):
    """Say what d7e5b3d itself says of a ledger."""
    durations = counters.durations(database)
    lines = list(inquiry.list_tasks(database, limit=100_000))
    return {
        "commit": COMMIT,
        "job_id": job_id,
        "now": now,
        "counts": {state.word: n for state, n in counters.by_state(database).items()},
        "failures": {kind.word: n for kind, n in counters.by_failure_kind(database).items()},
        "tallies": counters.tallies(database),
        "durations": None if durations is None else asdict(durations),
        "examples": {kind.word: list(found) for kind, found in inquiry.failure_examples(database).items()},
        "exceptions": [list(found) for found in inquiry.exceptions(database, most=1000)],
        "next_due_at": leasing.next_due_at(database, 0),
        "has_leasable": leasing.has_leasable(database, 0),
        "workers": [asdict(one) for one in inquiry.workers(database)],
        "workers_ever": [
            list(row)
            for row in database.rows(
                "SELECT worker_id, hostname, pid, slots, started_at, seen_at, lease_until, ended_at, end_reason, machine, busy_seconds "
                "FROM worker ORDER BY worker_id"
            )
        ],
        "tasks": [told_task(inquiry.find_task(database, line.task_id), line) for line in lines],
        "results": list(inquiry.results(database)),
    }


def told_task(task, line):
    assert (line.seq, line.state, line.kind) == (task.seq, task.state, task.kind)
    return {
        "seq": task.seq,
        "id": task.task_id,
        "data": task.data,
        "state": task.state.word,
        "kind": None if task.kind is None else task.kind.word,
        "reason": line.reason,
        "attempt": line.attempts,
        "available_at": task.available_at,
        "hostname": task.hostname,
        "attempts": [
            [one.number, one.outcome.word, first_line(one.error), one.result, one.elapsed_seconds]
            for one in task.attempts
        ],
    }


def first_line(text):
    return None if text is None else text.partition("\n")[0]


def write(path, found):
    """Write an object as JSON, each item of its lists on a line of its own."""
    lines = []
    for key, value in found.items():
        if isinstance(value, list) and value:
            items = ",\n".join(f"  {json.dumps(item)}" for item in value)
            lines.append(f"{json.dumps(key)}: [\n{items}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def as_result(value):
    return "".join(make_encode()(value, 0))


def canonical(rows):
    """Give rows as the texts that insert_tasks makes of them."""
    return [text for batch in read_batches(rows) for text in batch.encode(lambda _names: None).data]


def ended(ledger, lease, outcome=Outcome.SUCCEEDED, *, value=None, seconds=1.5, **details):
    """Give an attempt that ended so, with what goes with it."""
    usual = {
        Outcome.SUCCEEDED: {"result": as_result(value)},
        Outcome.EXCEPTION: {
            "error": f"ValueError: task {lease.seq} is wrong\nTraceback (most recent call last):\n"
            '  File "/srv/golden/task.py", line 7, in run_task\n    raise ValueError(n)\n'
        },
        Outcome.TIMEOUT: {"error": "Timeout: it ran longer than MAX_RUNTIME_SECONDS=60", "exit_code": -9},
        Outcome.EXIT: {
            "error": "Exit: the task's process was killed by SIGSEGV",
            "exit_code": -11,
            "output": "last wörds\n",
        },
        Outcome.MEMORY: {
            "error": "Memory: it held 2.01 GiB; MEMORY_LIMIT_GIB allows 2",
            "exit_code": -9,
            "peak_memory_mib": 2058.24,
        },
        Outcome.LOST: {"error": "The slot's process died"},
        Outcome.RETRY: {"error": "Retry: the data are not there yet"},
        Outcome.INTERRUPTED: {"error": "The worker was stopped"},
    }
    values = {"started_at": ledger.now - seconds, "elapsed_seconds": seconds} | usual[outcome] | details
    return Finished(lease.seq, lease.attempt, int(outcome), **values)


# --- embedded.db ---


def make_embedded(folder):
    ledger = Ledger("embedded")
    first = canonical(
        [
            {"n": n, "text": text, "share": n / 7, "is_even": n % 2 == 0, "nothing": None}
            for n, text in enumerate(
                [*"abcdefghij", "Žluťoučký 🐎", 'a "quote"', "two\nlines", *"klmnopqrstuvwxyzABCDEFGH"]
            )
        ]
        + [{"n": 2**70, "state": "as a column", "result_x": [1, {"deep": True}]}]
        + [{"n": -1, "text": "three alike"}, {"n": -2, "text": "two alike"}, {"n": -1, "text": "three alike"}]
        + [{"n": -2, "text": "two alike"}, {"n": -1, "text": "three alike"}]
    )
    report = ledger.insert(first)
    assert (report.added, report.identical) == (len(first), 3)
    again = embedded_work(ledger)
    embedded_by_hand(ledger, [again[Outcome.TIMEOUT], again[Outcome.LOST]])
    second = embedded_more(ledger, first)
    embedded_open_end(ledger, [again[Outcome.EXIT], again[Outcome.MEMORY]])
    expected = told(ledger.database, ledger.name, ledger.now)
    expected["derived_tables"] = [first, second]
    check_embedded(expected)
    ledger.close(folder, expected)


def embedded_work(ledger):
    """Results of all types, and attempts that end in every way; give a task that failed of each kind, by kind."""
    again = {}
    worker = ledger.worker()
    leases = ledger.lease(worker, len(VALUES))
    ledger.now += 5
    ledger.finish(
        worker,
        *(
            ended(ledger, lease, value=value, seconds=0.001 * 3**index, output="printed ✓\n" if index == 3 else None)
            for index, (lease, value) in enumerate(zip(leases[:9], VALUES, strict=False))
        ),
    )
    ledger.finish(
        worker,
        *(
            ended(ledger, lease, value=value, peak_memory_mib=12.5)
            for lease, value in zip(leases[9:], VALUES[9:], strict=True)
        ),
    )
    assert ledger.finish(worker, ended(ledger, leases[0], value="too late")).duplicates == {leases[0][:2]}
    for outcome in (Outcome.EXCEPTION, Outcome.TIMEOUT, Outcome.EXIT, Outcome.MEMORY, Outcome.RETRY):
        fail(ledger, outcome)
        again[outcome] = fail(ledger, outcome)
    [lease] = ledger.lease(worker := ledger.worker())
    ledger.finish(
        worker, ended(ledger, lease, Outcome.EXCEPTION, error="Fail: never again", retry_delay_seconds=NO_RETRY)
    )
    lose_until_failed(ledger)
    again[Outcome.LOST] = lose_until_failed(ledger)
    # One task that meets nearly everything, and succeeds.
    for outcome in (
        Outcome.EXCEPTION,
        Outcome.LOST,
        Outcome.INTERRUPTED,
        Outcome.RETRY,
        Outcome.EXIT,
        Outcome.EXCEPTION,
    ):
        ledger.now += 400
        [lease] = ledger.lease(worker := ledger.worker())
        ledger.finish(worker, ended(ledger, lease, outcome))
        leasing.end_worker(
            ledger.database, worker, now=ledger.now, reason="failed" if outcome is Outcome.EXIT else "stopped"
        )
    ledger.now += 400
    [lease] = ledger.lease(worker := ledger.worker("host-b"))
    assert lease.attempt == 7
    ledger.finish(worker, ended(ledger, lease, value={"at": "last"}))
    # A worker that loses its lease and finishes all the same.
    [lease] = ledger.lease(late := ledger.worker())
    ledger.now += 60
    assert ledger.reap() > 0
    assert ledger.finish(late, ended(ledger, lease)).duplicates
    # Workers that end with tasks in their hands.
    ledger.lease(worker := ledger.worker(), 2)
    leasing.end_worker(ledger.database, worker, now=ledger.now)
    leases = ledger.lease(worker := ledger.worker(), 2)
    ledger.finish(worker, ended(ledger, leases[0], Outcome.INTERRUPTED))
    leasing.give_back(ledger.database, worker, leases[1:])
    leasing.end_worker(ledger.database, worker, now=ledger.now, reason="preempted")
    ledger.lease(ledger.worker("host-b"), 1)
    assert leasing.release(ledger.database, now=ledger.now) == 1
    return again


def fail(ledger, outcome):
    """Have one task fail for good; give its id."""
    ids = set()
    while True:
        ledger.now += 400
        [lease] = ledger.lease(worker := ledger.worker())
        ids.add(lease.task_id)
        report = ledger.finish(worker, ended(ledger, lease, outcome))
        leasing.end_worker(ledger.database, worker, now=ledger.now)
        if not report.retry_delay_seconds:
            break
    [found] = ids
    return found


def lose_until_failed(ledger):
    """Have one task lose its workers until it fails; give its id."""
    ids = set()
    before = counters.by_failure_kind(ledger.database)[Outcome.LOST]
    while counters.by_failure_kind(ledger.database)[Outcome.LOST] == before:
        [lease] = ledger.lease(ledger.worker("host-b"))
        ids.add(lease.task_id)
        ledger.now += 60
        ledger.reap()
    [found] = ids
    return found


def embedded_by_hand(ledger, again):
    """Purge what is pending while some run, and put some of it back."""
    leases = ledger.lease(worker := ledger.worker(), 1)
    killed = repair.purge(ledger.database)
    ledger.finish(worker, ended(ledger, leases[0], value="ran when the others were killed"))
    assert killed > 3
    ids = [line.task_id for line in inquiry.list_tasks(ledger.database, state=State.KILLED)]
    assert repair.retry(ledger.database, ids=[*ids[:2], "no such task"]) == 2
    assert repair.retry(ledger.database, ids=again) == 2


def embedded_more(ledger, first):
    """More insertions, of which some rows are known: gaps in the sequence."""
    ids = ["alpha", "beta ž", "3", "a task with spaces", *(f"given-{n}" for n in range(8))]
    data = canonical([{"name": one} for one in ids])
    under_way = ledger.begin("taken back")
    under_way.add(["x", "y"], ["{}", "{}"], ids_are_derived=False, now=ledger.now)
    under_way.discard()
    assert ledger.insert(data, ids, source="given.feather").added == 12
    more = [f"more-{n}" for n in range(7)]
    mixed = ["beta ž", *more[:3], "given-0", "given-1", *more[3:], "given-7", "alpha"]
    report = ledger.insert(canonical([{"name": one} for one in mixed]), mixed, source="given.feather")
    assert (report.added, report.already_there) == (7, 5)
    alike = canonical([{"n": -1, "text": "three alike"}])
    second = [first[0], *alike * 4, *canonical([{"n": 100}, {"n": 100}, {"n": 101}]), first[1]]
    report = ledger.insert(second, source="mytasks:rows")
    assert (report.added, report.identical) == (4, 4)
    assert ledger.insert(first[:5]).added == 0
    return second


def embedded_open_end(ledger, again):
    """Leave tasks in every state that is not an end."""
    database = ledger.database
    gone = ledger.worker()
    taken = [lease.seq for lease in ledger.lease(gone, 3)]
    assert database.value("SELECT count(*) FROM state WHERE seq IN (?, ?, ?) AND tries_from > 0", taken) == 3
    far = ledger.worker("host-c", slots=16, lease_seconds=FAR - ledger.now)
    ledger.lease(far, 2, lease_seconds=FAR - ledger.now)
    # Tasks that wait for their next try: soon, in a day, and one that was put back by hand and has failed again.
    worker = ledger.worker()
    for delay in (None, 86_400.0):
        [lease] = ledger.lease(worker)
        ledger.finish(worker, ended(ledger, lease, Outcome.EXCEPTION, retry_delay_seconds=delay))
    assert repair.retry(database, ids=again) == 2
    [lease] = ledger.lease(worker)
    ledger.finish(worker, ended(ledger, lease, Outcome.EXIT, error="Exit: again\nsecond line"))
    # A worker that leaves the first tasks to others splits a segment.
    [(first_seq, next_seq)] = database.rows(
        "SELECT first_seq, next_seq FROM segment WHERE next_seq <= last_seq ORDER BY first_seq LIMIT 1 OFFSET 1"
    )
    assert first_seq == next_seq
    skipping = ledger.worker("host-b")
    leases = ledger.lease(skipping, 2, skip=first_seq + 4)
    assert [lease.seq for lease in leases] == [first_seq + 6, first_seq + 7], "the one in between has gone"
    ledger.finish(skipping, ended(ledger, leases[0], value=[1, 2, 3]))
    leasing.give_back(database, skipping, leases[1:])
    leasing.end_worker(database, skipping, now=ledger.now)
    # One that was put back is interrupted until it has used up all numbers of attempts.
    worker = ledger.worker()
    seqs = set()
    for _ in range(1005):
        [lease] = ledger.lease(worker)
        seqs.add(lease.seq)
        ledger.now += 1
        ledger.finish(worker, ended(ledger, lease, Outcome.INTERRUPTED, seconds=0.5, error=None))
    assert (len(seqs), lease.attempt) == (1, 999)
    leasing.end_worker(database, worker, now=ledger.now)


def check_embedded(expected):
    assert {word for word, n in expected["counts"].items() if n} == {
        "pending",
        "running",
        "succeeded",
        "failed",
        "killed",
    }
    assert {word for word, n in expected["failures"].items() if not n} == {"upstream"}, "nothing makes that kind yet"
    assert expected["tallies"]["duplicates"] == 2
    assert max(task["attempt"] for task in expected["tasks"]) == 999
    assert any(task["id"].endswith("-4") for task in expected["tasks"])


# --- interrupted.db ---


def make_interrupted(folder):
    ledger = Ledger("interrupted")
    known = canonical([{"n": n} for n in range(12)])
    ledger.insert(known)
    leases = ledger.lease(worker := ledger.worker(), 4)
    ledger.now += 2
    ledger.finish(
        worker,
        ended(ledger, leases[0], value=7),
        ended(ledger, leases[1], Outcome.EXCEPTION, retry_delay_seconds=NO_RETRY),
    )
    ledger.finish(worker, ended(ledger, leases[2], value="done"), ended(ledger, leases[3], Outcome.EXCEPTION))
    leasing.end_worker(ledger.database, worker, now=ledger.now)
    ledger.database.close()
    derived = [*canonical([{"n": n} for n in range(10, 20)]), known[0], known[0]]
    ids = [f"given-{n}" for n in range(6)]
    given = canonical([{"name": one} for one in ids])
    in_child(partial(insert_and_die, ledger.path, ledger.now + 1, derived, ids, given))
    ledger.database = open_ledger(ledger.path, job_id=ledger.name)
    expected = told(ledger.database, ledger.name, ledger.now + 1)
    expected |= {"derived_rows": derived, "given_rows": [list(one) for one in zip(ids, given, strict=True)]}
    expected["unaccepted"] = [
        list(row) for row in ledger.database.rows("SELECT seq, id FROM task WHERE seq > ? ORDER BY seq", (len(known),))
    ]
    in_index = ledger.database.value("SELECT count(*) FROM task_id WHERE seq > ?", (len(known),))
    assert (len(expected["unaccepted"]), in_index) == (15, 9), "some are entered by id, some are not"
    ledger.close(folder, expected)


def insert_and_die(path, now, derived, ids, given):
    """Insert in batches, and be killed after the second: the first is entered by id then, since the second has ids of another kind."""
    database = open_ledger(path, job_id="interrupted")
    under_way = insertion.begin(database, source="tasks.csv", clock=lambda: now)
    under_way.add(content_ids(derived), derived, ids_are_derived=True, now=now)
    under_way.add(ids, given, ids_are_derived=False, now=now)
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(action):
    """Do something in a process that ends with kill -9; no connection to a ledger may be open here."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


# --- remote.db ---


class Teller:
    """A worker elsewhere that tells in batches of events."""

    def __init__(self, ledger, name, host, *, machine=None, slots=2):
        self.ledger = ledger
        self.number = -1
        self.worker = Worker(
            source=f"worker|{BOOT}{name * 2}/4026531836|{200 + ord(name)}|{ord(name)}00",
            hostname=host,
            pid=200 + ord(name),
            slots=slots,
            started_at=ledger.now,
            machine=machine,
        )

    def batch(self, *, number=None, **fields):
        if number is None:
            self.number += 1
            number = self.number
        return Batch(
            job_id=self.ledger.name,
            ledger=recording.token(self.ledger.database),
            worker=self.worker,
            number=number,
            told_at=self.ledger.now,
            **fields,
        )

    def tell(self, **fields):
        """Tell something; it travels as text, as it does through a service."""
        batch = batches.unpack(batches.pack(self.batch(**fields)))
        return recording.record(self.ledger.database, batch, now=self.ledger.now)


def at(seq, attempt):
    return SimpleNamespace(seq=seq, attempt=attempt)


def make_remote(folder):
    ledger = Ledger("remote")
    database = ledger.database
    config = Path("remote") / "config"
    config.mkdir(parents=True)
    (config / "task.env").write_text("JOB_ID=remote\nQUEUE_URL=sqs://golden-tasks?region=eu-central-1\n")
    configuration = read_configuration(flags={}, env_file=None, environ={}, start=Path("remote"))
    settle_queue(database, configuration)
    ids = [f"r-{n:02}" for n in range(1, 21)]
    ledger.insert(canonical([{"n": n, "text": "ž"} for n in range(1, 21)]), ids)
    sending.send_all(database, lambda _parcels: None, clock=lambda: ledger.now)
    assert sending.count_unsent(database) == 0
    remote_events(ledger)
    # A purge while two run, and what becomes of one of them.
    runners = Teller(ledger, "e", "host-e")
    runners.tell(leased=[(12, 1), (13, 1)])
    assert repair.purge(database) == 8
    ledger.now += 1
    runners.tell(ended=[(ended(ledger, at(13, 1), Outcome.EXCEPTION), 10.0)])
    # Put back by hand, sent, and running again.
    assert repair.retry(database, ids=["r-14", "r-15", "r-16"]) == 3
    ledger.now += 1
    sending.send_all(database, lambda _parcels: None, clock=lambda: ledger.now)
    Teller(ledger, "f", "host-f", machine="i-0f").tell(leased=[(14, 1), (15, 1)])
    # More tasks, whose sender is killed half-way.
    more = [f"m-{n}" for n in range(10)]
    ledger.insert(canonical([{"more": n} for n in range(10)]), more)
    database.close()
    in_child(partial(send_and_die, ledger.path, ledger.now))
    ledger.database = database = open_ledger(ledger.path, job_id=ledger.name)
    ledger.now += 5
    assert repair.retry(database, kinds=[Outcome.EXCEPTION]) == 2
    expected = told(database, ledger.name, ledger.now)
    expected |= {"queue_url": database.value("SELECT queue_url FROM job"), "token": recording.token(database)}
    expected["unsent"] = sending.count_unsent(database)
    expected["sender"] = list(database.row("SELECT process, touched_at FROM sender"))
    expected["purged"] = [seq for (seq,) in database.rows("SELECT seq FROM state WHERE available_at = -1 ORDER BY seq")]
    expected["sources"] = dict(
        database.rows("SELECT CAST(seq AS TEXT), process FROM state JOIN worker USING (worker_id) WHERE state = 2")
    )
    expected["batches"] = [list(row) for row in database.rows("SELECT source, number FROM event_batch ORDER BY 1, 2")]
    assert expected["purged"] == [12, 13], "one runs, one was killed"
    expected["sent_next"] = sent_by_a_copy(ledger)
    ledger.close(folder, expected)


def remote_events(ledger):
    """Have workers tell things in every order."""
    a, b, c = Teller(ledger, "a", "host-a"), Teller(ledger, "b", "höst-b", slots=8), Teller(ledger, "c", "host-c")
    d = Teller(ledger, "d", "host-d", machine="i-0d")
    ledger.now += 1
    a.tell()
    a.tell(leased=[(1, 1), (2, 1), (3, 1), (4, 1)])
    first = [(ended(ledger, at(1, 1), value={"ž": "🐎", "big": 2**80}), None)]
    first += [(ended(ledger, at(2, 1), Outcome.EXCEPTION), 30.0), (ended(ledger, at(3, 1), Outcome.EXCEPTION), None)]
    ledger.now += 1
    a.tell(ended=first, returned=[(4, 1)])
    assert a.tell(number=2, ended=first).is_known, "delivered twice"
    b.tell(leased=[(5, 1), (6, 1)], ended=[(ended(ledger, at(5, 1), value=None), None)])
    assert b.tell(ended=[(ended(ledger, at(1, 1), value="second"), None)]).duplicates == 1
    # A message that two workers had: the second success gets a number of the ledger's.
    a.tell(ended=[(ended(ledger, at(6, 1), Outcome.TIMEOUT), 0.0)])
    b.tell(ended=[(ended(ledger, at(6, 1), value="after all"), None)])
    b.tell(ended=[(ended(ledger, at(7, 1), Outcome.LOST), 0.0), (ended(ledger, at(7, 2), Outcome.LOST), None)])
    b.tell(ended=[(ended(ledger, at(8, 1), Outcome.MEMORY), None), (ended(ledger, at(9, 1), Outcome.EXIT), None)])
    b.tell(
        ended=[(ended(ledger, at(10, 1), Outcome.INTERRUPTED), 0.0), (ended(ledger, at(10, 2), Outcome.RETRY), None)]
    )
    b.tell(end_reason="preempted")
    # One falls silent with a task, one comes back.
    c.tell(leased=[(11, 1)])
    d.tell(leased=[(19, 1)])
    a.tell(ended=[(ended(ledger, at(2, 2), value=2), None)])
    ledger.now += 1000
    assert recording.end_silent(ledger.database, silent_seconds=210.0, now=ledger.now) == 3
    d.tell(ended=[(ended(ledger, at(19, 1), value="late"), None)])
    a.tell(end_reason="stopped")
    Teller(ledger, "g", "host-a").tell(end_reason="failed")


def send_and_die(path, now):
    """Send some tasks, and be killed while others are sent: nobody knows whether they have gone."""
    database = open_ledger(path, job_id="remote")
    sending.STEP = 4
    steps = []

    def send(parcels):
        steps.append(parcels)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    sending.send_all(database, send, clock=lambda: now)


def sent_by_a_copy(ledger):
    """Give what would be sent now: (seq, id, attempt)."""
    with copied(ledger) as database:
        sent = []
        sending.send_all(database, sent.extend, clock=lambda: ledger.now + 1000)
        assert sending.count_unsent(database) == 0
        return [[parcel.seq, parcel.task_id, parcel.attempt] for parcel in sent]


@contextmanager
def copied(ledger):
    """Copy a ledger as it is now, to try something on."""
    path = Path(f"{ledger.name}-copy.sqlite")
    ledger.database.execute("VACUUM INTO ?", (str(path),))
    database = open_ledger(path, job_id=ledger.name)
    yield database
    database.close()
    path.unlink()


# --- pool.db ---


class Killed(BaseException):
    """The controller's process dies just here."""


class Sky:
    """What there is of machines, as the providers' own code reads it; answers to orders are made up for each."""

    def __init__(self):
        self.name = "local"
        self.listed = {}
        self.respond = None

    def launch(self, order):
        return self.respond(order)

    def list(self):
        return list(self.listed.values())

    def terminate(self, instance_ids):
        for one in instance_ids:
            self.listed[one] = replace(self.listed[one], state=MachineState.ENDING)

    def console(self, _instance_id):
        return ""

    def put(self, machine):
        self.listed[machine.instance_id] = machine


class Pool:
    """A job whose machines meet everything, under the real controller."""

    def __init__(self):
        self.ledger = Ledger("pool")
        self.sky = Sky()
        self.offers = LOCAL
        self.ids = 0

    @property
    def database(self):
        return self.ledger.database

    @property
    def now(self):
        return self.ledger.now

    def pass_time(self, seconds):
        self.ledger.now += seconds

    def controller(self, offers=(), **limits):
        """Start to look after the pool; without offers nothing is ordered."""
        return Controller(
            self.database,
            self.sky,
            LedgerWork(self.database),
            name=f"golden-{self.sky.name}",
            offers=offers,
            limits=planning.Limits(lifetime_seconds=86_400.0, **limits),
            say=lambda _text: None,
        )

    def order(self, respond, number=1, pause=1000.0):
        """Order so many machines, and give their tokens; what is raised then is what the answer raises."""
        self.pass_time(pause)  # after machines that did nothing, nothing is ordered for a while
        before = {one.token for one in records.all_machines(self.database)}
        there = len(records.open_machines(self.database))
        self.sky.respond = respond
        try:
            self.controller(self.offers, most_machines=there + number).step(self.now)
        except (MachinesError, Killed) as error:
            print(f"  {type(error).__name__}: {error}")
        tokens = [one.token for one in records.all_machines(self.database) if one.token not in before]
        assert len(tokens) == number
        return tokens

    def step(self, pause=10.0):
        """Look again, as a controller that has just begun."""
        self.pass_time(pause)
        return self.controller().step(self.now)

    def watch(self, seconds, **limits):
        """Look after the pool for a while, and order nothing."""
        controller = self.controller(**limits)
        for _ in range(int(seconds // 50) + 1):
            controller.step(self.now)
            self.pass_time(50)

    def record(self, token):
        [found] = [one for one in records.all_machines(self.database) if one.token == token]
        return found

    def token_of(self, instance_id):
        [found] = [one.token for one in records.all_machines(self.database) if one.instance_id == instance_id]
        return found

    def start(self, number=1, **more):
        """Order machines of the best offer and get them; give their names."""
        return [self.record(token).instance_id for token in self.order(self.starts, number, **more)]

    def starts(self, order):
        """Start all machines of an order, as the provider would list them."""
        best = order.offers[0]
        started = []
        for token in order.tokens:
            name = self.new_id() if self.sky.name == "aws" else token
            self.sky.put(self.machine(name, order.token, best))
            started.append(Started(name, best.instance_type, best.zone))
        return Answer(tuple(started))

    def starts_another(self, order):
        """Start the machines of an order, not of the best of its offers."""
        return self.starts(replace(order, offers=order.offers[1:]))

    def new_id(self):
        self.ids += 1
        return f"i-{self.ids:017x}"

    def machine(self, name, order_token, one):
        """Give a machine as its provider lists it when it runs."""
        if self.sky.name == "aws":
            return read_instance(ec2_instance(name, order_token, one, self.now))
        return Machine(
            instance_id=name,
            order=order_token,
            state=MachineState.RUNNING,
            zone=one.zone,
            instance_type=one.instance_type,
            market=one.market,
            created_at=self.now,
        )

    def end(self, instance_id, reason):
        """Have a machine be gone, and the controller see it."""
        self.sky.listed[instance_id] = replace(self.sky.listed[instance_id], state=MachineState.ENDED, reason=reason)
        self.step()
        del self.sky.listed[instance_id]

    def work(self, instance_id, tasks=1, *, end_reason="stopped"):
        """Have a worker on a machine do some tasks, told by events."""
        teller = self.worker_on(instance_id)
        leased = [line.seq for line in inquiry.list_tasks(self.database, state=State.PENDING, limit=tasks)]
        teller.tell(leased=[(seq, 1) for seq in leased])
        self.pass_time(20)
        teller.tell(ended=[(ended(self.ledger, at(seq, 1), value=seq, seconds=20.0), None) for seq in leased])
        self.step()
        if end_reason:
            teller.tell(end_reason=end_reason)
        return teller

    def worker_on(self, instance_id):
        self.ledger.workers += 1
        return Teller(self.ledger, chr(ord("a") + self.ledger.workers % 26), "host-m", machine=instance_id)


def make_pool(folder):
    controlling.secrets = SimpleNamespace(token_hex=lambda n: "a1b2c3d4"[: 2 * n])
    pool = Pool()
    ledger, database = pool.ledger, pool.database
    pool_first_machine(pool)
    ledger.insert(canonical([{"n": n} for n in range(4, 130)]))
    pool_local(pool)
    moving.move(database, "sqs://golden-pool?region=us-east-1")
    sending.send_all(database, lambda _parcels: None, clock=lambda: ledger.now)
    pool.sky.name, pool.offers = "aws", AWS
    pool_aws_endings(pool)
    pool_aws_refusals(pool)
    pool_ended_by_the_user(pool)
    pool_odd_orders(pool)
    moving.move(database, "pubsub://golden-project/golden-pool")
    sending.send_all(database, lambda _parcels: None, clock=lambda: ledger.now)
    pool.sky.name, pool.offers = "gcp", GCP
    pool_gcp(pool)
    pool_open(pool)
    # Its controller was told to stop, and is gone.
    assert records.take_control(database, f"{BOOT}0c/4026531836|77|7700", pool.now) is None
    assert records.stay_in_control(database, f"{BOOT}0c/4026531836|77|7700", pool.now + 3)
    assert records.ask_to_stop(database, pool.now + 4)
    expected = told(database, ledger.name, pool.now)
    expected |= told_of_pool(database, pool.now + 3600)
    check_pool(expected)
    ledger.close(folder, expected)


def told_of_pool(database, now):
    """Say what d7e5b3d itself says of a pool, and what its machines have cost at one time."""
    machines = records.all_machines(database)
    costs = reckon(database, succeeded=counters.by_state(database)[State.SUCCEEDED], eta_seconds=None, now=now)
    worked = records.has_worked(database)
    return {
        "costs_at": now,
        "costs": costs.to_json(),
        "spent_usd": records.spent_usd(database),
        "orders": records.count_orders(database),
        "open": [one.token for one in records.open_machines(database)],
        "controller": list(records.controller(database)),
        "stop_asked_at": database.value("SELECT stop_asked_at FROM pool"),
        "was_ever_ready": records.was_ever_ready(database),
        "heard_at": records.heard_at(database),
        "has_worked": worked,
        "did_nothing": failures(database, worked),
        "closed_ids": sorted(records.closed_ids(database, 0.0)),
        "machines": [
            asdict(one)
            | {"kind": list(one.kind), "cost_usd": one.cost_usd(now), "most_cost_usd": one.most_cost_usd(now)}
            for one in machines
        ],
    }


def pool_first_machine(pool):
    """The first machine does all tasks there are, and is ended because of that."""
    ledger = pool.ledger
    ledger.insert(canonical([{"n": n} for n in range(4)]))
    [name] = pool.start()
    worker = ledger.worker(machine=name, slots=2)
    leases = ledger.lease(worker, 4)
    pool.pass_time(30)
    ledger.finish(worker, *(ended(ledger, lease, value=lease.seq, seconds=10.0) for lease in leases))
    assert pool.step().end == {name: planning.DONE}
    leasing.end_worker(ledger.database, worker, now=pool.now)
    pool.end(name, "terminated")


def pool_local(pool):
    """Machines that are processes: all ways in which the real ones end, and fail to start."""
    ledger = pool.ledger
    for how, reason in local_reasons():
        [name] = pool.start()
        if how in ("done", "code"):
            worker = ledger.worker(machine=name, slots=2)
            [lease] = ledger.lease(worker)
            pool.step()
            if how == "done":
                ledger.finish(worker, ended(ledger, lease, value=how, seconds=7.0))
            leasing.end_worker(ledger.database, worker, now=pool.now, reason="stopped" if how == "done" else "failed")
        elif how == "killed":
            ledger.lease(ledger.worker(machine=name, slots=2), 2)
            pool.step()
            pool.pass_time(60)
            assert ledger.reap() == 2
        elif how == "terminated":
            ledger.lease(ledger.worker(machine=name), 1)
            pool.step()
            assert leasing.release(ledger.database, now=pool.now) == 1
        elif how == "lifetime":
            pool.pass_time(100_000)  # nobody looked; it ended itself when its lifetime was over
        pool.end(name, reason)
    for error in local_faults():
        why = Refused(INSTANCE_TYPE, "host-a", Refusal.INVALID, f"no process can be started: {error}")
        pool.order(lambda _order, why=why: Answer((), (why,)))


def pool_aws_endings(pool):
    """All that EC2 says of machines that have ended, by themselves or because they were told to."""
    for index, ending in enumerate(EC2_ENDINGS):
        [name] = pool.start()
        if index % 2:
            pool.work(name, end_reason="preempted" if ec2_reason(**ending).startswith("preempted") else "stopped")
        elif index == 4:
            pool.worker_on(name).tell(end_reason="failed")
        pool.end(name, ec2_reason(**ending))
    # No worker in time; a worker that falls silent, ended twice; and both are gone in the end.
    for reason in (planning.LATE, planning.SILENT):
        [name] = pool.start()
        if reason is planning.SILENT:
            pool.work(name, end_reason="")
        pool.watch(350.0, boot_seconds=120.0, silent_seconds=210.0)
        recording.end_silent(pool.database, silent_seconds=210.0, now=pool.now)
        pool.end(name, ec2_reason(**EC2_ENDINGS[0]))
    # One that is missing in the list. And words that d7e5b3d has for strays, though nothing in it writes them.
    [name] = pool.start()
    del pool.sky.listed[name]
    pool.step(200.0)
    [name] = pool.start()
    records.note_ending(pool.database, [pool.token_of(name)], planning.UNKNOWN, pool.now)
    pool.end(name, ec2_reason(**EC2_ENDINGS[0]))


def pool_aws_refusals(pool):
    """All that keeps machines from being started at AWS."""
    for code, text in FLEET_ERRORS:
        pool.order(lambda order, code=code, text=text: fleet_says(order, code, text))
    # Two of three are started, and one is not.
    code, text = FLEET_ERRORS[0]

    def two_of_three(order):
        names = [pool.new_id(), pool.new_id()]
        for name in names:
            pool.sky.put(pool.machine(name, order.token, order.offers[0]))
        return fleet_says(order, code, text, names)

    tokens = pool.order(two_of_three, 3)
    for token in tokens[:2]:
        pool.end(pool.record(token).instance_id, ec2_reason(**EC2_ENDINGS[0]))
    # No subnet there; and an order that was given before, with other settings.
    for provider in (aws_provider(), aws_provider(subnets=["subnet-a"])):
        why = provider._why_nowhere("us-east-1e")
        pool.order(
            lambda order, why=why: Answer(
                (), (Refused(order.offers[0].instance_type, "us-east-1e", Refusal.INVALID, why),)
            )
        )
    given = aws_provider()
    given._instances = lambda *_: []
    pool.order(lambda order: given._given_before(order, REGION))
    for error in aws_troubles():

        def fail(_order, error=error):
            raise error

        assert not isinstance(error, MachinesUnreachableError), error
        pool.order(fail)


def pool_ended_by_the_user(pool):
    """What is written down when all machines are ended at once: by the user, or since the pool has given up."""
    no_login = trouble_of(
        exceptions.NoCredentialsError(), service="ec2", action="DescribeInstances", region="us-east-1"
    )
    reasons = [
        planning.STOPPED,
        "torn down by the user",
        "terminated by the user",
        str(no_login).rstrip("."),  # as a pool that gives up writes it
    ]
    for reason in reasons:
        [name] = pool.start()
        controller = pool.controller()
        assert controller.end_all(pool.now, reason) == 1
        pool.end(name, ec2_reason(**EC2_ENDINGS[0]))
        pool.pass_time(1)
        assert controller.end_all(pool.now, reason) == 0


def lost_answer(_order):
    raise MachinesUnreachableError("AWS EC2 in us-east-1 does not answer.")


def pool_odd_orders(pool):
    """Orders whose answer was lost, and machines that are there though they count as gone."""
    # It is in the list, under its order's name.
    [token] = pool.order(lost_answer)
    order_token = token.rpartition("-")[0]
    name = pool.new_id()
    pool.sky.put(pool.machine(name, order_token, AWS[0]))
    pool.step()
    pool.end(name, ec2_reason(**EC2_ENDINGS[1]))
    # Nobody looked for long: it may have come and gone.
    [token] = pool.order(lost_answer)
    pool.step(200.0)
    # Somebody has looked all the time, so it never was; and then it comes all the same and is ended.
    [token] = pool.order(lost_answer)
    pool.watch(200.0)
    assert pool.record(token).end_reason == planning.NEVER_STARTED
    name = pool.new_id()
    pool.sky.put(pool.machine(name, token.rpartition("-")[0], AWS[0]))
    pool.step()
    pool.end(name, ec2_reason(**EC2_ENDINGS[0]))
    # Another offer of the order than the best was to be had.
    [token] = pool.order(pool.starts_another)
    pool.end(pool.record(token).instance_id, ec2_reason(**EC2_ENDINGS[0]))
    # Market: on demand, for a change.
    pool.offers = AWS_ON_DEMAND
    [name] = pool.start()
    pool.work(name, 2)
    pool.end(name, ec2_reason(**EC2_ENDINGS[1]))
    pool.offers = AWS


def pool_gcp(pool):
    """All that Google Cloud says of machines that have ended or do not start."""
    for kind, user in (("delete", "someone@example.com"), ("delete", ""), ("compute.instances.preempted", "")):
        for is_ready in (True, False):
            [name] = pool.start()
            if is_ready:
                pool.work(name, end_reason="preempted" if kind != "delete" else "")
            pool.end(name, gcp_reason("golden-gcp-1", kind, user))
    [name] = pool.start()
    del pool.sky.listed[name]
    pool.step(200.0)
    for fault in gcp_faults():
        pool.order(lambda order, fault=fault: Answer(refused=refused_of(order, [fault])))
    for error in gcp_troubles():

        def fail(_order, error=error):
            raise error

        pool.order(fail)


# --- machines that are there ---


def pool_open(pool):
    """Leave machines of every provider in every phase."""
    kinds = {"local": LOCAL, "aws": AWS, "gcp": GCP}
    for name, offers in kinds.items():  # ended, because no worker was heard; not gone yet
        pool.sky.name, pool.offers = name, offers
        pool.start()
    pool.watch(200.0, boot_seconds=120.0)
    # Counted as gone, and there all the same.
    pool.sky.name, pool.offers = "aws", AWS
    [token] = pool.order(lambda order: fleet_says(order, *FLEET_ERRORS[0]))
    name = pool.new_id()
    pool.sky.put(pool.machine(name, token.rpartition("-")[0], AWS[0]))
    pool.step()
    assert pool.record(token).ending_since == pool.now
    pause = 1000.0
    for index, (name, offers) in enumerate(kinds.items()):
        pool.sky.name, pool.offers = name, offers
        [working] = pool.start(pause=pause)
        pool.work(working, 2, end_reason="").tell(leased=[(120 + index, 1)])
        pause = 5.0
    [useless] = pool.start(pause=pause)
    pool.end(useless, gcp_reason(useless, user="someone@example.com"))
    pause = 40.0
    for name, offers in kinds.items():
        pool.sky.name, pool.offers = name, offers
        pool.start(pause=pause)
        pause = 5.0
    for name, offers in kinds.items():
        pool.sky.name, pool.offers = name, offers

        def die(_order):
            raise Killed

        pool.order(die if name == "local" else lost_answer, pause=pause)


def check_pool(expected):
    assert len(expected["did_nothing"]) == 1
    assert expected["counts"]["running"] == 3
    machines = expected["machines"]
    reasons = {one["end_reason"] for one in machines}
    wanted = (
        planning.DONE,
        planning.LATE,
        planning.SILENT,
        planning.UNKNOWN,
        planning.NEVER_STARTED,
        planning.GONE,
        planning.STOPPED,
    )
    assert reasons.issuperset(wanted)
    assert {row[8] for row in expected["workers_ever"]} == {"stopped", "preempted", "lost", "released", "failed", None}
    for provider in ("local", "aws", "gcp"):
        there = [one for one in machines if one["provider"] == provider and one["ended_at"] is None]
        phases = {
            "ending"
            if one["ending_since"]
            else "ready"
            if one["ready_at"]
            else "started"
            if one["started_at"]
            else "ordered"
            for one in there
        }
        assert phases == {"ordered", "started", "ready", "ending"}, (provider, phases)


# --- killed.db ---

TASK = """
import os
import signal

from taskfleet import Fail, Retry


def run_task(n, what, context):
    print(f"task {n} at its try {context.attempt}")
    match what:
        case "raise":
            raise ValueError(f"příliš žluťoučký: {n}")
        case "fail":
            raise Fail("never")
        case "retry":
            raise Retry("not yet", delay_seconds=3600)
        case "exit":
            os._exit(3)
        case "hang":
            while True:
                signal.pause()
    return {"n": n, "square": n * n, "text": "Žluťoučký 🐎", "big": 2**80 + n}
"""
SETTINGS = """
JOB_ID=killed
TASK_TABLE=tasks.csv
SLOTS=2
MAX_TASKS=24
LEASE_SECONDS=30
RETRIES_ON_EXCEPTION=1
RETRIES_ON_EXIT=0
RETRY_DELAY_SECONDS=7200
RETRY_DELAY_MAX_SECONDS=7200
"""
WORDS = ["value", "raise", "value", "fail", "retry", "exit", "value", "value", "hang", "hang", *["value"] * 40]
#: As d7e5b3d counts them when all but those that hang have come to an end.
BEFORE_DEATH = {"succeeded": 4, "failed": 2}
IN_NAMESPACES = """
set -e
hostname host-k
mount --bind "$PLACE" /srv
mount --bind /srv/boot_id /proc/sys/kernel/random/boot_id
cd /srv/golden
"$PYTHON" -m taskfleet insert_tasks
"$PYTHON" -m taskfleet launch_worker &
wait
"""


def make_killed(folder):
    """Have a real worker be killed with all its processes; what it leaves is kept as it is."""
    place = Path("place").resolve()
    project = place / "golden"
    (project / "config").mkdir(parents=True)
    (place / "boot_id").write_text(f"{BOOT}0b\n")
    (project / "task.py").write_text(TASK)
    (project / "config" / "task.env").write_text(SETTINGS)
    (project / "tasks.csv").write_text("n,what\n" + "".join(f"{n},{word}\n" for n, word in enumerate(WORDS)))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    process = subprocess.Popen(
        ["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", IN_NAMESPACES],
        env=kept | {"PLACE": str(place), "PYTHON": sys.executable, "HOME": "/srv"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path = project / "jobs" / "killed.db"

    def is_at_the_hanging_ones():
        assert process.poll() is None, "the worker has ended"
        try:
            database = open_ledger(path, job_id="killed", read_only=True)
        except LedgerError:  # it is not there yet, or in the making
            return False
        counts = {state.word: n for state, n in counters.by_state(database).items()}
        database.close()
        return counts["running"] >= 2 and BEFORE_DEATH.items() <= counts.items()

    try:
        until(is_at_the_hanging_ones)
    finally:
        [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(
            int(first), signal.SIGKILL
        )  # the first process of its namespace: all others in there are killed with it
        process.wait()
    shutil.copytree(path.parent, "looked-at")  # opening the ledger would tidy it up
    database = open_ledger(Path("looked-at") / "killed.db", job_id="killed")
    expected = told(database, "killed", time.time())
    assert expected["counts"]["pending"] > 10
    write(folder / "killed.expected.json", expected)
    database.close()
    for each in sorted(path.parent.glob("killed.db*")):
        shutil.copyfile(each, folder / each.name)


# --- messages.json ---


def messages():
    """Messages as they travel, with what d7e5b3d reads in them."""
    tasks = [("by tens", one) for one in grouped()] + list(task_messages())
    return {
        "commit": COMMIT,
        "format": envelopes.FORMAT,
        "tasks": [packed(name, one, envelopes) for name, one in tasks],
        "events": [packed(name, one, batches) for name, one in event_messages()],
    }


def packed(name, one, module):
    body = module.pack(one)
    return {"name": name, "body": body, "means": asdict(module.unpack(body))}


def envelope(*parcels, **more):
    return Envelope(job_id="golden", ledger=repr(BASE), parcels=list(parcels), **more)


def grouped():
    parcels = [Parcel(seq, f"t{seq}", json.dumps({"n": seq})) for seq in range(1, 26)]
    return [envelope(*chunk) for chunk in group(parcels, most=10, most_bytes=200_000)]


def task_messages():
    one = Parcel(7, "seven", '{"n":7}')
    tried = one.after(4, Outcome.EXCEPTION, 2).after(5, Outcome.LOST)
    yield "one task", envelope(one)
    yield "after tries", envelope(tried)
    yield "after an interruption", envelope(one.after(1))
    yield (
        "after every outcome",
        envelope(Parcel(8, "eight", "{}", 9, tuple((int(outcome), 3) for outcome in Outcome if outcome))),
    )
    yield "several that were lost", envelope(*(Parcel(n, f"t{n}", "{}", 1, ((5, 1),)) for n in range(3)))
    yield "not before", envelope(tried, not_before=BASE + 86_400.5)
    yield "claimed", envelope(one, claimed_by="worker|x|1", claimed_until=BASE + 3600)
    yield "claimed and not before", envelope(one, tried, claimed_by="worker|x|1", claimed_until=BASE, not_before=BASE)
    yield "other scripts", envelope(Parcel(9, "Žluťoučký 🐎", '{"ž":"🐎","lines":"\u2028\u2029\x85"}'))
    yield "what XML cannot carry", envelope(Parcel(10, "\ufffe", '{"x":"\ufffe\uffff\ud800"}'))
    yield "great numbers", envelope(Parcel(2**53 + 1, "great", '{"n":1208925819614629174706176,"x":5e-324}', 999))
    yield "of another ledger", replace(envelope(one), ledger="0.1", job_id="other-job")


def event_messages():
    ledger = SimpleNamespace(now=BASE + 100, name="golden", database=SimpleNamespace(value=lambda _sql: BASE))
    teller = partial(Teller, ledger, "a", "host-a")
    plain, on_machine = teller(), teller(machine="i-00000000000000001", slots=96)
    yield "sign of life", replace(plain.batch(), ledger="")
    yield "leased and returned", plain.batch(leased=[(1, 1), (2, 1), (2**40, 999)], returned=[(2, 1)])
    for outcome in Outcome:
        if outcome is Outcome.UPSTREAM:
            continue
        for delay in (None,) if outcome is Outcome.SUCCEEDED else (None, 0.0, 12.5):
            details = {"retry_delay_seconds": delay} if outcome is Outcome.RETRY else {}
            yield (
                f"{outcome.word}, next try after {delay}",
                plain.batch(ended=[(ended(ledger, at(3, 2), outcome, value={"x": [1, None]}, **details), delay)]),
            )
    yield (
        "a success of a machine",
        on_machine.batch(ended=[(ended(ledger, at(4, 1), output="✓\n", peak_memory_mib=9.5), None)]),
    )
    yield (
        "results of all types",
        plain.batch(ended=[(ended(ledger, at(n, 1), value=value), None) for n, value in enumerate(VALUES)]),
    )
    yield (
        "a failure without retry",
        plain.batch(ended=[(ended(ledger, at(5, 1), Outcome.EXCEPTION, retry_delay_seconds=NO_RETRY), None)]),
    )
    yield (
        "other scripts",
        plain.batch(
            ended=[
                (
                    ended(
                        ledger,
                        at(6, 1),
                        Outcome.EXCEPTION,
                        error="Žluťoučký: 🐎 \ufffe\nline\u2028",
                        output="\x00\ud800",
                    ),
                    None,
                )
            ]
        ),
    )
    yield (
        "all at once",
        on_machine.batch(
            leased=[(20, 1)],
            returned=[(21, 1)],
            ended=[(ended(ledger, at(22, 1), value=1), None), (ended(ledger, at(23, 1), Outcome.EXIT), 10.0)],
            end_reason="preempted",
        ),
    )
    for reason in ("stopped", "preempted", "failed"):
        yield f"the end: {reason}", plain.batch(end_reason=reason)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
