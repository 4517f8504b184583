"""``poe check_ledger``: every kind of damage is found, by the check that is for it, and nothing else is."""

import random
import sqlite3
from contextlib import closing, suppress

import pytest
from taskfleet.errors import TaskfleetError
from taskfleet.events.stored import stored_events
from taskfleet.ledger import insertion, migrations, queries
from taskfleet.ledger.checks import CHECKS, LISTED, check
from taskfleet.ledger.database import open_ledger
from taskfleet.tasks import Finished, Outcome
from taskfleet.watch.status import gather
from taskfleet.watch.text import final_report, status_report

from shared_lib.tests.ledger.damage import damaged_copy, problems

MACHINE = (
    "INSERT INTO machine (token, order_token, provider, zone, instance_type, market, usd_per_hour, slots, cpus, lifetime_seconds, "
    "ordered_at) VALUES ('m', 'o', 'aws', 'z', 't', {market}, {price}, 1, 1, 10, {at})"
)


@pytest.fixture
def worked(job):
    """A job with tasks in every state that workers leave, and attempts of several kinds."""
    job.insert(12)
    worker = job.worker()
    leases = job.lease(worker, 8)
    outcomes = [Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.MEMORY, Outcome.EXCEPTION, Outcome.RETRY]
    for lease, outcome in zip(leases, outcomes, strict=False):
        job.finish(worker, ended_as(lease, outcome))
    job.insert(2, ids=["late 1", "late 2"])
    return job


def ended_as(lease, outcome):
    result, error = ('{"x": NaN}', None) if outcome is Outcome.SUCCEEDED else (None, "why")
    return Finished(lease.seq, lease.attempt, int(outcome), 1.0, 2.0, result, error)


