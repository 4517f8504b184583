"""Ledgers and messages that earlier versions wrote, in the hands of this one; see README.md beside this file."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from taskfleet.errors import LedgerError
from taskfleet.ledger import counters, insertion, leasing, migrations, queries, recording, repair, sending
from taskfleet.ledger.checks import check
from taskfleet.ledger.database import open_ledger
from taskfleet.machines import EndReason
from taskfleet.messages import events, tasks
from taskfleet.messages.events import Batch, Worker
from taskfleet.pool import control, records, updates
from taskfleet.pool.records import End
from taskfleet.tables.ids import content_ids
from taskfleet.tasks import FAILURE_KINDS, Finished, Outcome, RetryPolicy, State
from taskfleet.watch.status import gather
from taskfleet.watch.text import status_report

from shared_lib.tests.golden.report import counts, lines, report, report_pool, report_task

HERE = Path(__file__).parent
RELEASES = ("d7e5b3d", "0.1.0")
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
        self.is_d7e5b3d = release == "d7e5b3d"
        self._opened = []

    @property
    def has_old_schema(self):
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0] < migrations.newest()

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
    """Run a test with these ledgers of every release."""
    cases = [(release, name) for release in RELEASES for name in names if (HERE / release / f"{name}.db").exists()]
    return pytest.mark.parametrize("golden", cases, indirect=True, ids=["-".join(case) for case in cases])


def as_d7e5b3d(found):
    """Return what is read about a pool in the form of d7e5b3d, whose machines could not be queued and ended with a sentence."""
    assert found["costs"].pop("machines_queued") == 0
    for one in found["machines"]:
        assert (one.pop("can_queue"), one.pop("running_at")) == (False, one["started_at"])
        one["end_reason"] = (one.pop("detail"), one["end_reason"])
    return found


@ledgers(*ALL)
def test_a_ledger_of_an_earlier_version_passes_every_check_before_and_after_its_migration(golden):
    before = golden.open(read_only=True)
    assert [one for one in check(before) if not one.is_ok] == []
    before.close()
    after = golden.open()
    assert after.schema().number == migrations.newest()
    assert [one for one in check(after) if not one.is_ok] == []


#: The sentences of d7e5b3d, and the beginnings of others, for which there are codes.
SENTENCES = {
    "all tasks are done": EndReason.DONE,
    "no worker was heard in time": EndReason.LATE,
    "its worker fell silent": EndReason.SILENT,
    "not in the ledger": EndReason.UNKNOWN,
    "never seen to start": EndReason.NEVER_STARTED,
    "gone": EndReason.GONE,
    "stopped by the user": EndReason.STOPPED,
    "torn down by the user": EndReason.TORN_DOWN,
    "terminated by the user": EndReason.TERMINATED,
}
PREFIXES = {
    "preempted": EndReason.PREEMPTED,
    "no capacity": EndReason.STOCK_OUT,
    "quota": EndReason.QUOTA,
    "throttled": EndReason.THROTTLED,
    "price": EndReason.PRICE,
    "refused": EndReason.INVALID,
}
OTHERS = (EndReason.ENDED, EndReason.LAUNCH_ERROR, EndReason.GAVE_UP)


def with_code(expected):
    """Return a machine as d7e5b3d described it, with the detail and the code for its sentence."""
    sentence, code = expected["end_reason"], expected["end_reason"]
    prefix, _, words = (sentence or "").partition(": ")
    if sentence in SENTENCES:
        sentence, code = "", SENTENCES[sentence]
    elif prefix in PREFIXES:
        sentence, code = words, PREFIXES[prefix]
    elif sentence is not None:
        code = EndReason.ENDED if expected["ending_since"] is None else EndReason.GAVE_UP
        if expected["instance_id"] is None and expected["ended_at"] == expected["ordered_at"]:
            code = EndReason.LAUNCH_ERROR
    return expected | {"end_reason": (sentence or "", code)}


def assert_reads_as_before(found, expected):
    """Compare piece by piece, so that what differs is named."""
    for name, value in found.items():
        before = expected[name]
        if isinstance(value, list):
            assert len(value) == len(before), name
            for one, other in zip(value, before, strict=True):
                assert known_part(one, other) == other, name
        else:
            assert known_part(value, before) == before, name


def known_part(found, before):
    """Leave out what only later versions know of a thing."""
    if isinstance(found, dict) and isinstance(before, dict):
        return {key: known_part(found[key], value) for key, value in before.items()}
    return found


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
    assert_reads_as_before(report(database), golden.expected)
    assert_adds_up(database)


@ledgers(*ALL)
def test_a_ledger_opened_a_second_time_says_the_same(golden):
    golden.open().close()
    assert_reads_as_before(report(golden.open()), golden.expected)


@ledgers("pool")
def test_the_machines_of_a_pool_are_what_they_were(golden):
    database, expected = golden.open(), golden.expected
    found = report_pool(database, expected["costs_at"])
    if golden.is_d7e5b3d:
        found = as_d7e5b3d(found)
        expected = expected | {"machines": [with_code(one) for one in expected["machines"]]}
    assert_reads_as_before(found, expected)


@ledgers("remote")
def test_a_ledger_knows_where_its_tasks_travel_and_which_batches_were_recorded(golden):
    database, expected = golden.open(), golden.expected
    assert database.value("SELECT queue_url FROM job") == expected["queue_url"]
    assert recording.token(database) == expected["token"]
    assert sending.count_unsent(database) == expected["unsent"]
    for source, number in expected["batches"]:
        assert recording.record(database, batch_of(golden, source, number), now=golden.now).is_known
    assert_reads_as_before(report(database), expected)


# --- what is read without being changed ---


def files(folder):
    return {each.name: each.read_bytes() for each in folder.iterdir() if not each.name.endswith("-shm")}


@ledgers(*ALL)
def test_reading_changes_no_byte_of_a_ledger(golden):
    before = files(golden.path.parent)
    database = golden.open(read_only=True)
    report(database)
    records.all_machines(database)
    status_report(gather(database, golden.now), golden.now)
    queries.library_versions(database)
    database.close()
    assert files(golden.path.parent) == before


@ledgers("embedded", "pool", "remote")
@pytest.mark.parametrize(
    "command",
    [["status"], ["status", "--json"], ["tasks"], ["explain"], ["results", "-o", "results.csv"]],
    ids=" ".join,
)
def test_reading_commands_show_a_ledger_and_change_no_byte_of_it(golden, command, tmp_path):
    project = tmp_path / "golden-project"
    (project / "jobs").mkdir(parents=True)
    (project / "config").mkdir()
    queue_url = golden.expected.get("queue_url", "ledger")
    (project / "config" / "task.env").write_text(f"JOB_ID={golden.name}\nQUEUE_URL={queue_url}\n")
    has_old_schema = golden.has_old_schema
    golden.path.rename(project / "jobs" / golden.path.name)
    before = files(project / "jobs")
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", *command],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr
    assert ("insert_tasks, launch_worker or monitor brings it up to date" in done.stderr) == has_old_schema
    assert files(project / "jobs") == before


def dump(path):
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
    found["schema"] = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
    found["version"] = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return found


@pytest.mark.parametrize("is_read", [True, False])
def test_a_worker_of_d7e5b3d_goes_on_while_its_ledger_is_read(tmp_path, is_read):
    """``worker_sql.json`` has the statements that a worker and an insertion of d7e5b3d ran on ``embedded.db``."""
    (tmp_path / "alone").mkdir()
    alone, shared = Golden("d7e5b3d", "embedded", tmp_path / "alone"), Golden("d7e5b3d", "embedded", tmp_path)
    old = json.loads((HERE / "d7e5b3d" / "worker_sql.json").read_text(encoding="utf-8"))
    workers = [sqlite3.connect(one.path, isolation_level=None) for one in (alone, shared)]
    for step in old["steps"]:
        for worker in workers:
            for statement in step:
                worker.execute(statement)
        if is_read:
            reader = shared.open(read_only=True)
            states = [line.state for line in lines(reader)]
            status = gather(reader, old["now"])
            assert status.counts == {state: states.count(state) for state in State}
            assert status.total == len(states)
            reader.close()
        else:
            with pytest.raises(LedgerError, match="has to be migrated"):
                shared.open()
    for worker in workers:
        worker.close()
    assert dump(shared.path) == dump(alone.path)
    assert dump(shared.path)["version"] == (3,)
    migrated = shared.open()
    assert_adds_up(migrated)


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
        now = report_task(database, line)
        if line.task_id in left:
            assert now["attempts"][-1][1:4] == ["succeeded", None, '"done now"']
            earlier = left[line.task_id]["attempts"]
            assert [one for one in now["attempts"] if one[0] < 999][: len(earlier)] == [
                one for one in earlier if one[0] < 999
            ]
    untouched = golden.tasks("succeeded", "failed", "killed")
    assert {task_id: task for task_id, task in by_id(database).items() if task_id in untouched} == untouched


def by_id(database):
    return {line.task_id: report_task(database, line) for line in lines(database)}


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
        inserted = insert(database, golden.now, (None, data))
        assert (inserted.added, inserted.already_there) == (0, len(data))
    assert_reads_as_before(report(database), golden.expected)


@ledgers("interrupted")
def test_what_a_killed_insertion_left_is_cleared_and_inserted_anew(golden):
    database, expected = golden.open(), golden.expected
    before = {task["id"] for task in expected["tasks"]}
    assert not before & {task_id for _, task_id in expected["unaccepted"]} - set(content_ids(expected["derived_rows"]))
    ids, data = zip(*expected["given_rows"], strict=True)
    inserted = insert(database, golden.now + 10_000, (None, expected["derived_rows"]), (list(ids), list(data)))
    derived = set(content_ids(expected["derived_rows"]))
    assert inserted.added == len(derived - before) + 1 + len(ids), "one row is there twice"
    assert inserted.identical == 1
    after = [line.task_id for line in lines(database)]
    assert len(after) == len(set(after)) == len(before) + inserted.added
    assert {*derived, *ids} < set(after)
    assert_adds_up(database)
    assert len(work_off(database, LATER)) == len(golden.tasks(*LEFT)) + inserted.added


@ledgers(*ALL)
def test_more_tasks_are_inserted_behind_the_others(golden):
    database = golden.open()
    inserted = insert(database, golden.now + 10_000, (["one more"], ['{"more":1}']))
    assert inserted.added == 1
    last = lines(database)[-1]
    assert (last.task_id, last.state) == ("one more", State.PENDING)
    assert last.seq > max(task["seq"] for task in golden.expected["tasks"])
    assert_adds_up(database)


# --- tasks that travel ---


def batch_of(golden, source, number, **what):
    worker = Worker(source=source, hostname="there", pid=1, slots=2, started_at=golden.now)
    return Batch(
        job_id=golden.name,
        ledger=golden.expected["token"],
        worker=worker,
        number=number,
        reported_at=golden.now,
        **what,
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
def test_workers_of_before_report_how_their_attempts_ended(golden):
    database = golden.open()
    running = golden.tasks("running")
    purged = [task_id for task_id, task in running.items() if task["seq"] in golden.expected["purged"]]
    assert len(purged) == 1
    for task_id, task in running.items():
        failed = Finished(task["seq"], task["attempt"], Outcome.EXCEPTION, golden.now, 1.0, error="no")
        source = golden.expected["sources"][str(task["seq"])]
        recording.record(database, batch_of(golden, source, 1000 + task["seq"], ended=[(failed, 5.0)]), now=golden.now)
        # what ran when its queue was purged has no message for another try
        assert queries.find_task(database, task_id).state is (State.KILLED if task_id in purged else State.PENDING)
    assert len(database.rows("SELECT worker_id FROM worker")) == len(golden.expected["workers_ever"])
    assert_adds_up(database)


@ledgers("remote")
def test_a_job_is_finished_by_events(golden):
    database = golden.open()
    left = golden.tasks(*LEFT)
    ended = [
        (Finished(task["seq"], task["attempt"] + (task["state"] == "pending"), 0, golden.now, 1.0, result="1"), None)
        for task in left.values()
    ]
    found = recording.record(database, batch_of(golden, "a new worker", 0, ended=ended), now=golden.now)
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
        code = with_code(one)["end_reason"][1] if golden.is_d7e5b3d else one["end_reason"]
        assert now.end_reason == (code or EndReason.GONE)
        is_queued = one.get("can_queue") and one["running_at"] is None
        lived_until = LATER if is_queued else (one["started_at"] or one["ordered_at"] + 120.0) + 86_400.0
        assert now.ended_at == (one["ended_at"] or lived_until)


# --- messages ---


def messages(kind):
    """Run a test with these messages of every release."""
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
    if "parcels" in message["means"]:  # the names of d7e5b3d
        found["parcels"] = found.pop("tasks")
    kind = "parcels" if "parcels" in found else "tasks"
    for one, meant in zip(found[kind], message["means"][kind], strict=True):
        defaults = {6: [0, []], 5: ""}  # the chain and the function, of versions without them
        while len(one) > len(meant):
            assert defaults[len(one) - 1] == one.pop()
    assert found == message["means"]


@messages("events")
def test_a_batch_of_events_means_what_it_meant(message):
    found = plain(events.unpack(message["body"]))
    if "manager" not in message["means"]["worker"]:  # of versions without managers
        assert found["worker"].pop("manager") == ""
    if "told_at" in message["means"]:  # the names of d7e5b3d
        found["told_at"] = found.pop("reported_at")
        assert found["worker"].pop("version") == ""
        found["end_reason"] = found["end_reason"] or ""
    if "continued" not in message["means"]:  # of versions without chains
        assert found.pop("continued") == []
    if "codes" not in message["means"]:  # of versions whose workers at services did not report code
        assert found.pop("codes") == {}
    if "packages" not in message["means"]:  # of versions whose workers did not report their packages
        assert found.pop("packages") == {}
    assert found == message["means"]
