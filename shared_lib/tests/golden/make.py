"""Makes the golden files of the current version of the library: ``uv run python -m shared_lib.tests.golden.make EMPTY_FOLDER``.

Run it when a version is released, move what it made to the folder of that version, and never make that again. All hosts, accounts and times
are made up. Everything is written by the library's own functions.
"""

import os
import signal
import sys
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from taskfleet.ledger import inquiry, insertion, leasing, moving, recording, repair, sending
from taskfleet.ledger.database import open_ledger
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.tables.ids import content_ids
from taskfleet.tasks import NO_RETRY, Outcome, State, WorkerEnd

from shared_lib.tests.golden.making import (
    FAR,
    INSERTER,
    VALUES,
    Ledger,
    Reporter,
    canonical,
    end,
    ended,
    in_child,
    write,
)
from shared_lib.tests.golden.making_messages import messages
from shared_lib.tests.golden.making_pool import make_pool


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


# --- remote.db ---


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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