#: What changes a sound ledger, the check that finds it, and what it says.
DAMAGE = [
    ("DROP TABLE throughput", "schema", "table throughput is missing"),
    ("DROP INDEX state_failed", "schema", "index state_failed is missing"),
    ("ALTER TABLE attempt DROP COLUMN output", "schema", "column attempt.output is missing"),
    ("INSERT INTO job (job_id, project, created_at) VALUES ('job', '', 0)", "schema", "2 rows instead of 1"),
    (
        "INSERT INTO insertion (source, process, touched_at, first_seq) VALUES ('a', 'p', 0, 99), ('b', 'p', 0, 99)",
        "schema",
        "2 insertions are in progress",
    ),
    ("UPDATE task SET id = 'other' WHERE seq = 3", "ids", "task 3 has the id 'other', which belongs to no task"),
    ("UPDATE task SET id = (SELECT id FROM task WHERE seq = 4) WHERE seq = 3", "ids", "belongs to task 4"),
    ("INSERT INTO task_id (id, seq) VALUES ('ghost', 99)", "ids", "'ghost' belongs to task 99, which does not exist"),
    ("UPDATE task SET data = '[1]' WHERE seq = 3", "data", "the data of task 3 are not a JSON object"),
    ("UPDATE task SET data = '{\"x\": ' WHERE seq = 3", "data", "the data of task 3 are not"),
    ("UPDATE state SET available_at = 1e300 WHERE seq = 5", "states", "task 5 (state 1) is due at an impossible time"),
    ("UPDATE state SET attempt = 1000 WHERE seq = 4", "states", "has an attempt number outside of 0 to 999"),
    ("UPDATE state SET tries_from = 7 WHERE seq = 4", "states", "counts its attempts from a number"),
    ("UPDATE state SET worker_id = 1 WHERE seq = 1", "states", "task 1 (state 3) is running without a worker, or has"),
    ("UPDATE state SET worker_id = NULL WHERE seq = 8", "states", "task 8 (state 2) is running without a worker"),
    ("UPDATE segment SET next_seq = 99 WHERE first_seq = 1", "segments", "segment 1 to 12: the cursor is at 99"),
    ("UPDATE segment SET sent_seq = 99 WHERE first_seq = 1", "segments", "tasks up to 99 count as sent"),
    ("UPDATE segment SET next_seq = 7 WHERE first_seq = 1", "segments", "after the cursor have a state already"),
    ("UPDATE segment SET next_seq = 11 WHERE first_seq = 1", "segments", "2 tasks before the cursor have no state"),
    ("UPDATE counter SET n = n + 1 WHERE state = 3", "counters", "says 3 tasks in state 3, and there are 2"),
    ("UPDATE counter SET kind = 3 WHERE state = 4 AND kind = 4", "counters", "says 0 tasks in state 4 of kind 4"),
    ("UPDATE tally SET n = 13 WHERE name = 'inserted'", "counters", "says 13 inserted tasks, and there are 14"),
    ("INSERT INTO tally (name, n) VALUES ('duplicates', -1)", "counters", "the total duplicates is -1"),
    ("UPDATE attempt SET key = 3000 WHERE key = 3001", "attempts", "attempt 0 of task 3 has no valid number"),
    ("UPDATE attempt SET key = 99001 WHERE key = 3001", "attempts", "belongs to a task that does not exist"),
    ("UPDATE attempt SET outcome = 77 WHERE key = 3001", "attempts", "attempt 1 of task 3 has an unknown outcome"),
    ("UPDATE attempt SET worker_id = 99 WHERE key = 3001", "attempts", "was run by an unknown worker"),
    ("UPDATE attempt SET started_at = -5 WHERE key = 3001", "attempts", "began at an impossible time"),
    ("UPDATE attempt SET elapsed_seconds = 9e999 WHERE key = 3001", "attempts", "took an impossible time"),
    ("UPDATE attempt SET result = NULL WHERE key = 1001", "results", "task 1 succeeded, and has no result"),
    ("UPDATE attempt SET result = '{' WHERE key = 1001", "results", "the result of attempt 1 of task 1 is not JSON"),
    ("UPDATE duration SET n = n + 1", "durations", "the histogram of durations has 3 attempts, and 2 succeeded"),
    ("UPDATE duration_moments SET n = 7", "durations", "the statistics of durations has 7 attempts"),
    (
        "INSERT INTO duration_moments (n, mean, m2, low, high) VALUES (2, 2, 0, 2, 2)",
        "durations",
        "has 2 rows instead of 1",
    ),
    ("UPDATE worker SET seen_at = 9e999", "workers", "worker 1 has an impossible time"),
    ("UPDATE worker SET slots = -1", "workers", "worker 1 has a negative number of slots"),
    ("UPDATE worker SET ended_at = 5", "workers", "is leased by worker 1, which has ended"),
    ("UPDATE state SET worker_id = 5 WHERE seq = 8", "workers", "task 8 is leased by worker 5, which does not exist"),
    ("INSERT INTO unsent (seq) VALUES (9)", "sending", "tasks are to be sent to a service, and the job has none"),
    ("INSERT INTO event_batch (source, number) VALUES ('w', -1)", "sending", "events of 'w' have the number -1"),
    ("INSERT INTO kill (seq) VALUES (9)", "control", "task 9 is to be killed, and does not run"),
    ("DELETE FROM control", "control", "the table control has 0 rows instead of 1"),
    (MACHINE.format(market="'free'", price=1, at=1), "machines", "machine m has an unknown market"),
    (MACHINE.format(market="'spot'", price=-1, at=1), "machines", "has an impossible price or lifetime"),
    (MACHINE.format(market="'spot'", price=1, at=-1), "machines", "machine m has an impossible time"),
]
#: Damage that several checks find.
WIDE_DAMAGE = [
    ("UPDATE state SET state = 9 WHERE seq = 3", {"states", "counters"}),
    ("UPDATE state SET kind = 0 WHERE seq = 3", {"states", "counters"}),
    ("DELETE FROM segment", {"acceptance", "counters"}),
    ("DELETE FROM state WHERE seq = 3", {"segments"}),
    ("DELETE FROM task WHERE seq = 3", {"ids", "states", "segments", "attempts"}),
    ("DELETE FROM attempt WHERE key = 1001", {"results", "durations"}),
    (
        "INSERT INTO attempt (key, worker_id, outcome, started_at, elapsed_seconds, result) VALUES (1002, 1, 0, 1, 1, '1')",
        {"results", "durations"},
    ),
    ("UPDATE state SET state = 1 WHERE seq = 1", {"results", "counters"}),
    (
        "INSERT INTO segment (first_seq, next_seq, last_seq) VALUES (12, 12, 12)",
        {"segments", "counters"},
    ),
    ("INSERT INTO unsent (seq) VALUES (99)", {"sending"}),
]


