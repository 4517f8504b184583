"""Ledgers and messages that earlier versions wrote, in the hands of this one; see README.md beside this file."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from taskfleet.ledger import counters, inquiry, insertion, leasing, recording, repair, sending
from taskfleet.ledger.database import open_ledger
from taskfleet.machines import EndReason
from taskfleet.messages import events, tasks
from taskfleet.messages.events import Batch, Worker
from taskfleet.pool import control, records, updates
from taskfleet.pool.costs import compute_costs
from taskfleet.pool.job_state import failures
from taskfleet.pool.records import End
from taskfleet.tables import content_ids
from taskfleet.tasks import FAILURE_KINDS, Finished, Outcome, RetryPolicy, State

HERE = Path(__file__).parent
RELEASES = ("d7e5b3d",)
"""Whose files there are, each in a folder of its own."""
ALL = ("embedded", "interrupted", "remote", "pool", "killed")
WORKED_ON_HERE = ("embedded", "interrupted", "killed")
LATER = 4_000_000_001.0
"""When every lease has ended that is in a golden ledger."""
POLICY = RetryPolicy(retries=dict.fromkeys([*FAILURE_KINDS, Outcome.RETRY], 900))
LEFT = (State.PENDING.word, State.RUNNING.word)


class Golden:
    """A copy of a golden ledger, and what the version that wrote it said of it."""

    def __init__(self, release, name, folder):
        self.name = name
        self.expected = json.loads((HERE / release / f"{name}.expected.json").read_text(encoding="utf-8"))
        self.now = self.expected["now"]
        self.path = folder / f"{name}.db"
        for each in (HERE / release).glob(f"{name}.db*"):
            shutil.copyfile(each, folder / each.name)
        self._opened = []

    def open(self, **how):
        self._opened.append(open_ledger(self.path, job_id=self.name, **how))
        return self._opened[-1]

    def close(self):
        for database in self._opened:
            database.close()

    def tasks(self, *states):
        """What was said of the tasks in these states, by id."""
        return {task["id"]: task for task in self.expected["tasks"] if task["state"] in states}


@pytest.fixture
def golden(request, tmp_path):
    one = Golden(*request.param, tmp_path)
    yield one
    one.close()


def ledgers(*names):
    """Have a test run with these ledgers of every release."""
    cases = [(release, name) for release in RELEASES for name in names]
    return pytest.mark.parametrize("golden", cases, indirect=True, ids=["-".join(case) for case in cases])


def told(database):
    """What this version says of a ledger, in the words of the files."""
    durations = counters.durations(database)
    return {
        "counts": counts(database),
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
        "tasks": [told_task(database, line) for line in lines(database)],
        "results": list(inquiry.results(database)),
    }


def counts(database):
    return {state.word: n for state, n in counters.by_state(database).items()}


def lines(database):
    return list(inquiry.list_tasks(database, limit=100_000))


def told_task(database, line):
    task = inquiry.find_task(database, line.task_id)
    assert (task.seq, task.state, task.kind) == (line.seq, line.state, line.kind)
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


def told_of_pool(database, now):
    costs = compute_costs(database, succeeded=counts(database)["succeeded"], eta_seconds=None, now=now).to_json()
    assert costs.pop("machines_queued") == 0
    worked = records.productive_machines(database)
    return {
        "costs": costs,
        "spent_usd": records.spent_usd(database),
        "orders": records.count_requests(database),
        "open": [one.token for one in records.open_machines(database)],
        "controller": list(control.controller(database)),
        "stop_asked_at": database.value("SELECT stop_asked_at FROM pool"),
        "was_ever_ready": records.was_ever_ready(database),
        "heard_at": records.last_heartbeats(database),
        "has_worked": worked,
        "did_nothing": failures(database, worked),
        "closed_ids": sorted(records.closed_ids(database, 0.0)),
        "machines": [told_machine(one, now) for one in records.all_machines(database)],
    }


#: The words of the files, where they differ.
OLD_WORDS = {
    EndReason.LATE: "no worker was heard in time",
    EndReason.SILENT: "its worker fell silent",
    EndReason.GONE: "gone",
    EndReason.NEVER_STARTED: "never seen to start",
    EndReason.QUOTA: "quota",
    EndReason.PRICE: "price",
    EndReason.INVALID: "refused",
}


def told_machine(one, now):
    """What this version says of a machine, in the words of the files, where the reason was one sentence."""
    found = asdict(one) | {
        "kind": list(one.kind),
        "cost_usd": one.cost_usd(now),
        "most_cost_usd": one.max_cost_usd(now),
    }
    detail, reason = found.pop("detail"), found["end_reason"]
    assert (found.pop("can_queue"), found.pop("running_at")) == (False, found["started_at"])
    assert reason is None or isinstance(reason, EndReason)
    words = OLD_WORDS.get(reason) if reason else None
    text = one.end_text.replace(reason.words, words, 1) if words else one.end_text
    found["end_reason"] = detail if reason is EndReason.GAVE_UP else text or None
    return found


def assert_says_as_before(found, expected):
    """Compare piece by piece, so that what differs is named."""
    for name, value in found.items():
        before = expected[name]
        if isinstance(value, list):
            assert len(value) == len(before), name
            for one, other in zip(value, before, strict=True):
                assert one == other, name
        else:
            assert value == before, name


def assert_adds_up(database):
    """The identity of every ledger: what was inserted is in one state each."""
    by_state = counts(database)
    states = [line.state.word for line in lines(database)]
    assert by_state == {state.word: states.count(state.word) for state in State}
    assert sum(by_state.values()) == counters.tallies(database)["inserted"] == len(states)
    kinds = [line.kind for line in lines(database) if line.kind is not None]
    assert counters.by_failure_kind(database) == {kind: kinds.count(kind) for kind in FAILURE_KINDS}
    assert by_state["succeeded"] == database.value("SELECT count(*) FROM attempt WHERE outcome = 0")
    assert database.value("PRAGMA integrity_check") == "ok"


def worker(database, now):
    return leasing.register(database, hostname="here", process="this test", pid=1, slots=4, lease_seconds=30.0, now=now)


def work_off(database, now):
    """Do all that is left, as the time comes for it; give the leases."""
    me, done = worker(database, now), []
    while True:
        leasing.reap(database, policy=POLICY, now=now)
        leases = leasing.lease(database, me, 5, skip=0, lease_seconds=30.0, now=now)
        leasing.finish(database, me, [succeeded(lease, now) for lease in leases], policy=POLICY, now=now)
        done += leases
        if not leases:
            due = leasing.next_due_at(database, 0)
            if due is None:
                return done
            assert due > now, "a task is due, and nobody gets it"
            now = due


def succeeded(lease, now):
    return Finished(lease.seq, lease.attempt, Outcome.SUCCEEDED, now, 0.5, result='"done now"')


# --- what is read ---


@ledgers(*ALL)
@pytest.mark.parametrize("read_only", [False, True], ids=["to-write", "to-read"])
def test_a_ledger_says_what_it_said_before(golden, read_only):
    database = golden.open(read_only=read_only)
    assert_says_as_before(told(database), golden.expected)
    assert_adds_up(database)


@ledgers(*ALL)
def test_a_ledger_opened_a_second_time_says_the_same(golden):
    golden.open().close()
    assert_says_as_before(told(golden.open()), golden.expected)


@ledgers("pool")
def test_the_machines_of_a_pool_are_what_they_were(golden):
    found = told_of_pool(golden.open(), golden.expected["costs_at"])
    assert_says_as_before(found, golden.expected)


@ledgers("remote")
def test_a_ledger_knows_where_its_tasks_travel_and_what_was_told(golden):
    database, expected = golden.open(), golden.expected
    assert database.value("SELECT queue_url FROM job") == expected["queue_url"]
    assert recording.token(database) == expected["token"]
    assert sending.count_unsent(database) == expected["unsent"]
    for source, number in expected["batches"]:
        assert recording.record(database, told_by(golden, source, number), now=golden.now).is_known
    assert_says_as_before(told(database), expected)


# --- going on ---


@ledgers(*WORKED_ON_HERE)
def test_what_is_left_is_done_to_the_end_and_nothing_twice(golden):
    database, before = golden.open(), golden.expected
    done = [lease.task_id for lease in work_off(database, LATER)]
    left = golden.tasks(*LEFT)
    assert sorted(done) == sorted(left)
    n = before["counts"]
    assert counts(database) == {**n, "pending": 0, "running": 0, "succeeded": n["succeeded"] + len(left)}
    assert_adds_up(database)
    for line in lines(database):
        now = told_task(database, line)
        if line.task_id in left:
            assert now["attempts"][-1][1:4] == ["succeeded", None, '"done now"']
            earlier = left[line.task_id]["attempts"]
            assert [one for one in now["attempts"] if one[0] < 999][: len(earlier)] == [
                one for one in earlier if one[0] < 999
            ]
    untouched = golden.tasks("succeeded", "failed", "killed")
    assert {task_id: task for task_id, task in by_id(database).items() if task_id in untouched} == untouched


def by_id(database):
    return {line.task_id: told_task(database, line) for line in lines(database)}


@ledgers("embedded")
def test_a_lease_that_lasts_is_kept_and_those_that_ended_are_not(golden):
    database = golden.open()
    lasting = {row[1] for row in golden.expected["workers_ever"] if row[6] > golden.now + 1e6 and row[7] is None}
    running = golden.tasks("running")
    kept = {task_id for task_id, task in running.items() if task["hostname"] in lasting}
    assert kept
    assert kept < running.keys()
    n = leasing.reap(database, policy=POLICY, now=golden.now)
    assert n == len(running) - len(kept)
    leases = leasing.lease(database, worker(database, golden.now), 1000, skip=0, lease_seconds=30.0, now=golden.now)
    assert running.keys() - {lease.task_id for lease in leases} == kept
    assert_adds_up(database)


@ledgers("embedded")
def test_a_task_is_not_tried_again_before_its_time(golden):
    database = golden.open()
    waiting = {
        task_id: task["available_at"]
        for task_id, task in golden.tasks("pending").items()
        if task["available_at"] > golden.now
    }
    assert waiting
    for now in (golden.now, max(waiting.values())):
        me = worker(database, now)
        leased = {lease.task_id for lease in leasing.lease(database, me, 1000, skip=0, lease_seconds=30.0, now=now)}
        assert leased & waiting.keys() == {task_id for task_id, due in waiting.items() if due <= now}
        leasing.end_worker(database, me, now=now)


@ledgers(*WORKED_ON_HERE)
def test_what_failed_or_was_killed_is_put_back_and_done(golden):
    database, n = golden.open(), golden.expected["counts"]
    assert repair.retry(database, kinds=FAILURE_KINDS, killed=True) == n["failed"] + n["killed"]
    assert_adds_up(database)
    done = work_off(database, LATER)
    assert {lease.task_id for lease in done} == golden.tasks(*LEFT, "failed", "killed").keys()
    assert counts(database)["succeeded"] == golden.expected["tallies"]["inserted"]
    assert_adds_up(database)


@ledgers(*WORKED_ON_HERE)
def test_what_waits_is_purged(golden):
    database, n = golden.open(), golden.expected["counts"]
    assert repair.purge(database) == n["pending"]
    assert counts(database) == {**n, "pending": 0, "killed": n["killed"] + n["pending"]}
    assert_adds_up(database)


# --- inserting more ---


def insert(database, now, *tables):
    """Insert rows in batches: (ids or None for derived ones, data)."""
    under_way = insertion.begin(database, source="again", clock=lambda: now)
    for ids, data in tables:
        under_way.add(ids or content_ids(data), data, ids_are_derived=ids is None, now=now)
    return under_way.accept(now)


@ledgers("embedded")
def test_a_table_that_was_inserted_is_known(golden):
    database = golden.open()
    for data in golden.expected["derived_tables"]:
        report = insert(database, golden.now, (None, data))
        assert (report.added, report.already_there) == (0, len(data))
    assert_says_as_before(told(database), golden.expected)


@ledgers("interrupted")
def test_what_a_killed_insertion_left_is_cleared_and_inserted_anew(golden):
    database, expected = golden.open(), golden.expected
    before = {task["id"] for task in expected["tasks"]}
    assert not before & {task_id for _, task_id in expected["unaccepted"]} - set(content_ids(expected["derived_rows"]))
    ids, data = zip(*expected["given_rows"], strict=True)
    report = insert(database, golden.now + 10_000, (None, expected["derived_rows"]), (list(ids), list(data)))
    derived = set(content_ids(expected["derived_rows"]))
    assert report.added == len(derived - before) + 1 + len(ids), "one row is there twice"
    assert report.identical == 1
    after = [line.task_id for line in lines(database)]
    assert len(after) == len(set(after)) == len(before) + report.added
    assert {*derived, *ids} < set(after)
    assert_adds_up(database)
    assert len(work_off(database, LATER)) == len(golden.tasks(*LEFT)) + report.added


@ledgers(*ALL)
def test_more_tasks_are_inserted_behind_the_others(golden):
    database = golden.open()
    report = insert(database, golden.now + 10_000, (["one more"], ['{"more":1}']))
    assert report.added == 1
    last = lines(database)[-1]
    assert (last.task_id, last.state) == ("one more", State.PENDING)
    assert last.seq > max(task["seq"] for task in golden.expected["tasks"])
    assert_adds_up(database)


# --- tasks that travel ---


def told_by(golden, source, number, **what):
    teller = Worker(source=source, hostname="there", pid=1, slots=2, started_at=golden.now)
    return Batch(
        job_id=golden.name, ledger=golden.expected["token"], worker=teller, number=number, told_at=golden.now, **what
    )


@ledgers("remote")
def test_what_was_not_sent_is_sent_by_another_sender(golden):
    database, sent = golden.open(), []
    clock = golden.now + 10_000
    n = sending.send_all(database, sent.extend, clock=lambda: clock)
    assert [[parcel.seq, parcel.task_id, parcel.attempt] for parcel in sent] == golden.expected["sent_next"]
    assert (n, sending.count_unsent(database)) == (golden.expected["unsent"], 0)
    assert_adds_up(database)


@ledgers("remote")
def test_what_failed_or_was_killed_is_put_back_and_sent(golden):
    database, sent = golden.open(), []
    put_back = golden.tasks("failed", "killed")
    assert repair.retry(database, kinds=FAILURE_KINDS, killed=True) == len(put_back)
    assert sending.count_unsent(database) == golden.expected["unsent"] + len(put_back)
    sending.send_all(database, sent.extend, clock=lambda: golden.now + 10_000)
    attempts = {parcel.task_id: parcel.attempt for parcel in sent}
    assert {task_id: attempts[task_id] for task_id in put_back} == {
        task_id: task["attempt"] for task_id, task in put_back.items()
    }
    assert_adds_up(database)


@ledgers("remote")
def test_workers_of_before_tell_what_became_of_their_tasks(golden):
    database = golden.open()
    running = golden.tasks("running")
    purged = [task_id for task_id, task in running.items() if task["seq"] in golden.expected["purged"]]
    assert len(purged) == 1
    for task_id, task in running.items():
        failed = Finished(task["seq"], task["attempt"], Outcome.EXCEPTION, golden.now, 1.0, error="no")
        source = golden.expected["sources"][str(task["seq"])]
        recording.record(database, told_by(golden, source, 1000 + task["seq"], ended=[(failed, 5.0)]), now=golden.now)
        # what ran when its queue was purged has no message for another try
        assert inquiry.find_task(database, task_id).state is (State.KILLED if task_id in purged else State.PENDING)
    assert len(database.rows("SELECT worker_id FROM worker")) == len(golden.expected["workers_ever"])
    assert_adds_up(database)


@ledgers("remote")
def test_a_job_is_told_to_its_end(golden):
    database = golden.open()
    left = golden.tasks(*LEFT)
    ended = [
        (Finished(task["seq"], task["attempt"] + (task["state"] == "pending"), 0, golden.now, 1.0, result="1"), None)
        for task in left.values()
    ]
    found = recording.record(database, told_by(golden, "a new worker", 0, ended=ended), now=golden.now)
    assert (len(found.ended), found.duplicates) == (len(left), 0)
    n = golden.expected["counts"]
    assert counts(database) == {**n, "pending": 0, "running": 0, "succeeded": n["succeeded"] + len(left)}
    assert_adds_up(database)
    succeeded_before = golden.tasks("succeeded")
    assert {task_id: task for task_id, task in by_id(database).items() if task_id in succeeded_before} == (
        succeeded_before
    )


# --- machines ---


@ledgers("pool")
def test_another_controller_takes_a_pool_over_and_closes_its_books(golden):
    database = golden.open()
    assert control.acquire(database, "this test", LATER) is None
    assert control.renew(database, "this test", LATER + 1), "what was asked of the former one is forgotten"
    there = records.open_machines(database)
    before = golden.expected["machines"]
    assert {one.token for one in there} == {one["token"] for one in before if one["ended_at"] is None}
    updates.mark_ended(database, dict.fromkeys((one.token for one in there), End(EndReason.GONE)), LATER)
    assert records.open_machines(database) == []
    after = {one.token: one for one in records.all_machines(database)}
    assert records.spent_usd(database) == pytest.approx(sum(one.cost_usd(LATER) for one in after.values()))
    for one in before:
        now = after[one["token"]]
        assert told_machine(now, LATER)["end_reason"] == (one["end_reason"] or "gone")
        assert now.ended_at == (one["ended_at"] or (one["started_at"] or one["ordered_at"] + 120.0) + 86_400.0)


# --- messages ---


def messages(kind):
    """Have a test run with these messages of every release."""
    cases = [
        pytest.param(one, id=f"{release}-{index}-{one['name']}")
        for release in RELEASES
        for index, one in enumerate(json.loads((HERE / release / "messages.json").read_text(encoding="utf-8"))[kind])
    ]
    return pytest.mark.parametrize("message", cases)


def plain(found):
    """What is in a message, as it stands in the files."""
    return json.loads(json.dumps(asdict(found)))


@messages("tasks")
def test_a_message_of_tasks_means_what_it_meant(message):
    found = plain(tasks.unpack(message["body"]))
    found["parcels"] = found.pop("tasks")  # as d7e5b3d called them
    assert found == message["means"]


@messages("events")
def test_a_batch_of_events_means_what_it_meant(message):
    found = plain(events.unpack(message["body"]))
    found["end_reason"] = found["end_reason"] or ""  # which d7e5b3d had for a worker that works
    assert found == message["means"]