@pytest.fixture
def damaged(tmp_path_factory, worked):
    """Damages a copy of the job."""
    worked.close()
    folder = tmp_path_factory.mktemp("copy")
    return lambda sql: damaged_copy(worked.path, folder / "job.db", sql)


def test_a_sound_ledger_passes_every_check(worked):
    worked.close()
    assert problems(worked.path) == {}


@pytest.mark.parametrize(("sql", "name", "text"), DAMAGE, ids=[f"{name}-{text[:40]}" for _, name, text in DAMAGE])
def test_damage_is_found_by_its_check_alone(damaged, sql, name, text):
    found = problems(damaged(sql))
    assert any(text in one for one in found[name]), found
    assert set(found) == {name}, found


@pytest.mark.parametrize(("sql", "names"), WIDE_DAMAGE, ids=[sql[:50] for sql, _ in WIDE_DAMAGE])
def test_damage_that_concerns_several_things_is_found_by_each_of_their_checks(damaged, sql, names):
    assert names <= set(problems(damaged(sql)))


def test_every_check_finds_something():
    found = {name for _, name, _ in DAMAGE} | {name for _, names in WIDE_DAMAGE for name in names}
    elsewhere = {"file", "foreign keys", "functions", "dependencies", "waiting"}  # the last three: test_graph_checks
    assert set(CHECKS) - found == elsewhere


def test_a_damaged_page_is_found(damaged):
    path = damaged("SELECT 1")
    with closing(sqlite3.connect(path)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'state_pending'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    assert "file" in problems(path)


def test_a_reference_to_a_missing_row_is_found(damaged):
    path = damaged("SELECT 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE note (seq INTEGER REFERENCES task (seq))")
        connection.execute("INSERT INTO note (seq) VALUES (99)")
    assert problems(path) == {"foreign keys": ("row 1 of note refers to a missing row of task",)}


def test_many_problems_of_a_kind_are_cut(damaged):
    found = problems(damaged("UPDATE task SET data = 'x'"))
    assert len(found["data"]) == LISTED + 1
    assert found["data"][-1] == "… and more"


def test_an_insertion_in_progress_is_no_damage(job):
    job.insert(3)
    under_way = insertion.begin(job.database, source="a table")
    under_way.add(["a", "b"], ["{}", "{}"], ids_are_derived=False, now=0.0)
    assert problems(job.path) == {}
    under_way.discard()
    assert problems(job.path) == {}


def test_the_cost_grows_with_the_rows_only_linearly(new_job, vm_steps):
    steps = []
    for n in (500, 2000):
        job = new_job()
        job.insert(n)
        worker = job.worker()
        job.finish(worker, *[ended_as(lease, Outcome.SUCCEEDED) for lease in job.lease(worker, n // 2)])
        steps.append(vm_steps(job.database, lambda job=job: list(check(job.database))))
    assert steps[1] < 5 * steps[0]


#: Every way to read a ledger.
READERS = {
    "status": lambda database: (
        status_report(gather(database, 10.0), 10.0),
        final_report(gather(database, 10.0), 10.0),
        gather(database, 10.0).to_json(),
    ),
    "tasks": lambda database: list(queries.list_tasks(database)),
    "task": lambda database: [queries.find_task(database, one.task_id) for one in queries.list_tasks(database)],
    "results": lambda database: list(queries.results(database)),
    "dump": lambda database: list(queries.all_tasks(database)),
    "events": lambda database: list(stored_events(database)),
    "check": lambda database: list(check(database)),
}


@pytest.mark.parametrize(
    ("reader", "sql"),
    [
        ("status", "UPDATE counter SET state = 9 WHERE state = 3"),
        ("status", "UPDATE counter SET kind = 99 WHERE state = 4"),
        ("tasks", "UPDATE state SET state = 9 WHERE seq = 3"),
        ("tasks", "UPDATE state SET kind = 99 WHERE state = 4"),
        ("task", "UPDATE attempt SET outcome = 99"),
        ("results", "UPDATE task SET data = '{' WHERE seq = 3"),
        ("results", "UPDATE task SET data = '[1]' WHERE seq = 3"),
        ("results", "UPDATE attempt SET result = '{'"),
        ("events", "UPDATE attempt SET started_at = 9e99"),
        ("events", "UPDATE attempt SET outcome = 99"),
        ("events", "UPDATE attempt SET result = '{'"),
        ("dump", "UPDATE state SET state = 9 WHERE seq = 3"),
        ("status", "DROP TABLE throughput"),
        ("tasks", "ALTER TABLE attempt DROP COLUMN error"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_remedy(damaged, reader, sql):
    with closing(open_ledger(damaged(sql), job_id="job", read_only=True)) as database:
        with pytest.raises(TaskfleetError, match=r"(?i)damaged.*(check_ledger|backup)") as caught:
            READERS[reader](database)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_with_damaged_bytes_is_read_or_refused_in_a_sentence(worked, tmp_path, seed):
    worked.close()
    with closing(sqlite3.connect(worked.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sound, rnd = worked.path.read_bytes(), random.Random(seed)
    path, refused = tmp_path / "damaged.db", 0
    for _ in range(60):
        content = bytearray(sound)
        if rnd.random() < 0.2:
            del content[rnd.randrange(len(content)) :]
        for _ in range(rnd.choice([1, 3, 20])):
            if content:
                start = rnd.choice([0, rnd.randrange(len(content))])
                content[start + rnd.randrange(min(100, len(content) - start))] = rnd.randrange(256)
        for beside in ("-wal", "-shm", "-journal"):
            path.with_name(f"{path.name}{beside}").unlink(missing_ok=True)
        path.write_bytes(content)
        for reader in READERS.values():
            try:
                with closing(open_ledger(path, job_id="job", read_only=True)) as database:
                    reader(database)
            except TaskfleetError:
                refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"CREATE TABLE task ", b"CREATE \xefABLE task "),  # SQLite's own message is no UTF-8 then
        (b"usd_per_hour", b"usd_\xffer_hour"),
        (b"CREATE TABLE tally", b"CREATE TABLE t\x00lly"),
    ],
)
def test_damage_that_was_found_by_chance_stays_found(damaged, before, after):
    path = damaged("SELECT 1")
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    for name, reader in READERS.items():
        with suppress(TaskfleetError), closing(open_ledger(path, job_id="job", read_only=True)) as database:
            answer = list(reader(database))
            assert name != "check" or not all(one.is_ok for one in answer)


def test_what_is_no_ledger_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "job.db"
    for content in (b"", b"hello", b"SQLite format 3\x00", b"\x00" * 4096):
        path.write_bytes(content)
        with pytest.raises(TaskfleetError):
            open_ledger(path, job_id="job", read_only=True)
    path.unlink()
    for number, application in ((3, 0), (-1, migrations.APPLICATION_ID), (99, migrations.APPLICATION_ID)):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            with suppress(sqlite3.OperationalError):
                connection.execute("CREATE TABLE job (x)")
            connection.execute(f"PRAGMA application_id = {application}")
            connection.execute(f"PRAGMA user_version = {number}")
        with pytest.raises(TaskfleetError):
            open_ledger(path, job_id="job", read_only=True)
